//! What the broker task of a shell does with effects: packs neighbours that may share a packet, and publishes.

use protocol::event::{Envelope, Item, Receipts, Ticket};
use protocol::message::{Epoch, Incarnation, Seq};
use protocol::name::{Lane, NodeName};
use protocol::outcome::Receipt;
use protocol::step::Effect;

use crate::network::{Address, Load};
use crate::world::World;

/// Bytes of message bodies in one packet; stands for the broker's `max_payload`.
const PACKET_BYTES_MAX: usize = 16 * 1024;

impl World {
    /// Publishes what a batch wants published: messages and receipts in the order in which their packets begin, and then
    /// whatever else there is, as the real shell does.
    pub(crate) fn send(&mut self, host: usize, effects: Vec<Effect>) {
        let Some(process) = &self.hosts[host].process else { return };
        let from = process.identity.name.clone();
        let (mut packets, mut controls) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Publish { lane, to, floor, item } => {
                    self.note_published(host, to, &item);
                    self.pack_message(host, &mut packets, (lane, to, floor), item);
                }
                Effect::Receipt { to, epoch, kind: _, ticket, receipt, seal: _ } => {
                    self.note_receipt(host, ticket, &receipt);
                    self.pack_receipt(host, &mut packets, (to, epoch), ticket, receipt);
                }
                Effect::Control { to, incarnation, control, seal: _ } => {
                    controls.push((self.address(&to), Load::Control { from: from.clone(), to: incarnation, control }));
                }
                Effect::Announce(occasion) => self.announce(host, occasion),
                Effect::Watch(name, on) => {
                    let name = self.index(&name);
                    let Some(process) = &mut self.hosts[host].process else { return };
                    if on {
                        process.watches.insert(name);
                    } else {
                        process.watches.remove(&name);
                    }
                }
                _ => self.fail("shell", "an effect for another task came to the broker's".to_owned()),
            }
        }
        for (address, load) in packets.into_iter().chain(controls) {
            self.send_packet(host, address, load);
        }
    }

    /// Puts a message into the last packet of its lane that has room for it, or into a new one.
    fn pack_message(
        &self,
        host: usize,
        packets: &mut Vec<(Address, Load)>,
        (lane, to, floor): (Lane, Option<Incarnation>, Seq),
        item: Item,
    ) {
        let Some(process) = &self.hosts[host].process else { return };
        let address = self.address(&lane.peer);
        let room = packets.iter_mut().rev().find_map(|(other, load)| match load {
            Load::Envelope(envelope) if *other == address && has_room(envelope, &lane, to, &item) => Some(envelope),
            _ => None,
        });
        if let Some(envelope) = room.filter(|envelope| envelope.items.len() < self.plan.items_per_packet) {
            envelope.floor = envelope.floor.max(floor);
            envelope.items.push(item);
            return;
        }
        let (from, epoch) = (process.identity.name.clone(), process.identity.epoch);
        let (kind, method, items) = (lane.kind, lane.method, vec![item]);
        packets.push((address, Load::Envelope(Envelope { from, epoch, to, kind, method, floor, items })));
    }

    /// Puts a receipt into the last packet for its sender that has room for it, or into a new one.
    fn pack_receipt(
        &self,
        host: usize,
        packets: &mut Vec<(Address, Load)>,
        (to, epoch): (NodeName, Epoch),
        ticket: Ticket,
        receipt: Receipt,
    ) {
        let Some(process) = &self.hosts[host].process else { return };
        let address = self.address(&to);
        let room = packets.iter_mut().rev().find_map(|(other, load)| match load {
            Load::Receipts(receipts) if *other == address && receipts.to == epoch => Some(&mut receipts.receipts),
            _ => None,
        });
        if let Some(receipts) = room.filter(|receipts| receipts.len() < self.plan.items_per_packet) {
            receipts.push((ticket, receipt));
            return;
        }
        let receipts = Receipts {
            from: process.identity.name.clone(),
            to: epoch,
            incarnation: process.identity.incarnation,
            epoch: process.identity.epoch,
            commits: self.hosts[host].disk.tables.commits,
            receipts: vec![(ticket, receipt)],
            sealed: false,
        };
        packets.push((address, Load::Receipts(receipts)));
    }

    fn send_packet(&mut self, host: usize, address: Address, load: Load) {
        self.trace(host, format_args!("sends   {}", self.show(&load)));
        let echo = match &load {
            Load::Envelope(envelope) if !envelope.kind.wants_ack() => {
                let seqs = envelope.items.iter().map(|item| item.seq).collect();
                Some(Load::Echo { lane: self.lane(address, envelope), seqs })
            }
            _ => None,
        };
        self.publish(host, address, load);
        if let Some(echo) = echo {
            self.publish(host, Address::Self_, echo);
        }
    }
}

fn has_room(envelope: &Envelope, lane: &Lane, to: Option<Incarnation>, item: &Item) -> bool {
    let bytes: usize = envelope.items.iter().map(|item| item.body.len()).sum();
    (envelope.to, envelope.kind, &envelope.method) == (to, lane.kind, &lane.method)
        && envelope.items.last().is_none_or(|last| last.seq < item.seq)
        && bytes + item.body.len() <= PACKET_BYTES_MAX
}
