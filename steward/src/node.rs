//! Puts a running node together, and takes it apart again.
//!
//! ```text
//! lock the directory → open the store → the protocol takes over → engine thread ⇄ supervised tasks
//! SIGTERM → no new messages → what runs may end → goodbye → engine stops
//! ```
//! Nothing here decides about messages.

mod assemble;
mod died;
mod gate;
mod hellos;
mod membership;
mod outputs;
mod syslog;
mod tools;
mod trouble;
mod trust;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use protocol::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::broker::NameCheck;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::Input;
use crate::security::private_memory;
use crate::troubles::Troubles;
use assemble::Parts;

/// How long errors that were only counted may take to be summed up and queued.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// How long a goodbye to the others may take at the end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// How long tasks may take to end after they were asked to.
const TASKS_LIMIT: Duration = Duration::from_secs(3);

/// How long the engine may take for its last commit.
const ENGINE_LIMIT: Duration = Duration::from_secs(10);

/// Why a node ends.
enum End {
    /// Somebody asked for it.
    Signal(&'static str),
    /// Another process has the name.
    Namesake(String),
    /// The engine has died: nothing works without it.
    Engine,
}

/// Runs a node until it is told to stop. An error means that it could not start, or had to stop by itself.
pub(crate) fn run(mut config: Config) -> anyhow::Result<()> {
    let troubles = Troubles::new(Clock::start());
    crate::logging::start(&config.log, troubles.clone())?;
    config.node.dir = settle(&config.node.dir)?;
    private_memory::for_node(&config.node.dir);
    // Tasks share one thread: none of them computes for long, the engine has a thread to itself, and what blocks has its
    // own. More threads would pass work around more than do it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("the runtime can't be started")?;
    let result = runtime.block_on(run_here(&config, troubles));
    runtime.shutdown_timeout(TASKS_LIMIT);
    result
}

/// Makes the node's directory if it is not there and goes into it, so that commands run there wherever the node was
/// started. Answers with its full path.
fn settle(dir: &Path) -> anyhow::Result<PathBuf> {
    let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    make.with_context(|| format!("the node's directory {} can't be made", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("the node's directory {} can't be found", dir.display()))?;
    std::env::set_current_dir(&dir).with_context(|| format!("{} can't be entered", dir.display()))?;
    Ok(dir)
}

async fn run_here(config: &Config, troubles: Troubles) -> anyhow::Result<()> {
    // Set up before anything is there that a signal would leave behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (parts, name_check) = assemble::assemble(config, troubles).await?;
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    tracing::info!(
        node = %config.node.name,
        version = env!("CARGO_PKG_VERSION"),
        dir = %config.node.dir.display(),
        broker = parts.broker.address(),
        "the node runs"
    );
    let mut displaced = parts.broker.displaced();
    let engine_ended = parts.engine_ended.clone();
    let end = tokio::select! {
        _ = terminate.recv() => End::Signal("SIGTERM"),
        _ = interrupt.recv() => End::Signal("SIGINT"),
        why = taken(name_check) => End::Namesake(why),
        _ = displaced.wait_for(Option::is_some) => {
            End::Namesake("another process has taken the name over (--take-over)".to_owned())
        }
        () = engine_ended.cancelled() => End::Engine,
    };
    tell_systemd(&[sd_notify::NotifyState::Stopping]);
    stop(config, parts, end, terminate, interrupt).await
}

/// Ends only when the name turns out to be another's.
async fn taken(name_check: oneshot::Receiver<NameCheck>) -> String {
    match name_check.await {
        Ok(NameCheck::Taken(other)) => format!(
            "a node with this name runs on {} (process {}, since {}); stop that one, give this one another --node, or \
             start it with --take-over",
            other.host,
            other.pid,
            crate::clock::rfc3339(other.started)
        ),
        Ok(NameCheck::Free | NameCheck::Silent | NameCheck::TakenOver(_)) | Err(_) => std::future::pending().await,
    }
}

/// Takes the node apart. What is accepted is on disk; what runs gets a while to end; the others are told.
async fn stop(
    config: &Config,
    parts: Parts,
    end: End,
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
) -> anyhow::Result<()> {
    match &end {
        End::Signal(name) => tracing::info!(signal = name, "the node stops"),
        // Told once, where the process ends.
        End::Namesake(_) => {}
        End::Engine => tracing::error!("the engine has ended by itself; the node stops"),
    }
    parts.intake_end.cancel();
    if tokio::time::timeout(LAST_WORDS_LIMIT, parts.troubles.last_words()).await.is_err() {
        tracing::debug!("errors that were only counted so far are not told");
    }
    let gentle = async {
        // Before the runner stops: what it is given after that could only be told as interrupted.
        parts.engine.event(Event::Stopping).await;
        parts.runner.stop(config.node.stop_limit).await;
        // What has ended is told before the goodbye: a receipt behind it would be taken for a sign of life. Questions are
        // answered after everything that came before them is on its way.
        if tokio::time::timeout(GOODBYE_LIMIT, parts.engine.ask(Input::Lanes)).await.is_err() {
            tracing::debug!("the engine is busy; the goodbye does not wait for it");
        }
        if !matches!(end, End::Namesake(_)) && !parts.broker.goodbye(GOODBYE_LIMIT).await {
            tracing::debug!("the goodbye has not reached the broker");
        }
    };
    tokio::select! {
        () = gentle => {}
        _ = terminate.recv() => tracing::warn!("asked again: the node stops at once"),
        _ = interrupt.recv() => tracing::warn!("asked again: the node stops at once"),
    }
    let (done, answer) = oneshot::channel();
    if parts.engine.inputs.send(Input::Stop(done)).await.is_ok()
        && tokio::time::timeout(ENGINE_LIMIT, answer).await.is_err()
    {
        tracing::warn!("the engine's last commit takes too long; what is not on disk is taken up again by the others");
    }
    let late = parts.supervisor.stop(TASKS_LIMIT).await;
    if !late.is_empty() {
        tracing::debug!(tasks = ?late, "tasks were ended by force");
    }
    drop(parts.lock);
    match end {
        End::Signal(_) => {
            tracing::info!("the node has stopped");
            Ok(())
        }
        End::Namesake(why) => bail!(why),
        End::Engine => bail!("the engine has ended by itself; its log says why"),
    }
}

/// Tells systemd, where it has started us.
pub(crate) fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd can't be told");
    }
}

/// The engine's thread: nothing else runs on it, so nothing else can hold it up.
fn start_engine(
    dir: &Path,
    engine: crate::engine::Engine,
    ended: tokio_util::sync::CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("engine".to_owned());
    let dir = dir.to_owned();
    let run = move || {
        // Dropped on a panic as well, so that the node never goes on without its engine.
        let _guard = ended.drop_guard();
        crate::crash_points::plant();
        died::guarded(&dir, || runtime.block_on(engine.run()));
    };
    thread.spawn(run).context("the engine's thread can't be started")
}
