//! Runs a program on the node that receives the message, waits for its end, and returns its output (R20).
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["bash", "-c", "ls -l ../"], "commandOrEvent": "CommandACK", "method": "ShellCommand" } ]
//! ```
//!
//! `data[0]` is the program, the rest are its arguments. No shell is involved unless you name one, as above.
//!
//! * The message is `done` when the program ends with exit code 0, and `failed` otherwise: with the exit code, the
//!   signal, or the reason for which it could not be started.
//! * Standard output and standard error come back apart, up to `--max-output` for both together; what is more is read,
//!   dropped and marked as truncated. Standard input is empty.
//! * While it runs, whoever has sent the message can see what it writes (`steward send`, `steward logs -f`); it travels only
//!   while somebody looks on. Programs that write to a pipe often keep back what they write until there is more of it:
//!   `stdbuf -oL`, or an option of their own, has them write each line at once.
//! * The program gets the environment and the working directory of the node, and four variables beside:
//!   `STEWARD_MESSAGE_ID`, `STEWARD_NODE` (this node), `STEWARD_FROM` (the sender), and `STEWARD_STARTED_BY`, which is
//!   another one for each process of the node. By these steward finds what a program has started, wherever it went.
//! * `methodTimeout` limits how long it may run. When it is over, or when you cancel the message, everything that the
//!   program has started is ended: SIGTERM first, SIGKILL after 2 s. The message ends as `timed_out` or `cancelled`, with
//!   the output so far.
//! * When the program has ended, what it left running in the background is ended as well. To leave something running,
//!   give it a session of its own (`setsid`), or better, hand it to the service manager (`systemd-run`).
//! * A rule of the receiver may let it in within limits only: as a user of its own, for a shorter time, with less output.
//!   As another user the program starts in that user's home, and one that can't be started ends with exit code 127 or 126.
//! * If the node dies while the program runs, the program is ended too, and the message is `interrupted`; it is not run
//!   again, unless it says `"rerun": true`.

use std::collections::BTreeSet;
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
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::config::options::SECRET_VARIABLES;

/// How long output is waited for once the program has ended: a process in the background may hold the pipe for ever.
const DRAIN: Duration = Duration::from_millis(200);

/// See the module's text.
pub(crate) struct ShellCommand;

impl Method for ShellCommand {
    const NAME: &'static str = "ShellCommand";
    const AFTER_CRASH: AfterCrash = AfterCrash::Interrupt;
    const EVENT: bool = false;
    type Args = Vec<String>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        let Some(program) = data.first() else {
            return Err("data is empty; give the program and its arguments".to_owned());
        };
        if program.is_empty() {
            return Err("data[0], the program, is empty".to_owned());
        }
        if let Some(index) = data.iter().position(|argument| argument.contains('\0')) {
            return Err(format!("data[{index}] holds a NUL byte, which no argument of a program can"));
        }
        Ok(data.to_vec())
    }

    async fn run(argv: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(message) = ctx.runs().first().map(|run| &run.message) else { return Ok(Ending::DONE) };
        let id = message.id;
        let mut command = match command(&argv, ctx.user()) {
            Ok(command) => command,
            Err(why) => return Ok(Ending::because(Final::Refused, why)),
        };
        // Everything here keeps to what posix_spawn can do: a fork of the whole process costs ten times as much.
        command
            .env(MARK, id.to_string())
            .env(STARTED_BY, ctx.guard().started_by().to_string())
            .env("STEWARD_NODE", ctx.node().as_str())
            .env("STEWARD_FROM", message.from.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for secret in SECRET_VARIABLES {
            command.env_remove(secret);
        }
        let started = Leader::start(command, ctx.guard().clone(), id).await;
        let mut leader = started.map_err(|error| MethodError(cannot_start(&argv[0], &error)))?;
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
        let lost = |error: io::Error| MethodError(format!("{} was started, but can't be waited for: {error}", argv[0]));
        let mut ending = ending(stopped.map_err(lost)?, status.map_err(lost)?);
        if let Some(trouble) = ctx.output.trouble.clone() {
            ending.reason = Some(ending.reason.map_or(trouble.clone(), |reason| format!("{reason}; {trouble}").into()));
        }
        Ok(ending)
    }
}

/// What to start, as the user that a rule names. The error says why that can't be.
fn command(argv: &[String], user: Option<&str>) -> Result<Command, String> {
    let other = user.map(|user| Account::find(user)?.command(argv)).transpose()?.flatten();
    Ok(other.unwrap_or_else(|| {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        command
    }))
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
        Some(13) => "; it is not executable for the user of the node's process",
        _ => "",
    };
    format!("{program:?} can't be started: {error}{hint}")
}
