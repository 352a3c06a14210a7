//! A broker that comes back as another one.

use rustix::process::Signal;

use super::Fault;

/// Another broker in its place, without anything that the first one kept.
pub(super) const REPLACED: Fault = Fault {
    name: "broker-replaced",
    does: "the nats-server, with JetStream and a store, is killed; an empty one without JetStream takes its place",
    prepare: |world, _| {
        // The first one of this world; the ones after it have none.
        world.stop_broker();
        let store = world.fleet.dir().join("jetstream");
        world.fleet.broker.configure(&format!("jetstream {{ store_dir: {:?} }}\n", store.display().to_string()));
        world.fleet.broker.start();
        Ok(())
    },
    strike: |world, dice| {
        let what = world.replace_broker(Signal::KILL, dice.millis(20, 2000))?;
        world.fleet.broker.configure("");
        Ok(what.into())
    },
};
