//! An executable file in the folder `methods.d/` of a node's directory is a method of that node, by its file's name. Whoever may write
//! there decides what runs; senders choose among it, and rules name it like any other method.
//!
//! ```sh
//! install -m 755 disk-report ship1/methods.d/DiskReport        # there within a second or two, without a restart
//! steward --dir ship1 methods                                  # which there are, and which files can't be used, and why
//! steward --dir central methods ship1                          # the same from afar, as ship1 has told in its last hello
//! steward --dir central send ship1 --method DiskReport -- /var
//! ```
//!
//! The message comes as one line of JSON on the standard input, and the program needs no arguments:
//!
//! ```json
//! {"id":"0193a1c2-7f00-7000-8000-00c0ffee0001","fromNode":"central","toNode":"ship1","commandOrEvent":"CommandACK","method":"DiskReport","data":["/var"],"createdAt":"2026-11-23T05:00:00.000Z","again":false}
//! ```
//!
//! `createdAt` is by the sender's clock. `again` is true where the message may have been begun before: by a node that died, for a
//! method or a message that may run again. For everything else it is a program like those of `ShellCommand`: what it writes is the result,
//! its exit code decides, and environment, working directory, limits, `cancel` and `interrupted` are as there.
//!
//! A file `NAME.toml` beside it may say more:
//!
//! ```toml
//! description = "Which folders below DATA take the most room"   # one line of up to 200 characters, for `steward methods`
//! timeout = "2m"     # longer than this it never runs
//! rerun = true       # running it twice is harmless: after a crash of the node in the middle it runs again
//! event = false      # true: it only takes something in, so it may be sent as an event, which a node takes from everybody
//! ```
//!
//! * A name has up to 64 of A-Z a-z 0-9 _ -, and is none of steward's own methods. Files with a dot before their name, or a `~` behind it,
//!   are left alone. A node has up to 64 methods of its own.
//! * The folder, the executables and their descriptions belong to the node's user or to root, and nobody else may write them; they are no
//!   links. What is otherwise is not used, and is said in `steward methods`, in the log and to the central error log.
//! * New files, changes and removals are noticed while the node runs. A method that is gone when the turn of a message comes refuses it.
//! * Put a file there under another name (with a dot before it) and rename it, so that nobody runs the half of it.
//! * Where a rule runs it as another user, that user has to be allowed to read and to run the file (mode 755).

mod description;
mod folder;
mod program;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use protocol::event::Facts;
use protocol::message::Kind;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) use program::OwnMethod;

use super::{Entry, TABLE, entry};
use crate::view::MethodView;
use folder::{Looked, Signature};

/// The folder of a node's own methods, in its directory.
const FOLDER: &str = "methods.d";

/// How often the folder is looked at. That costs less than a watch, which takes a thread and one of the few that a system
/// has, and nobody waits for a new method as for a message.
const LOOK: Duration = Duration::from_secs(1);

/// How long a file has to be as it is before it is called bad: somebody may be in the middle of writing it.
const SETTLE: Duration = Duration::from_secs(1);

/// Bytes of a hello that methods may take; what is beyond is only counted. A hello has a limit, and travels often.
const TOLD_BYTES_MAX: usize = 2048;

/// The methods of a node: steward's own and the node's. Clones are the same.
#[derive(Clone)]
pub(crate) struct OwnMethods(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    active: RwLock<Arc<Active>>,
    changes: watch::Sender<()>,
}

/// What there is at the moment.
#[derive(Debug, Default)]
struct Active {
    signature: Signature,
    looked: Looked,
}

/// A method of the node's own, as its file and its description have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// The whole path of its file.
    pub(super) path: PathBuf,
    pub(super) description: String,
    pub(super) event: bool,
    pub(super) rerun: bool,
    pub(super) timeout: Option<Duration>,
}

/// A method, as a hello tells of it.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    event: bool,
}

impl fmt::Debug for OwnMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnMethods").field("active", &self.active()).finish_non_exhaustive()
    }
}

impl OwnMethods {
    /// Those that lie in the node's directory now. Blocks for a few looks at the disk.
    pub(crate) fn open(dir: &Path) -> Self {
        // Programs may change their working directory, and the node's may be given by a word like `.`.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).join(FOLDER);
        let signature = folder::signature(&dir);
        let looked = folder::look(&dir);
        looked.tell(&Looked::default());
        let active = RwLock::new(Arc::new(Active { signature, looked }));
        Self(Arc::new(Shared { dir, active, changes: watch::Sender::new(()) }))
    }

    /// None but steward's own.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn none() -> Self {
        Self::open(Path::new("/nonexistent"))
    }

    /// Follows the folder until the end.
    pub(crate) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let before = self.active();
            let Some(mut found) = self.look(&before.signature).await? else { continue };
            if found.looked.has_bad() {
                tokio::time::sleep(SETTLE).await;
                // Changed once more: the next look takes it as it is then.
                match self.look(&before.signature).await? {
                    Some(again) if again.signature == found.signature => found = again,
                    Some(_) | None => continue,
                }
            }
            found.looked.tell(&before.looked);
            let is_other = found.looked.good != before.looked.good;
            *self.0.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
            if is_other {
                self.0.changes.send_replace(());
            }
        }
    }

    /// What is there, if it is not as it was.
    async fn look(&self, before: &Signature) -> anyhow::Result<Option<Active>> {
        let (dir, before) = (self.0.dir.clone(), before.clone());
        let look = move || {
            let signature = folder::signature(&dir);
            (signature != before).then(|| Active { signature, looked: folder::look(&dir) })
        };
        Ok(tokio::task::spawn_blocking(look).await?)
    }

    /// Tells whenever there are other methods than before.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// The method of the node's own that has this name.
    pub(super) fn get(&self, name: &str) -> Option<Own> {
        self.active().looked.good.get(name).cloned()
    }

    /// The same as it is on the disk at this moment, just before it is run. The error says why it can't be. Blocks.
    pub(super) fn checked(&self, name: &str) -> Result<Own, String> {
        folder::usable(&self.0.dir, name)
    }

    /// What delivery has to know of a method. What is not known here any more is not run a second time: nobody can say
    /// whether that is harmless.
    pub(crate) fn facts(&self, method: &str) -> Facts {
        match entry(method) {
            Some(entry) => Facts { rerun: entry.rerun(), batch: entry.batch() },
            None => Facts { rerun: self.get(method).is_some_and(|own| own.rerun), batch: 1 },
        }
    }

    /// Whether a method may be sent as an event; none if there is no such method.
    pub(crate) fn takes_events(&self, method: &str) -> Option<bool> {
        entry(method).map(Entry::event).or_else(|| self.get(method).map(|own| own.event))
    }

    /// Checks a message's method and data as far as that can be done without running it. The error is a reason in words.
    pub(crate) fn check(&self, kind: Kind, method: &str, data: &[String]) -> Result<(), String> {
        if entry(method).is_some() {
            return super::check(kind, method, data);
        }
        let active = self.active();
        if active.looked.good.contains_key(method) {
            // What a method of the node's own makes of its data, only that knows.
            return Ok(());
        }
        let mut known: Vec<&str> = super::known().collect();
        known.extend(active.looked.good.keys().map(String::as_str));
        Err(format!(
            "there is no method {method} in steward {} here; it has {} (names are case sensitive)",
            env!("CARGO_PKG_VERSION"),
            known.join(", ")
        ))
    }

    /// The methods that may be sent as an event.
    pub(crate) fn of_events(&self) -> Vec<String> {
        let active = self.active();
        let own = active.looked.good.iter().filter(|(_, own)| own.event).map(|(name, _)| name.clone());
        TABLE.iter().filter(|entry| entry.event()).map(|entry| entry.name().to_owned()).chain(own).collect()
    }

    /// What a hello tells of the node's own methods, by name, and how many of them it has no room for.
    pub(crate) fn told(&self) -> (Vec<Told>, usize) {
        let active = self.active();
        let mut told: Vec<Told> = Vec::new();
        let mut bytes = 0;
        for (name, own) in &active.looked.good {
            let next = Told { name: name.clone(), description: own.description.clone(), event: own.event };
            bytes += serde_json::to_string(&next).map_or(TOLD_BYTES_MAX, |text| text.len() + 1);
            if bytes > TOLD_BYTES_MAX {
                break;
            }
            told.push(next);
        }
        let left_out = active.looked.good.len() - told.len();
        (told, left_out)
    }

    /// All methods that there are here, and the files that can't be used as one.
    pub(crate) fn views(&self) -> Vec<MethodView> {
        let built_in = TABLE.iter().map(|entry| MethodView {
            method: entry.name().to_owned(),
            event: entry.event(),
            rerun: entry.rerun(),
            ..MethodView::default()
        });
        let active = self.active();
        let good = active.looked.good.iter().map(|(name, own)| MethodView {
            method: name.clone(),
            own: true,
            event: own.event,
            rerun: own.rerun,
            timeout_seconds: own.timeout.map(|timeout| timeout.as_secs_f64()),
            description: Some(own.description.clone()).filter(|text| !text.is_empty()),
            problem: None,
        });
        let bad = active.looked.bad.iter().map(|(name, why)| MethodView {
            method: name.clone(),
            own: true,
            problem: Some(why.clone()),
            ..MethodView::default()
        });
        built_in.chain(good).chain(bad).collect()
    }

    fn active(&self) -> Arc<Active> {
        // What stands there is replaced as a whole, so it is whole even after a panic.
        Arc::clone(&self.0.active.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The good ones by their names.
type Good = BTreeMap<String, Own>;

#[cfg(test)]
mod tests;
