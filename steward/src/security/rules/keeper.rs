//! Keeps the rules of a node as its file says: reads it at start, watches it, and says when it can't be used.
//!
//! What holds is what could be read last. A copy of it lies beside the file (`rules.good`), so that it holds across a
//! restart too; where there is neither a file that can be used nor a copy, nothing is accepted. A file that goes is no
//! change either: who wants the standard rules back writes `otherwise = "standard"` and nothing else into it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::file::{BadRules, FILE_BYTES_MAX};
use super::set::RuleSet;
use super::{FILE, Rules, RulesView};
use crate::own_file;

/// The copy of what was last read and could be used.
const GOOD: &str = "rules.good";

/// How often the file is looked at. That costs less than a watch, which takes a thread and one of the few that a system
/// has, and nobody waits for rules as for messages.
const LOOK: Duration = Duration::from_secs(1);

/// How long a file has to be as it is before it is called bad: an editor may be in the middle of writing it.
const SETTLE: Duration = Duration::from_secs(1);

/// The first line of the copy.
const GOOD_HEAD: &str = "# What steward has last read of rules.toml and holds on to. Change rules.toml, not this.\n";

/// What is written into the copy while there is no file.
const STANDARD: &str = "otherwise = \"standard\"\n";

/// Keeps the rules.
#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    rules: Rules,
    /// The file as it was taken in, or told to be bad.
    seen: Seen,
    /// What the copy should hold and does not, because the disk was full, say.
    uncopied: Option<String>,
}

/// How the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Missing,
    Text(String),
    /// Why it is not read.
    Unusable(String),
}

/// What can be made of a file.
enum Found {
    Good(RuleSet, String),
    Missing,
    Bad(String),
}

impl Seen {
    fn understood(&self) -> Found {
        match self {
            Self::Missing => Found::Missing,
            Self::Unusable(why) => Found::Bad(why.clone()),
            Self::Text(text) => match RuleSet::parse(text) {
                Ok(set) => Found::Good(set, text.clone()),
                Err(error) => Found::Bad(error.to_string()),
            },
        }
    }
}

impl Keeper {
    /// Takes in what lies in the node's directory. From then on `rules` are those.
    pub(crate) fn open(dir: &Path, rules: Rules) -> Self {
        let seen = look(&dir.join(FILE));
        let mut keeper = Self { dir: dir.to_owned(), rules, seen, uncopied: None };
        match keeper.seen.understood() {
            Found::Good(set, text) => keeper.hold(set, text),
            Found::Missing | Found::Bad(_) => keeper.hold_copy(),
        }
        keeper
    }

    /// Follows the file until the end.
    pub(crate) async fn run(&mut self, end: CancellationToken) -> anyhow::Result<()> {
        let path = self.dir.join(FILE);
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let seen = look(&path);
            if seen == self.seen {
                if let Some(text) = self.uncopied.clone() {
                    tokio::task::block_in_place(|| self.copy(text));
                }
                continue;
            }
            if !matches!(seen.understood(), Found::Good(..)) {
                tokio::time::sleep(SETTLE).await;
                if look(&path) != seen {
                    continue;
                }
            }
            self.seen = seen;
            // The copy is synced, which may take a while on a slow disk.
            tokio::task::block_in_place(|| self.take());
        }
    }

    /// The file is another one than before.
    fn take(&mut self) {
        let (file, before) = (self.dir.join(FILE), self.rules.view());
        match self.seen.understood() {
            Found::Good(set, text) => {
                self.hold(set, text);
                let view = self.rules.view();
                tracing::info!(file = %file.display(), rules = view.rules, otherwise = view.otherwise, "new rules hold");
            }
            // Without a file from the beginning, nobody misses it.
            Found::Missing if before.state == "standard" => {}
            Found::Missing => {
                self.keep(&file, "the file is gone; write otherwise = \"standard\" into it for the standard rules")
            }
            Found::Bad(why) => self.keep(&file, &why),
        }
    }

    /// What held before goes on.
    fn keep(&mut self, file: &Path, why: &str) {
        let before = self.rules.view();
        if before.state == "standard" {
            self.copy(STANDARD.to_owned());
        }
        let (state, held) = match before.state.as_str() {
            "closed" => ("closed", "nothing is accepted until it is mended"),
            _ => ("kept", "the rules that held before hold on"),
        };
        tracing::error!(file = %file.display(), error = why, "the rules can't be used; {held}");
        self.rules.tell(|view| (view.state, view.why) = (state.to_owned(), Some(why.to_owned())));
    }

    /// At the start, where the file is not there or can't be used: what the last process held on to, if there is a copy.
    fn hold_copy(&mut self) {
        let file = self.dir.join(FILE);
        let why = match self.seen.understood() {
            Found::Good(..) => return,
            Found::Missing => {
                "the file is gone; write otherwise = \"standard\" into it for the standard rules".to_owned()
            }
            Found::Bad(why) => why,
        };
        match look(&self.dir.join(GOOD)).understood() {
            Found::Good(set, text) => {
                let view = RulesView { state: "kept".to_owned(), why: Some(why.clone()), text, ..RulesView::default() };
                self.rules.hold(Some(set), view);
                tracing::error!(file = %file.display(), error = why, "the rules can't be used; those of the last start hold on");
            }
            Found::Missing if self.seen == Seen::Missing => {}
            Found::Missing | Found::Bad(_) => {
                let view = RulesView { state: "closed".to_owned(), why: Some(why.clone()), ..RulesView::default() };
                self.rules.hold(None, view);
                tracing::error!(file = %file.display(), error = why,
                    "the rules can't be used, and no earlier ones are known; nothing is accepted until they are mended");
            }
        }
    }

    /// These hold from now on, and across a restart.
    fn hold(&mut self, set: RuleSet, text: String) {
        let copy = format!("{GOOD_HEAD}{text}");
        self.rules.hold(Some(set), RulesView { state: "good".to_owned(), text, ..RulesView::default() });
        self.copy(copy);
    }

    /// Writes the copy, now or later. The rules hold without it, but not across a restart with a file that is bad then.
    fn copy(&mut self, text: String) {
        let path = self.dir.join(GOOD);
        match replace(&self.dir, &path, &text) {
            Ok(()) => self.uncopied = None,
            Err(error) => {
                if self.uncopied.is_none() {
                    tracing::warn!(file = %path.display(), %error, "the copy of the rules can't be written; it is tried again");
                }
                self.uncopied = Some(text);
            }
        }
    }
}

/// Puts a file with this text in the place of `path`, durably.
pub(super) fn replace(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
    fs::rename(&aside, path)?;
    fs::File::open(dir)?.sync_all()
}

/// How a file of rules is. One that others could have written is not used, and a link is not followed.
fn look(path: &Path) -> Seen {
    let read = || {
        let file = own_file::read(path)?;
        let is = file.metadata()?;
        let us = rustix::process::geteuid().as_raw();
        if is.uid() != us && is.uid() != 0 {
            return Ok(Err(format!("it belongs to user {}, so it is not used; run: chown {us} {FILE}", is.uid())));
        }
        if is.mode() & 0o002 != 0 {
            return Ok(Err(format!("anybody can write it, so it is not used; run: chmod o-w {FILE}")));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            BadRules { line, column: 1, why: "it is not UTF-8 text".to_owned() }.to_string()
        }))
    };
    match read() {
        Ok(Ok(text)) => Seen::Text(text),
        Ok(Err(why)) => Seen::Unusable(why),
        Err(error) if error.kind() == ErrorKind::NotFound => Seen::Missing,
        Err(error) if own_file::is_foreign(&error) => Seen::Unusable(error.to_string()),
        Err(error) => Seen::Unusable(format!("it can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
