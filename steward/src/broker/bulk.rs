//! What passes the core by on its way between the wire and the results: pieces of outputs, and requests for them.

use protocol::event::Ticket;
use protocol::message::Incarnation;
use protocol::name::NodeName;
use protocol::outcome::Stream;

use super::arrived::Arrived;
use super::batch::Outgoing;
use super::seen::Seen;
use super::wire::chunk::Chunk;
use super::wire::content::{self, Part, Want};
use super::wire::forward::{self, Bundle};
use super::wire::live::{self, Follow, Piece};
use super::wire::pack::Packer;
use super::wire::{self, WireError};
use super::{Broker, Sent, Window};
use crate::security::refusal::Refusal;
use crate::traffic::{Bytes, Class};

/// What the results task gets from the wire.
#[derive(Debug)]
pub(crate) enum Bulk {
    /// A sender wants a piece of an output.
    Ask {
        /// The sender.
        from: NodeName,
        /// Our number for its message.
        ticket: Ticket,
        /// Which stream.
        stream: Stream,
        /// From this byte on.
        offset: u64,
        /// At most so many bytes.
        len: u64,
    },
    /// A piece has arrived.
    Chunk {
        /// The receiver that has the output.
        from: NodeName,
        /// The piece.
        chunk: Chunk,
        /// What it took on the link, in bytes.
        wire_bytes: usize,
    },
    /// A sender wants to see an output while it is written.
    Follow {
        /// The sender.
        from: NodeName,
        /// What it wants.
        follow: Follow,
    },
    /// A receiver wants a piece of what goes along with its message.
    Want {
        /// The receiver.
        from: NodeName,
        /// What it wants.
        want: Want,
    },
    /// A piece of what goes along with a message has arrived.
    Part {
        /// The sender of the message.
        from: NodeName,
        /// The piece.
        part: Part,
    },
    /// A piece of an output that is being written has arrived.
    Live {
        /// The node that runs the message.
        from: NodeName,
        /// The piece.
        piece: Piece,
    },
}

impl Broker {
    /// Publishes a piece of an output, once the link has room for it.
    pub(crate) async fn send_chunk(
        &self,
        (to, class): (&NodeName, Class),
        seal: bool,
        chunk: &Chunk,
        packer: &mut Packer,
        window: &mut Window,
    ) -> Sent {
        let (content, subject) = (wire::chunk::encode(chunk, packer), wire::subject::data(to, self.me()));
        self.send(Outgoing::data(subject, to, seal, class, content), window).await
    }

    /// What one publish should not be longer than, in bytes, as far as its parts allow it.
    pub(super) fn publish_bytes(&self, window: &Window) -> usize {
        window.publish_bytes().min(self.0.budget.publish_bytes())
    }

    /// The longest piece of an output that may go in one publish now, in bytes.
    pub(crate) fn chunk_bytes_max(&self, window: &Window) -> usize {
        let payload_max = self.client().map_or(0, |client| client.max_payload());
        let payload_max = payload_max.saturating_sub(self.trust().overhead_bytes(false));
        wire::CHUNK_BYTES_MAX.min(payload_max.saturating_sub(1024)).min(self.publish_bytes(window)).max(1024)
    }

    /// Publishes a piece of an output that is being written, once the link has room for it.
    pub(crate) async fn send_live(
        &self,
        to: &NodeName,
        seal: bool,
        piece: &Piece,
        packer: &mut Packer,
        window: &mut Window,
    ) -> Sent {
        let (content, subject) = (live::encode(piece, packer), wire::subject::data(to, self.me()));
        self.send(Outgoing::data(subject, to, seal, Class::Live, content), window).await
    }

    /// Tells a process that runs a message of ours that we want to see its output.
    pub(crate) async fn send_follow(
        &self,
        to: (&NodeName, Incarnation),
        seal: bool,
        follow: &Follow,
        window: &mut Window,
    ) -> Sent {
        let (to, incarnation) = to;
        let Ok(body) = wire::control::encode_follow(self.me(), to, incarnation, follow) else { return Sent::LinkDown };
        let subject = wire::subject::control(to, self.me());
        let outgoing = Outgoing { to: Some(to.clone()), seal, ..Outgoing::plain(subject, None, body, false) };
        self.send(outgoing, window).await
    }

    /// Publishes a piece of what goes along with a message, once the link has room for it.
    pub(crate) async fn send_part(
        &self,
        to: &NodeName,
        seal: bool,
        part: &Part,
        packer: &mut Packer,
        window: &mut Window,
    ) -> Sent {
        let (content, subject) = (content::encode(part, packer), wire::subject::data(to, self.me()));
        let outgoing = Outgoing::data(subject, to, seal, Class::Files, content);
        let outgoing = Outgoing { shares: vec![(part.id, 1)], ..outgoing };
        self.send(outgoing, window).await
    }

    /// Asks the sender of a message for a piece of what goes along with it.
    pub(crate) async fn send_want(&self, to: &NodeName, seal: bool, want: &Want, window: &mut Window) -> Sent {
        let Ok(body) = wire::control::encode_want(self.me(), to, want) else { return Sent::LinkDown };
        let subject = wire::subject::control(to, self.me());
        let outgoing = Outgoing { to: Some(to.clone()), seal, ..Outgoing::plain(subject, None, body, false) };
        self.send(outgoing, window).await
    }

    /// Publishes what there is to say of forwarded connections, once the link has room for it.
    pub(crate) async fn send_forward(
        &self,
        to: &NodeName,
        seal: bool,
        bundle: &Bundle,
        packer: &mut Packer,
        window: &mut Window,
    ) -> Sent {
        let Ok(content) = forward::encode(bundle, packer) else { return Sent::LinkDown };
        let subject = wire::subject::data(to, self.me());
        let outgoing = Outgoing::data(subject, to, seal, Class::Forwarded, content);
        self.send(Outgoing { shares: vec![(bundle.id, 1)], ..outgoing }, window).await
    }

    /// Takes a piece of an output for the results, or what is said of forwarded connections.
    pub(super) fn data(
        &self,
        from: NodeName,
        arrived: &Arrived<'_>,
        seen: &mut Seen,
        packer: &mut Packer,
    ) -> Result<(), WireError> {
        let (headers, body) = (arrived.headers(), arrived.body());
        if forward::is_bundle(headers) {
            // It names a run by a number that only its two nodes know, so it needs no time.
            let bundle = forward::decode(headers, body, packer)?;
            seen.class = Class::Forwarded;
            self.0.traffic.share(&[(bundle.id, 1)], Bytes::arrived(seen.bytes));
            self.0.forwards.take(from, arrived.is_sealed(), bundle);
            return Ok(());
        }
        self.bulk(if content::is_part(headers) {
            seen.class = Class::Files;
            Bulk::Part { from, part: content::decode(headers, body, packer)? }
        } else if live::is_piece(headers) {
            let piece = live::decode(headers, body, packer)?;
            seen.class = Class::Live;
            self.0.traffic.share(&[(piece.id, 1)], Bytes::arrived(seen.bytes));
            Bulk::Live { from, piece }
        } else {
            Bulk::Chunk { from, chunk: wire::chunk::decode(headers, body, packer)?, wire_bytes: seen.bytes }
        });
        Ok(())
    }

    /// Takes a wish to follow an output for the results.
    pub(super) fn wish(
        &self,
        arrived: &Arrived<'_>,
        from: NodeName,
        to: Option<Incarnation>,
        follow: Follow,
    ) -> Result<(), Refusal> {
        self.trust().sender(&arrived.proof, from.as_str())?;
        // It is for this very process or for none, so it needs no time.
        if to == Some(self.0.config.identity.incarnation) {
            self.bulk(Bulk::Follow { from, follow });
        }
        Ok(())
    }

    /// Takes a wish for a piece of what goes along with a message. It names the message, and brings nothing but what that brings,
    /// so it needs no time.
    pub(super) fn wanted(&self, arrived: &Arrived<'_>, from: NodeName, want: Want) -> Result<(), Refusal> {
        self.trust().sender(&arrived.proof, from.as_str())?;
        self.bulk(Bulk::Want { from, want });
        Ok(())
    }

    /// Hands something to the results, unless they are behind.
    pub(super) fn bulk(&self, bulk: Bulk) {
        if self.0.bulk.try_send(bulk).is_err() {
            self.0.counters.bulk_dropped.one();
        }
    }
}
