//! Keeps lines of syslog on the node that receives them (R23): in `syslog/NODE/HOST/DAY.log` in its directory, by the node that sent
//! them, the host that they name and the day (UTC) on which they came there. Nodes with `--syslog-listen` send them by
//! themselves, with a head before the lines; without one, lines are of the day of the message and of the hosts that they
//! name, or of the node that sends them.
//!
//! ```json
//! [ { "toNode": "central", "data": ["<13>Nov 23 05:00:00 web-1 app: started", "<11>Nov 23 05:00:01 web-1 app: out of paper"], "commandOrEvent": "EventACK", "method": "Syslogforwarding" } ]
//! ```
//!
//! A line is written as it came, with a line end; a line feed within it becomes `#012`. A message is acknowledged once its lines are on
//! the disk, and they are there exactly once, also when the node is killed in the middle. While the disk is full, messages wait.
//! Files may be moved away or packed at any time. Files of days that are over for longer than `--syslog-keep` (30 days) are
//! removed. A day that is older than that, or still to come, because the clock of a node is wrong, counts as today.
//!
//! With `--syslog-forward udp:HOST:PORT` (or `tcp:HOST:PORT`, or `unix:PATH`) the lines are passed on there instead, each at least once; no
//! syslog says that it has a line. While nobody is there to take them, messages wait.
//!
//! Only `EventACK` without `parallel`, so that the lines of a node are in order. See [syslog.md](syslog.md).

use std::path::Path;
use std::time::Duration;

use protocol::message::Kind;
use protocol::name::NodeName;

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::clock;
use crate::syslog::batch::{self, Lines};
use crate::syslog::files::{self, Mark, Plan};
use crate::troubles::TOLD;

/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// See the module's text.
pub(crate) struct Syslogforwarding;

impl Method for Syslogforwarding {
    const NAME: &'static str = "Syslogforwarding";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = true;
    type Args = Lines;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        batch::unpack(data)
    }

    async fn run(lines: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(message) = ctx.runs().first().map(|run| &run.message) else { return Ok(Ending::DONE) };
        if message.kind != Kind::EventAck || message.options.parallel {
            let why =
                "lines of syslog are taken as EventACK without parallel only, so that they are there once and in order";
            return Err(MethodError(why.to_owned()));
        }
        let desk = ctx.syslog();
        let many = lines.lines.len() as u64;
        if let Some(passing) = &desk.passing {
            let lines = lines.lines.into_iter().map(|(_, line)| line).collect();
            tokio::select! {
                why = ctx.stopped() => return Ok(why.ending()),
                passed = passing.pass(lines) => if !passed { return Ok(ctx.stopped().await.ending()) },
            }
            desk.tally.passed_on(many);
            return Ok(Ending::DONE);
        }
        let day = files::day_here(lines.day.as_deref(), message.created, clock::wall(), desk.keep);
        let from = message.from.clone();
        let mut told = false;
        loop {
            let Err(MethodError(why)) = write(&lines, &from, &day, ctx).await else {
                desk.tally.written(many);
                return Ok(Ending::DONE);
            };
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(target: TOLD, node = %from, why, "lines of syslog can't be written; it is tried again");
            }
            tokio::select! {
                why = ctx.stopped() => return Ok(why.ending()),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

/// Writes the lines, as [`files`] says. What an earlier try or a killed run has written of them is taken back first.
async fn write(lines: &Lines, from: &NodeName, day: &str, ctx: &MethodCtx<'_>) -> Result<(), MethodError> {
    let wrong = |error: std::io::Error| MethodError(error.to_string());
    let earlier = ctx.cursor().await?;
    let (lines, node, day) = (lines.clone(), from.clone(), day.to_owned());
    let plan = move |dir: &Path| {
        if let Some(text) = earlier {
            let marks: Vec<Mark> = serde_json::from_str(&text).map_err(std::io::Error::other)?;
            files::take_back(dir, &node, &marks)?;
        }
        let plan = Plan::new(dir, &node, &lines, day)?;
        let marks = plan.marks()?;
        Ok((plan, marks))
    };
    let (plan, marks) = blocking(ctx.dir(), plan).await.map_err(wrong)?;
    let text = serde_json::to_string(&marks).map_err(|error| MethodError(error.to_string()))?;
    ctx.keep(Vec::new(), text).await?;
    blocking(ctx.dir(), move |_| plan.write(&marks)).await.map_err(wrong)
}

async fn blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || work(&dir)).await.map_err(std::io::Error::other).flatten()
}
