//! Looks at what is left of a world when everything has come to its end, and compares it with what was promised.
//!
//! It knows what was handed in, what every node shows, and what really happened: the files that commands wrote to. It asks
//! from outside only, as an operator would.

mod closing;
mod copies;
mod deadline;
mod effects;
mod evidence;
mod live;
mod order;
mod outputs;
mod repeats;
mod states;
mod tails;
mod views;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use crate::campaign::panic_text;
use crate::ledger::Fate;
use crate::submit::Submission;
use crate::world::World;
use evidence::Evidence;

pub(crate) use evidence::{tag_of, what_is_open};
pub(crate) use repeats::take_back;

/// What the audit counted, and what it found wrong.
#[derive(Debug, Default)]
pub(crate) struct Audited {
    /// Messages that were accepted.
    pub(crate) messages: u64,
    /// Commands and events that were carried out.
    pub(crate) executions: u64,
    /// Starts that were compared with their deadlines.
    pub(crate) deadlines: u64,
    /// Runs of orders with a schedule whose results were compared.
    pub(crate) repeats: u64,
    /// Bytes of outputs that were compared.
    pub(crate) bytes: u64,
    /// Files that were copied, and compared.
    pub(crate) copied: u64,
    /// Bytes of outputs that were seen while their commands ran, or when they had ended, and how often the view broke off.
    pub(crate) seen: u64,
    /// See `seen`.
    pub(crate) breaks: u64,
    /// Lines of logs that were followed, and are there once.
    pub(crate) followed: u64,
    /// Messages that were accepted and are not there, or never end, or end as what they can't have become.
    pub(crate) lost: u64,
    /// Messages that were carried out twice, or accepted twice.
    pub(crate) twice: u64,
    /// Everything else that is wrong.
    pub(crate) other: u64,
    /// Messages by their final state.
    pub(crate) states: BTreeMap<String, u64>,
    /// Messages by what they are.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    /// What is not as one would wish, and is declared: by the limit of the promise that it falls under.
    pub(crate) excused: BTreeMap<&'static str, u64>,
    /// Everything that is wrong, in words.
    pub(crate) wrong: Vec<String>,
}

impl Audited {
    fn lost(&mut self, what: impl Into<String>) {
        self.lost += 1;
        self.wrong.push(format!("lost: {}", what.into()));
    }

    fn twice(&mut self, what: impl Into<String>) {
        self.twice += 1;
        self.wrong.push(format!("twice: {}", what.into()));
    }

    fn other(&mut self, what: impl Into<String>) {
        self.other += 1;
        self.wrong.push(what.into());
    }

    /// Adds the counts of another world. What is wrong there stays with that world.
    pub(crate) fn add(&mut self, world: &Self) {
        self.messages += world.messages;
        self.executions += world.executions;
        self.deadlines += world.deadlines;
        self.repeats += world.repeats;
        self.bytes += world.bytes;
        self.copied += world.copied;
        self.seen += world.seen;
        self.breaks += world.breaks;
        self.followed += world.followed;
        self.lost += world.lost;
        self.twice += world.twice;
        self.other += world.other;
        for (state, count) in &world.states {
            *self.states.entry(state.clone()).or_default() += count;
        }
        for (kind, count) in &world.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (limit, count) in &world.excused {
            *self.excused.entry(limit).or_default() += count;
        }
    }

    fn excuse(&mut self, limit: &'static str) {
        *self.excused.entry(limit).or_default() += 1;
    }
}

/// The audit of a world. `settled` says what had not come to its end when the time was over.
pub(crate) fn audit(
    world: &mut World<'_>,
    submissions: &[Submission],
    fates: &[Fate],
    settled: Result<(), String>,
) -> Audited {
    let mut audited = Audited::default();
    for wrong in std::mem::take(&mut world.wrong) {
        audited.other(wrong);
    }
    let is_settled = settled.is_ok();
    if let Err(open) = settled {
        audited.lost(format!("not everything has come to its end: {open}"));
    }
    let evidence = match Evidence::gather(world, fates) {
        Ok(evidence) => evidence,
        Err(error) => {
            audited.other(format!("a node can't be asked any more: {error:#}"));
            return audited;
        }
    };
    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        states::check(world, &evidence, &mut audited);
        effects::check(world, &evidence, &mut audited);
        order::check(world, &evidence, submissions, &mut audited);
        deadline::check(world, &evidence, &mut audited);
        outputs::check(world, &evidence, &mut audited);
        repeats::check(world, &evidence, &mut audited);
        live::check(world, &evidence, &mut audited);
        tails::check(world, &mut audited);
        copies::check(world, &mut audited);
        // What has not ended is found already, and is in the way of all that comes after it.
        if is_settled {
            outputs::leftovers(world, &mut audited);
            views::check(world, &evidence, &mut audited);
            closing::check(world, &evidence, &mut audited);
        }
    }));
    if let Err(panic) = checked {
        audited.other(format!("the audit could not be finished, which is the tool's fault: {}", panic_text(&*panic)));
    }
    audited
}
