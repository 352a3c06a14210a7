//! What a node of a fleet does for being one: it keeps up to date who is thrown out, renews its
//! keys, and central lets others in.

use std::path::Path;

use crate::audit::Audit;
use crate::authority;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::enrol::desk::Desk;
use crate::enrol::renewal::Renewal;
use crate::enrol::{newcomers, outcasts};
use crate::intake::Intake;
use crate::supervise::{Spec, Stops, Supervisor};

/// Has central hand out the fleet's rules to those who join, until the node stops.
pub(super) fn hand_out_rules(dir: &Path, supervisor: &Supervisor, intake: &Intake) {
    if dir.join(authority::FOLDER).symlink_metadata().is_err() {
        return;
    }
    let (dir, intake) = (dir.to_owned(), intake.clone());
    supervisor.keep("rules for new nodes", move |end| {
        let (dir, intake) = (dir.clone(), intake.clone());
        async move { newcomers::follow(&dir, intake, end).await }
    });
}

/// Runs all of it until the node stops. Without an identity there is nothing to do; with one, this is how its keys are renewed.
pub(super) fn keep(
    dir: &Path,
    supervisor: &Supervisor,
    broker: &Broker,
    clock: Clock,
    audit: &Audit,
) -> Option<Renewal> {
    let kept = Renewal::new(dir, broker, clock)?;
    let renewal = kept.clone();
    let spec =
        Spec::new("key renewal").stops(Stops::Here("keys that somebody else may have could not be renewed from afar"));
    supervisor.keep(spec, move |end| renewal.clone().run(end));
    let following = broker.clone();
    let spec = Spec::new("revocations").stops(Stops::Never("this node would go on believing keys that are revoked"));
    supervisor.keep(spec, move |end| outcasts::follow(following.clone(), end));
    if dir.join(authority::FOLDER).symlink_metadata().is_err() {
        return Some(kept);
    }
    let (dir, broker, audit) = (dir.to_owned(), broker.clone(), audit.clone());
    let spec = Spec::new("enrolment").stops(Stops::Here("nobody could be thrown out of the fleet any more"));
    supervisor.keep(spec, move |end| {
        // Opened by the task, so that keys that can't be read are a task that is down, and not a central that is.
        let desk = Desk::open(&dir, &broker, clock, audit.clone());
        async move { desk?.run(end).await }
    });
    Some(kept)
}
