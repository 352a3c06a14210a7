//! A file of rules, as people write it:
//!
//! ```toml
//! otherwise = "standard"        # what no rule fits: "standard" (commands from central and from here, events from
//!                               # everybody), "refuse", or "accept"
//! [[rule]]
//! name = "disk looks"           # refusals and the audit log call it so
//! from = ["ship2", "label:site=oslo", "role:operator"]    # or "*"
//! type = "command"              # command, event, one of the four, or "*" (the default)
//! method = "ShellCommand"       # one, a list, or "*"
//! argv = [["df", "-h"], ["uptime"]]     # exactly one of these,
//! firstWord = ["df", "uptime"]          # or: begins with one of these words,
//! regex = ["df", "-[hk]+", "..."]       # or: a regular expression for each word, "..." for any further ones
//! forward = ["localhost:80"]            # or: for PortForward, to one of these places,
//! listen = ["127.0.0.1:8080"]           #     and for connections from one of these
//! user = "nobody"               # as this user, where the node runs as root
//! timeout = "30s"               # the smaller of this and what the message asks for
//! maxOutput = "1MiB"
//! action = "accept"             # or "refuse"
//! ```
//! The first rule that fits decides. What is wrong is told with its line and column.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de::Error as _};
use toml::Spanned;

use super::PORT_FORWARD;
use super::pattern::{Data, From, Method, Types, Words};
use super::set::{Limits, Otherwise, Rule, RuleSet};
use crate::config::units;
use crate::forward::place::Places;

/// The largest file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Rules in a file.
const RULES_MAX: usize = 1000;

/// Regular expressions in a file, all rules together.
const REGEXES_MAX: usize = 128;

/// Senders, types, methods, commands or words in one list of a rule.
const LIST_MAX: usize = 256;

/// Characters of a rule's name.
const NAME_CHARS_MAX: usize = 64;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub(crate) struct BadRules {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// In words.
    pub(crate) why: String,
}

impl BadRules {
    fn at(text: &str, span: Option<Range<usize>>, why: impl Into<String>) -> Self {
        let start = span.map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { line, column, why: why.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileToml {
    otherwise: Parsed<Otherwise>,
    #[serde(default)]
    rule: Vec<Spanned<RuleToml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleToml {
    name: Option<Spanned<String>>,
    from: Many<From>,
    #[serde(rename = "type", default = "any_type")]
    types: Many<Types>,
    method: Many<Method>,
    argv: Option<Commands>,
    #[serde(alias = "first_word")]
    first_word: Option<Many<Word>>,
    regex: Option<Spanned<Many<Word>>>,
    forward: Option<Many<Places>>,
    listen: Option<Many<Places>>,
    user: Option<Spanned<String>>,
    timeout: Option<Parsed<Timeout>>,
    #[serde(alias = "max_output")]
    max_output: Option<Parsed<Size>>,
    action: Option<Parsed<Action>>,
}

fn any_type() -> Many<Types> {
    Many(vec![Types::Any])
}

impl RuleSet {
    /// Reads the text of a file.
    pub(super) fn parse(text: &str) -> Result<Self, BadRules> {
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(BadRules::at(
                "",
                None,
                format!("{} bytes; a file of rules has at most {FILE_BYTES_MAX}", text.len()),
            ));
        }
        let file: FileToml = toml::from_str(text).map_err(|error| {
            let why = match error.message() {
                "missing field `otherwise`" => MISSING_OTHERWISE,
                other => other,
            };
            BadRules::at(text, error.span(), why)
        })?;
        if let Some(one_more) = file.rule.get(RULES_MAX) {
            return Err(BadRules::at(text, Some(one_more.span()), format!("more than {RULES_MAX} rules")));
        }
        let (mut rules, mut names, mut regexes) = (Vec::with_capacity(file.rule.len()), BTreeSet::new(), 0);
        for (index, rule) in file.rule.into_iter().enumerate() {
            let span = rule.span();
            let rule = rule.into_inner().understood(index, text, span.clone())?;
            if let Data::Words(words) = &rule.data {
                regexes += words.count();
            }
            if regexes > REGEXES_MAX {
                return Err(BadRules::at(
                    text,
                    Some(span),
                    format!("more than {REGEXES_MAX} regular expressions in all rules"),
                ));
            }
            if !names.insert(rule.name.clone()) {
                return Err(BadRules::at(text, Some(span), format!("there is a rule {:?} already", &*rule.name)));
            }
            rules.push(rule);
        }
        Ok(Self { rules, otherwise: file.otherwise.0 })
    }
}

const MISSING_OTHERWISE: &str = "the key `otherwise` is missing: write otherwise = \"standard\" if what no rule fits is \
    taken as without this file (commands from central and from the node itself, events from everybody), or otherwise = \
    \"refuse\" if nothing else is taken";

impl RuleToml {
    fn understood(self, index: usize, text: &str, span: Range<usize>) -> Result<Rule, BadRules> {
        let bad = |span: Range<usize>, why: String| BadRules::at(text, Some(span), why);
        let name = match self.name {
            None => format!("rule {}", index + 1),
            Some(name) if is_name(name.get_ref()) => name.into_inner(),
            Some(name) => {
                let why =
                    format!("a rule's name has 1 to {NAME_CHARS_MAX} characters, none of them a control character");
                return Err(bad(name.span(), why));
            }
        };
        let forwards = self.forward.is_some() || self.listen.is_some();
        let patterns = [self.argv.is_some(), self.first_word.is_some(), self.regex.is_some(), forwards];
        if patterns.into_iter().filter(|given| *given).count() > 1 {
            return Err(bad(
                span,
                "a rule has one of argv, firstWord, regex and forward (with listen); write a rule for each".to_owned(),
            ));
        }
        let data = match (self.argv, self.first_word, self.regex) {
            (Some(commands), _, _) => Data::Exactly(commands.0),
            (_, Some(words), _) => Data::First(words.texts()),
            (_, _, Some(regex)) => {
                let span = regex.span();
                Data::Words(Words::new(&regex.into_inner().texts()).map_err(|why| bad(span, why))?)
            }
            (None, None, None) if forwards => {
                let places = |many: Option<Many<Places>>| many.map_or_else(Vec::new, |many| many.0);
                Data::Forward(places(self.forward), places(self.listen))
            }
            (None, None, None) => Data::Any,
        };
        let refuses = self.action.is_some_and(|action| action.0 == Action::Refuse);
        let limits = Limits {
            user: self.user.map(|user| user_name(user.get_ref()).map_err(|why| bad(user.span(), why))).transpose()?,
            timeout: self.timeout.map(|timeout| timeout.0.0),
            max_output: self.max_output.map(|size| size.0.0),
        };
        let is_forward = |method: &Method| matches!(method, Method::Name(name) if name.as_str() == PORT_FORWARD);
        if data.names_place() && !self.method.0.iter().all(is_forward) {
            return Err(bad(
                span,
                format!("forward and listen are for method = \"{PORT_FORWARD}\" alone; write a rule for it"),
            ));
        }
        if data.names_place() && (refuses || limits.user.is_some() || limits.max_output.is_some()) {
            let why = "a rule with forward or listen lets in what it names, and has no user and no maxOutput; what no rule names \
                       is refused anyway";
            return Err(bad(span, why.to_owned()));
        }
        if refuses && limits != Limits::default() {
            return Err(bad(span, "a rule that refuses has no user, timeout or maxOutput".to_owned()));
        }
        let limits = (!refuses).then_some(limits);
        Ok(Rule { name: name.into(), from: self.from.0, types: self.types.0, methods: self.method.0, data, limits })
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn user_name(text: &str) -> Result<std::sync::Arc<str>, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '$');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fine) {
        return Err(format!("{text:?} is no user; write a name, a number, or UID:GID"));
    }
    Ok(text.into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Accept,
    Refuse,
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "accept" => Ok(Self::Accept),
            "refuse" => Ok(Self::Refuse),
            _ => Err(format!("{text:?} is neither accept nor refuse")),
        }
    }
}

impl FromStr for Otherwise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Standard, Self::Refuse, Self::Accept]
            .into_iter()
            .find(|otherwise| otherwise.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of standard, refuse and accept"))
    }
}

struct Timeout(std::time::Duration);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let timeout = units::duration(text)?;
        if timeout.is_zero() { Err("a timeout of 0 lets nothing run".to_owned()) } else { Ok(Self(timeout)) }
    }
}

struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        units::size(text).map(Self)
    }
}

/// A word as it is.
struct Word(String);

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

/// Something that is written as text, or as a number.
struct Parsed<T>(T);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar<T>(PhantomData<T>);
        impl<T: FromStr<Err = String>> Visitor<'_> for Scalar<T> {
            type Value = Parsed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Parsed).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Scalar(PhantomData))
    }
}

/// One text or a list of them, each understood.
struct Many<T>(Vec<T>);

impl Many<Word> {
    fn texts(self) -> Vec<String> {
        self.0.into_iter().map(|word| word.0).collect()
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<T>(PhantomData<T>);
        impl<'de, T: FromStr<Err = String>> Visitor<'de> for OneOrMany<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Many(vec![text.parse().map_err(E::custom)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = list.next_element::<Parsed<T>>()? {
                    many.push(one.0);
                    fits_in_list::<A::Error>(many.len())?;
                }
                Ok(Many(many))
            }
        }
        deserializer.deserialize_any(OneOrMany(PhantomData))
    }
}

fn fits_in_list<E: de::Error>(len: usize) -> Result<(), E> {
    if len > LIST_MAX { Err(E::custom(format!("more than {LIST_MAX} in one list"))) } else { Ok(()) }
}

/// One command as a list of words, or several.
struct Commands(Vec<Vec<String>>);

impl<'de> Deserialize<'de> for Commands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "argv is a list of words, or a list of such lists")]
        enum Argv {
            One(Vec<String>),
            Many(Vec<Vec<String>>),
        }
        let commands = match Argv::deserialize(deserializer)? {
            Argv::One(words) => vec![words],
            Argv::Many(commands) => commands,
        };
        let longest = commands.iter().map(Vec::len).max().unwrap_or(0);
        fits_in_list::<D::Error>(commands.len().max(longest))?;
        if commands.is_empty() {
            return Err(D::Error::custom("argv names no command, so the rule would fit nothing"));
        }
        Ok(Self(commands))
    }
}

#[cfg(test)]
mod tests;
