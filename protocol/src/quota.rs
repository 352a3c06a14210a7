//! How much of others' messages a receiver keeps at once. Without it, one sender that never confirms anything, or many that
//! somebody has made up, would fill the disk and the memory of everybody that they can reach. What finds no room is dropped
//! without a receipt: a sender that is what it says tries again, and finds room once it has confirmed what was here.

use std::collections::BTreeMap;

use crate::limits::{INBOX_BYTES_MAX, INBOX_BYTES_PER_SENDER_MAX, INBOX_MESSAGES_MAX, INBOX_MESSAGES_PER_SENDER_MAX};
use crate::name::NodeName;

/// Messages, and the bytes of their bodies as they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    messages: usize,
    bytes: usize,
}

/// What is here of each sender. Bodies that an earlier process has taken do not count: it is a limit on what comes.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    all: Share,
    by_sender: BTreeMap<NodeName, Share>,
}

impl Quota {
    /// Whether one more message of this sender may be kept.
    pub(crate) fn has_room(&self, from: &NodeName, bytes: usize) -> bool {
        let fits = |share: Share, messages_max: usize, bytes_max: usize| {
            share.messages < messages_max && share.bytes.saturating_add(bytes) <= bytes_max
        };
        let own = self.by_sender.get(from).copied().unwrap_or_default();
        fits(own, INBOX_MESSAGES_PER_SENDER_MAX, INBOX_BYTES_PER_SENDER_MAX)
            && fits(self.all, INBOX_MESSAGES_MAX, INBOX_BYTES_MAX)
    }

    /// A message is kept from now on.
    pub(crate) fn add(&mut self, from: &NodeName, bytes: usize) {
        let own = self.by_sender.entry(from.clone()).or_default();
        for share in [own, &mut self.all] {
            share.messages += 1;
            share.bytes += bytes;
        }
    }

    /// A message is kept no longer.
    pub(crate) fn remove(&mut self, from: &NodeName, bytes: usize) {
        let Some(own) = self.by_sender.get_mut(from) else { return };
        for share in [&mut *own, &mut self.all] {
            share.messages -= 1;
            share.bytes -= bytes;
        }
        if *own == Share::default() {
            self.by_sender.remove(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sender_has_its_share_and_gets_it_back() {
        let (greedy, modest) = (NodeName::new("greedy").expect("a name"), NodeName::new("modest").expect("a name"));
        let mut quota = Quota::default();
        let mut taken = 0;
        while quota.has_room(&greedy, 1024 * 1024) {
            quota.add(&greedy, 1024 * 1024);
            taken += 1;
        }
        assert_eq!(taken, INBOX_BYTES_PER_SENDER_MAX / (1024 * 1024));
        assert!(quota.has_room(&modest, 1024 * 1024) && !quota.has_room(&greedy, 1));
        quota.remove(&greedy, 1024 * 1024);
        assert!(quota.has_room(&greedy, 1024 * 1024));
        (1..taken).for_each(|_| quota.remove(&greedy, 1024 * 1024));
        assert!(quota.by_sender.is_empty() && quota.all == Share::default());
    }

    #[test]
    fn many_senders_together_have_a_limit() {
        let mut quota = Quota::default();
        let name = |number: usize| NodeName::new(&format!("n{number}")).expect("a name");
        for number in 0..INBOX_MESSAGES_MAX {
            assert!(quota.has_room(&name(number), 0));
            quota.add(&name(number), 0);
        }
        assert!(!quota.has_room(&name(INBOX_MESSAGES_MAX), 0));
    }
}
