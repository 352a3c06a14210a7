//! How far an order is: what is kept of it on its node between two runs, and what follows from that at a given time. Pure: no
//! clock, no disk.
//!
//! A run is written down before it begins (`begun`) and taken off in the transaction that keeps its result. What is still there
//! when a process starts was going on when the one before it died.

use std::collections::VecDeque;

use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::spec::Missed;
use super::times::Times;

/// Missed runs that are made up for at most, the newest; of what is beyond, the number is told.
pub(crate) const ALL_MAX: usize = 1000;

/// A run that begins so late, in milliseconds, is a missed one: whoever stands still for a moment has missed nothing.
pub(super) const LATE_MS_MAX: u64 = 60_000;

/// Points in time that are looked at before others have their turn.
const LOOK_MAX: usize = 4000;

/// A clock that was set back by more than this, in milliseconds, is followed; by less, nothing runs twice.
const BACK_MS_MAX: u64 = 3 * 3600 * 1000;

/// Who was away for longer, in milliseconds (400 days), had a wrong clock: nothing of that time was missed.
const AWAY_MS_MAX: u64 = 400 * 24 * 3600 * 1000;

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// Its number, from 1.
    pub(crate) run: u64,
    /// When it was due.
    pub(crate) due: u64,
    /// When it began.
    pub(crate) at: u64,
    /// Which of the places it has, for those that go on at the same time.
    pub(crate) slot: u8,
}

/// What is kept of an order. Times are milliseconds since 1970 by the node's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The form of this.
    pub(crate) v: u8,
    /// Counts what was told of the order, so that its sender knows what is newer.
    pub(crate) serial: u64,
    /// Where an interval begins.
    pub(crate) anchor: u64,
    /// Up to here everything that was due is decided.
    pub(crate) last: u64,
    /// Runs that have begun.
    pub(crate) runs: u64,
    /// Runs that were left out.
    pub(crate) missed: u64,
    /// Whether nothing runs until somebody says so.
    pub(crate) paused: bool,
    /// What goes on.
    pub(crate) begun: Vec<Begun>,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing before this time; none is never.
    Wait(Option<Wall>),
    /// This run, in this state. It is in `begun` there.
    Run(State),
    /// Something is decided without a run; ask again.
    Decided(State),
}

/// When an order is due, and what becomes of what was not.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// When.
    pub(crate) times: Times,
    /// The node's own part of the spread, in milliseconds.
    pub(crate) later_ms: u64,
    /// What becomes of runs that could not be.
    pub(crate) missed: Missed,
    /// How many may go on at the same time.
    pub(crate) at_once: usize,
}

impl State {
    /// Of an order that a node takes now.
    pub(crate) fn new(now: Wall) -> Self {
        Self {
            v: 1,
            serial: 0,
            anchor: now.0,
            last: now.0.saturating_sub(1),
            runs: 0,
            missed: 0,
            paused: false,
            begun: Vec::new(),
        }
    }

    /// What was kept; none if that can't be read.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|state: &Self| state.v == 1)
    }

    /// The same without a run that has ended.
    #[must_use]
    pub(crate) fn without(mut self, run: u64) -> Self {
        self.begun.retain(|begun| begun.run != run);
        self
    }

    /// The same, from now on paused, or not. What was due while it was paused was not wanted.
    #[must_use]
    pub(crate) fn paused(self, paused: bool, now: Wall) -> Self {
        let last = if self.paused && !paused { self.last.max(now.0) } else { self.last };
        Self { paused, last, ..self }
    }
}

impl Plan {
    /// The first point behind `after`.
    fn next(&self, state: &State, after: u64) -> Option<Wall> {
        let next = self.times.next(Wall(state.anchor), Wall(after.checked_sub(self.later_ms)?))?;
        Some(Wall(next.0.saturating_add(self.later_ms)))
    }

    /// When it is due next, for people; none while it is paused.
    pub(crate) fn upcoming(&self, state: &State) -> Option<Wall> {
        if state.paused { None } else { self.next(state, state.last) }
    }

    /// What is to be done at this time.
    pub(crate) fn decide(&self, state: &State, now: Wall) -> Next {
        if state.paused {
            return Next::Wait(None);
        }
        if let Some(state) = self.clock_was_set(state, now) {
            return Next::Decided(state);
        }
        if state.begun.len() >= self.at_once {
            return Next::Wait(None);
        }
        let keep = if self.missed == Missed::All { ALL_MAX } else { 1 };
        let (mut window, mut dropped, mut last) = (VecDeque::new(), 0, state.last);
        let mut at = state.last;
        let mut is_all = false;
        for _ in 0..LOOK_MAX {
            let next = self.next(state, at);
            let Some(next) = next.filter(|next| *next <= now) else {
                if window.is_empty() {
                    return Next::Wait(next);
                }
                is_all = true;
                break;
            };
            at = next.0;
            window.push_back(next);
            if window.len() > keep {
                last = window.pop_front().map_or(last, |gone| gone.0);
                dropped += 1;
            }
        }
        let behind = State { missed: state.missed.saturating_add(dropped), last, ..state.clone() };
        match window.front() {
            Some(due) if is_all => self.run_or_miss(behind, *due, now),
            _ => Next::Decided(behind),
        }
    }

    /// What is kept of missed runs has come to this one.
    fn run_or_miss(&self, state: State, due: Wall, now: Wall) -> Next {
        if self.missed == Missed::Skip && now.0.saturating_sub(due.0) > LATE_MS_MAX {
            return Next::Decided(State { missed: state.missed.saturating_add(1), last: due.0, ..state });
        }
        let taken = |slot: &u8| state.begun.iter().any(|begun| begun.slot == *slot);
        let slot = (0..u8::MAX).find(|slot| !taken(slot)).unwrap_or(u8::MAX);
        let run = state.runs + 1;
        let mut begun = state.begun;
        begun.push(Begun { run, due: due.0, at: now.0, slot });
        Next::Run(State { runs: run, last: due.0, begun, ..state })
    }

    /// Where it goes on if the clock was set; none if it was not, or by so little that it can be waited for.
    fn clock_was_set(&self, state: &State, now: Wall) -> Option<State> {
        let back = state.last.saturating_sub(now.0);
        let most = match self.times {
            Times::Every(every) => every.min(BACK_MS_MAX),
            Times::Cron(..) => BACK_MS_MAX,
        };
        let is_set = back > most || now.0.saturating_sub(state.last) > AWAY_MS_MAX;
        is_set.then(|| State { anchor: now.0, last: now.0, ..state.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Spec;
    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;

    fn plan(spec: &str, missed: Missed) -> Plan {
        Plan { times: Spec::of_text(spec).times().unwrap(), later_ms: 0, missed, at_once: 1 }
    }

    /// Runs whatever is due until there is nothing to do, each run in no time. When the runs were due, and what is waited for.
    fn settle(plan: &Plan, state: &mut State, now: u64) -> (Vec<u64>, Option<u64>) {
        let mut ran = Vec::new();
        for _ in 0..100_000 {
            match plan.decide(state, Wall(now)) {
                Next::Wait(until) => return (ran, until.map(|until| until.0)),
                Next::Decided(next) => *state = next,
                Next::Run(next) => {
                    let begun = next.begun.last().unwrap().clone();
                    ran.push(begun.due);
                    *state = next.without(begun.run);
                }
            }
        }
        panic!("it never comes to rest: {state:?}");
    }

    const START: u64 = 1_767_225_600_000;

    #[test]
    fn an_interval_begins_at_once_and_a_time_of_day_when_it_comes() {
        let mut state = State::new(Wall(START));
        let every = plan("10m", Missed::Skip);
        assert_eq!(settle(&every, &mut state, START), (vec![START], Some(START + 10 * MINUTE)));
        assert_eq!(settle(&every, &mut state, START + 10 * MINUTE - 1), (vec![], Some(START + 10 * MINUTE)));
        assert_eq!(
            settle(&every, &mut state, START + 10 * MINUTE + 7),
            (vec![START + 10 * MINUTE], Some(START + 20 * MINUTE))
        );
        assert_eq!((state.runs, state.missed), (2, 0));
        let mut state = State::new(Wall(START + 1));
        assert_eq!(
            settle(&plan("30 0 * * *", Missed::Skip), &mut state, START + 1),
            (vec![], Some(START + 30 * MINUTE))
        );
    }

    /// Ten minutes apart, away for an hour and a half.
    #[test]
    fn missed_runs_are_left_out_or_made_up_for_once_or_all() {
        let due = |n: u64| START + n * 10 * MINUTE;
        let back = due(9) + 5 * MINUTE;
        for (missed, ran, left_out) in
            [(Missed::Skip, vec![], 9), (Missed::Once, vec![due(9)], 8), (Missed::All, (1..=9).map(due).collect(), 0)]
        {
            let (plan, mut state) = (plan("10m", missed), State::new(Wall(START)));
            settle(&plan, &mut state, START);
            assert_eq!(settle(&plan, &mut state, back), (ran.clone(), Some(due(10))), "{missed:?}");
            assert_eq!((state.runs, state.missed), (1 + ran.len() as u64, left_out), "{missed:?}");
        }
    }

    #[test]
    fn a_run_that_is_a_little_late_is_none_that_was_missed() {
        let (plan, mut state) = (plan("10m", Missed::Skip), State::new(Wall(START)));
        settle(&plan, &mut state, START);
        let due = START + 10 * MINUTE;
        assert_eq!(settle(&plan, &mut state.clone(), due + LATE_MS_MAX).0, [due]);
        assert_eq!(settle(&plan, &mut state, due + LATE_MS_MAX + 1).0, [0; 0]);
        assert_eq!(state.missed, 1);
    }

    #[test]
    fn of_very_many_the_newest_are_made_up_for_and_all_are_counted() {
        let (plan, mut state) = (plan("1s", Missed::All), State::new(Wall(START)));
        settle(&plan, &mut state, START);
        let (ran, _) = settle(&plan, &mut state, START + 50_000_000);
        assert_eq!((ran.len(), ran[0], *ran.last().unwrap()), (ALL_MAX, START + 49_001_000, START + 50_000_000));
        assert_eq!((state.runs, state.missed), (1001, 49_000));
    }

    #[test]
    fn one_at_a_time_unless_it_is_asked_for() {
        let (mut plan, state) = (plan("1m", Missed::All), State::new(Wall(START)));
        let Next::Run(state) = plan.decide(&state, Wall(START)) else { panic!() };
        assert_eq!(plan.decide(&state, Wall(START + HOUR)), Next::Wait(None));
        plan.at_once = 2;
        let Next::Run(two) = plan.decide(&state, Wall(START + HOUR)) else { panic!() };
        assert_eq!(two.begun.iter().map(|begun| (begun.run, begun.slot)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
        assert_eq!(plan.decide(&two, Wall(START + HOUR)), Next::Wait(None));
        let Next::Run(three) = plan.decide(&two.without(1), Wall(START + HOUR)) else { panic!() };
        assert_eq!(three.begun.iter().map(|begun| (begun.run, begun.slot)).collect::<Vec<_>>(), [(2, 1), (3, 0)]);
    }

    #[test]
    fn what_was_due_while_it_was_paused_was_not_wanted() {
        let (plan, mut state) = (plan("10m", Missed::All), State::new(Wall(START)));
        settle(&plan, &mut state, START);
        state = state.paused(true, Wall(START + MINUTE));
        assert_eq!(settle(&plan, &mut state, START + HOUR), (vec![], None));
        assert_eq!(plan.upcoming(&state), None);
        state = state.paused(false, Wall(START + HOUR));
        assert_eq!(settle(&plan, &mut state, START + HOUR), (vec![], Some(START + 70 * MINUTE)));
        assert_eq!((state.runs, state.missed), (1, 0));
        let same = state.clone().paused(false, Wall(START + 9 * HOUR));
        assert_eq!(same, state, "to go on with what goes on changes nothing");
    }

    /// A clock that is put back a little runs nothing twice; one that was wrong by far is followed, and never waited for.
    #[test]
    fn a_clock_that_is_set_neither_doubles_nor_stops_anything() {
        let daily = plan("0 3 * * *", Missed::All);
        let mut state = State::new(Wall(START));
        assert_eq!(settle(&daily, &mut state, START + 3 * HOUR).0, [START + 3 * HOUR]);
        assert_eq!(settle(&daily, &mut state, START + 2 * HOUR), (vec![], Some(START + 27 * HOUR)), "an hour back");
        let year_ago = START - 365 * 24 * HOUR;
        assert_eq!(settle(&daily, &mut state, year_ago), (vec![], Some(year_ago + 3 * HOUR)), "a year back");
        let every = plan("1m", Missed::All);
        let mut state = State::new(Wall(START));
        settle(&every, &mut state, START + HOUR);
        let back = START + HOUR - 10 * MINUTE;
        assert_eq!(settle(&every, &mut state, back), (vec![], Some(back + MINUTE)), "ten minutes back");
        // A machine without a battery begins in 1970.
        let mut state = State::new(Wall(1000));
        settle(&every, &mut state, 1000);
        assert_eq!(settle(&every, &mut state, START), (vec![], Some(START + MINUTE)));
        assert_eq!((state.runs, state.missed), (1, 0));
    }

    #[test]
    fn each_node_has_its_own_part_of_the_spread() {
        let mut plan = plan("0 * * * *", Missed::Skip);
        plan.later_ms = 90_000;
        let mut state = State::new(Wall(START + 1));
        // The full hour was a moment ago, and this node's part of it is yet to come.
        assert_eq!(settle(&plan, &mut state, START + 2), (vec![], Some(START + 90_000)));
        assert_eq!(settle(&plan, &mut state, START + HOUR), (vec![], Some(START + HOUR + 90_000)));
        assert_eq!(state.missed, 1);
    }

    #[test]
    fn what_is_kept_is_read_again_and_nothing_else_is() {
        let (plan, state) = (plan("1m", Missed::Skip), State::new(Wall(START)));
        let Next::Run(state) = plan.decide(&state, Wall(START)) else { panic!() };
        assert_eq!(State::read(&serde_json::to_string(&state).unwrap()), Some(state.clone()));
        let other = serde_json::to_string(&State { v: 2, ..state }).unwrap();
        for text in ["", "{}", "null", &other] {
            assert_eq!(State::read(text), None);
        }
    }
}
