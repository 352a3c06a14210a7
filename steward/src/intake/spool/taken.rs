//! Files that were renamed aside (`.taken-<id>-NAME`), and what is in them.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;

use protocol::message::Message;

use crate::intake::Defaults;
use crate::intake::document::{self, Format, MESSAGES_MAX, TEXT_BYTES_MAX};
use crate::intake::ids::{FileId, ITEMS_MAX};
use crate::own_file::{self, Folder};

/// What the names of taken files begin with.
const PREFIX: &str = ".taken-";

/// Characters of an id in a name.
const ID_CHARS: usize = 36;

/// The most reasons that are told of one file.
const REASONS_MAX: usize = 20;

// Each message of a text needs a place of its own in the ids of its file.
const _: () = assert!(MESSAGES_MAX <= ITEMS_MAX);

/// A file that was renamed aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    /// What the ids of its messages follow from.
    pub(super) id: FileId,
    /// What it was called.
    pub(super) name: String,
}

impl Taken {
    /// The file that has this name in the folder, if it is one of these.
    pub(super) fn of(aside: &OsStr) -> Option<Self> {
        let rest = aside.to_str()?.strip_prefix(PREFIX)?;
        let (id, name) = rest.split_at_checked(ID_CHARS)?;
        Some(Self { id: id.parse().ok()?, name: name.strip_prefix('-')?.to_owned() })
    }

    /// Its name in the folder.
    pub(super) fn aside(&self) -> String {
        format!("{PREFIX}{}-{}", self.id, self.name)
    }
}

/// A file, and what is to become of it.
pub(super) type Judged = (Taken, Verdict);

/// What is to become of a file.
#[derive(Debug)]
pub(super) enum Verdict {
    /// These are its messages.
    Accepted(Vec<Message>),
    /// It makes no sense, for these reasons.
    Rejected(String),
}

impl Verdict {
    /// Its messages, if they are taken in.
    pub(super) fn messages(&self) -> &[Message] {
        match self {
            Self::Accepted(messages) => messages,
            Self::Rejected(_) => &[],
        }
    }

    /// What is written beside the file: the ending of its name, and its text.
    pub(super) fn note(&self) -> (&'static str, String) {
        match self {
            Self::Accepted(messages) => {
                let mut ids = String::new();
                for message in messages {
                    writeln!(ids, "{} {}", message.id, message.to).unwrap_or_default();
                }
                ("ids", ids)
            }
            Self::Rejected(reason) => ("reason", reason.clone()),
        }
    }
}

/// Reads files, as many of them as have room, and says which can't be read: somebody has put something else in their place.
/// What they are called is durable before. Blocks.
pub(super) fn read(dir: &Path, files: Vec<Taken>, defaults: &Defaults) -> io::Result<(Vec<Judged>, Vec<String>)> {
    let folder = Folder::open(dir)?;
    folder.sync()?;
    let (mut read, mut foreign, mut bytes, mut messages) = (Vec::new(), Vec::new(), 0, 0);
    for file in files {
        let mut text = Vec::new();
        let opened = own_file::read(&folder.path().join(file.aside()));
        match opened.and_then(|opened| opened.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound || own_file::is_foreign(&error) => {
                tracing::error!(file = %file.name, %error, "a file of messages is gone before it was read");
                foreign.push(file.aside());
                continue;
            }
            Err(error) => return Err(error),
        }
        bytes += text.len();
        let verdict = judge(&file, &text, defaults);
        messages += verdict.messages().len();
        if !read.is_empty() && (bytes > TEXT_BYTES_MAX || messages > MESSAGES_MAX) {
            break;
        }
        read.push((file, verdict));
    }
    Ok((read, foreign))
}

fn judge(file: &Taken, text: &[u8], defaults: &Defaults) -> Verdict {
    let format = Format::of(Path::new(&file.name)).unwrap_or(Format::Json);
    let entries = match document::read(text, format) {
        Ok(entries) => entries,
        Err(flaws) => return rejected(flaws.iter().map(ToString::to_string)),
    };
    let (mut messages, mut reasons) = (Vec::with_capacity(entries.len()), Vec::new());
    for (item, mut entry) in (0..).zip(entries) {
        let input = std::mem::take(&mut entry.input);
        match input.check(defaults, |node| file.id.item(item, node)) {
            Ok(more) => messages.extend(more),
            Err(reason) => reasons.push(entry.flaw(reason)),
        }
        if reasons.len() >= REASONS_MAX {
            break;
        }
    }
    match reasons.is_empty() {
        true => Verdict::Accepted(messages),
        false => rejected(reasons.iter().map(ToString::to_string)),
    }
}

fn rejected(reasons: impl Iterator<Item = String>) -> Verdict {
    let mut text: String = reasons.map(|reason| format!("{reason}\n")).collect();
    text.push_str("Nothing of it was taken in. Correct it, and move it to messages.d again.\n");
    Verdict::Rejected(text)
}
