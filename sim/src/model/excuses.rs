//! Every exception to what is promised, and nothing else: where sender and receiver may differ about how a message
//! ended, where a message may start once more, and what has to have happened for that. Each is a limit of delivery that
//! the design declares; whatever is not here is a bug.

use protocol::outcome::{Final, Outcome, Output, Stream};

use super::{Life, Lineage, Model, Verdict, Wrong};

impl Model {
    /// A message ends for its sender in a way that no receiver has written down.
    pub(super) fn check_excuse(&self, now: u64, number: usize, attempts: u32, outcome: &Outcome) -> Verdict {
        let story = &self.stories[number];
        let options = &story.message.options;
        let untouched = story.runs.is_empty() && story.ends.is_empty();
        let excused = match outcome.state {
            // The receiver may have it all the same, and no receipt came back: that is what a limit of attempts means.
            // An attempt may have passed while nobody was there; one that went out had its whole time.
            Final::Undeliverable => {
                let timeout = options.timeout.as_millis() as u64;
                let waited = story.publishes == 0 || now - story.last_publish >= timeout;
                let all = now - story.submitted_at >= timeout * u64::from(options.retries);
                options.retries > 0 && attempts >= options.retries && ((waited && all) || story.rolled_back)
            }
            // Sent to a store that is gone, is an old copy now, or is not the only one of its name.
            Final::Interrupted => {
                let gone = |store: &Life| store.over || store.contested;
                let lost = story.sent_to.iter().any(|store| gone(self.life(*store)));
                // What may have been sent, for all that its store says, and was not, for want of a process or of room.
                let marked = story.publishes == 0 && self.may_have_been_sent(number);
                let any_lost = self.lives.iter().any(|life| life.name == story.plan.to && gone(life));
                story.rolled_back || self.may_be_mistaken(number) || ((lost || (marked && any_lost)) && !options.rerun)
            }
            // It never got to anybody.
            Final::Cancelled => story.cancel_asked && (untouched || story.rolled_back),
            Final::Expired => {
                // It had passed when the store was asked; a clock that goes back can't bring it back.
                let due = |deadline| outcome.finished >= deadline || self.clocks_go_back;
                let passed = options.deadline.is_some_and(due);
                passed && (story.accepted_by.is_empty() || story.rolled_back)
            }
            Final::Done | Final::Failed | Final::TimedOut | Final::Refused | Final::Sent => false,
        };
        if excused {
            return Ok(());
        }
        let receiver: Vec<_> = story.ends.iter().map(|(_, end)| end.state).collect();
        let text = format!(
            "#{number} ends as {} ({}) after {attempts} attempts and {} publishes; its receiver has {receiver:?}",
            outcome.state,
            outcome.reason.as_deref().unwrap_or("no reason"),
            story.publishes
        );
        Err(Wrong::new("ends differ", text))
    }

    /// The end is known, but the output was lost with the receiver's store, or came damaged again and again.
    pub(super) fn is_all_there_is(&self, number: usize, store: Lineage, receiver: &Outcome, sender: &Outcome) -> bool {
        let story = &self.stories[number];
        let life = self.life(store);
        let cut = Output { truncated: true, ..Output::default() };
        let or_cut = |stream| {
            let (theirs, ours) = (receiver.stream(stream), sender.stream(stream));
            theirs == ours || (theirs.is_bulk() && *ours == cut)
        };
        let same = (receiver.state, receiver.exit_code, receiver.signal, receiver.started, receiver.finished)
            == (sender.state, sender.exit_code, sender.signal, sender.started, sender.finished);
        same && Stream::ALL.into_iter().all(or_cut) && (life.over || life.contested || story.damaged >= 3)
    }

    fn may_have_been_sent(&self, number: usize) -> bool {
        let lane = self.lane_key(number).and_then(|key| self.lanes.get(&key));
        let seq = self.stories[number].kept_by.map(|(.., seq)| seq);
        lane.zip(seq).is_some_and(|(lane, seq)| seq <= lane.sent)
    }

    /// A message that ran may be run again by a store that was copied before it ended there: nothing in the copy says
    /// that it ever started. And where its sender has an old copy and whoever ran it has lost its store, or its name to
    /// another one, nobody is left who could know. (Seed 16085278)
    pub(super) fn may_start_again(&self, number: usize, store: Lineage) -> bool {
        let story = &self.stories[number];
        let already = story.runs.iter().any(|ran| ran.lineage == store);
        let gone = |store: &Life| store.over || store.contested;
        let nobody_knows = story.rolled_back && story.runs.iter().all(|ran| gone(self.life(ran.lineage)));
        (story.revived_on.contains(&store) || nobody_knows) && !already
    }

    /// A message may start although its sender has closed it: where the sender could only guess, or where it was sent to a new
    /// store because running it again is harmless, and the lost one's end came after all. (Seed 12009253)
    pub(super) fn may_start_after_end(&self, number: usize, store: Lineage) -> bool {
        let story = &self.stories[number];
        let guessed = story.outcome.as_ref().is_some_and(|outcome| outcome.state == Final::Undeliverable);
        let life = self.life(store);
        let told_late = self.may_rerun(number) && story.ends.iter().any(|(at, _)| *at != store && self.life(*at).over);
        guessed || told_late || story.revived_on.contains(&store) || story.rolled_back || life.contested || life.over
    }

    /// A message that is gone from a receiver's inbox may be told as interrupted if it comes again: its sender's store
    /// is an old copy, or it was closed there while a copy of it was on its way.
    pub(super) fn may_be_forgotten(&self, number: usize, told: Final) -> bool {
        let story = &self.stories[number];
        let closed = story.rolled_back || story.forfeited || story.outcome.is_some();
        told == Final::Interrupted && (closed || self.may_be_mistaken(number))
    }

    /// A message may be taken for an earlier one where its number was given twice. Numbers go on from the clock at each
    /// start, so that needs a store that is an old copy and a clock that was set back as well.
    pub(super) fn may_be_mistaken(&self, number: usize) -> bool {
        self.stories[number].kept_by.is_some_and(|(lineage, ..)| self.life(lineage).gives_twice)
    }

    /// A message that its sender has open may be closed at its receiver, so that others don't wait for it: where it is
    /// taken for another one, or where its sender's store is a copy from before its end, or from before the message.
    pub(super) fn may_be_closed(&self, number: usize) -> bool {
        let story = &self.stories[number];
        story.reopened || (story.forfeited && story.rolled_back) || self.may_be_mistaken(number)
    }

    /// Whether the sender's store is gone, or an older copy that may not know of it.
    pub(crate) fn is_nobodys(&self, number: usize) -> bool {
        let story = &self.stories[number];
        story.forfeited || story.rolled_back
    }

    /// The index of the name of a message's sender.
    pub(super) fn sender_name(&self, number: usize) -> usize {
        let name = self.stories[number].message.from.as_str();
        name[1..].parse().unwrap_or(usize::MAX)
    }
}
