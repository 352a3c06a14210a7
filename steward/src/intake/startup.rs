//! `startup/`: a folder of messages that are sent each time the node starts, `*.json`, `*.yaml` or `*.yml`, to the node itself or to others.
//!
//! * Each file is taken as a whole or not at all, in the order of their names, once for each start of the node. It stays where it is.
//! * `NAME.ids` beside it has a line for each message of the last start: its id and its node. `NAME.reason` says why nothing of a
//!   file was taken in; what is wrong with one keeps no other from being sent.
//! * An order with a schedule is refused here: it stands until it is taken back, so each start would add one.
//! * A node that is killed over it sends what it had not, with the next start, and with that all of it.
//!
//! It never follows a link, never takes what is no regular file, and leaves alone what has another ending, or begins with a dot.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::message::Message;
use tokio_util::sync::CancellationToken;

use super::document::{self, Entry, Format, TEXT_BYTES_MAX};
use super::ids::FileId;
use super::taken::blocking;
use super::{Defaults, Intake};
use crate::audit::By;
use crate::methods;
use crate::own_file::{self, Folder};

/// The folder's name in the node's directory.
pub(crate) const NAME: &str = "startup";

/// Files that are sent at a start; of more, the first by their names.
const FILES_MAX: usize = 1000;

/// The longest name of a file, in bytes: what stands beside it has a longer one.
const NAME_BYTES_MAX: usize = 180;

/// The most reasons that are told of one file.
const REASONS_MAX: usize = 20;

/// How soon what could not be sent is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What a note is called while it is written.
const ASIDE: &str = ".note.tmp";

/// The folder, and what this process has made of the files in it. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Startup {
    dir: PathBuf,
    intake: Intake,
    files: Arc<Mutex<BTreeMap<String, File>>>,
}

/// A file of this start.
#[derive(Debug, Clone, Copy)]
struct File {
    /// What the ids of its messages follow from, however often it is tried.
    id: FileId,
    /// Whether it is over with it.
    done: bool,
}

impl Startup {
    /// For the node's directory.
    pub(crate) fn new(node_dir: &Path, intake: Intake) -> Self {
        Self { dir: node_dir.join(NAME), intake, files: Arc::default() }
    }

    /// Sends what there is, once for each process, however often this is started.
    pub(crate) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        let dir = self.dir.clone();
        let names = blocking(move || look(&dir)).await??;
        self.files().extend_new(names);
        let names: Vec<String> = self.files().keys().cloned().collect();
        for name in names {
            let mut trouble = None;
            while let Err(error) = self.send(&name).await {
                let why = format!("{error:#}");
                if trouble.as_ref() != Some(&why) {
                    tracing::error!(file = %name, %why, "a file in startup can't be sent; it is tried again");
                    trouble = Some(why);
                }
                tokio::select! {
                    () = end.cancelled() => return Ok(()),
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
        end.cancelled().await;
        Ok(())
    }

    /// Sends a file, if that is not done.
    async fn send(&self, name: &str) -> anyhow::Result<()> {
        let Some(File { id, done: false }) = self.files().get(name).copied() else { return Ok(()) };
        let (dir, defaults, of) = (self.dir.clone(), self.intake.defaults().clone(), name.to_owned());
        let read = blocking(move || read(&dir, &of, id, &defaults)).await?;
        let noted = match read {
            Ok(messages) => {
                let mut ids = String::new();
                for message in &messages {
                    writeln!(ids, "{} {}", message.id, message.to)?;
                }
                let many = messages.len();
                self.intake.submit_checked(messages, Some(By::Startup)).await?;
                tracing::info!(file = %name, messages = many, "a file in startup is sent");
                ("ids", ids)
            }
            Err(reason) => {
                let first = reason.lines().next().unwrap_or_default();
                tracing::error!(file = %name, reason = %first, "a file in startup makes no sense; nothing of it is sent");
                ("reason", reason)
            }
        };
        // Sent is sent: a note that can't be written is no reason to do it again.
        if let Some(file) = self.files().get_mut(name) {
            file.done = true;
        }
        let (dir, of) = (self.dir.clone(), name.to_owned());
        if let Err(error) = blocking(move || note(&dir, &of, noted)).await? {
            tracing::warn!(file = %name, %error, "what became of a file in startup can't be written beside it");
        }
        Ok(())
    }

    fn files(&self) -> Files<'_> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        Files(self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The files of this start, locked.
struct Files<'a>(std::sync::MutexGuard<'a, BTreeMap<String, File>>);

impl std::ops::Deref for Files<'_> {
    type Target = BTreeMap<String, File>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Files<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Files<'_> {
    /// Adds those that are there when the node starts. What is put there later waits for the next start.
    fn extend_new(&mut self, names: Vec<String>) {
        if self.0.is_empty() {
            self.0.extend(names.into_iter().map(|name| (name, File { id: FileId::next(), done: false })));
        }
    }
}

/// The files in the folder, by name; the folder is made where it is missing. What is left alone is said. Blocks.
fn look(dir: &Path) -> io::Result<Vec<String>> {
    own_file::make_folder(dir)?;
    let folder = Folder::open(dir)?;
    let mut names = Vec::new();
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        entries.push(entry?.file_name());
    }
    entries.sort();
    for name in entries.into_iter().filter(|name| is_offered(name)) {
        match plain(&folder, &name) {
            Err(why) => tracing::error!(file = ?name, folder = %dir.display(), "a file is left alone: {why}"),
            Ok(_) if names.len() >= FILES_MAX => {
                tracing::error!(folder = %dir.display(), "more than {FILES_MAX} files; those behind the first are left alone");
                break;
            }
            Ok(name) => names.push(name),
        }
    }
    Ok(names)
}

/// Whether a file of this name is for us.
fn is_offered(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".") && Format::of(Path::new(name)).is_some()
}

/// The name of a file that can be sent, or why it can't.
fn plain(folder: &Folder, name: &OsString) -> Result<String, String> {
    let plain = name.to_str().filter(|text| text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control));
    let plain = plain.ok_or("its name has more than 180 bytes, or is no plain text; give it another one")?;
    own_file::check(&folder.path().join(name)).map_err(|_| "it is a link, or no regular file; put a file there")?;
    Ok(plain.to_owned())
}

/// The messages of a file, or why there are none. Blocks.
fn read(dir: &Path, name: &str, id: FileId, defaults: &Defaults) -> Result<Vec<Message>, String> {
    let mut text = Vec::new();
    let read = Folder::open(dir).and_then(|folder| folder.file(name.as_ref(), OpenOptions::new().read(true)));
    let read = read.and_then(|file| file.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut text));
    read.map_err(|error| format!("it can't be read: {error}\n"))?;
    let entries = document::read(&text, Format::of(Path::new(name)).unwrap_or(Format::Json));
    let entries = entries.map_err(|flaws| flaws.iter().map(|flaw| format!("{flaw}\n")).collect::<String>())?;
    let (mut messages, mut reasons) = (Vec::with_capacity(entries.len()), Vec::new());
    for (item, mut entry) in (0..).zip(entries) {
        match checked(&mut entry, |node| id.item(item, node), defaults) {
            Ok(more) => messages.extend(more),
            Err(reason) => reasons.push(entry.flaw(reason)),
        }
        if reasons.len() >= REASONS_MAX {
            break;
        }
    }
    match reasons.is_empty() {
        true => Ok(messages),
        false => Err(reasons.iter().map(|reason| format!("{reason}\n")).collect()),
    }
}

fn checked(
    entry: &mut Entry,
    id: impl FnMut(usize) -> protocol::message::MessageId,
    defaults: &Defaults,
) -> Result<Vec<Message>, String> {
    let input = std::mem::take(&mut entry.input);
    if input.schedule.is_some() || input.method == methods::SCHEDULE {
        return Err(
            "\"schedule\": an order stands until it is taken back, so each start would add another one; give it once, with \
             `steward send`"
                .to_owned(),
        );
    }
    input.check(defaults, id)
}

/// Writes beside a file what became of it at this start, and removes what an earlier one has said otherwise. Blocks.
fn note(dir: &Path, name: &str, (ending, text): (&str, String)) -> io::Result<()> {
    let folder = Folder::open(dir)?;
    let here = folder.path();
    let mut options = OpenOptions::new();
    options.mode(0o600).create(true).write(true).truncate(true);
    let mut aside = folder.file(OsStr::new(ASIDE), &mut options)?;
    aside.write_all(text.as_bytes())?;
    fs::rename(here.join(ASIDE), here.join(format!("{name}.{ending}")))?;
    let other = if ending == "ids" { "reason" } else { "ids" };
    match fs::remove_file(here.join(format!("{name}.{other}"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => folder.sync(),
    }
}
