//! What must be true of what a receiver writes down: each message once, each end once and as it was.

use std::sync::Arc;

use protocol::event::Ticket;
use protocol::limits::SEEN_RANGES_MAX;
use protocol::outcome::{Final, Outcome, Progress, Receipt};
use protocol::step::{InLaneRow, InState, InboxRow};
use protocol::time::Wall;

use super::{Lineage, Model, Verdict, Wrong};

impl Model {
    pub(super) fn accepted(&mut self, lineage: Lineage, row: &InboxRow) -> Verdict {
        let number = self.number(row.message.id);
        let story = &mut self.stories[number];
        let cancelled = matches!(&row.state, InState::Finished(outcome) if outcome.state == Final::Cancelled);
        if row.message != story.message && !cancelled {
            return Err(Wrong::new("message changed", format!("#{number} arrived as {:?}", row.message)));
        }
        if !story.plan.kind.wants_ack() {
            return Err(Wrong::new("record of a NACK", format!("#{number} is kept by its receiver")));
        }
        if story.accepted_by.contains(&lineage) {
            return Err(Wrong::new("accepted twice", format!("#{number} is taken on again by the same store")));
        }
        self.stories[number].accepted_by.push(lineage);
        self.tickets.insert((lineage, row.ticket), number);
        match &row.state {
            InState::Stored => Ok(()),
            InState::Running(at) => self.start_written(lineage, row.ticket, *at),
            InState::Finished(outcome) => self.ended_at_receiver(lineage, row.ticket, outcome),
        }
    }

    pub(super) fn start_written(&mut self, lineage: Lineage, ticket: Ticket, at: Wall) -> Verdict {
        let number = self.of_ticket(lineage, ticket)?;
        let story = &mut self.stories[number];
        if story.message.options.deadline.is_some_and(|deadline| at > deadline) {
            return Err(Wrong::new("started late", format!("#{number} starts when its deadline has passed")));
        }
        story.started_on.push(lineage);
        Ok(())
    }

    pub(super) fn ended_at_receiver(&mut self, lineage: Lineage, ticket: Ticket, outcome: &Arc<Outcome>) -> Verdict {
        let number = self.of_ticket(lineage, ticket)?;
        let story = &self.stories[number];
        if let Some((_, known)) = story.ends.iter().find(|(at, _)| *at == lineage) {
            let text = format!("#{number} ends as {} and was {} already", outcome.state, known.state);
            return Err(Wrong::new("one final state", text));
        }
        let wrong = |text: &str| Err(Wrong::new("wrong end", format!("#{number} ends as {}: {text}", outcome.state)));
        let ran = story.runs.iter().any(|ran| ran.lineage == lineage);
        let as_run = story.runs.iter().any(|ran| ran.lineage == lineage && ran.outcome.as_ref() == Some(outcome));
        let died = story.runs.iter().all(|ran| ran.lineage != lineage || (ran.over && ran.outcome.is_none()));
        let passed = story.message.options.deadline.is_some_and(|deadline| outcome.finished >= deadline);
        match outcome.state {
            Final::Done | Final::Failed | Final::TimedOut if !as_run => wrong("no run of it ended so")?,
            Final::Cancelled if !story.cancel_asked => wrong("nobody took it back")?,
            // One that died with its process and was to run again may be taken back before it does.
            Final::Cancelled if ran && !as_run && !(died && self.may_rerun(number)) => wrong("no run of it ended so")?,
            Final::Refused if !self.refused[story.plan.method].contains(&self.sender_name(number)) => {
                wrong("it is allowed")?;
            }
            Final::Expired if ran => wrong("it was started")?,
            Final::Expired if !passed => wrong("its deadline has not passed")?,
            Final::Interrupted if !story.started_on.contains(&lineage) => wrong("it was never started")?,
            Final::Interrupted if story.runs.iter().any(|ran| ran.lineage == lineage && !ran.over) => wrong("it runs")?,
            Final::Interrupted if self.may_rerun(number) && !passed => wrong("running it again is harmless")?,
            Final::Undeliverable | Final::Sent => wrong("a receiver can't know that")?,
            _ => {}
        }
        self.stories[number].ends.push((lineage, outcome.clone()));
        Ok(())
    }

    /// A receiver forgets a message: only when its sender has the end of it, or has no use for it any more.
    pub(super) fn forgotten(&mut self, lineage: Lineage, ticket: Ticket) -> Verdict {
        let number = self.of_ticket(lineage, ticket)?;
        if self.stories[number].outcome.is_some() || self.is_nobodys(number) {
            return Ok(());
        }
        Err(Wrong::new("result forgotten", format!("#{number} is forgotten before its sender has the end of it")))
    }

    /// What a receiver remembers of a lane has to be in order, and limited.
    pub(super) fn check_ranges(row: &InLaneRow) -> Verdict {
        let in_order = row.seen.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0);
        let sound = row.seen.iter().all(|(first, last)| row.floor <= *first && first <= last);
        if !in_order || !sound {
            return Err(Wrong::new("ranges", format!("{:?}: floor {:?} and {:?}", row.lane, row.floor, row.seen)));
        }
        if row.seen.len() > SEEN_RANGES_MAX + 1 {
            return Err(Wrong::new("memory", format!("{:?} has {} ranges", row.lane, row.seen.len())));
        }
        Ok(())
    }

    /// A receiver tells how far a message is: that has to have been written down before.
    pub(crate) fn receipt(&self, lineage: Lineage, ticket: Ticket, receipt: &Receipt) -> Verdict {
        let number = self.number(receipt.id);
        let story = &self.stories[number];
        let own = self.tickets.get(&(lineage, ticket)) == Some(&number);
        let end = story.ends.iter().find(|(at, _)| *at == lineage).map(|(_, end)| &**end);
        let so = match &receipt.progress {
            Progress::Stored => own && story.accepted_by.contains(&lineage),
            Progress::Running => own && story.started_on.contains(&lineage),
            Progress::Final(told) if ticket == Ticket(0) => self.may_be_forgotten(number, told.state),
            Progress::Final(told) => own && end == Some(told),
        };
        if so {
            return Ok(());
        }
        let text = format!("#{number} under ticket {}: told {:?}, on disk {end:?}", ticket.0, receipt.progress);
        Err(Wrong::new("receipt before durable", text))
    }

    fn of_ticket(&self, lineage: Lineage, ticket: Ticket) -> Result<usize, Wrong> {
        let unknown = || Wrong::new("ticket", format!("ticket {} was never given", ticket.0));
        self.tickets.get(&(lineage, ticket)).copied().ok_or_else(unknown)
    }
}
