//! What must be true when a message is published and when its method starts.

use std::sync::Arc;

use protocol::event::Item;
use protocol::message::Incarnation;
use protocol::outcome::Outcome;
use protocol::step::Run;

use super::{Lineage, Model, Ran, Verdict, Wrong};

impl Model {
    /// A process publishes a message.
    pub(crate) fn published(&mut self, now: u64, lineage: Lineage, to: Option<Incarnation>, item: &Item) -> Verdict {
        let number = self.number(item.id);
        let receiver = to.and_then(|to| self.incarnations.get(&to).copied());
        let story = &mut self.stories[number];
        story.last_publish = now;
        story.publishes += 1;
        if let Some(receiver) = receiver.filter(|receiver| !story.sent_to.contains(receiver)) {
            story.sent_to.push(receiver);
        }
        let whole = (&item.body, &item.options, item.created)
            == (&story.message.body, &story.message.options, story.message.created);
        if !whole {
            return Err(Wrong::new("message changed", format!("#{number} is published as {item:?}")));
        }
        match story.kept_by {
            Some((kept, _, seq)) if kept == lineage && seq == item.seq => Ok(()),
            kept => {
                let text = format!("#{number} is published under number {} and kept as {kept:?}", item.seq.0);
                Err(Wrong::new("sent before durable", text))
            }
        }
    }

    /// A method is started on a message of the inbox. `batch` is what it is to do in one go.
    pub(crate) fn started(&mut self, host: usize, lineage: Lineage, run: &Run, batch: &[usize], ran: u64) -> Verdict {
        let number = self.number(run.message.id);
        self.check_message(number, run)?;
        self.check_again(number, lineage, run)?;
        self.check_order(number, host, lineage, batch)?;
        let story = &mut self.stories[number];
        if !story.started_on.contains(&lineage) {
            return Err(Wrong::new("start before durable", format!("#{number} starts and nobody wrote it down")));
        }
        story.runs.push(Ran { number: ran, lineage, host, over: false, outcome: None });
        self.live.push((host, number));
        Ok(())
    }

    /// A method is started on a message of which nothing is kept.
    pub(crate) fn started_unrecorded(&mut self, host: usize, generation: u32, run: &Run) -> Verdict {
        let number = self.number(run.message.id);
        self.check_message(number, run)?;
        if self.stories[number].plan.kind.wants_ack() {
            return Err(Wrong::new("started unrecorded", format!("#{number} wants to be acknowledged")));
        }
        if self.stories[number].unrecorded.contains(&(host, generation)) {
            return Err(Wrong::new("started twice", format!("#{number} is started again by the same process")));
        }
        self.stories[number].unrecorded.push((host, generation));
        Ok(())
    }

    /// A run has ended by itself, by its limit or because it was stopped.
    pub(crate) fn ran(&mut self, number: usize, ran: u64, host: usize, outcome: Arc<Outcome>) {
        if let Some(ran) = self.stories[number].runs.iter_mut().find(|known| known.number == ran) {
            ran.over = true;
            ran.outcome = Some(outcome);
        }
        if let Some(at) = self.live.iter().position(|live| *live == (host, number)) {
            self.live.swap_remove(at);
        }
    }

    fn check_message(&self, number: usize, run: &Run) -> Verdict {
        let story = &self.stories[number];
        if run.message != story.message || run.limit != story.message.options.method_timeout {
            return Err(Wrong::new("message changed", format!("#{number} is run as {:?}", run.message)));
        }
        if story.kept_by.is_none() {
            return Err(Wrong::new("sent before durable", format!("#{number} runs and was never accepted")));
        }
        if self.refused[story.plan.method].contains(&self.sender_name(number)) {
            return Err(Wrong::new("refused but run", format!("#{number} runs where it is not allowed")));
        }
        if run.facts != self.facts[story.plan.method] {
            return Err(Wrong::new("facts", format!("#{number} runs with {:?}", run.facts)));
        }
        Ok(())
    }

    /// A message is started once, unless running it again is harmless and the run before is over.
    fn check_again(&self, number: usize, lineage: Lineage, run: &Run) -> Verdict {
        let story = &self.stories[number];
        let twice = |text: String| Err(Wrong::new("started twice", format!("#{number} {text}")));
        let before = story.runs.iter().filter(|ran| ran.lineage == lineage).collect::<Vec<_>>();
        if before.iter().any(|ran| !ran.over) {
            return twice("is started while it runs".to_owned());
        }
        if !before.is_empty() && !run.again {
            return twice("is started again as if it were the first time".to_owned());
        }
        if let Some((_, outcome)) = story.ends.iter().find(|(at, _)| *at == lineage) {
            return twice(format!("is started when it was {} already", outcome.state));
        }
        if !story.runs.is_empty() && !self.may_rerun(number) && !self.may_start_again(number, lineage) {
            return twice(format!("is started a second time, first as run {}", story.runs[0].number));
        }
        match &story.outcome {
            Some(outcome) if !self.may_start_after_end(number, lineage) => {
                twice(format!("is started when its sender has it as {}", outcome.state))
            }
            _ => Ok(()),
        }
    }

    /// Messages of a lane start in their order; one that is not parallel waits until those before it have ended.
    fn check_order(&mut self, number: usize, host: usize, lineage: Lineage, batch: &[usize]) -> Verdict {
        let Some(key) = self.lane_key(number) else { return Ok(()) };
        let Some(mut lane) = self.lanes.remove(&key) else { return Ok(()) };
        let (mut started, mut ended) = lane.passed.get(&lineage).copied().unwrap_or_default();
        let own = lane.order.iter().position(|other| *other == number).unwrap_or(0);
        while started < own && self.has_started(lane.order[started], lineage) {
            started += 1;
        }
        while ended < own && self.has_ended(lane.order[ended], lineage) {
            ended += 1;
        }
        lane.passed.insert(lineage, (started, ended));
        let first_of_batch = batch.first() == Some(&number);
        let parallel = self.stories[number].message.options.parallel;
        // In a batch each waits for the one before it, whatever delivery thinks of it.
        let waits_for = |other: &usize| !first_of_batch && batch.contains(other);
        let again = self.stories[number].runs.iter().any(|ran| ran.lineage == lineage);
        let not_ended =
            lane.order[ended.min(own)..own].iter().find(|other| !waits_for(other) && !self.has_ended(**other, lineage));
        let running = self.live.iter().map(|(at, other)| (*at, *other)).find(|(at, other)| {
            *at == host && *other != number && !waits_for(other) && self.lane_key(*other) == Some(key)
        });
        let verdict = match (not_ended, running) {
            _ if started < own && !again => {
                Err(Wrong::new("lane order", format!("#{number} starts before #{}", lane.order[started])))
            }
            (Some(other), _) if !parallel && !again => {
                Err(Wrong::new("lane overlap", format!("#{number} starts while #{other} has not ended")))
            }
            (_, Some((_, other))) if !parallel => {
                Err(Wrong::new("lane overlap", format!("#{number} starts while #{other} runs")))
            }
            _ if batch.len() > self.facts[self.stories[number].plan.method].batch => {
                Err(Wrong::new("batch", format!("#{number} is one of {} in a batch", batch.len())))
            }
            _ => Ok(()),
        };
        self.lanes.insert(key, lane);
        verdict
    }

    /// Whether a message has started at this store, or never will.
    fn has_started(&self, number: usize, lineage: Lineage) -> bool {
        let story = &self.stories[number];
        story.outcome.is_some()
            || self.may_be_closed(number)
            || story.runs.iter().any(|ran| ran.lineage == lineage || story.rolled_back)
            || story.ends.iter().any(|(at, _)| *at == lineage)
    }

    /// Whether a message has ended at this store, or for its sender. Where the sender is an old copy that has forgotten the
    /// end, an end anywhere counts: the receiver may be a copy that still knows of it.
    fn has_ended(&self, number: usize, lineage: Lineage) -> bool {
        let story = &self.stories[number];
        let known = |at: &Lineage| *at == lineage || story.rolled_back;
        story.outcome.is_some() || self.may_be_closed(number) || story.ends.iter().any(|(at, _)| known(at))
    }
}
