//! What a machine is lent while it handles an event: the time, the link, and a place for what it wants done.

use crate::event::Control;
use crate::message::Incarnation;
use crate::name::NodeName;
use crate::rng::Rng;
use crate::snapshot::Identity;
use crate::step::{Effect, Report, Step, Write};
use crate::time::Now;
use crate::timers::Timers;

/// Lent to the machines for one event.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(crate) now: Now,
    pub(crate) me: Identity,
    /// Whether the broker can be reached.
    pub(crate) link: bool,
    pub(crate) timers: Timers,
    pub(crate) rng: Rng,
    /// What this event has brought so far.
    pub(crate) step: Step,
}

impl Ctx {
    pub(crate) fn new(now: Now, me: Identity) -> Self {
        let rng = Rng::new(me.seed);
        Self { now, me, link: false, timers: Timers::default(), rng, step: Step::default() }
    }

    pub(crate) fn write(&mut self, write: Write) {
        self.step.writes.push(write);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.step.effects.push(effect);
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.effect(Effect::Report(report));
    }

    pub(crate) fn control(&mut self, to: &NodeName, incarnation: Option<Incarnation>, control: Control, seal: bool) {
        self.effect(Effect::Control { to: to.clone(), incarnation, control, seal });
    }
}
