//! A program that runs for as long as we do: asked to stop when we stop, and told by the kernel when we are killed.
//!
//! It is started through this program once more (`steward bound-child`), which has the kernel send it a signal at the end
//! of its parent and then becomes the program. The kernel means the thread that has started it, so that has to be one that
//! lives as long as the process: a runtime of one thread, on the main thread.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};

/// The hidden verb that becomes the program.
pub(crate) const VERB: &str = "bound-child";

/// The longest line of a program that is logged in one piece, in bytes.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// How long is waited for what a program has printed before it ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// What is to run.
#[derive(Clone)]
pub(crate) struct Program {
    /// What it is called in errors and in the log.
    pub(crate) name: &'static str,
    /// The program.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// The folder in which it runs.
    pub(crate) dir: PathBuf,
    /// Takes what it prints; none lets it print where we do.
    pub(crate) take_line: Option<TakeLine>,
}

/// Takes a line that a program prints.
pub(crate) type TakeLine = Arc<dyn Fn(&str) + Send + Sync>;

/// A program that runs. It is killed when this is dropped.
pub(crate) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    stdout: Lines<ChildStdout>,
    stderr: Lines<ChildStderr>,
}

/// What it prints, line by line. Whoever stops waiting in the middle of a line finds its beginning here again.
struct Lines<R> {
    from: Option<BufReader<R>>,
    take: Option<TakeLine>,
    line: Vec<u8>,
}

impl Program {
    /// This very program, even if its file was replaced since it started.
    pub(crate) fn own(name: &'static str, args: Vec<OsString>, dir: &Path) -> Self {
        Self { name, path: PathBuf::from("/proc/self/exe"), args, dir: dir.to_owned(), take_line: None }
    }

    /// Starts it, in a process group of its own: a Ctrl-C is for us, and we decide in which order things end.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        let output = || if self.take_line.is_some() { Stdio::piped() } else { Stdio::inherit() };
        self.start_with(output(), output())
    }

    /// The same with its standard output for whoever reads it; while nobody does, the program waits.
    pub(crate) fn start_reading(&self) -> anyhow::Result<(Child, ChildStdout)> {
        let mut child = self.start_with(Stdio::piped(), Stdio::inherit())?;
        let output = child.stdout.from.take().with_context(|| format!("{} has no output", self.name))?;
        Ok((child, output.into_inner()))
    }

    fn start_with(&self, stdout: Stdio, stderr: Stdio) -> anyhow::Result<Child> {
        let mut process = Command::new("/proc/self/exe")
            .arg(VERB)
            .arg(std::process::id().to_string())
            .arg(&self.path)
            .args(&self.args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} can't be started", self.name))?;
        let stdout = Lines::new(process.stdout.take(), self.take_line.clone());
        let stderr = Lines::new(process.stderr.take(), self.take_line.clone());
        Ok(Child { name: self.name, process, stdout, stderr })
    }
}

impl Child {
    /// Waits until it ends by itself, and passes on what it prints meanwhile.
    pub(crate) async fn ends(&mut self) -> anyhow::Result<ExitStatus> {
        let Self { process, stdout, stderr, .. } = self;
        let reading = async {
            tokio::join!(stdout.pass_on(), stderr.pass_on());
            // It may close its outputs and go on.
            std::future::pending().await
        };
        let status = tokio::select! {
            status = process.wait() => status,
            status = reading => status,
        };
        let status = status.with_context(|| format!("nobody knows how {} is", self.name))?;
        // Its last words; somebody who has inherited its outputs may hold them open.
        let rest = async { tokio::join!(self.stdout.pass_on(), self.stderr.pass_on()) };
        drop(tokio::time::timeout(LAST_WORDS_LIMIT, rest).await);
        Ok(status)
    }

    /// Sends it a signal, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process(pid, signal)
        {
            tracing::debug!(%error, name = self.name, "it can't be sent a signal; it has ended");
        }
    }

    /// Asks it to stop, and kills it if it has not within `limit`.
    pub(crate) async fn stop(mut self, limit: Duration) {
        self.signal(Signal::TERM);
        match tokio::time::timeout(limit, self.ends()).await {
            Ok(Ok(status)) => tracing::debug!(name = self.name, %status, "it has stopped"),
            Ok(Err(error)) => tracing::warn!(%error, name = self.name, "how it ended is not known"),
            Err(_) => tracing::warn!(name = self.name, limit_s = limit.as_secs(), "it does not stop; it is killed"),
        }
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: Option<R>, take: Option<TakeLine>) -> Self {
        Self { from: from.map(BufReader::new), take, line: Vec::new() }
    }

    /// Passes lines on until there are no more.
    async fn pass_on(&mut self) {
        let (Some(from), Some(take)) = (&mut self.from, &self.take) else { return };
        loop {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len() as u64);
            let read = from.take(room).read_until(b'\n', &mut self.line).await;
            let is_over = !matches!(read, Ok(1..));
            if !self.line.is_empty() {
                take(String::from_utf8_lossy(&self.line).trim_end());
                self.line.clear();
            }
            if is_over {
                return;
            }
        }
    }
}

/// The process that becomes the program: `bound-child PARENT PROGRAM ARGS…`.
pub(crate) fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(2);
    let parent = args.next().and_then(|text| text.to_str()?.parse::<i32>().ok()).and_then(Pid::from_raw);
    let (Some(parent), Some(program)) = (parent, args.next()) else { return ExitCode::FAILURE };
    if rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).is_err() {
        return ExitCode::FAILURE;
    }
    // It may have died before the kernel was told.
    if rustix::process::getppid() != Some(parent) {
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(&program).args(args).exec();
    crate::cli::complain(&format!("{} can't be run: {error}", Path::new(&program).display()));
    ExitCode::FAILURE
}
