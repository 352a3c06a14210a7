//! What a message asks for: which files, from where on, and which of their lines. Nothing is looked up or opened here.

use regex::bytes::{Regex, RegexBuilder};

use super::pattern::Pattern;
use crate::config::units;

/// The options, in the order in which the operator's table has them.
const OPTIONS: &[&str] = &["from", "match", "not", "rate", "lineMax", "links"];

/// Bytes of a line that are taken where the message does not say otherwise, and the most that it may ask for: a line fits into
/// a message.
const LINE_BYTES: usize = 64 * 1024;

/// The fewest bytes of a line that may be asked for.
const LINE_BYTES_MIN: usize = 16;

/// Lines a second that may be asked for; who wants more wants all.
const RATE_MAX: u32 = 1_000_000;

/// Bytes that a regular expression may take when it is compiled.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Expressions of a kind that may be given.
const REGEXES_MAX: usize = 32;

/// Where to begin in files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// At their ends.
    End,
    /// At their beginnings.
    Start,
}

/// What to follow.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(super) pattern: Pattern,
    pub(super) from: From,
    /// One of them has to fit, if there are any.
    pub(super) wanted: Vec<Regex>,
    /// None of them may fit.
    pub(super) unwanted: Vec<Regex>,
    /// Lines a second, of all files together.
    pub(super) rate: Option<u32>,
    /// Bytes of a line, without its end.
    pub(super) line_max: usize,
    /// Whether a file may be a link.
    pub(super) links: bool,
}

impl Ask {
    /// Understands the data of a message, or says why it makes no sense.
    pub(super) fn parse(data: &[String]) -> Result<Self, String> {
        let Some((path, options)) = data.split_first() else {
            return Err("data is empty; give the path of a file, and options like from=start behind it".to_owned());
        };
        let mut ask = Self {
            pattern: Pattern::parse(path).map_err(|why| format!("data[0], the path: {why}"))?,
            from: From::End,
            wanted: Vec::new(),
            unwanted: Vec::new(),
            rate: None,
            line_max: LINE_BYTES,
            links: false,
        };
        let mut given: Vec<&str> = Vec::new();
        for (index, option) in options.iter().enumerate() {
            let at = |why: String| format!("data[{}]: {why}", index + 1);
            let Some((name, value)) = option.split_once('=') else {
                return Err(at(format!("{option:?} is no option; they are name=value, with {}", OPTIONS.join(", "))));
            };
            if !matches!(name, "match" | "not") && given.contains(&name) {
                return Err(at(format!("{name} is given twice")));
            }
            given.push(name);
            ask.set(name, value).map_err(at)?;
        }
        Ok(ask)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "from" => {
                self.from = match value {
                    "end" => From::End,
                    "start" => From::Start,
                    _ => return Err(format!("from={value} is neither end nor start")),
                }
            }
            "match" => add(&mut self.wanted, name, value)?,
            "not" => add(&mut self.unwanted, name, value)?,
            "rate" => {
                let rate = value.parse().ok().filter(|rate| (1..=RATE_MAX).contains(rate));
                let why = || format!("rate={value} is no number of lines a second from 1 to {RATE_MAX}");
                self.rate = Some(rate.ok_or_else(why)?);
            }
            "lineMax" => {
                let bytes = usize::try_from(units::size(value)?).unwrap_or(usize::MAX);
                if !(LINE_BYTES_MIN..=LINE_BYTES).contains(&bytes) {
                    return Err(format!("lineMax={value} is not from {LINE_BYTES_MIN} bytes to {LINE_BYTES} (64KiB)"));
                }
                self.line_max = bytes;
            }
            "links" => {
                self.links = match value {
                    "follow" => true,
                    "refuse" => false,
                    _ => return Err(format!("links={value} is neither refuse nor follow")),
                }
            }
            _ => return Err(format!("there is no option {name}; there are {}", OPTIONS.join(", "))),
        }
        Ok(())
    }

    /// Whether a line, without its end, is wanted.
    pub(super) fn wants(&self, line: &[u8]) -> bool {
        (self.wanted.is_empty() || self.wanted.iter().any(|regex| regex.is_match(line)))
            && !self.unwanted.iter().any(|regex| regex.is_match(line))
    }
}

fn add(regexes: &mut Vec<Regex>, name: &str, text: &str) -> Result<(), String> {
    if regexes.len() >= REGEXES_MAX {
        return Err(format!("more than {REGEXES_MAX} options {name}; join them with | into one expression"));
    }
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    regexes.push(built.map_err(|error| format!("{name}={text} is no regular expression: {error}"))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[&str]) -> Result<Ask, String> {
        Ask::parse(&data.iter().map(|&item| item.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_message_asks_for_files_and_for_some_of_their_lines() {
        let ask =
            parse(&["/var/log/*.log", "from=start", "match=error|warn", "match=^!", "not=debug", "rate=100"]).unwrap();
        assert_eq!((ask.from, ask.rate, ask.line_max, ask.links), (From::Start, Some(100), 65_536, false));
        for (line, wanted) in [("an error", true), ("!", true), ("a warning for debug", false), ("all is well", false)]
        {
            assert_eq!(ask.wants(line.as_bytes()), wanted, "{line}");
        }
        assert!(parse(&["/x"]).unwrap().wants(b"\xff\0 any bytes"));
        assert_eq!(parse(&["/x", "lineMax=1KiB", "links=follow"]).unwrap().line_max, 1024);
        for (data, reason) in [
            (&[][..], "data is empty"),
            (&["x.log"], "data[0], the path: \"x.log\" is not absolute"),
            (&["/x", "from=middle"], "data[1]: from=middle is neither end nor start"),
            (&["/x", "start"], "data[1]: \"start\" is no option"),
            (&["/x", "form=start"], "there is no option form; there are from, match"),
            (&["/x", "rate=1", "rate=2"], "data[2]: rate is given twice"),
            (&["/x", "rate=0"], "rate=0 is no number"),
            (&["/x", "match=("], "match=( is no regular expression"),
            (&["/x", "match=.{999}{999}"], "is no regular expression"),
            (&["/x", "lineMax=1GiB"], "lineMax=1GiB is not from 16 bytes"),
            (&["/x", "links=yes"], "links=yes is neither"),
        ] {
            let said = parse(data).unwrap_err();
            assert!(said.contains(reason), "{data:?}: {said}");
        }
    }
}
