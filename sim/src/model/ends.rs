//! What must be true when a message ends for its sender.

use std::sync::Arc;

use protocol::message::MessageId;
use protocol::outcome::{Final, Outcome, Stream};

use super::{Model, Verdict, Wrong};
use crate::disk::Disk;

impl Model {
    pub(super) fn ended_at_sender(
        &mut self,
        now: u64,
        id: MessageId,
        attempts: u32,
        outcome: &Arc<Outcome>,
        disk: &Disk,
    ) -> Verdict {
        let number = self.number(id);
        let story = &self.stories[number];
        if let Some(known) = &story.outcome {
            let text = format!("#{number} ends as {} and was {} already", outcome.state, known.state);
            return Err(Wrong::new("one final state", text));
        }
        if !story.plan.kind.wants_ack() {
            self.check_nack(number, outcome)?;
        } else if !self.agrees(number, outcome) {
            self.check_excuse(now, number, attempts, outcome)?;
        }
        self.check_outputs(number, id, outcome, disk)?;
        let story = &mut self.stories[number];
        if !story.forfeited {
            self.open -= 1;
        }
        story.outcome = Some(outcome.clone());
        Ok(())
    }

    /// Whether a receiver has it exactly so.
    fn agrees(&self, number: usize, outcome: &Outcome) -> bool {
        let story = &self.stories[number];
        story
            .ends
            .iter()
            .any(|(lineage, end)| **end == *outcome || self.is_all_there_is(number, *lineage, end, outcome))
    }

    fn check_nack(&self, number: usize, outcome: &Outcome) -> Verdict {
        let story = &self.stories[number];
        let due = |deadline| outcome.finished >= deadline || self.clocks_go_back;
        let deadline_passed = story.message.options.deadline.is_some_and(due);
        let so = match outcome.state {
            Final::Sent => story.publishes > 0,
            Final::Cancelled => story.cancel_asked,
            // An old copy of its sender does not know that it went out.
            Final::Expired => deadline_passed && (story.publishes == 0 || story.rolled_back),
            Final::Undeliverable => story.message.options.retries > 0,
            Final::Done | Final::Failed | Final::TimedOut | Final::Refused | Final::Interrupted => false,
        };
        if so {
            return Ok(());
        }
        let text = format!("#{number}, which nobody answers, ends as {} ({:?})", outcome.state, outcome.reason);
        Err(Wrong::new("wrong end", text))
    }

    /// A result that has come back is here as a whole.
    fn check_outputs(&self, number: usize, id: MessageId, outcome: &Outcome, disk: &Disk) -> Verdict {
        for stream in Stream::ALL {
            let output = outcome.stream(stream);
            if !output.is_bulk() {
                continue;
            }
            let file = disk.files.fetched.get(&(id, stream));
            let whole = file
                .is_some_and(|file| file.have == output.len && file.synced == output.len && file.is_whole(output.hash));
            if !whole {
                let text = format!("#{number} ends with {} of {} bytes as {file:?}", stream.as_str(), output.len);
                return Err(Wrong::new("result not whole", text));
            }
        }
        Ok(())
    }
}
