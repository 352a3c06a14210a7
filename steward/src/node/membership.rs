//! What a node of a fleet does for being one: it keeps up to date who is thrown out, and central lets others in.

use std::path::Path;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::enrol::desk::Desk;
use crate::enrol::outcasts;
use crate::supervise::{Spec, Stops, Supervisor};

/// Runs both until the node stops. Without an identity there is nothing to do.
pub(super) fn keep(dir: &Path, supervisor: &Supervisor, broker: &Broker, clock: Clock) -> anyhow::Result<()> {
    if broker.trust().identity().is_none() {
        return Ok(());
    }
    let following = broker.clone();
    let spec = Spec::new("revocations").stops(Stops::Never("this node would go on believing keys that are revoked"));
    supervisor.keep(spec, move |end| outcasts::follow(following.clone(), end));
    if let Some(desk) = Desk::find(dir, broker, clock)? {
        supervisor.keep("enrolment", move |end| desk.clone().run(end));
    }
    Ok(())
}
