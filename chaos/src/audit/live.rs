//! What was seen of outputs while their commands ran: each byte once, in order, and nothing that is not in the result.

use super::Audited;
use super::evidence::Evidence;
use crate::world::World;

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for seen in &world.seen {
        let order = &world.orders[seen.order];
        let (stdout, stderr) = order.output(&world.payload);
        audited.breaks += seen.breaks;
        for wrong in &seen.wrong {
            audited.other(format!("{}: whoever looked on: {wrong}", order.tag));
        }
        for (number, run) in seen.runs.iter().enumerate() {
            audited.seen += run.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
            for (shown, expected) in run.iter().zip([&stdout, &stderr]) {
                if !expected.starts_with(shown) {
                    audited.other(format!("{}: what was seen of run {} is not its output", order.tag, number + 1));
                }
            }
        }
        let message = evidence.message(seen.order);
        let is_cut = message.is_some_and(|message| message["truncated"] == true);
        // Whoever heard of the end has seen all; not of what ran out of time, which has no known end.
        let has_heard = matches!(seen.state.as_deref(), Some("done" | "failed"));
        let is_whole = seen.runs.last().is_some_and(|[out, err]| *out == stdout && *err == stderr);
        if has_heard && !is_cut && !is_whole {
            let [out, err] = seen.runs.last().map_or([0, 0], |run| run.each_ref().map(Vec::len));
            let (stdout, stderr) = (stdout.len(), stderr.len());
            audited.other(format!("{}: {out} and {err} bytes were seen, of {stdout} and {stderr}", order.tag));
        }
    }
}
