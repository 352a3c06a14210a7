//! Syslog of a machine on its way to another node (R23).
//!
//! ```text
//! unix, UDP, TCP ─▶ queue ─▶ spool on disk ─▶ messages ═══▶ method Syslogforwarding ─▶ files by host and day
//! journal ──────────────────▶   (bounded)     (8 at once)    on the node that keeps them ─▶ or another syslog
//! ```
//! In the order in which a line meets them: [`source`] says where it is taken, [`listening`] and [`journal`] take it, [`framing`] and
//! [`line`] tell where it ends and whose it is, [`shelf`] and [`spool`] keep it, [`forwarder`] and [`batch`] make messages of it, and
//! over there [`files`] and [`passing`] put it where it belongs; [`tally`] counts. A line is never changed on its way.
//!
//! Nothing here decides about delivery: what is in a message is a message like any other.

pub(crate) mod batch;
pub(crate) mod files;
mod forwarder;
pub(crate) mod framing;
mod journal;
mod line;
mod listening;
pub(crate) mod passing;
mod shelf;
pub(crate) mod source;
pub(crate) mod spool;
pub(crate) mod tally;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::name::NodeName;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::engine::EngineHandle;
use crate::intake::Intake;
use crate::store::Reader;
use crate::supervise::{Spec, Stops, Supervisor};
use crate::view::ProcessView;

use forwarder::Forwarder;
use passing::{Passer, Passing};
use shelf::{Shelf, Writer};
use source::{Source, Target};
use spool::Overflow;
use tally::Tally;

/// How often it is looked for files of days that are over for too long.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

/// What a node does with syslog.
#[derive(Debug, Clone)]
pub(crate) struct SyslogConfig {
    /// Where lines are taken.
    pub(crate) listen: Vec<Source>,
    /// The node that keeps them.
    pub(crate) to: NodeName,
    /// Bytes of lines that may wait.
    pub(crate) spool: u64,
    /// What goes when there are more.
    pub(crate) overflow: Overflow,
    /// How long files with lines of nodes are kept here; `None` is for ever.
    pub(crate) keep: Option<Duration>,
    /// Where lines of nodes are passed on to instead of being kept here.
    pub(crate) forward: Option<Target>,
}

/// What lines of nodes need here, for the method that takes them in. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desk {
    /// How long files are kept.
    pub(crate) keep: Option<Duration>,
    /// Where lines are passed on to.
    pub(crate) passing: Option<Passing>,
    /// Counts.
    pub(crate) tally: Tally,
    /// Where it goes from here, and where it is taken: for `ps`.
    shown: Option<Arc<str>>,
}

impl Desk {
    /// Starts what lines of nodes need, and makes the counts.
    pub(crate) fn open(config: &SyslogConfig, dir: &Path, supervisor: &Supervisor) -> Self {
        let passing = config.forward.clone().map(|target| {
            let (passing, passer) = Passer::new(target);
            supervisor.keep("syslog passed on", move |end| Arc::clone(&passer).run(end));
            passing
        });
        if let Some(keep) = config.keep {
            let dir = dir.to_owned();
            supervisor.keep("syslog files", move |end| clean(dir.clone(), keep, end));
        }
        let shown = (!config.listen.is_empty()).then(|| {
            let from: Vec<String> = config.listen.iter().map(Source::to_string).collect();
            format!("from {} to {}", from.join(", "), config.to).into()
        });
        Self { keep: config.keep, passing, tally: Tally::default(), shown }
    }

    /// How the spool is; none where no syslog is taken.
    pub(crate) fn process(&self) -> Option<ProcessView> {
        let (shown, figures) = (self.shown.as_ref()?, self.tally.figures());
        let note = format!("{shown}; {} bytes on disk, {} lines were dropped", figures.bytes, figures.dropped);
        let state = if figures.waiting == 0 { "sent" } else { "sending" };
        Some(ProcessView {
            kind: "syslog".to_owned(),
            name: "spool".to_owned(),
            state: state.to_owned(),
            messages: figures.waiting,
            restarts: 0,
            note: Some(note),
        })
    }
}

async fn clean(dir: PathBuf, keep: Duration, end: CancellationToken) -> anyhow::Result<()> {
    loop {
        let dir = dir.clone();
        let removed = tokio::task::spawn_blocking(move || files::clean(&dir, clock::wall(), keep)).await?;
        match removed {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed files with syslog of days that are over for long"),
            Err(error) => tracing::warn!(%error, "files with old syslog can't be removed"),
        }
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(CLEAN_EVERY) => {}
        }
    }
}

/// Where bytes of strangers are read, for the fuzzer and its tests.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed {
    use protocol::time::Wall;

    use super::framing::Frames;
    use super::line::{self, Line, Via};
    use super::{batch, journal};

    /// The lines of a stream that comes in pieces of so many bytes.
    pub(crate) fn lines(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut frames = Frames::default();
        let mut lines: Vec<_> = bytes.chunks(piece).flat_map(|piece| frames.push(piece)).collect();
        lines.extend(frames.rest());
        lines.into_iter().map(|line| line.bytes).collect()
    }

    /// The host that a line names.
    pub(crate) fn host(line: &[u8]) -> Option<String> {
        line::host(line, Via::Network)
    }

    /// A message with these lines.
    pub(crate) fn pack(lines: &[Vec<u8>]) -> Vec<String> {
        let line = |bytes: &Vec<u8>| Line { at: Wall(0), host: "ship1".to_owned(), bytes: bytes.clone() };
        batch::pack(&lines.iter().map(line).collect::<Vec<_>>())
    }

    /// An entry of the journal.
    pub(crate) fn entry(bytes: &[u8]) {
        journal::understand(bytes);
    }
}

/// What taking lines needs of the node.
pub(crate) struct Wiring<'a> {
    /// Its directory.
    pub(crate) dir: &'a Path,
    /// What this machine is called.
    pub(crate) host: String,
    /// Where messages are given.
    pub(crate) intake: Intake,
    /// For how messages are.
    pub(crate) engine: EngineHandle,
    /// Runs it.
    pub(crate) supervisor: &'a Supervisor,
    /// Ends what brings lines in, before everything else.
    pub(crate) intake_end: CancellationToken,
    /// The time.
    pub(crate) clock: Clock,
}

/// Starts what takes lines and sends them, if anything is to be taken.
pub(crate) fn keep(config: &SyslogConfig, desk: &Desk, wiring: Wiring<'_>) -> anyhow::Result<()> {
    let Wiring { dir, host, intake, engine, supervisor, intake_end, clock } = wiring;
    if config.listen.is_empty() {
        return Ok(());
    }
    let (reader, tally) = (Arc::new(Reader::open(dir)?), desk.tally.clone());
    let size = (config.spool, config.overflow);
    let shelf = Shelf::new(dir.to_owned(), size, Arc::clone(&reader), tally.clone(), clock);
    let (inlet, writer) = Writer::new(shelf.clone(), &host, tally.clone());
    let giving = (intake, engine, reader);
    let forwarder = Forwarder::new(shelf.clone(), giving, (config.to.clone(), inlet.host()), tally, clock)?;
    let spec = Spec::new("syslog spool").stops(Stops::Never("lines would have nowhere to go"));
    supervisor.keep(spec, move |end| Arc::clone(&writer).run(end));
    let spec = Spec::new("syslog forwarder").stops(Stops::Never("lines would wait until they are dropped"));
    supervisor.keep(spec, move |end| forwarder.clone().run(end));
    for source in &config.listen {
        let (source, inlet, shelf) = (source.clone(), inlet.clone(), shelf.clone());
        let (dir, tasks) = (dir.to_owned(), supervisor.clone());
        let spec = Spec::named(format!("syslog {source}")).within(intake_end.clone());
        supervisor.keep(spec, move |end| {
            let (source, inlet, shelf, dir, tasks) =
                (source.clone(), inlet.clone(), shelf.clone(), dir.clone(), tasks.clone());
            async move {
                match source {
                    Source::Journal => journal::read(dir, shelf, inlet, end).await,
                    socket => listening::listen(socket, inlet, tasks, end).await,
                }
            }
        });
    }
    Ok(())
}
