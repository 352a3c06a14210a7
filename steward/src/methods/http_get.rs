//! Asks an HTTP or HTTPS server for something, as the node that receives the message sees it, and returns what it answers (R25).
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["http://127.0.0.1:9090/-/healthy"], "commandOrEvent": "CommandACK", "method": "HttpGet" },
//!   { "toNode": "ship1", "data": ["https://192.0.2.7/api/status", "header=Accept: application/json", "ca=router.pem", "timeLimit=10s", "as=json"],
//!     "commandOrEvent": "CommandACK", "method": "HttpGet", "rerun": true } ]
//! ```
//!
//! `data[0]` is the URL. Each further item is an option, `name=value`:
//!
//! | option | default | |
//! | --- | --- | --- |
//! | `method` | `GET` | `GET`, `HEAD`, `OPTIONS`, `POST`, `PUT`, `PATCH` or `DELETE` |
//! | `header` | | `header=Name: value`; any number of times, up to 64 |
//! | `body` | | what is sent along, as it is |
//! | `limit` | `--max-output`; of a file 1 GiB | so much of the body is taken: `64KiB`, `10MiB` |
//! | `timeLimit` | `5m` | so long it may take altogether, to be connected 30 s at most |
//! | `redirects` | `0` | so many redirects are followed, up to 20 |
//! | `as` | `both` | what comes back, see below: `both`, `body`, `head` or `json` |
//! | `file` | | the body goes into this file of the folder `downloads` in the node's directory |
//! | `ca` | the system's | this file of the folder `tls` in the node's directory has the only authorities (PEM) that are believed |
//! | `cert` | | this file of the folder `tls` has the client's own certificate and its key (PEM) |
//! | `insecure` | `false` | `true`: any certificate is believed; then whoever is in between can read and change everything |
//!
//! * **Any status is a result**, 404 and 500 too: the message is `done`, and its reason is the status. It is `failed`, with the reason, where there was
//!   no whole answer: no such host, nobody listens, a certificate that is not believed, a link that was cut, time that was over. What had come by then is kept.
//! * The body is the standard output, byte for byte, and the head the standard error: the line with the status, the headers, an empty
//!   line; of each redirect that was followed one, in their order. With `as=body` there is no head, with `as=head` the head is the
//!   standard output and the body is not read.
//! * A body is seen while it comes, as the output of a command is (`steward send`, `steward logs -f`).
//! * With `as=json` the standard output is one JSON object: `url` (the last one), `status`, `reason`, `version`, `headers` (pairs, in their order),
//!   `redirects` (the URLs that were left), `bytes`, `truncated`, and `body`, or `bodyBase64` where it is no text, of 1 MiB at most.
//! * A body that is longer than its limit is cut there and marked as truncated, and nothing more of it is read. A file is whole or not there at all.
//! * With `file` a body with a status from 200 to 299 becomes that file, which only the node's user can read, in one go: an older one is there until
//!   then. The standard output is an object with `file`, `bytes` and `blake3`. With any other status the file stays as it was, and the
//!   body comes back as without `file`.
//! * A redirect is a result like any other, unless you allow some to be followed. Then the headers that you gave, `cert` and `body` go to no other
//!   server than the one that you named, and nothing goes on from `https` to `http`.
//! * Proxies of the environment are not used. A password belongs into a header (`header=Authorization: Basic …`), not into the URL; `"seal": true`
//!   hides it from the broker, and `--audit-data` says what the node's own logs keep of it.
//! * The request comes from the node, and reaches what the node reaches: its own loopback, the machines beside it. So nobody but central may ask for one
//!   until a rule says otherwise. A rule with `regex = ['http://127\.0\.0\.1:9090/.*']` lets in this server only, and no options, so no redirects either.
//! * If the node dies meanwhile, the message is `interrupted`: the server may have done what it was asked for. For what only reads, say `"rerun": true`.

mod answer;
mod ask;
mod download;
mod exchange;
mod tls;

use std::io;
use std::path::Path;

use protocol::outcome::Final;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, Most};
use self::ask::Ask;
use super::context::Stop;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// See the module's text.
pub(crate) struct HttpGet;

impl Method for HttpGet {
    const NAME: &'static str = "HttpGet";
    const AFTER_CRASH: AfterCrash = AfterCrash::Interrupt;
    const EVENT: bool = false;
    type Args = Ask;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        Ask::parse(data)
    }

    async fn run(ask: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(id) = ctx.runs().first().map(|run| run.message.id) else { return Ok(Ending::DONE) };
        let no_pipe = |error: io::Error| MethodError(format!("there is no pipe for the answer: {error}"));
        // Through pipes, as the output of a command: what keeps that, and holds it to its limits, keeps this.
        let (stdout, stdout_end) = pipe::pipe().map_err(no_pipe)?;
        let (stderr, stderr_end) = pipe::pipe().map_err(no_pipe)?;
        let stdout_end = stdout_end.into_nonblocking_fd().map_err(no_pipe)?;
        let stderr_end = stderr_end.into_nonblocking_fd().map_err(no_pipe)?;
        let (place, live, whole) = (ctx.place(), ctx.live(), CancellationToken::new());
        let asking = async {
            let most = Most { output: ctx.max_output(), file: ctx.limits().max_output };
            let mut answer = Answer::new(&ask, stdout, stderr, most);
            let told = tokio::select! {
                biased;
                why = ctx.stopped() => Err(Told::Stopped(why)),
                told = tokio::time::timeout(ask.time, exchange::perform(&ask, ctx.dir(), id, &mut answer)) => match told {
                    Ok(told) => told.map_err(Told::Trouble),
                    Err(_) => Err(Told::Trouble(format!("there was no whole answer within its limit of {:?}", ask.time))),
                },
            };
            (told, answer.truncated())
        };
        let (output, (told, truncated)) =
            tokio::join!(place.capture(Some(stdout_end), Some(stderr_end), &whole, live), asking);
        ctx.output = output;
        ctx.output.stdout.truncated |= truncated;
        let trouble = ctx.output.trouble.as_deref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        match told {
            Ok(status) => Ok(Ending::because(Final::Done, status + &trouble)),
            Err(Told::Trouble(why)) => Err(MethodError(format!("{}: {why}{trouble}", ask.url))),
            Err(Told::Stopped(why)) => Ok(why.ending()),
        }
    }
}

/// Why there is no answer.
enum Told {
    Stopped(Stop),
    Trouble(String),
}

/// Removes what downloads have left that a killed process had begun. Called once at start, before anything runs.
pub(super) fn recover(dir: &Path) -> io::Result<usize> {
    download::remove_leftovers(dir)
}

#[cfg(test)]
mod tests;
