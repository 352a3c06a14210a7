//! From effects to publishes: neighbours of one lane share an envelope, receipts for one sender share a body.
//! Decides nothing about delivery and never touches the network, so it can be tested without one.
//!
//! Within one batch the messages of a lane and the receipts for a sender keep their order; between lanes, and between
//! messages and controls, the order is free, as it is on any network.

use std::collections::HashMap;
use std::ops::Range;

use async_nats::HeaderMap;
use bytes::Bytes;
use protocol::event::{Control, Hello, Item, Occasion, Ticket};
use protocol::message::{Epoch, Incarnation, MessageId, Seq};
use protocol::name::{Lane, NodeName};
use protocol::outcome::Receipt;
use protocol::step::Effect;

use super::dictionaries::Dictionaries;
use super::prover::Prover;
use super::wire::pack::Packer;
use super::wire::receipts::{Subject, Teller};
use super::wire::{self, BODY_BYTES_MAX, ITEMS_MAX, TICKETS_MAX, WireError, subject};
use crate::security::trust::Attested;
use crate::traffic::Class;

/// What a body has beside its messages or receipts, and a publish beside its body, in bytes at most.
const HEAD_BYTES_MAX: usize = 1024;

/// The longest envelope that is put together from several messages, in bytes. Longer ones save nothing more and delay
/// whatever comes behind them.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// The longest ticket with its comma, in bytes.
const TICKET_BYTES_MAX: usize = 20;

/// One publish.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Bytes,
    /// Whether whoever gets it may not know us yet, so that our certificate goes with it.
    pub(crate) introduces: bool,
    /// Whom it is sealed for where it is to be; none for what whoever gets it has to be able to read, known or not.
    pub(crate) to: Option<NodeName>,
    /// Whether it has to be sealed, whatever the node is told for all.
    pub(crate) seal: bool,
    /// What this node vouches for beside it.
    pub(crate) attests: Option<Attested>,
    /// What it is.
    pub(crate) class: Class,
    /// The messages that share its bytes, and how many of them are each one's own.
    pub(crate) shares: Vec<(MessageId, usize)>,
}

impl Outgoing {
    /// Something that is never sealed: it has nothing in it that is anybody's business, and may be for somebody who does
    /// not know us.
    pub(crate) fn plain(subject: String, reply: Option<String>, body: impl Into<Bytes>, introduces: bool) -> Self {
        Self {
            subject,
            reply,
            headers: None,
            body: body.into(),
            introduces,
            to: None,
            seal: false,
            attests: None,
            class: Class::Control,
            shares: Vec::new(),
        }
    }

    /// Raw bytes with their headers for one node that knows us.
    pub(crate) fn data(
        subject: String,
        to: &NodeName,
        seal: bool,
        class: Class,
        (body, headers): (Bytes, HeaderMap),
    ) -> Self {
        Self { headers: Some(headers), to: Some(to.clone()), seal, class, ..Self::plain(subject, None, body, false) }
    }

    /// What it costs on the link, roughly, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.body.len() + self.subject.len() + 128
    }
}

/// A publish, and what its arrival at the broker means.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) outgoing: Outgoing,
    /// The lane and the numbers of NACK messages, whose way ends at the broker.
    pub(crate) handed: Option<(Lane, Vec<Seq>)>,
    /// How many messages or receipts it has.
    pub(crate) items: usize,
}

/// Something that can't be sent to anybody.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsendable {
    /// The message, where there is one.
    pub(crate) id: Option<MessageId>,
    /// Whom it was for.
    pub(crate) to: NodeName,
    /// Why.
    pub(crate) why: String,
}

/// What became of a batch of effects.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) unsendable: Vec<Unsendable>,
}

/// What the sizes of publishes depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// The broker's limit for one publish, in bytes.
    pub(crate) payload_max: usize,
    /// What the link takes at once, in bytes: no group is made longer than that.
    pub(crate) group_max: usize,
}

/// Makes publishes of effects.
#[derive(Debug)]
pub(crate) struct Batcher {
    teller: Teller,
    central: NodeName,
    packer: Packer,
    prover: Option<Prover>,
    dictionaries: Dictionaries,
}

/// Whom an open group is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whom {
    Lane(Lane, Option<Incarnation>),
    Sender(NodeName, Epoch),
    Confirm(NodeName, Option<Incarnation>),
}

/// A body that grows.
#[derive(Debug)]
struct Group {
    whom: Whom,
    parts: Vec<u8>,
    tickets: Vec<Ticket>,
    count: usize,
    floor: Seq,
    /// The numbers of NACK messages in it.
    handed: Vec<Seq>,
    last: Seq,
    id: Option<MessageId>,
    /// The messages in it, and the bytes of each.
    shares: Vec<(MessageId, usize)>,
    /// Whether anything in it is to be sealed: then all of it is.
    seal: bool,
    /// Where its receipts begin and end in `parts`.
    receipts: Vec<Range<usize>>,
    /// Whether it says how a command has ended, so that its receipts are signed.
    proves: bool,
}

/// The groups of a batch in the order of their beginning, and which of them still grow.
#[derive(Debug, Default)]
struct Groups {
    all: Vec<Group>,
    open: HashMap<Whom, usize>,
}

impl Groups {
    /// The group in which `bytes` more for `whom` have room, with a comma behind what is there.
    fn room(
        &mut self,
        whom: Whom,
        bytes: usize,
        bytes_max: usize,
        after: Option<Seq>,
        seal: bool,
    ) -> Option<&mut Group> {
        let fits = |group: &Group| {
            group.count < ITEMS_MAX
                && group.parts.len() + bytes < bytes_max
                && group.tickets.len() < TICKETS_MAX.min(bytes_max / TICKET_BYTES_MAX)
                && after.is_none_or(|seq| group.last < seq)
        };
        let open = self.open.get(&whom).copied().filter(|index| self.all.get(*index).is_some_and(fits));
        let index = match open {
            Some(index) => index,
            None => {
                let (parts, tickets) = (Vec::with_capacity(bytes), Vec::new());
                let group = Group {
                    whom: whom.clone(),
                    parts,
                    tickets,
                    count: 0,
                    floor: Seq(0),
                    handed: Vec::new(),
                    last: Seq(0),
                    id: None,
                    shares: Vec::new(),
                    seal: false,
                    receipts: Vec::new(),
                    proves: false,
                };
                self.all.push(group);
                self.open.insert(whom, self.all.len() - 1);
                self.all.len() - 1
            }
        };
        let group = self.all.get_mut(index)?;
        group.seal |= seal;
        if !group.parts.is_empty() {
            group.parts.push(b',');
        }
        Some(group)
    }
}

impl Batcher {
    /// A batcher for the process `teller`, whose announcements also go to `central`.
    pub(crate) fn new(teller: Teller, central: NodeName) -> Self {
        let (packer, dictionaries) = (Packer::default(), Dictionaries::default());
        Self { teller, central, packer, prover: None, dictionaries }
    }

    /// Has receipts of commands signed.
    #[must_use]
    pub(crate) fn proving(self, prover: Option<Prover>) -> Self {
        Self { prover, ..self }
    }

    /// Has short bodies packed with the dictionary for those who know it.
    #[must_use]
    pub(crate) fn packing(self, dictionaries: Dictionaries) -> Self {
        Self { dictionaries, ..self }
    }

    /// The publishes for `effects`; those of other tasks are not looked at. `commits` is how far our store is.
    pub(crate) fn batch(
        &mut self,
        effects: impl IntoIterator<Item = Effect>,
        commits: u64,
        sizes: Sizes,
        hello: &dyn Fn(Occasion) -> Hello,
    ) -> Batch {
        self.teller.commits = commits;
        let bytes_max = sizes.group_max.min(sizes.payload_max).min(GROUP_BYTES_MAX).saturating_sub(HEAD_BYTES_MAX);
        let mut batch = Batch::default();
        let mut groups = Groups::default();
        let mut controls = Vec::new();
        let mut scratch = Vec::new();
        for effect in effects {
            scratch.clear();
            match effect {
                Effect::Publish { lane, to, floor, item } => {
                    let added = add_item(&mut groups, &mut scratch, bytes_max, lane.clone(), to, floor, &item);
                    if let Err(error) = added {
                        let (id, why) = (Some(item.id), error.to_string());
                        batch.unsendable.push(Unsendable { id, to: lane.peer, why });
                    }
                }
                Effect::Receipt { to, epoch, kind, ticket, receipt, seal } => {
                    let subject = self.prover.as_ref().and_then(|prover| prover.subject(kind, ticket, &receipt));
                    let told = (ticket, &receipt, subject.as_ref(), seal);
                    let added = add_receipt(&mut groups, &mut scratch, bytes_max, (to.clone(), epoch), told);
                    if let Err(error) = added {
                        batch.unsendable.push(Unsendable { id: None, to, why: error.to_string() });
                    }
                }
                Effect::Control { to, incarnation, control: Control::Confirm(tickets), seal } => {
                    for ticket in tickets {
                        let whom = Whom::Confirm(to.clone(), incarnation);
                        if let Some(group) = groups.room(whom, 0, bytes_max, None, seal) {
                            group.tickets.push(ticket);
                        }
                    }
                }
                Effect::Control { to, incarnation, control, seal } => controls.push((to, incarnation, control, seal)),
                Effect::Announce(occasion) => self.announce(&hello(occasion), sizes, &mut batch),
                Effect::Accepted(_)
                | Effect::Rejected(..)
                | Effect::Watch(..)
                | Effect::Start(_)
                | Effect::StartUnrecorded { .. }
                | Effect::Kill(_)
                | Effect::Discard(_)
                | Effect::Load { .. }
                | Effect::Sweep(_)
                | Effect::Seal { .. }
                | Effect::Receive { .. }
                | Effect::Report(_) => {}
            }
        }
        for group in groups.all {
            self.close(group, sizes, &mut batch);
        }
        for (to, incarnation, control, seal) in controls {
            self.control(&to, incarnation, (&control, seal), sizes, &mut batch);
        }
        batch
    }

    fn close(&mut self, group: Group, sizes: Sizes, batch: &mut Batch) {
        let Group { whom, parts, tickets, count, floor, handed, id, shares, seal, receipts, proves, last: _ } = group;
        let from = &self.teller.from;
        let mut attests = None;
        let (to, subject, body, lane, class) = match whom {
            Whom::Lane(lane, to) => {
                let class = Class::of_messages(lane.kind, lane.method.as_str());
                let body = wire::envelope::encode(from, self.teller.epoch, &lane, to, floor, &parts);
                let subject = subject::messages(&lane);
                let peer = lane.peer.clone();
                (peer, subject, body, (!lane.kind.wants_ack()).then_some(lane), class)
            }
            Whom::Sender(to, epoch) => {
                let body = wire::receipts::encode(&self.teller, &to, epoch, &parts);
                let subject = subject::receipts(&to, from);
                if proves {
                    attests = Some(Prover::attest(&to, receipts.into_iter().filter_map(|range| parts.get(range))));
                }
                (to, subject, body, None, Class::Receipts)
            }
            Whom::Confirm(to, incarnation) => {
                return self.control(&to, incarnation, (&Control::Confirm(tickets), seal), sizes, batch);
            }
        };
        let handed = lane.map(|lane| (lane, handed));
        // NACK messages go to whoever listens, asked or not.
        let introduces = handed.is_some();
        let seal = Some(seal);
        let (reply, items) = (true, count);
        let named = true;
        let draft =
            Draft { to, subject, reply, body, id, items, handed, introduces, named, seal, attests, class, shares };
        self.finish(draft, sizes, batch);
    }

    fn control(
        &mut self,
        to: &NodeName,
        incarnation: Option<Incarnation>,
        (control, seal): (&Control, bool),
        sizes: Sizes,
        batch: &mut Batch,
    ) {
        let body = wire::control::encode(&self.teller.from, to, incarnation, control);
        let subject = subject::control(to, &self.teller.from);
        // Whoever does not know us yet can't open what we have sealed.
        let introduces = matches!(control, Control::Probe { .. } | Control::Hello(_));
        let seal = (!introduces).then_some(seal);
        let draft = Draft { introduces, named: !introduces, seal, ..Draft::of_one(to.clone(), subject, body) };
        self.finish(draft, sizes, batch);
    }

    /// The announcement to whoever watches, and as the seed's `SayHello` event to central (R16).
    fn announce(&mut self, hello: &Hello, sizes: Sizes, batch: &mut Batch) {
        let me = self.teller.from.clone();
        let body = wire::hello::encode(hello);
        let subject = subject::hello(&me);
        let introduces = true;
        let bare = Draft { introduces, named: false, reply: false, ..Draft::of_one(me.clone(), subject, body) };
        self.finish(bare, sizes, batch);
        if self.central == me {
            return;
        }
        let Some(lane) = super::say_hello(&self.central) else { return };
        let body = wire::hello::encode_data(hello).and_then(|data| {
            let item = super::unnumbered(data);
            let mut parts = Vec::new();
            wire::envelope::encode_item(&item, &mut parts)?;
            wire::envelope::encode(&me, self.teller.epoch, &lane, None, item.seq, &parts)
        });
        let subject = subject::messages(&lane);
        let class = Class::of_messages(lane.kind, lane.method.as_str());
        self.finish(Draft { introduces, class, ..Draft::of_one(lane.peer, subject, body) }, sizes, batch);
    }

    fn finish(&mut self, draft: Draft, sizes: Sizes, batch: &mut Batch) {
        let Draft { to, subject, reply, body, id, items, handed, introduces, named, seal, attests, class, shares } =
            draft;
        let packed = body.and_then(|body| {
            wire::limit("the body", body.len(), BODY_BYTES_MAX)?;
            let (body, headers) = match named && self.dictionaries.may(&to) {
                true => self.packer.pack_with_dictionary(body),
                false => self.packer.pack(body),
            };
            wire::limit("the body", body.len(), sizes.payload_max.saturating_sub(64))?;
            Ok((body, headers))
        });
        match packed {
            Ok((body, headers)) => {
                let reply = reply.then(|| subject::reply(&self.teller.from, &to));
                let (to, seal) = (seal.map(|_| to), seal.unwrap_or(false));
                let outgoing = Outgoing { subject, reply, headers, body, introduces, to, seal, attests, class, shares };
                batch.publishes.push(Publish { outgoing, handed, items });
            }
            Err(error) => batch.unsendable.push(Unsendable { id, to, why: error.to_string() }),
        }
    }
}

/// A publish whose body is not packed yet.
struct Draft {
    to: NodeName,
    subject: String,
    /// Whether the broker is to say when nobody listens.
    reply: bool,
    body: Result<Vec<u8>, WireError>,
    id: Option<MessageId>,
    items: usize,
    handed: Option<(Lane, Vec<Seq>)>,
    introduces: bool,
    /// Whether it is for the very node that has last said what it can read: not for whoever listens, nor for one that may have changed.
    named: bool,
    /// Whether it has to be sealed; none for what never is.
    seal: Option<bool>,
    /// What this node vouches for of its receipts.
    attests: Option<Attested>,
    class: Class,
    shares: Vec<(MessageId, usize)>,
}

impl Draft {
    /// One thing for one node that knows us, which is to be told if nobody listens. It is never sealed.
    fn of_one(to: NodeName, subject: String, body: Result<Vec<u8>, WireError>) -> Self {
        let (id, handed, seal, attests) = (None, None, None, None);
        let (reply, introduces, named, items) = (true, false, true, 1);
        let (class, shares) = (Class::Control, Vec::new());
        Self { to, subject, reply, body, id, items, handed, introduces, named, seal, attests, class, shares }
    }
}

fn add_item(
    groups: &mut Groups,
    scratch: &mut Vec<u8>,
    bytes_max: usize,
    lane: Lane,
    to: Option<Incarnation>,
    floor: Seq,
    item: &Item,
) -> Result<(), WireError> {
    wire::envelope::encode_item(item, scratch)?;
    let to_whoever = !lane.kind.wants_ack();
    let (whom, seal) = (Whom::Lane(lane, to), item.options.seal);
    if let Some(group) = groups.room(whom, scratch.len(), bytes_max, Some(item.seq), seal) {
        group.parts.extend_from_slice(scratch);
        group.count += 1;
        group.floor = group.floor.max(floor);
        if to_whoever {
            group.handed.push(item.seq);
        }
        group.last = item.seq;
        group.id = group.id.or(Some(item.id));
        group.shares.push((item.id, scratch.len()));
    }
    Ok(())
}

fn add_receipt(
    groups: &mut Groups,
    scratch: &mut Vec<u8>,
    bytes_max: usize,
    (to, epoch): (NodeName, Epoch),
    (ticket, receipt, subject, seal): (Ticket, &Receipt, Option<&Subject>, bool),
) -> Result<(), WireError> {
    wire::receipts::encode_receipt(ticket, receipt, subject, scratch)?;
    if let Some(group) = groups.room(Whom::Sender(to, epoch), scratch.len(), bytes_max, None, seal) {
        let start = group.parts.len();
        group.parts.extend_from_slice(scratch);
        group.receipts.push(start..group.parts.len());
        group.proves |= subject.is_some();
        group.count += 1;
        group.id = group.id.or(Some(receipt.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
