//! More to do than gets done, for as long as one likes: a receiver that is slower than its sender. Memory must not grow
//! with what waits, nothing is lost or sent in vain, and whoever else sends or receives must not notice.

use std::time::Duration;

use protocol::event::Facts;
use protocol::message::Kind;

use crate::faults::Faults;
use crate::plan::{HostPlan, MessagePlan, MethodPlan, Plan};
use crate::rng::Rng;
use crate::script::Script;

/// Between two messages for the slow lane, in milliseconds.
const SENT_EVERY_MS: u64 = 100;

/// How long its method takes for one, in milliseconds: twice as long, more or less.
const TAKES_MS: (u64, u64) = (150, 250);

/// Between two messages of each other lane, and how long their methods take.
const OTHERS_EVERY_MS: u64 = 5_000;
/// See [`OTHERS_EVERY_MS`].
const OTHERS_TAKE_MS: u64 = 5;

/// The sender, the slow receiver, and somebody else.
const SENDER: usize = 0;
const SLOW: usize = 1;
const OTHER: usize = 2;

/// The method that is slow at the slow receiver, and one that is not.
const SLOW_METHOD: usize = 0;
const QUICK_METHOD: usize = 1;

impl Plan {
    /// A sender that has a message for a slow lane ten times a second, for so long, and some for others now and then.
    /// There are no faults but those that `faults` has.
    pub(crate) fn slow_receiver(seed: u64, sending: Duration, faults: Faults) -> Self {
        let mut rng = Rng::new(seed, 1);
        let until = sending.as_millis() as u64;
        let mut messages = Vec::new();
        for at in (0..until).step_by(SENT_EVERY_MS as usize) {
            let takes = rng.between(TAKES_MS.0, TAKES_MS.1);
            messages.push(message(&mut rng, at, (SENDER, SLOW, SLOW_METHOD), takes));
        }
        for lane in [(SENDER, SLOW, QUICK_METHOD), (SENDER, OTHER, SLOW_METHOD), (OTHER, SLOW, SLOW_METHOD)] {
            for at in (0..until).step_by(OTHERS_EVERY_MS as usize) {
                messages.push(message(&mut rng, at, lane, OTHERS_TAKE_MS));
            }
        }
        messages.sort_by_key(|message| message.at);
        let host = |name| HostPlan { name, twin: false, starts_at: 0, troubled: true, inputs_max: 8192 };
        let method = || MethodPlan { facts: Facts { rerun: false, batch: 1 }, refused_from: Vec::new() };
        Self {
            // One more, who never shows up and for whom nothing is sent.
            names: 4,
            hosts: [SENDER, SLOW, OTHER].map(host).into(),
            methods: vec![method(), method()],
            messages,
            faults,
            faults_until: until,
            inputs_per_batch: 64,
            items_per_packet: 128,
            chunk_bytes: 128 * 1024,
            bodies_on_disk: true,
        }
    }
}

fn message(rng: &mut Rng, at: u64, (from, to, method): (usize, usize, usize), takes: u64) -> MessagePlan {
    MessagePlan {
        at,
        host: from,
        to,
        kind: Kind::CommandAck,
        method,
        timeout: Duration::from_secs(10),
        retries: 0,
        method_timeout: None,
        deadline: None,
        parallel: false,
        rerun: false,
        body: rng.skewed(2, 400) as usize,
        together: false,
        cancel_at: None,
        script: Script::taking(takes),
    }
}

#[cfg(test)]
mod tests {
    use protocol::limits::{INBOX_LANE_MESSAGES_MAX, WINDOW_MESSAGES_MAX};

    use crate::{Keep, Options, simulate};

    use super::*;

    /// Messages of twenty minutes, half of which wait at their end: several windows.
    const SENDING: Duration = Duration::from_secs(20 * 60);

    fn slow(seed: u64, faults: &[&str]) -> crate::Stats {
        let faults = faults.iter().map(|&fault| fault.to_owned()).collect();
        let options = Options { faults, slow_receiver: Some(SENDING), ..Options::default() };
        let outcome = simulate(seed, &options, Keep::Hash);
        assert_eq!(outcome.wrong, None);
        let stats = outcome.stats;
        assert!(stats.window_max <= WINDOW_MESSAGES_MAX as u64 && stats.inbox_max <= INBOX_LANE_MESSAGES_MAX as u64);
        stats
    }

    #[test]
    fn a_receiver_that_is_slower_than_its_sender_costs_no_memory_and_no_second_sending() {
        let stats = slow(1, &[]);
        let messages = SENDING.as_millis() as u64 / SENT_EVERY_MS;
        assert!(stats.behind_max > 2 * WINDOW_MESSAGES_MAX as u64, "so much has waited on disk: {stats:?}");
        // A message is one packet, its receipts and their confirmation are some more; nothing goes out in vain.
        assert!(stats.messages > messages && stats.packets < 6 * stats.messages, "{stats:?}");
        assert_eq!(stats.runs, stats.messages);
    }

    #[test]
    fn nothing_of_it_is_lost_where_processes_and_the_broker_die() {
        let stats = slow(2, &["crash", "broker-restart", "loss", "duplication", "partition"]);
        assert!(stats.crashes > 0 && stats.behind_max > 0, "{stats:?}");
    }
}
