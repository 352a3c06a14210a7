//! Runs a program for a message, whichever method asks for it: with the environment, the user and the limits that such
//! programs have here, its output kept, everything that it has started ended with it. It knows nothing of where the program
//! comes from.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::pin::pin;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use protocol::outcome::Final;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::as_user::Account;
use super::context::Stop;
use super::process::{GRACE, Leader, MARK, Marked, STARTED_BY};
use super::{Ending, MethodCtx, MethodError};
use crate::config::options::SECRET_VARIABLES;

/// How long output is waited for once the program has ended: a process in the background may hold the pipe for ever.
const DRAIN: Duration = Duration::from_millis(200);

/// What is to be run.
#[derive(Debug)]
pub(super) struct Program {
    argv: Vec<OsString>,
    file: Option<usize>,
    input: Stdio,
}

impl Program {
    /// A program and its arguments; there is at least the program. Its standard input is empty.
    pub(super) fn new(argv: Vec<OsString>) -> Self {
        Self { argv, file: None, input: Stdio::null() }
    }

    /// The word at this place is the whole path of a file in the node's directory, which another user can't reach. A
    /// program that runs as one is given the open file in its place.
    pub(super) fn lends(self, place: usize) -> Self {
        Self { file: Some(place), ..self }
    }

    /// With something to read on its standard input.
    pub(super) fn reads(self, input: impl Into<Stdio>) -> Self {
        Self { input: input.into(), ..self }
    }

    /// What to start, as the user that a rule names. The error says why that can't be.
    fn command(&self, user: Option<&str>) -> Result<Command, String> {
        let other = user.map(|user| Account::find(user)?.command(&self.argv, self.file)).transpose()?.flatten();
        Ok(other.unwrap_or_else(|| {
            let mut command = Command::new(&self.argv[0]);
            command.args(&self.argv[1..]);
            command
        }))
    }
}

/// Checks words that a program is to be given. They begin with this place of the message's data.
pub(super) fn check(words: &[String], place: usize) -> Result<(), String> {
    match words.iter().position(|word| word.contains('\0')) {
        Some(index) => Err(format!("data[{}] holds a NUL byte, which no argument of a program can", place + index)),
        None => Ok(()),
    }
}

/// Runs it to its end, or until it has to stop.
pub(super) async fn run(program: Program, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
    let Some(message) = ctx.runs().first().map(|run| &run.message) else { return Ok(Ending::DONE) };
    let id = message.id;
    let mut command = match program.command(ctx.user()) {
        Ok(command) => command,
        Err(why) => return Ok(Ending::because(Final::Refused, why)),
    };
    let name = program.argv[0].to_string_lossy().into_owned();
    // Everything here keeps to what posix_spawn can do: a fork of the whole process costs ten times as much.
    command
        .env(MARK, id.to_string())
        .env(STARTED_BY, ctx.guard().started_by().to_string())
        .env("STEWARD_NODE", ctx.node().as_str())
        .env("STEWARD_FROM", message.from.as_str())
        .stdin(program.input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    for secret in SECRET_VARIABLES {
        command.env_remove(secret);
    }
    let started = Leader::start(command, ctx.guard().clone(), id).await;
    let mut leader = started.map_err(|error| MethodError(cannot_start(&name, &error)))?;
    let (stdout, stderr) = leader.outputs();

    let (place, finish) = (ctx.place(), CancellationToken::new());
    let mut capture = pin!(place.capture(stdout, stderr, &finish, ctx.live()));
    let mut captured = None;
    let stopped = {
        let mut ending = pin!(until_ended(&leader, ctx));
        loop {
            tokio::select! {
                output = &mut capture, if captured.is_none() => captured = Some(output),
                stopped = &mut ending => break stopped,
            }
        }
    };
    if captured.is_none() {
        captured = tokio::time::timeout(DRAIN, &mut capture).await.ok();
    }
    let status = leader.reap();
    if let Ok(Some(_)) = stopped {
        let marked = Marked { ids: BTreeSet::from([id]), by: None };
        let escaped = tokio::task::spawn_blocking(move || marked.kill()).await;
        escaped.map_err(|error| MethodError(error.to_string()))?;
    }
    finish.cancel();
    ctx.output = match captured {
        Some(output) => output,
        None => capture.await,
    };
    let lost = |error: io::Error| MethodError(format!("{name} was started, but can't be waited for: {error}"));
    let mut ending = ending(stopped.map_err(lost)?, status.map_err(lost)?);
    if let Some(trouble) = ctx.output.trouble.clone() {
        ending.reason = Some(ending.reason.map_or(trouble.clone(), |reason| format!("{reason}; {trouble}").into()));
    }
    Ok(ending)
}

/// Returns when the program has ended; says why, if it had to be stopped.
async fn until_ended(leader: &Leader, ctx: &MethodCtx<'_>) -> io::Result<Option<Stop>> {
    let mut ended = pin!(leader.ended());
    let why = tokio::select! {
        biased;
        ended = &mut ended => return ended.map(|()| None),
        why = ctx.stopped() => why,
    };
    leader.signal_group(Signal::TERM);
    // A stopped process takes the signal only once it goes on.
    leader.signal_group(Signal::CONT);
    match tokio::time::timeout(GRACE, &mut ended).await {
        Ok(ended) => ended?,
        Err(_) => {
            leader.signal_group(Signal::KILL);
            ended.await?;
        }
    }
    Ok(Some(why))
}

fn ending(stopped: Option<Stop>, status: ExitStatus) -> Ending {
    let (exit_code, signal) = (status.code(), status.signal());
    let ending = match (stopped, exit_code, signal) {
        (Some(why), _, _) => why.ending(),
        (None, Some(0), _) => Ending::DONE,
        (None, Some(code), _) => Ending::because(Final::Failed, format!("it ended with exit code {code}")),
        (None, None, Some(signal)) => Ending::because(Final::Failed, format!("it was ended by signal {signal}")),
        (None, None, None) => Ending::because(Final::Failed, format!("it ended with {status}")),
    };
    Ending { exit_code, signal, ..ending }
}

fn cannot_start(program: &str, error: &io::Error) -> String {
    // Numbers, because the library has no names for all of them: they are the same on every Linux.
    let hint = match error.raw_os_error() {
        Some(2) if program.contains('/') => "; there is no such file, or it is a script whose interpreter is missing",
        Some(2) => "; it is not in the PATH of the node's process, or it is a script whose interpreter is missing",
        Some(7) => "; its arguments and environment are too long for this system",
        Some(8) => "; it is neither a program for this machine nor a script that begins with #!",
        Some(11 | 12 | 23 | 24) => "; this machine is at the limit of its processes, memory or open files",
        Some(26) => "; somebody has it open for writing: put it there under another name and rename it",
        Some(13) => "; it is not executable for the user of the node's process",
        _ => "",
    };
    format!("{program:?} can't be started: {error}{hint}")
}
