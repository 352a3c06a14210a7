//! What a rule looks at: who sends, and what the data is. It only compares; what follows from it is decided elsewhere.

use std::str::FromStr;

use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};
use regex::{Regex, RegexBuilder};

use crate::forward::ask::{Ask, Does};
use crate::forward::place::Places;
use crate::security::certificate::Role;
use crate::security::sender::Sender;

/// The longest regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 1024;

/// What one regular expression may take in memory, compiled, in bytes; as much again while it is used.
const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;

/// What stands for any further words at the end of a list of regular expressions.
const MORE: &str = "...";

/// Which senders a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// `*`: every one.
    Any,
    /// The node with this name.
    Name(NodeName),
    /// `role:NAME`: all with this role.
    Role(Role),
    /// `label:KEY=VALUE`: all whose certificate has this label.
    Label(String, String),
}

impl From {
    pub(super) fn fits(&self, sender: &Sender) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => *name == sender.name,
            Self::Role(role) => *role == sender.role,
            Self::Label(key, value) => sender.labels.get(key) == Some(value),
        }
    }
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(role) = text.strip_prefix("role:") {
            let known = || Role::ALL.map(Role::as_str).join(", ");
            return Role::parse(role)
                .map(Self::Role)
                .ok_or_else(|| format!("{role:?} is no role; there are {}", known()));
        }
        if let Some(label) = text.strip_prefix("label:") {
            return match label.split_once('=') {
                Some((key, value)) if !key.is_empty() => Ok(Self::Label(key.to_owned(), value.to_owned())),
                _ => Err(format!("{text:?} is no label; write label:KEY=VALUE")),
            };
        }
        NodeName::new(text).map(Self::Name).map_err(|error| {
            format!("a sender is a name, role:NAME, label:KEY=VALUE or *, and {text:?} is none: {error}")
        })
    }
}

/// Which types a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Types {
    /// `*`: all four.
    Any,
    /// `command`: both kinds.
    Commands,
    /// `event`: both kinds.
    Events,
    /// One of the four by its name.
    One(Kind),
}

impl Types {
    pub(super) fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Commands => kind.is_command(),
            Self::Events => !kind.is_command(),
            Self::One(one) => one == kind,
        }
    }
}

impl FromStr for Types {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            "command" => Ok(Self::Commands),
            "event" => Ok(Self::Events),
            name => Kind::parse(name).map(Self::One).ok_or_else(|| {
                format!(
                    "{name:?} is no type; there are command, event, {} and *",
                    Kind::ALL.map(Kind::as_str).join(", ")
                )
            }),
        }
    }
}

/// Which method a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Method {
    /// `*`: every one.
    Any,
    /// This one. It need not be one that this version of steward has.
    Name(MethodName),
}

impl Method {
    pub(super) fn fits(&self, method: &MethodName) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => name == method,
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        MethodName::new(text).map(Self::Name).map_err(|error| format!("{text:?} is neither * nor a method: {error}"))
    }
}

/// What data a rule is about.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Any data, also such as is no list of words.
    Any,
    /// Exactly one of these lists of words.
    Exactly(Vec<Vec<String>>),
    /// A list that begins with one of these words.
    First(Vec<String>),
    /// A list whose words fit these, one by one.
    Words(Words),
    /// What `PortForward` takes, with one of these places: those that may be connected to, and those that may be listened on.
    Forward(Vec<Places>, Vec<Places>),
}

impl Data {
    /// Whether it names the place that something is forwarded to.
    pub(super) fn names_place(&self) -> bool {
        matches!(self, Self::Forward(..))
    }

    /// `data` is none where it is no list of words.
    pub(super) fn fits(&self, data: Option<&[String]>) -> bool {
        match (self, data) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exactly(lists), Some(data)) => lists.iter().any(|list| list == data),
            (Self::First(words), Some(data)) => data.first().is_some_and(|first| words.contains(first)),
            (Self::Words(words), Some(data)) => words.fit(data),
            (Self::Forward(connect, listen), Some(data)) => Ask::parse(data).is_ok_and(|ask| {
                let places = if ask.does == Does::Connect { connect } else { listen };
                places.iter().any(|places| places.have(&ask.place))
            }),
        }
    }
}

/// One regular expression a word, each for the whole word; so where one word ends and the next begins is never a matter
/// of how they are put together.
#[derive(Debug, Clone)]
pub(super) struct Words {
    each: Vec<Regex>,
    /// Whether there may be more words behind these.
    more: bool,
}

impl Words {
    /// How many regular expressions there are.
    pub(super) fn count(&self) -> usize {
        self.each.len()
    }

    pub(super) fn new(texts: &[String]) -> Result<Self, String> {
        let (texts, more) = match texts {
            [texts @ .., last] if last == MORE => (texts, true),
            texts => (texts, false),
        };
        Ok(Self { each: texts.iter().map(|text| whole_word(text)).collect::<Result<_, _>>()?, more })
    }

    fn fit(&self, data: &[String]) -> bool {
        let counts = if self.more { data.len() >= self.each.len() } else { data.len() == self.each.len() };
        counts && self.each.iter().zip(data).all(|(regex, word)| regex.is_match(word))
    }
}

/// A regular expression for a whole word.
fn whole_word(text: &str) -> Result<Regex, String> {
    if text.len() > REGEX_BYTES_MAX {
        return Err(format!("a regular expression of {} bytes; it may have {REGEX_BYTES_MAX}", text.len()));
    }
    let build = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(REGEX_COMPILED_BYTES_MAX).dfa_size_limit(REGEX_COMPILED_BYTES_MAX).build()
    };
    let told = |error: regex::Error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!(
                "the regular expression {text:?} takes more than {limit} bytes when it is compiled; write it in a simpler way"
            )
        }
        error => format!("the regular expression {text:?} makes no sense: {}", last_line(&error.to_string())),
    };
    // Alone first: "a)|(b" makes sense only between our parentheses, and would get out of them.
    build(text).and_then(|_| build(&format!(r"\A(?:{text})\z"))).map_err(told)
}

/// The library draws a picture of the place over several lines; the last one says what is wrong.
fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_sender_is_known_by_name_role_or_label() {
        let labels = std::sync::Arc::new([("site".to_owned(), "oslo=1".to_owned())].into());
        let sender = Sender { name: NodeName::new("ship1").unwrap(), role: Role::Operator, labels, key: None };
        for fits in ["*", "ship1", "role:operator", "label:site=oslo=1"] {
            assert!(fits.parse::<From>().unwrap().fits(&sender), "{fits}");
        }
        for other in ["ship2", "role:central", "label:site=oslo", "label:site=", "label:place=oslo=1"] {
            assert!(!other.parse::<From>().unwrap().fits(&sender), "{other}");
        }
        for bad in ["", "a.b", "role:", "role:Central", "label:", "label:=x", "label:site", "ship*"] {
            assert!(bad.parse::<From>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_regular_expression_is_for_one_whole_word_and_stays_in_its_place() {
        let fits = |texts: &[&str], data: &[&str]| Words::new(&words(texts)).unwrap().fit(&words(data));
        assert!(fits(&["df", "-[hk]+"], &["df", "-hk"]));
        assert!(!fits(&["df", "-[hk]+"], &["df", "-hk", "x"]));
        assert!(!fits(&["df", "-[hk]+"], &["df"]));
        assert!(!fits(&["df", "-[hk]+"], &["df -h", "-k"]));
        assert!(!fits(&["df"], &["sdf"]) && !fits(&["df"], &["dff"]) && !fits(&["df"], &["df\n"]));
        assert!(!fits(&["a|b"], &["ax"]) && fits(&["a|b"], &["b"]));
        assert!(fits(&["df", MORE], &["df"]) && fits(&["df", MORE], &["df", "/", "anything"]));
        assert!(!fits(&["df", MORE], &["rm", "/"]) && !fits(&["df", MORE], &[]));
        assert!(fits(&[], &[]) && !fits(&[], &["x"]));
        // A line end hides nothing, and flags don't get out of the word.
        assert!(!fits(&["(?m)df$"], &["df\nrm"]));
        for bad in ["a)|(b", "(", "(?x)a#", "[", "a{10000}{1000}", &"a".repeat(REGEX_BYTES_MAX + 1)] {
            assert!(Words::new(&words(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn data_that_is_no_list_of_words_fits_no_pattern() {
        assert!(Data::Any.fits(None));
        assert!(!Data::First(words(&["df"])).fits(None));
        assert!(!Data::Exactly(vec![Vec::new()]).fits(None));
        assert!(Data::Exactly(vec![Vec::new()]).fits(Some(&[])));
        assert!(!Data::First(words(&["df"])).fits(Some(&[])));
    }
}
