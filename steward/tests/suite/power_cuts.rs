//! The power goes, at any moment: nothing that a node has acknowledged is missing when it starts again.
//!
//! Two nodes run under [`recorder`] while they do all that nodes do ([`play`]); what they change in files, what they
//! sync, and what leaves them is one [`trace`]. For each cut, [`disk`] builds the directory that a node may find after
//! it: only what was synced is sure. A real node starts on it, and [`audit`] holds it to what it had said before the cut
//! ([`witness`]). One cut in ten goes on with the other node until everything has ended; in another one the power goes
//! again while the node starts.
//!
//! `POWER_CUTS=2000 cargo test -p steward --test suite power_cuts` makes 2000 cuts for each node, with a new recording
//! for every 200. A cut that loses something is described, and its directory is kept.
//!
//! What would notice nothing is of no use: with a store that syncs less, and on disks that do not obey single syncs, the
//! same cuts must lose something.

mod audit;
mod disk;
mod memory;
mod play;
mod recorder;
mod syscalls;
mod trace;
mod tracker;
mod witness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use audit::{Audit, Cut};
use disk::{Deaf, Rest};
use play::NODES;
use trace::{BEFORE, Trace, What};

use crate::harness::{Dice, skipped};

/// Cuts that are made of one recording for each of the nodes.
const CUTS: usize = 200;

/// One cut in so many goes on until everything has ended, and one is followed by another cut.
const SPECIAL: u64 = 10;

/// Cuts with a store that syncs less, and how many of them must lose something at least.
const CUTS_OF_CONTROL: (usize, usize) = (60, 15);

/// Carries the store's log over into its file every few commits, so that this happens often enough to be cut.
const SETTINGS: &str = "PRAGMA wal_autocheckpoint = 50;";

#[test]
fn nothing_that_was_acknowledged_is_lost_in_a_power_cut() {
    let wanted = std::env::var("POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    for round in 0..wanted.div_ceil(CUTS) {
        let recording = match play::record(SETTINGS) {
            Ok(recording) => recording,
            Err(why) => return skipped("power_cuts::nothing_that_was_acknowledged_is_lost_in_a_power_cut", &why.0),
        };
        let audit = Audit::new(&recording);
        eprintln!("recorded: {}", audit.facts());
        for node in NODES {
            let seed = (round * CUTS) as u64;
            let cuts = cuts(&recording.trace, node, (wanted - round * CUTS).min(CUTS), seed, weight);
            let losses = losses(&audit, &cuts);
            eprintln!("{node}: {} cuts from seed {seed} on, {} lose something", cuts.len(), losses.len());
            assert!(losses.is_empty(), "{}", describe(&audit, &recording.trace, &losses));
        }
    }
}

/// With `synchronous = NORMAL`, SQLite does not sync its log with each commit.
#[test]
fn a_store_that_syncs_less_loses_what_was_acknowledged() {
    const NAME: &str = "power_cuts::a_store_that_syncs_less_loses_what_was_acknowledged";
    if !cfg!(debug_assertions) {
        return skipped(NAME, "an optimised build has no switch for such a store");
    }
    let recording = match play::record("PRAGMA synchronous = NORMAL;") {
        Ok(recording) => recording,
        Err(why) => return skipped(NAME, &why.0),
    };
    let audit = Audit::new(&recording).deaf(disk::to_nothing);
    for node in NODES {
        let cuts = cuts(&recording.trace, node, CUTS_OF_CONTROL.0, 1, weight);
        let lost = losses_alone(&audit, &cuts.iter().collect::<Vec<_>>()).len();
        eprintln!("{node}: {} cuts, {lost} lose something", cuts.len());
        assert!(lost >= CUTS_OF_CONTROL.1, "only {lost} of {} cuts of {node} lose anything", cuts.len());
    }
}

/// Every sync that something rests on is needed: where the disk does not obey it, something is lost.
#[test]
fn a_disk_that_does_not_obey_a_sync_loses_what_was_acknowledged() {
    let recording = match play::record(SETTINGS) {
        Ok(recording) => recording,
        Err(why) => return skipped("power_cuts::a_disk_that_does_not_obey_a_sync_loses_what_was_acknowledged", &why.0),
    };
    let sent: Weight = |what| usize::from(matches!(what, What::Sent { .. }));
    let taken: Weight = |what| usize::from(matches!(what, What::Exchange { .. }));
    let deaf: [(&str, &str, Deaf, Weight); 7] = [
        ("of the store's log", "central", |path| path == "steward.db-wal", sent),
        ("of the directory", "central", |path| path == ".", sent),
        ("of outputs", "ship1", |path| path.starts_with("blobs/"), sent),
        ("of the folder of outputs", "ship1", |path| path == "blobs", sent),
        ("of fetched outputs", "central", |path| path.starts_with("blobs/"), sent),
        ("of a log file", "ship1", |path| path == "textlogging.log", sent),
        ("of inmsg.txt", "central", |path| path.starts_with("inmsg."), taken),
    ];
    for (what, node, deaf, weight) in deaf {
        let audit = Audit::new(&recording).deaf(deaf);
        let mut cuts = cuts(&recording.trace, node, CUTS, 1, weight);
        cuts.iter_mut().for_each(|cut| cut.rest = Rest::Lost);
        let mut groups = cuts.chunks(workers());
        let loses = |cuts: &[Cut]| !losses_alone(&audit, &cuts.iter().collect::<Vec<_>>()).is_empty();
        assert!(groups.any(loses), "no cut of {node} loses anything without the syncs {what}");
    }
}

/// How likely a cut is around something.
type Weight = fn(&What) -> usize;

/// Mostly around what others see of a node, and what it relies on.
fn weight(what: &What) -> usize {
    match what {
        What::Sync(_) | What::Sent { .. } | What::Rename { .. } | What::Unlink { .. } => 6,
        What::Exchange { .. } => 30,
        What::Write { .. } | What::Length { .. } | What::Link { .. } | What::Read { .. } | What::Command(_) => 1,
    }
}

/// Cuts before, in and after what a node does.
fn cuts(trace: &Trace, node: &'static str, count: usize, seed: u64, weight: Weight) -> Vec<Cut> {
    let mut moments = Vec::new();
    for op in trace.ops.iter().filter(|op| op.node == node && op.begin > BEFORE) {
        let around = [Some(op.begin), Some(op.begin + 1), op.end.map(|end| end + 1)];
        moments.extend(around.into_iter().flatten().flat_map(|moment| std::iter::repeat_n(moment, weight(&op.what))));
    }
    let mut dice = Dice(seed);
    let cut = |number| {
        let moment = moments[usize::try_from(dice.throw(moments.len() as u64)).unwrap()];
        let rest = match dice.throw(10) {
            0..5 => Rest::Lost,
            5..9 => Rest::Torn,
            _ => Rest::Kept,
        };
        Cut { node, moment, rest, seed: seed + number }
    };
    (0..count as u64).map(cut).collect()
}

/// Cuts that lose something, with what they lose.
type Losses = Vec<(Cut, Vec<String>)>;

fn losses(audit: &Audit<'_>, cuts: &[Cut]) -> Losses {
    let (together, alone): (Vec<&Cut>, Vec<&Cut>) = cuts.iter().partition(|cut| cut.seed % SPECIAL == 0);
    let mut losses = losses_alone(audit, &alone);
    // One after the other: a node that starts ends what its commands have left behind. It knows them by their messages,
    // and those are the same here for all.
    losses.extend(together.into_iter().filter_map(|cut| try_one(cut, |cut| audit.together(cut))));
    losses
}

/// The same, with nodes that are alone; many at the same time.
fn losses_alone(audit: &Audit<'_>, cuts: &[&Cut]) -> Losses {
    let (next, losses) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let lost = try_one(cut, |cut| match cut.seed % SPECIAL {
                1 => audit.again(cut),
                _ => audit.alone(cut),
            });
            losses.lock().unwrap().extend(lost);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(work);
        }
    });
    losses.into_inner().unwrap()
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn try_one(cut: &Cut, look: impl FnOnce(&Cut) -> Vec<String>) -> Option<(Cut, Vec<String>)> {
    let lost = catch_unwind(AssertUnwindSafe(|| look(cut)));
    let lost = lost.unwrap_or_else(|_| vec!["it could not be looked at; what happened stands above".to_owned()]);
    (!lost.is_empty()).then_some((*cut, lost))
}

/// What was lost, what the node was doing, and where the directory is that it was started on.
fn describe(audit: &Audit<'_>, trace: &Trace, losses: &Losses) -> String {
    let kept = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let mut text = format!("{} cuts lose something; the first of them:\n", losses.len());
    for (cut, lost) in losses.iter().take(3) {
        let dir = kept.join(format!("{}-{}", cut.node, cut.seed));
        std::fs::create_dir(&dir).unwrap();
        audit.keep(cut, &dir);
        let before = trace.ops.iter().filter(|op| op.node == cut.node && op.begin < cut.moment);
        let last: Vec<String> = before.map(|op| format!("{:.120}", format!("{:?}", op.what))).collect();
        let last = last[last.len().saturating_sub(5)..].join("\n    ");
        text += &format!("{cut:?}\n  after\n    {last}\n  loses\n    {}\n  ", lost.join("\n    "));
        text += &format!("on the directory of which there is a copy in {}\n", Path::new(&dir).display());
    }
    text
}
