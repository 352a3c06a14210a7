//! The file `NAME.toml` beside an executable: what it says of itself. It is read and not asked, because nothing may hang, or be run,
//! only because it lies there.

use std::time::Duration;

use serde::Deserialize;

use crate::config::units;

/// The longest file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 4096;

/// Characters of a description.
const TEXT_CHARS_MAX: usize = 200;

/// What such a file says; what it leaves out is as for a method without one.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// What the method does, in one line.
    #[serde(default)]
    pub(super) description: String,
    /// Whether it only takes something in.
    #[serde(default)]
    pub(super) event: bool,
    /// Whether it may run again after a crash in the middle.
    #[serde(default)]
    pub(super) rerun: bool,
    /// How long it may run.
    #[serde(default, deserialize_with = "timeout")]
    pub(super) timeout: Option<Duration>,
}

fn timeout<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::duration_or_none(&text).map_err(serde::de::Error::custom)
}

impl Description {
    /// Understands the text of such a file. The error says what is wrong, and in which line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let described: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        if described.description.chars().count() > TEXT_CHARS_MAX {
            return Err(format!("the description has more than {TEXT_CHARS_MAX} characters"));
        }
        if described.description.chars().any(char::is_control) {
            return Err("the description has a control character; it is one line of text".to_owned());
        }
        Ok(described)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_says_what_it_knows_and_nothing_else() {
        let all = "description = \"Räumt auf\"\nevent = true\nrerun = true\ntimeout = \"2m\"\n";
        let described = Description::parse(all).unwrap();
        assert_eq!((&*described.description, described.event, described.rerun), ("Räumt auf", true, true));
        assert_eq!(described.timeout, Some(Duration::from_secs(120)));
        assert_eq!(Description::parse("").unwrap(), Description::default());
        let long = format!("description = \"{}\"", "ä".repeat(TEXT_CHARS_MAX + 1));
        for (bad, why) in [
            ("event = true\nretun = true\n", "line 2: unknown field `retun`"),
            ("rerun = \"yes\"\n", "line 1: invalid type"),
            ("\n\ntimeout = \"soon\"\n", "line 3: \"soon\" is no duration"),
            ("description = \"a\\nb\"\n", "control character"),
            (&long, "more than 200"),
            ("nonsense", "line 1"),
        ] {
            let told = Description::parse(bad).unwrap_err();
            assert!(told.contains(why), "{bad}: {told}");
        }
    }
}
