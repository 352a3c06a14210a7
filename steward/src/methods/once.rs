//! Runs a method for somebody else than the engine: nothing of it is recorded by itself, and whoever asked for it gets how it
//! ended and what it has written, up to a limit, in memory. Everything else is as with a message that has arrived: the rules are
//! asked, the data is understood, the audit log has its lines, and what hangs or panics ends alone.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use protocol::outcome::{Final, Outcome};
use protocol::step::Run;

use super::context::{Host, MethodCtx, Stop, StopSwitch};
use super::ready::understand;
use super::runner::STOP_LIMIT;
use super::{Ending, Method};
use crate::clock;
use crate::crash_points::{Point, reach};
use crate::security::rules::smaller;

/// How a run ended, and what it has written.
#[derive(Debug)]
pub(in crate::methods) struct Ran {
    /// How it ended. Of its output it says only whether it was cut.
    pub(super) outcome: Outcome,
    /// Standard output and standard error.
    pub(super) written: [Vec<u8>; 2],
}

impl Ran {
    /// One that did not come to run.
    pub(super) fn not(state: Final, why: &str) -> Self {
        Self { outcome: Outcome::bare(state, Some(why), clock::wall()), written: [Vec::new(), Vec::new()] }
    }
}

/// Runs a message's method; of its output `output_max` bytes are kept, both streams together.
pub(super) async fn once<M: Method>(host: &Arc<Host>, run: Run, stop: &StopSwitch, output_max: u64) -> Ran {
    let (args, grant) = match understand::<M>(host, &run) {
        Ok(understood) => understood,
        Err((state, why)) => {
            if state == Final::Refused {
                host.audit.refused_late(&run.message, &why);
            }
            return Ran::not(state, &why);
        }
    };
    let limits = grant.limits.clone();
    host.audit.started(&[(&run.message, grant)]).await;
    reach(Point::BeforeRun);
    let limit = smaller(run.limit, limits.timeout);
    let runs = [run];
    let mut ctx = MethodCtx::new(host, &runs, stop, false, limits).in_memory(output_max);
    let ending = settle::<M>(args, &mut ctx, stop, limit).await;
    reach(Point::AfterRun);
    for run in &runs {
        host.audit.unrecorded(run, &ending);
    }
    let written = std::mem::take(&mut ctx.output.written);
    Ran { outcome: ctx.outcome(ending), written }
}

/// Runs a method to its end, within its limit and until it is stopped.
pub(super) async fn settle<M: Method>(
    args: M::Args,
    ctx: &mut MethodCtx<'_>,
    stop: &StopSwitch,
    limit: Option<Duration>,
) -> Ending {
    let supervisor = ctx.supervisor().clone();
    let mut method = pin!(AssertUnwindSafe(M::run(args, ctx)).catch_unwind());
    let stopped = async {
        let why = match limit {
            Some(limit) => match tokio::time::timeout(limit, stop.stopped()).await {
                Ok(why) => why,
                Err(_) => {
                    stop.stop(Stop::TimedOut(limit));
                    stop.stopped().await
                }
            },
            None => stop.stopped().await,
        };
        tokio::time::sleep(STOP_LIMIT).await;
        why
    };
    tokio::select! {
        biased;
        ended = &mut method => match ended {
            Ok(Ok(ending)) => ending,
            Ok(Err(error)) => Ending::because(Final::Failed, error.0),
            Err(panic) => {
                let text = supervisor.caught(&format!("method {}", M::NAME), &*panic);
                Ending::because(Final::Failed, format!("the method panicked, which is a fault of steward: {text}"))
            }
        },
        why = stopped => why.ending(),
    }
}
