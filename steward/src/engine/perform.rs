//! What is done after a commit: effects go to the tasks that perform them. Nothing here waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::Event;
use protocol::event::Ticket;
use protocol::limits::SWEEP_MESSAGES_MAX;
use protocol::step::Effect;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Engine;
use crate::crash_points::{Point, reach};

/// The tasks that perform effects.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    /// Publish, Receipt, Control, Announce, Watch.
    pub(crate) broker: mpsc::Sender<Vec<Effect>>,
    /// Start, `StartUnrecorded`, Kill.
    pub(crate) runner: mpsc::Sender<Vec<Effect>>,
    /// Receive, Seal, Discard.
    pub(crate) results: mpsc::Sender<Vec<Effect>>,
}

impl Engine {
    /// Hands out the effects of a turn, each batch in order.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        let (mut broker, mut runner, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let mut told: HashMap<Ticket, usize> = HashMap::new();
        for effect in effects {
            match effect {
                // Of several receipts for one message, the last says it all.
                Effect::Receipt { ticket, .. } if ticket != Ticket(0) => match told.get(&ticket) {
                    Some(place) => broker[*place] = effect,
                    None => {
                        told.insert(ticket, broker.len());
                        broker.push(effect);
                    }
                },
                Effect::Publish { .. }
                | Effect::Receipt { .. }
                | Effect::Control { .. }
                | Effect::Announce(_)
                | Effect::Watch(..) => broker.push(effect),
                Effect::Start(_) | Effect::StartUnrecorded { .. } | Effect::Kill(_) => runner.push(effect),
                Effect::Receive { .. } | Effect::Seal { .. } | Effect::Discard(_) => results.push(effect),
                Effect::Load { lane, after, messages, bytes } => match self.store.load(&lane, after, messages, bytes) {
                    Ok((messages, more)) => self.own.events.push_back(Event::Loaded { lane, messages, more }),
                    Err(error) => {
                        tracing::error!(%lane, %error, "the lane's next messages can't be read; it waits");
                        self.own.events.push_back(Event::Loaded { lane, messages: Vec::new(), more: true });
                    }
                },
                Effect::Sweep(until) => match self.store.sweep(until, SWEEP_MESSAGES_MAX) {
                    Ok((due, next)) => self.own.events.push_back(Event::Swept { due, next }),
                    Err(error) => tracing::error!(%error, "passed deadlines can't be read; it is tried again"),
                },
                Effect::Report(report) => {
                    self.stats.metrics.report(&report);
                    self.troubles.report(&report);
                    self.log.report(&report);
                    // No listener is no error: reports are for whoever wants them.
                    if self.reports.send(Arc::new(report)).is_err() {
                        tracing::trace!("nobody listens to reports");
                    }
                }
                // Their answers go out with the turn.
                Effect::Accepted(_) | Effect::Rejected(..) => {}
            }
        }
        self.hand(&self.outputs.broker, broker);
        reach(Point::BetweenEffects);
        self.hand(&self.outputs.results, results);
        self.start(runner);
    }

    /// Hands runs to the runner. They are written down as started, so none may be lost: what finds the queue full waits
    /// here, in order. How many there can be is limited by the protocol, which starts only so many at a time.
    fn start(&mut self, batch: Vec<Effect>) {
        if !batch.is_empty() {
            self.starting.push_back(batch);
        }
        while let Some(batch) = self.starting.pop_front() {
            match self.outputs.runner.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => return self.starting.push_front(batch),
                // The runner has ended with the node; the next process tells how these ended.
                Err(TrySendError::Closed(_)) => {}
            }
        }
    }

    /// Hands a batch to a task; drops it where the task's queue is full.
    fn hand(&self, task: &mpsc::Sender<Vec<Effect>>, batch: Vec<Effect>) {
        let effects = batch.len() as u64;
        if effects > 0 && task.try_send(batch).is_err() {
            self.stats.effects_dropped.fetch_add(effects, Ordering::Relaxed);
        }
    }
}
