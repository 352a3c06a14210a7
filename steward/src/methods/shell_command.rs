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

use std::ffi::OsString;

use super::program::{self, Program};
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// See the module's text.
pub(crate) struct ShellCommand;

impl Method for ShellCommand {
    const NAME: &'static str = "ShellCommand";
    const AFTER_CRASH: AfterCrash = AfterCrash::Interrupt;
    const EVENT: bool = false;
    type Args = Vec<OsString>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        let Some(program) = data.first() else {
            return Err("data is empty; give the program and its arguments".to_owned());
        };
        if program.is_empty() {
            return Err("data[0], the program, is empty".to_owned());
        }
        program::check(data, 0)?;
        Ok(data.iter().map(OsString::from).collect())
    }

    async fn run(argv: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        program::run(Program::new(argv), ctx).await
    }
}
