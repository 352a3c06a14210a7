//! What comes before a run: the rules are asked once more, because they may have changed while a message waited, the data
//! is understood, and the audit log has its line. What may not run or makes no sense is told, and does not run.

use std::sync::Arc;

use protocol::message::Message;
use protocol::outcome::{Final, Outcome};
use protocol::step::Run;

use super::context::Host;
use super::{Method, data, parse};
use crate::clock;
use crate::security::rules::{Grant, Limits};

/// Says within which limits a message with this data may run, or why it may not any more.
pub(crate) type Permit = Arc<dyn Fn(&Message, &[String]) -> Result<Grant, String> + Send + Sync>;

/// The arguments of a message that may run and by which rule it may, or how it ends instead, and why.
pub(super) fn understand<M: Method>(host: &Host, run: &Run) -> Result<(M::Args, Grant), (Final, String)> {
    let failed = |why: String| (Final::Failed, why);
    let refused = |why: String| (Final::Refused, format!("{why}; it had been accepted before that changed"));
    let data = data(&run.message.body).map_err(failed)?;
    let grant = (host.permit)(&run.message, &data).map_err(refused)?;
    Ok((parse::<M>(run.message.kind, &data).map_err(failed)?, grant))
}

/// Those of a batch that may run, with their arguments and within the narrowest of their limits; the others are told why
/// not. Admission has looked at them when they came; rules that have changed since, or a program that was replaced, may
/// see them otherwise.
pub(super) async fn ready<M: Method>(
    host: &Host,
    runs: Vec<Run>,
    recorded: bool,
) -> (Vec<Run>, Option<M::Args>, Limits) {
    let (mut args, mut limits) = (None, Limits::default());
    let (mut able, mut grants, mut unable) = (Vec::with_capacity(runs.len()), Vec::new(), Vec::new());
    for run in runs {
        match understand::<M>(host, &run) {
            Ok((next, grant)) => {
                limits = limits.and(grant.limits.clone());
                match &mut args {
                    None => args = Some(next),
                    Some(args) => M::join(args, next),
                }
                able.push(run);
                grants.push(grant);
            }
            Err((state, why)) => {
                if state == Final::Refused {
                    host.audit.refused_late(&run.message, &why);
                }
                unable.push((run.ticket, Outcome::bare(state, Some(&why), clock::wall())));
            }
        }
    }
    let starts: Vec<_> = able.iter().map(|run: &Run| &run.message).zip(grants).collect();
    host.audit.started(&starts).await;
    if recorded && !unable.is_empty() {
        host.tell(unable).await;
    }
    (able, args, limits)
}
