//! What waits for a link whose rate is limited: effects by their class, so that what is urgent goes before what is not, and what is
//! said again while it waits goes once. It is bounded: what finds no room is dropped, and tried again by the protocol's timers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::step::Effect;

use super::budget::Turns;
use crate::traffic::Class;

/// Effects of one class that wait.
const EFFECTS_MAX: usize = 4096;

/// Bytes of messages of one class that wait.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an effect takes on the link beside the data of a message, before it is compressed, about, in bytes.
const EFFECT_BYTES: usize = 256;

/// What tells an effect from others: one that says the same anew takes the place of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Message(MessageId),
    Receipt(Ticket),
    /// It is said as often as it comes.
    Other(u64),
}

#[derive(Debug, Default)]
struct Queue {
    keys: VecDeque<Key>,
    bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queues: BTreeMap<Class, Queue>,
    effects: HashMap<Key, Effect>,
    turns: Turns,
    others: u64,
}

impl Backlog {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Takes what is to be published. Answers with how many effects found no room.
    pub(super) fn add(&mut self, effects: impl Iterator<Item = Effect>) -> usize {
        effects.map(|effect| usize::from(!self.keep(effect))).sum()
    }

    fn keep(&mut self, effect: Effect) -> bool {
        let key = match &effect {
            Effect::Publish { item, .. } => Key::Message(item.id),
            Effect::Receipt { ticket, .. } if *ticket != Ticket(0) => Key::Receipt(*ticket),
            _ => {
                self.others += 1;
                Key::Other(self.others)
            }
        };
        if let Some(before) = self.effects.get_mut(&key) {
            *before = effect;
            return true;
        }
        let (class, bytes) = (class(&effect), bytes(&effect));
        let queue = self.queues.entry(class).or_default();
        if queue.keys.len() >= EFFECTS_MAX || (queue.bytes + bytes > BYTES_MAX && !queue.keys.is_empty()) {
            return false;
        }
        queue.bytes += bytes;
        queue.keys.push_back(key);
        self.effects.insert(key, effect);
        true
    }

    /// What goes next: of one class, in order, at least one and then as much as has so many bytes.
    pub(super) fn next(&mut self, bytes_max: usize) -> Vec<Effect> {
        let waiting: Vec<Class> = self.queues.keys().copied().collect();
        let Some(class) = self.turns.take(&waiting) else { return Vec::new() };
        let Some(queue) = self.queues.get_mut(&class) else { return Vec::new() };
        let (mut taken, mut sum) = (Vec::new(), 0);
        while let Some(effect) = queue.keys.front().and_then(|key| self.effects.get(key)) {
            let bytes = bytes(effect);
            if !taken.is_empty() && sum + bytes > bytes_max {
                break;
            }
            sum += bytes;
            queue.bytes = queue.bytes.saturating_sub(bytes);
            taken.extend(queue.keys.pop_front().and_then(|key| self.effects.remove(&key)));
        }
        if queue.keys.is_empty() {
            self.queues.remove(&class);
        }
        taken
    }

    /// All that waits.
    pub(super) fn clear(&mut self) -> Vec<Effect> {
        self.queues.clear();
        self.effects.drain().map(|(_, effect)| effect).collect()
    }
}

fn class(effect: &Effect) -> Class {
    match effect {
        Effect::Publish { lane, .. } => Class::of_messages(lane.kind, lane.method.as_str()),
        Effect::Receipt { .. } => Class::Receipts,
        _ => Class::Control,
    }
}

/// What it takes on the link at most, about.
fn bytes(effect: &Effect) -> usize {
    match effect {
        Effect::Publish { item, .. } => EFFECT_BYTES + item.body.len(),
        _ => EFFECT_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use protocol::event::{Control, Item};
    use protocol::message::{Epoch, Kind, Options, Seq};
    use protocol::name::{Lane, MethodName, NodeName};
    use protocol::outcome::{Progress, Receipt};
    use protocol::time::Wall;

    use super::*;

    fn node() -> NodeName {
        NodeName::new("ship1").unwrap()
    }

    fn message(kind: Kind, id: u128, floor: u64) -> Effect {
        let lane = Lane { peer: node(), kind, method: MethodName::new("TextLogging").unwrap() };
        let (body, options, created) = ("[\"x\"]".into(), Options::default(), Wall(1));
        let item = Item { id: MessageId(id), seq: Seq(1), prev: Seq(0), body, options, created };
        Effect::Publish { lane, to: None, floor: Seq(floor), item }
    }

    fn receipt(ticket: u64, progress: Progress) -> Effect {
        let receipt = Receipt { id: MessageId(7), progress };
        let (epoch, kind, ticket) = (Epoch(1), Kind::CommandAck, Ticket(ticket));
        Effect::Receipt { to: node(), epoch, kind, ticket, receipt, seal: false }
    }

    fn confirm() -> Effect {
        Effect::Control { to: node(), incarnation: None, control: Control::Confirm(vec![Ticket(1)]), seal: false }
    }

    #[test]
    fn what_is_urgent_goes_first_and_the_last_share_is_for_the_others() {
        let mut backlog = Backlog::default();
        let events = (0..100).map(|id| message(Kind::EventAck, id, 0));
        let commands = (200..220).map(|id| message(Kind::CommandAck, id, 0));
        assert_eq!(backlog.add(events.chain(commands).chain([confirm()])), 0);
        let order: Vec<Class> = (0..20).map(|_| class(&backlog.next(1)[0])).collect();
        assert_eq!(order[..2], [Class::Control, Class::Commands]);
        assert_eq!(order.iter().filter(|class| **class == Class::Events).count(), 1, "{order:?}");
        let rest = std::iter::from_fn(|| Some(backlog.next(1)).filter(|taken| !taken.is_empty())).count();
        assert_eq!(rest, 101);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_is_said_again_goes_once_and_as_it_was_said_last() {
        let mut backlog = Backlog::default();
        let said = [message(Kind::EventAck, 1, 1), receipt(5, Progress::Stored), message(Kind::EventAck, 1, 9)];
        backlog.add(said.into_iter().chain([receipt(5, Progress::Running), confirm(), confirm()]));
        assert_eq!(backlog.next(usize::MAX).len(), 2);
        assert_eq!(backlog.next(usize::MAX), [receipt(5, Progress::Running)]);
        assert_eq!(backlog.next(usize::MAX), [message(Kind::EventAck, 1, 9)]);
        assert!(backlog.is_empty() && backlog.next(usize::MAX).is_empty());
        backlog.add([message(Kind::EventAck, 1, 1)].into_iter());
        assert_eq!(backlog.next(1).len(), 1, "it has gone, so it can be said anew");
    }

    #[test]
    fn it_is_bounded_for_each_class() {
        let mut backlog = Backlog::default();
        let events = (0..EFFECTS_MAX as u128 + 10).map(|id| message(Kind::EventAck, id, 0));
        assert_eq!(backlog.add(events), 10);
        assert_eq!(backlog.add([message(Kind::CommandAck, u128::MAX, 0)].into_iter()), 0);
        assert_eq!(backlog.clear().len(), EFFECTS_MAX + 1);
        assert!(backlog.is_empty());
    }
}
