//! One run, from when it is known what it may do to what is told of its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::outcome::{Final, Outcome};
use protocol::step::Run;

use super::super::context::{Batch, Host, MethodCtx, Stop, StopSwitch};
use super::super::once::settle;
use super::super::ready::ready;
use super::super::{Ending, Method};
use super::Ends;
use crate::clock;
use crate::crash_points::{Point, reach};
use crate::security::rules::smaller;
use crate::troubles::TOLD;

impl Host {
    /// Tells how the messages of a batch ended that has not come to run.
    pub(super) async fn report(&self, batch: &Batch, ending: &Ending) {
        let outcome = |run: &Run| {
            let bare = Outcome::bare(ending.state, ending.reason.as_deref(), clock::wall());
            (run.ticket, bare)
        };
        if batch.recorded {
            self.tell(batch.runs.iter().map(outcome).collect()).await;
        }
    }

    /// Whether these messages are held without an end: they were stopped because the node stops, and may run again. They
    /// do when it starts, as if it had been killed.
    pub(super) fn holds(&self, runs: &[Run], stop: &StopSwitch, ending: &Ending) -> bool {
        let again = |run: &Run| run.facts.rerun || run.message.options.rerun;
        let stopped = stop.why() == Some(Stop::NodeStops) && ending.state == Final::Interrupted;
        let held = stopped && runs.iter().all(again);
        if held {
            self.held.fetch_add(runs.len() as u64, Ordering::Relaxed);
            self.told(runs.len());
        }
        held
    }

    /// So many ends are with the engine, or are none.
    pub(super) fn told(&self, count: usize) {
        self.untold.send_modify(|untold| *untold = untold.saturating_sub(count));
    }

    pub(in crate::methods) async fn tell(&self, ends: Ends) {
        if self.ends.send(ends).await.is_err() {
            tracing::debug!("the node has stopped; an end is not told");
        }
    }
}

/// Runs a method on a batch, and tells how it ended.
pub(in crate::methods) async fn execute<M: Method>(host: &Arc<Host>, batch: Batch) {
    let Batch { runs, stop, recorded } = batch;
    let (able, args, limits) = ready::<M>(host, runs, recorded).await;
    let Some(args) = args else { return };
    reach(Point::BeforeRun);
    let limit = smaller(able.first().and_then(|run| run.limit), limits.timeout);
    let mut ctx = MethodCtx::new(host, &able, &stop, recorded, limits);
    let ending = settle::<M>(args, &mut ctx, &stop, limit).await;
    reach(Point::AfterRun);
    if !recorded {
        // Nobody waits for it, so nobody would ever hear of it.
        for run in &able {
            host.audit.unrecorded(run, &ending);
            unheard(run, &ending);
        }
    } else if !ctx.reported && !host.holds(&able, &stop, &ending) {
        let outcome = ctx.outcome(ending);
        host.tell(able.iter().map(|run| (run.ticket, outcome.clone())).collect()).await;
    }
}

/// Tells of a message without a record (NACK types) that went wrong.
fn unheard(run: &Run, ending: &Ending) {
    let Run { message, .. } = run;
    if matches!(ending.state, Final::Failed | Final::TimedOut) {
        let (node, method, state, id) = (&message.from, &message.method, ending.state, message.id);
        // It is told to the error log, which is none of those who may read what is sealed.
        let reason = ending.reason.as_deref().filter(|_| !message.options.seal);
        let exit_code = ending.exit_code;
        tracing::warn!(target: TOLD, %method, %node, %state, exit_code, reason, %id, "a message without ACK went wrong");
    }
}
