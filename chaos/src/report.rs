//! What the campaign prints.
#![expect(clippy::print_stdout, reason = "this is a command line")]

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::campaign::{Told, Total, kept};
use crate::faults::{self, Fault};

/// Findings of one world that are printed.
const WRONG_MAX: usize = 12;

/// A line.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// The faults and what they do.
pub(crate) fn list(faults: &[&Fault]) {
    faults.iter().for_each(|fault| println!("{:<20}{}", fault.name, fault.does));
}

/// What happened in a world.
pub(crate) fn chronicle(told: &Told) {
    if let Ok(outcome) = &told.outcome {
        outcome.chronicle.iter().for_each(|line| println!("{line}"));
    }
}

/// A line for a world, and everything that is wrong in it.
pub(crate) fn world(told: &Told, repeat: &str) {
    let seed = told.seed;
    match &told.outcome {
        Ok(outcome) => {
            let audited = &outcome.audited;
            println!(
                "seed {seed:>4} {} {:5.1} s, settled in {:4.1} s, {} messages ({}); {}",
                if told.is_fine() { "ok    " } else { "FAILED" },
                outcome.took.as_secs_f64(),
                outcome.settled_in.as_secs_f64(),
                audited.messages,
                counts(&audited.states),
                if outcome.struck.is_empty() { "no faults".to_owned() } else { counts(&outcome.struck) },
            );
            audited.wrong.iter().take(WRONG_MAX).for_each(|wrong| println!("    {wrong}"));
            if let Some(more) = audited.wrong.len().checked_sub(WRONG_MAX).filter(|more| *more > 0) {
                println!("    … and {more} more");
            }
        }
        Err(why) => println!("seed {seed:>4} FAILED {why}"),
    }
    if told.is_fine() {
        return;
    }
    println!("    again: steward-chaos --seed {seed} {repeat}");
    if let Some(folder) = kept(told) {
        println!("    left in {}", folder.display());
    }
}

/// What all worlds add up to.
pub(crate) fn total(total: &Total, markdown: bool) {
    println!();
    if markdown {
        matrix(total);
    }
    println!("messages by kind:  {}", counts(&total.audited.kinds));
    println!("messages by state: {}", counts(&total.audited.states));
    println!("faults:            {}", counts(&strikes(total)));
    for fault in faults::ALL {
        if let Some(why) = total.skipped.get(fault.name) {
            println!("NOT TRIED: {}: {why}", fault.name);
        }
    }
    for (excuse, count) in &total.audited.excused {
        println!("declared limits:   {count} times {excuse}");
    }
    println!(
        "{} worlds in {:.0} s, {} messages, {} carried out, {} bytes of output compared, longest settling {:.1} s",
        total.worlds,
        total.took.as_secs_f64(),
        total.audited.messages,
        total.audited.executions,
        total.audited.bytes,
        total.longest.as_secs_f64()
    );
    println!("{} starts compared with their deadlines", total.audited.deadlines);
    println!("{} runs by a schedule compared with their results", total.audited.repeats);
    println!("{} files copied from and to nodes, each byte compared", total.audited.copied);
    println!("{} bytes seen by those who looked on, through {} breaks", total.audited.seen, total.audited.breaks);
    println!("{} lines of logs that were followed, each there once", total.audited.followed);
    println!(
        "lost {}, carried out twice {}, other findings {}",
        total.audited.lost, total.audited.twice, total.audited.other
    );
    match total.failed.as_slice() {
        [] => println!("every promise was kept"),
        failed => println!("FAILED: seeds {failed:?}"),
    }
}

fn strikes(total: &Total) -> BTreeMap<&'static str, u64> {
    total.faults.iter().map(|(fault, count)| (*fault, count.strikes)).collect()
}

fn matrix(total: &Total) {
    println!("| fault | what strikes | worlds | strikes | messages | lost | twice | other |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for fault in faults::ALL {
        let count = total.faults.get(fault.name).cloned().unwrap_or_default();
        println!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            fault.name, fault.does, count.worlds, count.strikes, count.messages, count.lost, count.twice, count.other
        );
    }
    println!();
}

fn counts<K: Display>(counts: &BTreeMap<K, u64>) -> String {
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}
