//! A whole text of messages, as `steward send --file` and the folder `messages.d/` take it: all of it or nothing, because
//! there is somebody who can mend it and hand it in again.
//!
//! JSON is read as in `inmsg.txt`: arrays and single messages in any white space. YAML has the same keys and values: each
//! document is a message or a list of messages. What stands where a text belongs is that text, also `no`, `5` and `1.10`.
//!
//! Neither can be made to take more memory than a multiple of its length: YAML's references (`*name`) are for the places
//! where a message repeats another one, so few of them are taken, and nothing is nested deeply.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::input::MessageInput;
use super::split::{Piece, Splitter};
use super::taken::locate;

/// The longest text, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most messages of one text, one for each node of each.
pub(crate) const MESSAGES_MAX: usize = 100_000;

/// The most flaws of one text that are told.
const FLAWS_MAX: usize = 20;

/// How deeply YAML may be nested: a list of messages with lists of texts is 3 deep.
const YAML_DEPTH_MAX: usize = 8;

/// The most values that YAML's references may stand for, all together.
const YAML_REPEATED_MAX: usize = 100_000;

/// The most bytes that YAML's references may stand for, all together.
const YAML_REPEATED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most references in YAML, and the most things that are referred to.
const YAML_REFERENCES_MAX: usize = 10_000;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, as in `inmsg.txt`.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    /// What the name of a file says: `.json`, `.yaml` or `.yml`.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// What it looks like, where no name says it. JSON messages begin with a bracket.
    pub(crate) fn guess(text: &[u8]) -> Self {
        match text.trim_ascii_start().first() {
            Some(b'[' | b'{') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// A message as it is written, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// What it asks for.
    pub(crate) input: MessageInput,
    /// Its line, counted from 1; 0 where it is not known.
    pub(crate) line: u64,
    /// Its column, counted from 1.
    pub(crate) column: u64,
}

impl Entry {
    /// Something that is wrong with it, although it could be read.
    pub(crate) fn flaw(&self, reason: String) -> Flaw {
        Flaw { line: self.line, column: self.column, reason }
    }
}

/// Something in a text that is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    line: u64,
    column: u64,
    reason: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.reason),
            line => write!(f, "line {line}, column {}: {}", self.column, self.reason),
        }
    }
}

impl Flaw {
    fn of_all(reason: impl Into<String>) -> Vec<Self> {
        vec![Self { line: 0, column: 0, reason: reason.into() }]
    }
}

/// The messages of a text, at least one, in their order; or what keeps it from being one, at least one flaw.
pub(crate) fn read(text: &[u8], format: Format) -> Result<Vec<Entry>, Vec<Flaw>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Flaw::of_all(format!("there are more than {TEXT_BYTES_MAX} bytes; make several files of it")));
    }
    let entries = match format {
        Format::Json => json(text)?,
        Format::Yaml => yaml(text)?,
    };
    match entries.iter().map(|entry| entry.input.receivers().len()).sum() {
        0 if entries.is_empty() => Err(Flaw::of_all("there is no message in it")),
        0..=MESSAGES_MAX => Ok(entries),
        many => Err(Flaw::of_all(format!(
            "there are {many} messages, and at most {MESSAGES_MAX} may be; make several files of it"
        ))),
    }
}

fn json(text: &[u8]) -> Result<Vec<Entry>, Vec<Flaw>> {
    let (mut splitter, mut pieces) = (Splitter::new(), Vec::new());
    splitter.push(text, &mut pieces);
    splitter.finish(&mut pieces);
    let (mut entries, mut flaws) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Broken { seen, reason, .. } => flaws.push(Flaw { line: seen.line, column: seen.column, reason }),
            Piece::Object { at, text } => match serde_json::from_slice(&text) {
                Ok(input) => entries.push(Entry { input, line: at.line, column: at.column }),
                Err(error) => {
                    let (seen, reason) = locate(at, &error);
                    flaws.push(Flaw { line: seen.line, column: seen.column, reason });
                }
            },
        }
        if flaws.len() >= FLAWS_MAX {
            break;
        }
    }
    if flaws.is_empty() { Ok(entries) } else { Err(flaws) }
}

fn yaml(text: &[u8]) -> Result<Vec<Entry>, Vec<Flaw>> {
    // No value is longer than the text.
    let repeated_max = YAML_REPEATED_MAX.min(YAML_REPEATED_BYTES_MAX / text.len().max(1));
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH_MAX,
            flow_nesting_limit: YAML_DEPTH_MAX,
            max_documents: MESSAGES_MAX,
            max_events: TEXT_BYTES_MAX,
            max_nodes: TEXT_BYTES_MAX,
            max_total_scalar_bytes: TEXT_BYTES_MAX,
            max_aliases: YAML_REFERENCES_MAX,
            max_anchors: YAML_REFERENCES_MAX,
            max_recorded_anchor_events: YAML_REPEATED_MAX,
            max_recorded_anchor_bytes: YAML_REPEATED_BYTES_MAX,
            max_merge_keys: YAML_REFERENCES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: repeated_max,
            max_replay_stack_depth: YAML_DEPTH_MAX,
        },
        // Each key once: MessageInput says which one stands there twice.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Merge,
        with_snippet: false,
    };
    let documents: Vec<Document> = serde_saphyr::from_slice_multiple_with_options(text, options).map_err(|error| {
        let place = error.location().map_or((0, 0), |place| (place.line(), place.column()));
        let text = error.to_string();
        let (reason, (line, column)) = innermost(&text, place);
        vec![Flaw { line, column, reason: plain(reason) }]
    })?;
    let entries: Vec<Entry> = documents.into_iter().flat_map(|document| document.0).collect();
    let endless = |seconds: Option<f64>| seconds.is_some_and(|seconds| !seconds.is_finite());
    match entries.iter().find(|entry| endless(entry.input.timeout) || endless(entry.input.method_timeout)) {
        // JSON has no such numbers, and nobody waits for so long.
        Some(entry) => Err(vec![entry.flaw("a time is a number of seconds".to_owned())]),
        None => Ok(entries),
    }
}

/// An error of something within something else says both places at its end; the first of them is where it is.
fn innermost(text: &str, mut place: (u64, u64)) -> (&str, (u64, u64)) {
    let mut reason = text;
    while let Some((before, at)) = reason.rsplit_once(" at line ")
        && let Some((line, column)) = at.split_once(", column ")
        && let (Ok(line), Ok(column)) = (line.parse(), column.parse())
    {
        (reason, place) = (before, (line, column));
    }
    (reason, place)
}

/// What the YAML reader says, in the words of those who write messages.
fn plain(reason: &str) -> String {
    let words = [
        (
            "cannot deserialize null into string; use Option<String>",
            "nothing stands where a text belongs; put it in quotes",
        ),
        ("expected sequence start", "a list belongs here"),
        ("expected mapping start", "a message belongs here: keys with values"),
        ("expected string scalar", "a text belongs here"),
        ("recursion limit exceeded", "it is nested too deeply"),
    ];
    words.iter().fold(reason.to_owned(), |reason, (theirs, ours)| reason.replace(theirs, ours))
}

/// One document of a YAML text: a message, or a list of them.
struct Document(Vec<Entry>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Messages(mut entries), referenced, .. } = Spanned::<Messages>::deserialize(deserializer)?;
        for entry in entries.iter_mut().filter(|entry| entry.line == 0) {
            (entry.line, entry.column) = (referenced.line(), referenced.column());
        }
        Ok(Self(entries))
    }
}

struct Messages(Vec<Entry>);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message, or a list of messages")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Messages, A::Error> {
        let input = MessageInput::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Messages(vec![Entry { input, line: 0, column: 0 }]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Messages, A::Error> {
        let mut entries = Vec::new();
        while let Some(Spanned { value, referenced, .. }) = seq.next_element::<Spanned<MessageInput>>()? {
            entries.push(Entry { input: value, line: referenced.line(), column: referenced.column() });
        }
        Ok(Messages(entries))
    }
}

#[cfg(test)]
mod tests;
