//! Everything that may go wrong, by name and rate. A seed turns some of it on; the command line can narrow that down.
//! What a fault does lies where it strikes (network, host, process, runner); nothing happens here.

use crate::rng::Rng;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $field:ident $name:literal $usual:literal;)+) => {
        /// How often each fault strikes; 0 is never. The unit stands with each.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Faults {
            $($(#[doc = $doc])+ pub $field: u32,)+
        }

        impl Faults {
            /// Every fault's name with what it does.
            pub const NAMES: &[(&str, &str)] = &[$(($name, concat!($($doc),+))),+];

            fn rates_mut(&mut self) -> Vec<(&'static str, u32, &mut u32)> {
                vec![$(($name, $usual, &mut self.$field)),+]
            }

            fn rates(&self) -> Vec<(&'static str, u32)> {
                vec![$(($name, self.$field)),+]
            }
        }
    };
}

faults! {
    /// A packet is lost between broker and receiver; in 10,000 packets.
    loss "loss" 1500;
    /// A packet arrives twice; in 10,000 packets.
    duplication "duplication" 1500;
    /// A packet overtakes others; in 10,000 packets.
    reordering "reordering" 2000;
    /// A packet takes seconds to minutes; in 10,000 packets.
    delay "delay" 500;
    /// A packet takes tens of milliseconds at each hop instead of a few; in 10,000 packets.
    slow_link "slow-link" 10000;
    /// A node and the broker can't hear each other, in one direction or both; in 10 minutes of a node.
    partition "partition" 20;
    /// The broker restarts: all that is in flight is lost, links drop; in 10 minutes.
    broker_restart "broker-restart" 20;
    /// A process is killed, whatever it does; in 10 minutes of a node.
    crash "crash" 20;
    /// A process is stopped in good order and started again; in 10 minutes of a node.
    stop "stop" 10;
    /// A process is killed before its batch is durable; in 10,000 commits.
    crash_before_commit "crash-before-commit" 200;
    /// A process is killed when its batch is durable and nothing is done yet; in 10,000 commits.
    crash_after_commit "crash-after-commit" 200;
    /// A process is killed when part of what it wanted is done; in 10,000 batches.
    crash_between_effects "crash-between-effects" 200;
    /// A crash takes the machine with it, and what was not synced; in 10,000 crashes.
    power_loss "power-loss" 10000;
    /// A node's store is gone; it starts with a new one; in 10 minutes of a node.
    store_gone "store-gone" 10;
    /// A node's store is replaced by an older copy of itself; in 10 minutes of a node.
    store_restored "store-restored" 15;
    /// A process is killed when it has begun to run something, every other one with it, and a copy from before that process
    /// began takes the place of its store and starts more than once; in 10,000 batches that run something.
    store_swapped "store-swapped" 500;
    /// Another node with the same name and a store of its own joins; in 10,000 seeds with this fault.
    twins "twins" 10000;
    /// The wall clock jumps by up to an hour, either way; in 10 minutes of a node.
    clock_jump "clock-jump" 20;
    /// The process is frozen, as by SIGSTOP; in 10 minutes of a node.
    freeze "freeze" 20;
    /// The disk is full for a while: no commit succeeds; in 10 minutes of a node.
    disk_full "disk-full" 15;
    /// The disk takes up to a second for a commit; in 10,000 commits.
    slow_disk "slow-disk" 500;
    /// What goes to the broker or to the results task is dropped, because their queue is full; in 10,000 batches.
    queue_full "queue-full" 500;
    /// A process takes only few packets into its queue and loses the others; in 10,000 nodes.
    slow_receiver "slow-receiver" 5000;
    /// A method hangs until its limit ends it or somebody takes the message back; in 10,000 messages.
    method_hangs "method-hangs" 1500;
    /// A method ends with an error; in 10,000 messages.
    method_fails "method-fails" 3000;
    /// A method panics; in 10,000 messages.
    method_panics "method-panics" 1500;
    /// A piece of an output is damaged on its way; in 10,000 pieces.
    chunk_damage "chunk-damage" 150;
}

impl Faults {
    /// What a seed turns on: each fault by one chance, so that many seeds have few faults and each mix comes up.
    pub(crate) fn chosen(rng: &mut Rng) -> Self {
        let mut faults = Self::default();
        let density = rng.pick(&[0, 1500, 3000, 5000, 8000]);
        for (_, usual, rate) in faults.rates_mut() {
            let on = rng.chance(density);
            let chosen = rng.skewed(1, u64::from(usual)) as u32;
            if on {
                *rate = chosen;
            }
        }
        faults
    }

    /// Every fault at its usual rate.
    pub fn all() -> Self {
        let mut faults = Self::default();
        faults.rates_mut().into_iter().for_each(|(_, usual, rate)| *rate = usual);
        faults
    }

    /// Only the faults with these names; `without` turns the choice round.
    pub(crate) fn narrow(&mut self, names: &[String], without: bool) {
        for (name, _, rate) in self.rates_mut() {
            if names.iter().any(|wanted| wanted == name) == without {
                *rate = 0;
            }
        }
    }

    /// Whether a fault can strike the network or a process at all; methods may do what they want.
    pub(crate) fn none_but_methods(&self) -> bool {
        let methods = ["method-hangs", "method-fails", "method-panics"];
        self.rates().iter().all(|(name, rate)| *rate == 0 || methods.contains(name))
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rates = self.rates();
        rates.retain(|(_, rate)| *rate > 0);
        if rates.is_empty() {
            return f.write_str("none");
        }
        for (index, (name, rate)) in rates.iter().enumerate() {
            write!(f, "{}{name}={rate}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_can_be_narrowed_either_way() {
        let mut only = Faults::all();
        only.narrow(&["loss".into(), "crash".into()], false);
        assert_eq!(only.to_string(), "loss=1500 crash=20");
        let mut without = Faults::all();
        without.narrow(&["loss".into()], true);
        assert!(without.loss == 0 && without.crash > 0);
        assert!(Faults::default().none_but_methods() && !only.none_but_methods());
        assert_eq!(Faults::default().to_string(), "none");
    }
}
