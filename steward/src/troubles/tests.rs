//! Storms of errors in a time of their own.

use protocol::message::Kind as MessageKind;
use protocol::name::{MethodName, NodeName};
use protocol::outcome::Output;
use protocol::time::Wall;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Errors `from..to` of a kind, all at once.
fn storm(storms: &mut Storms, kind: &str, numbers: std::ops::Range<u32>, now: Duration) {
    for number in numbers {
        storms.add(kind, || format!("{kind} {number}"), now);
    }
}

/// Everything that is ready, after what is due was summed up.
fn told(storms: &mut Storms, now: Duration) -> Vec<String> {
    storms.sum_up(now, false);
    storms.ready.drain(..).collect()
}

#[test]
fn the_first_of_a_kind_are_told_in_order_and_the_rest_is_counted() {
    let mut storms = Storms::default();
    storm(&mut storms, "disk", 0..4822, seconds(1));
    let expected: Vec<String> = (0..SINGLY_MAX).map(|number| format!("disk {number}")).collect();
    assert_eq!(told(&mut storms, seconds(2)), expected);
    assert_eq!(storms.next_sum(seconds(2)), seconds(4));
    assert_eq!(told(&mut storms, seconds(6)), ["and 4,812 more of this kind within 1 s: disk"]);
    assert_eq!(told(&mut storms, seconds(60)), [""; 0]);
}

#[test]
fn a_storm_that_goes_on_is_summed_up_less_and_less_often() {
    let mut storms = Storms::default();
    let mut lines = 0;
    for second in 0..24 * 3600 {
        storm(&mut storms, "disk", 0..3, seconds(second));
        lines += told(&mut storms, seconds(second)).len();
    }
    assert!((25..60).contains(&lines), "{lines} in a day");
    storm(&mut storms, "disk", 0..1, seconds(24 * 3600));
    let last = told(&mut storms, seconds(24 * 3600) + QUIET);
    assert!(last.len() == 1 && last[0].contains("of this kind"), "what is left is told when it is over: {last:?}");
    storm(&mut storms, "disk", 7..8, seconds(24 * 3600) + 3 * QUIET);
    assert_eq!(told(&mut storms, seconds(24 * 3600) + 3 * QUIET), ["disk 7"], "after a while it is news again");
}

#[test]
fn kinds_texts_and_what_waits_have_limits() {
    let mut storms = Storms::default();
    for number in 0..10_000 {
        storms.add(&format!("kind {number}"), || "x".repeat(10 * TEXT_CHARS_MAX), seconds(1));
    }
    assert_eq!(storms.kinds.len(), KINDS_MAX + 1);
    assert!(storms.ready.len() <= READY_MAX);
    assert!(storms.ready.iter().all(|text| text.chars().count() <= TEXT_CHARS_MAX + 2));
    let told = told(&mut storms, seconds(20));
    let sum = told.iter().find(|text| text.contains("of this kind")).unwrap();
    assert!(sum.ends_with(OTHERS), "{sum}");
}

/// Nobody takes anything: the disk is full, say.
#[test]
fn what_finds_no_room_is_counted_and_not_lost() {
    let mut storms = Storms::default();
    for kind in 0..20 {
        storm(&mut storms, &format!("kind {kind:02}"), 0..10, seconds(1));
    }
    assert_eq!(storms.ready.len(), READY_MAX);
    assert_eq!(storms.sum_up(seconds(100), false), 0, "no room for sums either");
    storms.ready.clear();
    let sums = told(&mut storms, seconds(100));
    assert_eq!(sums.first().unwrap(), "and 6 more of this kind within 1 s: kind 06");
    let counted: u64 = sums.iter().map(|sum| sum.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(counted + READY_MAX as u64, 200);
}

#[tokio::test]
async fn the_node_ends_with_what_it_has_not_told() {
    let troubles = Troubles::new(Clock::start());
    for number in 0..15 {
        troubles.tell("disk", || number.to_string());
    }
    let all = async {
        let mut all = Vec::new();
        while all.len() < 11 {
            all.push(troubles.first().await);
            troubles.pop();
        }
        all
    };
    let both = async { tokio::join!(troubles.last_words(), all).1 };
    let all = tokio::time::timeout(seconds(20), both).await.unwrap();
    assert_eq!(all[..2], ["0", "1"]);
    assert_eq!(all[10], "and 5 more of this kind within 1 s: disk");
    assert_eq!(troubles.counts(), Counts { told: 11, summed: 5 });
}

#[tokio::test]
async fn messages_that_fail_here_are_told_with_what_caused_it() {
    let troubles = Troubles::new(Clock::start());
    let report = |method: &str, state: Final, text: &str, reason: Option<&str>| {
        let mut outcome = Outcome::bare(state, reason, Wall(1));
        outcome.stderr = Output { len: text.len() as u64, inline: Some(text.into()), ..Output::default() };
        let peer = NodeName::new("central").unwrap();
        let lane = Lane { peer, kind: MessageKind::CommandAck, method: MethodName::new(method).unwrap() };
        troubles.report(&Report::In { id: MessageId(7), lane, outcome: Arc::new(outcome), sealed: false });
    };
    report("ShellCommand", Final::Done, "fine", None);
    report("ShellCommand", Final::Refused, "", Some("not allowed"));
    // An error about an error would be told for ever.
    report("ErrorLog", Final::Failed, "", Some("the disk is full"));
    report("ShellCommand", Final::Failed, "\nno such file\nat all", Some("it ended with exit code 3"));
    report("ShellCommand", Final::TimedOut, "", Some("it ran longer than its limit"));
    let id = MessageId(7);
    for expected in [
        format!("ShellCommand for central failed: it ended with exit code 3: no such file (message {id})"),
        format!("ShellCommand for central timed_out: it ran longer than its limit (message {id})"),
    ] {
        assert_eq!(troubles.first().await, expected);
        troubles.pop();
    }
    assert!(troubles.storms().ready.is_empty());
}
