//! Seeds that have failed once, each with what it found. A change of what seeds decide makes other fleets of them: then
//! they prove less, and what they found has its test in `protocol/tests/node` where chance seldom makes it.

use sim::{Keep, Options, simulate};

/// Each with what was wrong when it failed.
const SEEDS: &[(u64, &str)] = &[
    (2_034_757, "its sender's store is an old copy: a message waited for ever for one before it that nobody knew"),
    (
        2_056_205,
        "a twin had taken over meanwhile: a message waited for ever for one before it that its sender had closed",
    ),
    (4_004_146, "an output was given up with the lost store, although the new one had it and had told of it"),
    (4_010_261, "what went out again to a new store was given up at once: its attempts to the lost store counted"),
    (4_076_375, "the model's: a run had ended, its process died before that was written, and it was taken back"),
    (5_030_315, "the model's: a message was given up, came again from an old copy of its sender, and was waited for"),
    (5_041_176, "the model's: a message that was over for one store ran again, and was looked for behind itself"),
    (5_052_291, "the model's: a cancellation was lost three times, and its next attempt was a minute away"),
    (12_009_253, "the model's: what may run again went to a new store, and the end at the lost one came after all"),
    (
        14_016_963,
        "its sender's store is an old copy: told late that a message ran, it waited for an end that was told before",
    ),
    (
        17_197_285,
        "a copy that was made of a running node had overtaken what was heard of the lost part, and passed for the store",
    ),
    (18_186_303, "what an old copy kept that its sender had closed was closed one by one, five seconds each"),
    (
        18_032_750,
        "two nodes of one name: each complaint of the one was a question, and each answer brought all that was owed",
    ),
];

#[test]
fn what_was_found_once_is_mended() {
    let failed = |(seed, found): &(u64, &str)| {
        let wrong = simulate(*seed, &Options::default(), Keep::Hash).wrong?;
        Some(format!("seed {seed} ({found}): {}: {}", wrong.0, wrong.1))
    };
    let failed: Vec<_> = SEEDS.iter().filter_map(failed).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
