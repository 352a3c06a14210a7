//! Who knows the dictionary with which short bodies are packed: those whose last probe or hello said so. Where somebody does not answer
//! any more what was packed with it, plain bodies go out, because another program may have its name by now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::name::NodeName;

use super::wire::pack::DICTIONARY;

/// Nodes that are known to know it (60 bytes of memory each). With more, all are asked for again, and get plain bodies until then.
const NODES_MAX: usize = 65_536;

/// Publishes with the dictionary for a node from which nothing comes in between.
const UNANSWERED_MAX: u32 = 64;

/// See the module. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Dictionaries(Arc<Mutex<HashMap<NodeName, u32>>>);

impl Dictionaries {
    /// A node has said which dictionary it knows.
    pub(super) fn told(&self, node: &NodeName, dictionary: u64) {
        let mut known = self.lock();
        if dictionary < DICTIONARY {
            known.remove(node);
            return;
        }
        if known.len() >= NODES_MAX && !known.contains_key(node) {
            known.clear();
        }
        known.insert(node.clone(), 0);
    }

    /// Something has come from this node.
    pub(super) fn heard(&self, node: &NodeName) {
        if let Some(unanswered) = self.lock().get_mut(node) {
            *unanswered = 0;
        }
    }

    /// Whether the next publish for this node may be packed with it.
    pub(super) fn may(&self, node: &NodeName) -> bool {
        self.lock().get_mut(node).is_some_and(|unanswered| {
            *unanswered = unanswered.saturating_add(1);
            *unanswered <= UNANSWERED_MAX
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeName, u32>> {
        // It is whole at any moment, even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn only_who_has_said_so_last_knows_it() {
        let known = Dictionaries::default();
        let ship = node("ship1");
        assert!(!known.may(&ship));
        known.told(&ship, DICTIONARY);
        assert!(known.may(&ship) && !known.may(&node("ship2")));
        known.told(&ship, 0);
        assert!(!known.may(&ship));
        known.heard(&ship);
        assert!(!known.may(&ship), "to be heard of is not to know it");
        known.told(&ship, DICTIONARY + 5);
        assert!(known.may(&ship), "who knows a later one knows this one");
    }

    #[test]
    fn who_does_not_answer_gets_plain_bodies_until_he_does() {
        let known = Dictionaries::default();
        let ship = node("ship1");
        known.told(&ship, DICTIONARY);
        assert!((0..UNANSWERED_MAX).all(|_| known.may(&ship)));
        assert!(!known.may(&ship) && !known.may(&ship));
        known.heard(&ship);
        assert!(known.may(&ship));
    }

    #[test]
    fn names_can_not_fill_the_memory() {
        let known = Dictionaries::default();
        for number in 0..NODES_MAX + 10 {
            known.told(&node(&format!("n{number}")), DICTIONARY);
        }
        assert_eq!(known.lock().len(), 10);
    }
}
