//! Whether things get done: lanes without trouble as quickly as if nobody had any, and everything once faults are over.
//! And whether what is kept in memory and on disk stays within its limits.

use std::collections::{BTreeMap, VecDeque};

use protocol::limits::{INBOX_LANE_MESSAGES_MAX, SEEN_RANGES_MAX, WALL_RECHECK, WINDOW_MESSAGES_MAX};
use protocol::message::Kind;
use protocol::step::InState;
use protocol::time::Wall;

use crate::plan::Plan;
use crate::world::{Happening, World};

/// After the last fault, everything is final within this time, and the time that the methods of the slowest lane and
/// the transfer of their outputs take; in milliseconds.
const SETTLE_MS: u64 = 200_000;

/// A lane between two nodes without trouble: a message that is next ends within this time, and the time that its method
/// and the transfer of its output take; in milliseconds.
const CALM_MS: u64 = 3_000;

/// A message that was taken back is final within this time, and the time that the transfer of its output takes, counted
/// from when whoever took it back was told so, and not before faults have ended; in milliseconds. Between two nodes
/// without trouble it is [`CALM_MS`]. Where cancellations were lost before, the next one may be more than a minute away; and
/// all of this must be less than a method hangs that nobody ends, or that end would hide what is wrong.
const TAKEN_BACK_MS: u64 = 90_000;

/// How long a message may wait beyond its deadline once faults are over; in milliseconds.
const LATE_MS: u64 = 2_000;

/// The pause between two looks for messages that wait beyond their deadlines; in milliseconds.
const BETWEEN_LOOKS_MS: u64 = 5_000;

/// How long everything is watched after it has settled: whatever is forgotten by then is forgotten, and what is not to
/// start must not have started; in milliseconds.
const QUIET_MS: u64 = 150_000;

/// Batches between two looks into a node.
const BATCHES_BETWEEN_LOOKS: u64 = 16;

type CalmKey = (usize, usize, Kind, usize);

/// The messages of each lane without trouble that are not final, in the order in which they were accepted.
#[derive(Debug, Default)]
pub(crate) struct CalmLanes(BTreeMap<CalmKey, VecDeque<usize>>);

impl Plan {
    /// How long it may take after the last fault until everything is final, in milliseconds.
    pub(crate) fn bound(&self) -> u64 {
        SETTLE_MS + self.longest_lane()
    }

    /// Whether no fault may strike the machines with this name.
    fn is_calm(&self, name: usize) -> bool {
        let calm = self.faults.none_but_methods();
        name < self.names - 1 && self.hosts.iter().filter(|host| host.name == name).all(|host| calm || !host.troubled)
    }
}

impl World {
    /// Whether no fault may strike the machines with this name, and none has that strikes everybody.
    fn is_calm(&self, name: usize) -> bool {
        !self.shaken && self.plan.is_calm(name)
    }

    fn calm_key(&self, number: usize) -> Option<CalmKey> {
        let message = &self.plan.messages[number];
        let from = self.plan.hosts[message.host].name;
        let calm = self.is_calm(from) && self.is_calm(message.to);
        calm.then_some((message.host, message.to, message.kind, message.method))
    }

    /// A message is accepted: on a lane without trouble it must not take long.
    pub(crate) fn watch(&mut self, number: usize) {
        let Some(key) = self.calm_key(number) else { return };
        let lane = self.calm_lanes.0.entry(key).or_default();
        lane.push_back(number);
        if lane.len() == 1 {
            self.expect(number);
        }
    }

    /// A message is final for its sender.
    pub(crate) fn note_final(&mut self, number: usize) {
        self.stats.settled_after = self.stats.settled_after.max(self.now.saturating_sub(self.plan.faults_until));
        let Some(key) = self.calm_key(number) else { return };
        let Some(lane) = self.calm_lanes.0.get_mut(&key) else { return };
        let next = lane.front() == Some(&number);
        lane.retain(|other| *other != number);
        if let Some(next) = lane.front().copied().filter(|_| next) {
            self.expect(next);
        }
    }

    /// From when on a node can be expected to do something: one that starts late is waited for.
    fn there(&self, name: usize) -> u64 {
        let starts = self.plan.hosts.iter().filter(|host| host.name == name).map(|host| host.starts_at).max();
        self.now.max(starts.unwrap_or(0))
    }

    fn expect(&mut self, number: usize) {
        let message = &self.plan.messages[number];
        let at = self.there(message.to) + message.script.longest(message.method_timeout) + CALM_MS;
        self.schedule(at, Happening::Due(number));
    }

    /// Whoever took messages back is told that it is seen to: from here on nobody asks again. A cancellation holds until
    /// its message is final, whoever dies and whatever is lost meanwhile.
    pub(crate) fn note_taken_back(&mut self, host: usize) {
        let Some(process) = &mut self.hosts[host].process else { return };
        for number in std::mem::take(&mut process.takes_back) {
            self.model.stories[number].taken_back = Some(self.now);
            let message = &self.plan.messages[number];
            let at = match self.calm_key(number) {
                Some(_) => self.there(message.to) + CALM_MS,
                None => self.now.max(self.plan.faults_until) + TAKEN_BACK_MS,
            };
            self.schedule(at + message.script.transfer(), Happening::TakenBack(number, self.now));
        }
    }

    /// A message that was taken back does not wait for its turn, and its method not for its own end.
    pub(crate) fn check_taken_back(&mut self, number: usize, at: u64) {
        if self.shaken && self.now < self.plan.faults_until + TAKEN_BACK_MS {
            return;
        }
        let story = &self.model.stories[number];
        if !self.model.is_final(number) && !story.forfeited && story.taken_back == Some(at) {
            self.fail("taken back", format!("#{number} is not final, and was taken back at {at} ms"));
        }
    }

    /// Looks whether anything waits beyond its deadline where nothing is in the way of noticing it.
    pub(crate) fn look_for_late(&mut self) {
        self.schedule(self.now + BETWEEN_LOOKS_MS, Happening::Look);
        // A clock that jumped last of all is noticed a while after that.
        let settled = self.plan.faults_until + WALL_RECHECK.as_millis() as u64 + LATE_MS;
        for host in 0..self.hosts.len() {
            let machine = &self.hosts[host];
            if machine.process.is_none() || (self.now < settled && !self.is_calm(machine.name)) {
                continue;
            }
            let latest = Wall(machine.wall(self.now).0 - LATE_MS);
            let late = machine.disk.tables.inbox.values().find(|row| {
                row.state == InState::Stored && row.message.options.deadline.is_some_and(|deadline| deadline < latest)
            });
            if let Some(row) = late {
                let number = self.model.number(row.message.id);
                self.fail("expired in time", format!("#{number} waits at {} beyond its deadline", machine.label));
                return;
            }
        }
    }

    pub(crate) fn check_due(&mut self, number: usize) {
        if !self.shaken && !self.model.is_final(number) && !self.model.stories[number].forfeited {
            self.fail("a lane waits for another", format!("#{number} is not final, and nothing stands in its way"));
        }
    }

    /// Notes when everything is final, and ends the simulation a while after that.
    pub(crate) fn check_quiet(&mut self) {
        if self.now < self.plan.faults_until || self.offers_left > 0 || self.model.open > 0 {
            self.ends_at = None;
        } else if self.ends_at.is_none() {
            self.ends_at = Some(self.now + QUIET_MS);
        }
    }

    pub(crate) fn check_settled(&mut self) {
        let open = self.model.open_numbers();
        if !open.is_empty() {
            let open = open.iter().map(|number| format!("#{number}")).collect::<Vec<_>>().join(" ");
            self.fail(
                "everything becomes final",
                format!("{open} not final {} ms after the last fault", self.plan.bound()),
            );
        }
    }

    /// Everything is over: nothing may be left that somebody waits for or pays for.
    pub(crate) fn check_the_end(&mut self) {
        self.check_settled();
        for host in 0..self.hosts.len() {
            let machine = &self.hosts[host];
            let Some(process) = &machine.process else { continue };
            // What hangs for a sender that is gone is taken back by nobody.
            if process.node.running() > 0 && !self.model.stories.iter().any(|story| story.forfeited) {
                self.fail("at the end", format!("{} runs {} methods", machine.label, process.node.running()));
                return;
            }
            // Nor what waits behind it.
            let runs = process.node.running() > 0;
            let left = machine.disk.tables.inbox.values().find(|row| {
                let (sender, number) = (self.index(&row.message.from), self.model.number(row.message.id));
                if runs && self.model.is_nobodys(number) {
                    return false;
                }
                self.hosts
                    .iter()
                    .any(|other| other.name == sender && !other.retired && other.disk.tables.epoch == row.epoch)
            });
            if let Some(row) = left {
                let number = self.model.number(row.message.id);
                let text = format!("{} still keeps #{number} as {:?}", machine.label, row.state);
                self.fail("confirmed is forgotten", text);
                return;
            }
        }
    }

    /// Looks into a node now and then: what it holds is limited.
    pub(crate) fn inspect(&mut self, host: usize) {
        if !self.stats.batches.is_multiple_of(BATCHES_BETWEEN_LOOKS) {
            return;
        }
        let Some(process) = &self.hosts[host].process else { return };
        let node = &process.node;
        for lane in node.out_lanes() {
            self.stats.window_max = self.stats.window_max.max(lane.window as u64);
            self.stats.behind_max = self.stats.behind_max.max(lane.behind);
        }
        for lane in node.in_lanes() {
            self.stats.inbox_max = self.stats.inbox_max.max(lane.entries as u64);
        }
        let window = node.out_lanes().find(|lane| lane.window > WINDOW_MESSAGES_MAX || lane.unacked > lane.window);
        let entries = node
            .in_lanes()
            .find(|lane| lane.entries > INBOX_LANE_MESSAGES_MAX || lane.ranges > SEEN_RANGES_MAX + lane.entries);
        if let Some(lane) = window {
            self.fail("memory", format!("{lane:?}"));
        } else if let Some(lane) = entries {
            self.fail("memory", format!("{lane:?}"));
        }
    }
}
