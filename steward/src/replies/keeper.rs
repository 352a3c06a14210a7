//! The task that does what is due, one result after the other, and tries again later what it can't do now.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::message::MessageId;
use protocol::outcome::Stream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::files::{AppendError, Lines, Target};
use super::spec::Spec;
use crate::blobs::{Blobs, Owner};
use crate::engine::{EngineError, EngineHandle, Input};
use crate::intake::input::DATA_BYTES_MAX;
use crate::intake::{Intake, IntakeError, MessageInput, ids};
use crate::own_file;
use crate::store::{DueReply as Due, Mark, Note, Place, Reader, ReplyOf, ReplyProgress, ReplyStep};

/// How soon what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Results that are looked up at once.
const LOOK_MAX: usize = 64;

/// Does what is due. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Keeper {
    dir: PathBuf,
    reader: Arc<Reader>,
    engine: EngineHandle,
    intake: Intake,
    /// Told when something has become due.
    due: Arc<Notify>,
}

/// What is left of something that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// It is tried again later.
    It,
    /// The same, and nothing else goes before it.
    All,
}

/// Whose result it is: the message, which of its results, and the row of what is to be done with it.
type Whose = (MessageId, ReplyOf, i64);

/// Why something is not done.
enum Undone {
    /// It can be later.
    Trouble(String),
    /// It can be later, and before that nothing else may be appended.
    Torn(String),
    /// It never can.
    Never(String),
    /// The node stops.
    Stopping,
}

impl Keeper {
    /// For the node in the directory `dir`; `due` is told when something has become due.
    pub(crate) fn new(dir: &Path, engine: EngineHandle, intake: Intake, due: Arc<Notify>) -> anyhow::Result<Self> {
        Ok(Self { dir: dir.to_owned(), reader: Arc::new(Reader::open(dir)?), engine, intake, due })
    }

    /// Works until `end`.
    pub(crate) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        loop {
            let left = tokio::select! {
                () = end.cancelled() => return Ok(()),
                left = self.pass() => left?,
            };
            let again = async {
                match left {
                    true => tokio::time::sleep(RETRY).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = self.due.notified() => {}
                () = again => {}
            }
        }
    }

    /// Does all that is due. Says whether something is left that could not be done now.
    async fn pass(&self) -> anyhow::Result<bool> {
        for due in self.look(|reader| reader.replies_marked()).await? {
            // Until it is settled, nothing may be appended behind it.
            if self.keep(due).await != Left::Nothing {
                return Ok(true);
            }
        }
        let (mut after, mut left) = (0, false);
        loop {
            let due = self.look(move |reader| reader.replies_due(after, LOOK_MAX)).await?;
            let Some(last) = due.last() else { return Ok(left) };
            after = last.row;
            for due in due {
                match self.keep(due).await {
                    Left::Nothing => {}
                    Left::It => left = true,
                    Left::All => return Ok(true),
                }
            }
        }
    }

    async fn look<T: Send + 'static, E: Into<anyhow::Error> + Send + 'static>(
        &self,
        look: impl FnOnce(&Reader) -> Result<T, E> + Send + 'static,
    ) -> anyhow::Result<T> {
        let reader = Arc::clone(&self.reader);
        tokio::task::spawn_blocking(move || look(&reader)).await?.map_err(Into::into)
    }

    /// Does one of them. Says what is left.
    async fn keep(&self, due: Due) -> Left {
        let (row, id, said) = (due.row, due.id, due.note.clone());
        let (progress, left) = match self.perform(due).await {
            Ok(()) => (ReplyProgress::Done, Left::Nothing),
            Err(Undone::Stopping) => return Left::All,
            Err(Undone::Never(why)) => {
                tracing::warn!(%id, why, "the result of a message is not where its replyMethod says");
                (ReplyProgress::GivenUp(why), Left::Nothing)
            }
            Err(Undone::Trouble(why)) => (ReplyProgress::Trouble(why), Left::It),
            Err(Undone::Torn(why)) => (ReplyProgress::Trouble(why), Left::All),
        };
        if let ReplyProgress::Trouble(why) = &progress {
            // Said once, and in `steward show` for as long as it is so.
            if said.as_ref() == Some(why) {
                return left;
            }
            tracing::warn!(%id, why, "the result of a message can't be put where its replyMethod says; it is tried again");
        }
        match self.note(row, progress).await {
            Ok(()) => left,
            // Done, and not written down as done: it is found done the next time.
            Err(Undone::Trouble(why) | Undone::Torn(why) | Undone::Never(why)) => {
                tracing::debug!(%id, why, "how far a result is could not be written down");
                Left::It
            }
            Err(Undone::Stopping) => Left::All,
        }
    }

    async fn note(&self, row: i64, progress: ReplyProgress) -> Result<(), Undone> {
        let note = vec![Note::Reply(ReplyStep { row, progress })];
        let noted = self.engine.ask(|reply| Input::Note(note, reply)).await;
        noted.map_err(|error| match error {
            EngineError::Stopping => Undone::Stopping,
            other => Undone::Trouble(other.to_string()),
        })
    }

    async fn perform(&self, due: Due) -> Result<(), Undone> {
        let Some(spec) = due.spec else {
            return Err(Undone::Never("what was to be done with it can't be read".to_owned()));
        };
        let id = due.id;
        if spec.lines {
            return Ok(());
        }
        // What belongs to a run has an id of its own, always the same.
        let own = match due.of {
            ReplyOf::Message => id,
            ReplyOf::Run(run) => ids::of_run(id, run),
        };
        let of = (id, due.of, due.row);
        if spec.drops() {
            let blobs = Blobs::new(&self.dir);
            return self.blocking(move |_, _| blobs.remove(Owner::Out(id))).await;
        }
        if !due.has_result {
            return Err(Undone::Never("it did not come to an end of its own, so there is no result".to_owned()));
        }
        match spec.reply_method.as_str() {
            "file" => {
                let whole =
                    move |dir: &Path, reader: &Reader| Target::find(dir, &spec)?.replace(own, result(reader, of)?);
                self.blocking(whole).await
            }
            "fileAppend" => self.append(of, spec, due.mark).await,
            _ => self.pass_on(of, own, &spec).await,
        }
    }

    async fn append(&self, of: Whose, spec: Spec, mark: Option<Mark>) -> Result<(), Undone> {
        let row = of.2;
        let mark = match mark {
            Some(mark) => mark,
            None => {
                let same = spec.clone();
                let mark = self.blocking(move |dir, _| Target::find(dir, &same)?.mark()).await?;
                self.note(row, ReplyProgress::Marked(mark)).await?;
                mark
            }
        };
        let append = move |dir: &Path, reader: &Reader| {
            let lines = || Ok(Box::new(Lines::new(result(reader, of)?)) as Box<dyn Read>);
            match Target::find(dir, &spec)?.append(mark, lines) {
                Ok(()) => Ok(Ok(())),
                Err(AppendError::Clean(error)) => Ok(Err(error)),
                Err(AppendError::Torn(error)) => Err(error),
            }
        };
        match self.blocking(append).await {
            Ok(Ok(())) => Ok(()),
            // Nothing of it is in the file: others may be appended meanwhile.
            Ok(Err(error)) => {
                self.note(row, ReplyProgress::Unmarked(error.to_string())).await?;
                Err(Undone::Trouble(error.to_string()))
            }
            Err(Undone::Trouble(why)) => Err(Undone::Torn(why)),
            Err(other) => Err(other),
        }
    }

    /// Gives the result to a method of this node.
    async fn pass_on(&self, of: Whose, own: MessageId, spec: &Spec) -> Result<(), Undone> {
        let read = move |_: &Path, reader: &Reader| {
            let mut bytes = Vec::new();
            result(reader, of)?.take(DATA_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = self.blocking(read).await?;
        let input = MessageInput {
            to_node: self.intake.defaults().from.to_string(),
            data: vec![String::from_utf8_lossy(&bytes).into_owned()],
            command_or_event: "EventACK".to_owned(),
            method: spec.reply_method.clone(),
            ..MessageInput::default()
        };
        let messages = input.check(self.intake.defaults(), |_| ids::following(own)).map_err(Undone::Never)?;
        self.intake.submit_checked(messages, None).await.map(drop).map_err(|error| match error {
            IntakeError::Engine { error: EngineError::Stopping, .. } => Undone::Stopping,
            other => Undone::Trouble(other.to_string()),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Reader) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Undone> {
        let (dir, reader) = (self.dir.clone(), Arc::clone(&self.reader));
        let done = tokio::task::spawn_blocking(move || work(&dir, &reader)).await.map_err(io::Error::other).flatten();
        done.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Undone::Never(error.to_string()),
            _ => Undone::Trouble(error.to_string()),
        })
    }
}

/// A result: standard output, and behind it standard error.
fn result(reader: &Reader, (id, of, row): Whose) -> io::Result<Box<dyn Read>> {
    let mut whole: Box<dyn Read> = Box::new(io::empty());
    for stream in Stream::ALL {
        if let ReplyOf::Run(_) = of {
            let output = reader.result_output(row, stream).map_err(io::Error::other)?;
            whole = Box::new(whole.chain(io::Cursor::new(output.unwrap_or_default())));
            continue;
        }
        let output = reader.output(id, stream).map_err(io::Error::other)?;
        let next: Box<dyn Read> = match output.map(|output| output.place) {
            None => continue,
            Some(Place::Inline(text)) => Box::new(io::Cursor::new(text.as_bytes().to_vec())),
            Some(Place::File(path)) => Box::new(own_file::read(&path).map_err(gone)?),
        };
        whole = Box::new(whole.chain(next));
    }
    Ok(whole)
}

/// What it means for a result that it can't be read.
fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::InvalidData, "its output is not here any more"),
        _ => error,
    }
}
