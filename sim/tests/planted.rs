//! Shows that the simulator notices what it says it notices: each bug that is planted is caught within so many seeds, and
//! without one nothing is found in them.

use std::ops::Range;

use protocol::planted::Bug as ProtocolBug;
use sim::bug::Bug;
use sim::{Keep, Options, simulate_caught};

/// Seeds that are tried for each bug; the rarest shows in one of five thousand.
const SEEDS: Range<u64> = 0..20_000;

/// Seeds that are tried without any.
const CLEAN_SEEDS: Range<u64> = 0..4000;

/// The first seed that shows the bug, and the rule that was broken.
fn caught(bug: Option<Bug>, seeds: Range<u64>) -> Option<(u64, String)> {
    let options = Options { bug, ..Options::default() };
    // A bug may also end the simulation by a panic, which is as good.
    seeds.into_iter().find_map(|seed| {
        let wrong = simulate_caught(seed, &options, Keep::Hash).wrong?;
        Some((seed, format!("{}: {}", wrong.0, wrong.1)))
    })
}

#[test]
fn each_planted_bug_is_caught() {
    let shell = [Bug::EffectsBeforeCommit, Bug::NothingSynced];
    let bugs: Vec<Bug> = shell.into_iter().chain(ProtocolBug::ALL.map(Bug::Protocol)).collect();
    let search = |bug| (bug, std::thread::spawn(move || caught(Some(bug), SEEDS)));
    let threads: Vec<_> = bugs.into_iter().map(search).collect();
    let mut missed = Vec::new();
    for (bug, thread) in threads {
        match thread.join().expect("the search itself does not panic") {
            Some((seed, what)) => println!("{bug:?}: seed {seed}, {}", what.chars().take(120).collect::<String>()),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not noticed within seeds {SEEDS:?}: {missed:?}");
}

#[test]
fn nothing_is_found_where_nothing_is_planted() {
    assert_eq!(caught(None, CLEAN_SEEDS), None);
}
