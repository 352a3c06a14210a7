//! A message says with `replyMethod` what becomes of its result here, on the node that sends it. It is a `CommandACK`, and its
//! result is what came back: the standard output and, behind it, the standard error.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["df", "-h"], "commandOrEvent": "CommandACK", "method": "ShellCommand",
//!     "replyMethod": "fileAppend", "directory": "disks", "fileName": "ship1.log" },
//!   { "toNode": "ship1", "data": ["http://127.0.0.1:9090/metrics", "as=body"], "commandOrEvent": "CommandACK", "method": "HttpGet",
//!     "replyMethod": "file", "fileName": "metrics.txt" },
//!   { "toNode": "ship1", "data": ["uptime"], "commandOrEvent": "CommandACK", "method": "ShellCommand", "replyMethod": "TextLogging" } ]
//! ```
//!
//! | `replyMethod` | |
//! | --- | --- |
//! | `console` | it is kept, and shown by `send` and `show`, as it is without the key |
//! | `file` | also written into a file, whole, in place of an older one |
//! | `fileAppend` | also appended to a file, once, with a line end where it has none |
//! | `none` | the output is not kept here; state, exit code and times are |
//! | a method | also given as `data[0]` to a method of this node that takes events: `TextLogging`, `ErrorLog` |
//!
//! * A file lies in `results/DIRECTORY/FILENAME` below the node's own directory, and nowhere else. Without `directory` it is the name of the node that answers,
//!   without `fileName` the method with `.out`; `directory` may have up to 8 parts with slashes between them. No part begins with a dot, and no link is
//!   followed. Only the node's user can read the files.
//! * Each result is there once, however often the node is killed: what is to be done becomes due in the transaction in which the message ends. A file
//!   of `fileAppend` is the node's while it runs; you may move it away at any time, and a new one is begun.
//! * What can't be done (a full disk, a link in the way) says why in `steward show`, is tried again every few seconds, and holds up no other result.
//!   The message is not removed before it is done.
//! * Where there is no result (it was refused, it expired, its node died in the middle and nothing came back) a file stays as it was, and `steward show` says so.
//! * What a node answers must not become a command here. So no method is taken that does what its data says, like `ShellCommand`.
//!   A result that is longer than the data of a message may be (512 KiB as JSON) goes to no method; it is kept as usual.
//! * What `TailFile` sends comes while it runs, and lies in `tails/` instead of `results/`; of these words it takes `console` and `fileAppend`.
//! * `none` saves room on the disk, not bytes on the link: what does not fit into a receipt is fetched before it is dropped.

use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};
use serde::{Deserialize, Serialize};

use crate::methods::{OwnMethods, TAIL_FILE};
use crate::tails::FOLDER as TAILS;

/// The folder in the node's directory below which all files lie.
pub(crate) const FOLDER: &str = "results";

/// The longest name of a file or a folder, in bytes: what is added while a file grows has to fit as well.
const NAME_BYTES_MAX: usize = 150;

/// Folders in each other.
const DEPTH_MAX: usize = 8;

/// The words that are no method.
pub(crate) const WORDS: [&str; 4] = ["console", "file", "fileAppend", "none"];

/// What becomes of a result, as it is stored with its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    /// `file`, `fileAppend`, `none`, or a method.
    pub(crate) reply_method: String,
    /// The folder below [`FOLDER`], its parts with slashes between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
    /// The file in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_name: Option<String>,
    /// Whether it is for lines that come while the message runs (`TailFile`), and there is nothing to do at its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lines: bool,
}

/// The same as it was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// `replyMethod`.
    pub(crate) reply_method: Option<String>,
    /// `directory`.
    pub(crate) directory: Option<String>,
    /// `fileName`.
    pub(crate) file_name: Option<String>,
}

impl Given {
    /// What is to be stored of it, for a message of this kind to this node; nothing where the result is kept and shown as
    /// usual. The error says which key makes no sense, and why.
    pub(crate) fn check(
        self,
        kind: Kind,
        to: &NodeName,
        method: &MethodName,
        here: &OwnMethods,
    ) -> Result<Option<Spec>, String> {
        let Self { reply_method, directory, file_name } = self;
        let word = reply_method.as_deref().unwrap_or("console");
        let is_file = matches!(word, "file" | "fileAppend");
        if !is_file && (directory.is_some() || file_name.is_some()) {
            return Err(format!(
                "\"directory\" and \"fileName\" say where a result lies with \"replyMethod\" file or fileAppend, and it is {word}"
            ));
        }
        if word == "console" {
            return Ok(None);
        }
        if kind != Kind::CommandAck {
            return Err(format!("\"replyMethod\": nothing comes back of {kind}; only a CommandACK has a result"));
        }
        let lines = method.as_str() == TAIL_FILE;
        if lines && word != "fileAppend" {
            return Err(format!(
                "\"replyMethod\": the lines of {method} come while it runs; they go to files below {TAILS}/, or to the end of one \
                 that is named with fileAppend, and not to {word}"
            ));
        }
        let reply_method = word.to_owned();
        if is_file {
            let directory = directory.unwrap_or_else(|| to.to_string());
            let parts: Vec<&str> = directory.split('/').collect();
            if parts.len() > DEPTH_MAX {
                return Err(format!("\"directory\": more than {DEPTH_MAX} folders in each other"));
            }
            parts.iter().try_for_each(|part| name(part)).map_err(|why| format!("\"directory\": {why}"))?;
            let file_name = file_name.unwrap_or_else(|| format!("{method}.out"));
            name(&file_name).map_err(|why| format!("\"fileName\": {why}"))?;
            return Ok(Some(Spec { reply_method, directory: Some(directory), file_name: Some(file_name), lines }));
        }
        // What a node answers must not become a command here: whoever is asked could have anything run.
        match here.takes_events(word) {
            _ if word == "none" => {}
            Some(true) if word != TAIL_FILE => {}
            Some(_) => {
                return Err(format!(
                    "\"replyMethod\": {word} does what its data says, and the data would be what node {to} answers; \
                     only methods that take events may be named"
                ));
            }
            None => {
                let known = here.of_events().into_iter().filter(|name| *name != TAIL_FILE);
                let known: Vec<String> = WORDS.into_iter().map(str::to_owned).chain(known).collect();
                return Err(format!("\"replyMethod\": {word:?} is none of {}", known.join(", ")));
            }
        }
        Ok(Some(Spec { reply_method, directory: None, file_name: None, lines }))
    }
}

impl Spec {
    /// As it is stored.
    pub(crate) fn text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| format!("\"replyMethod\": {error}"))
    }

    /// What was stored; none if that can't be read.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether nothing of the output is kept.
    pub(crate) fn drops(&self) -> bool {
        self.reply_method == "none"
    }

    /// Where a file lies, from the node's directory on; none if it is no file.
    pub(crate) fn file(&self) -> Option<String> {
        let (directory, file) = (self.directory.as_ref()?, self.file_name.as_ref()?);
        let folder = if self.lines { TAILS } else { FOLDER };
        Some(format!("{folder}/{directory}/{file}"))
    }
}

/// Says what is wrong with the name of a file or folder: none may lead out of where it lies, or be one that is still written.
fn name(name: &str) -> Result<(), String> {
    let bad = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 150 bytes"
    } else if name.contains('/') {
        "has a slash in it"
    } else if name.starts_with('.') {
        "begins with a dot"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(80).collect();
    Err(format!("the name {shown:?} {bad}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, directory: Option<&str>, file: Option<&str>, kind: Kind) -> Result<Option<Spec>, String> {
        let given = Given {
            reply_method: Some(word.to_owned()),
            directory: directory.map(str::to_owned),
            file_name: file.map(str::to_owned),
        };
        let (to, method) = (NodeName::new("ship1").unwrap(), MethodName::new("ShellCommand").unwrap());
        given.check(kind, &to, &method, &OwnMethods::none())
    }

    #[test]
    fn a_result_has_its_place_below_the_nodes_own_folder_or_is_refused() {
        let spec = check("file", None, None, Kind::CommandAck).unwrap().unwrap();
        assert_eq!(spec.file().unwrap(), "results/ship1/ShellCommand.out");
        assert_eq!(Spec::read(&spec.text().unwrap()), Some(spec));
        let spec = check("fileAppend", Some("a/b"), Some("c.txt"), Kind::CommandAck).unwrap().unwrap();
        assert_eq!(spec.file().unwrap(), "results/a/b/c.txt");
        assert_eq!(check("console", None, None, Kind::EventNack), Ok(None));
        assert!(check("none", None, None, Kind::CommandAck).unwrap().unwrap().drops());
        assert_eq!(check("TextLogging", None, None, Kind::CommandAck).unwrap().unwrap().file(), None);
        let long = "x".repeat(151);
        for (word, directory, file, kind, reason) in [
            ("file", Some("../etc"), None, Kind::CommandAck, "begins with a dot"),
            ("file", Some("/etc"), None, Kind::CommandAck, "is empty"),
            ("file", Some("a//b"), None, Kind::CommandAck, "is empty"),
            ("file", Some("1/2/3/4/5/6/7/8/9"), None, Kind::CommandAck, "more than 8"),
            ("file", None, Some("a/b"), Kind::CommandAck, "has a slash"),
            ("file", None, Some(".."), Kind::CommandAck, "begins with a dot"),
            ("file", None, Some("a\nb"), Kind::CommandAck, "control character"),
            ("file", None, Some(long.as_str()), Kind::CommandAck, "longer than 150"),
            ("file", None, None, Kind::EventAck, "only a CommandACK"),
            ("none", None, None, Kind::CommandNack, "only a CommandACK"),
            ("none", Some("a"), None, Kind::CommandAck, "and it is none"),
            ("console", None, Some("a"), Kind::CommandAck, "and it is console"),
            ("ShellCommand", None, None, Kind::CommandAck, "what node ship1 answers"),
            ("File", None, None, Kind::CommandAck, "is none of console, file, fileAppend, none, TextLogging"),
        ] {
            let said = check(word, directory, file, kind).unwrap_err();
            assert!(said.contains(reason), "{word} {directory:?} {file:?}: {said}");
        }
    }
}
