//! Says which receipts a node vouches for, those of commands that have ended, so that whoever has sent them can show them to
//! others.

use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::{Kind, Message};
use protocol::name::NodeName;
use protocol::outcome::{Final, Progress, Receipt};

use super::wire::receipts::Subject;
use crate::evidence::tree;
use crate::security::trust::{Attested, Trust};

/// A message of the inbox by our number for it, with its data; none where it has been closed. May block.
pub(crate) type MessageOf = Arc<dyn Fn(Ticket) -> Option<Message> + Send + Sync>;

/// The data of a message that has none, and of one that was cancelled before it came.
const NO_DATA: &str = "[]";

/// See the module.
#[derive(Clone)]
pub(crate) struct Prover {
    message_of: MessageOf,
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prover").finish_non_exhaustive()
    }
}

impl Prover {
    /// For the identity of `trust`; without one there is nothing to sign with.
    pub(crate) fn new(trust: &Trust, message_of: MessageOf) -> Option<Self> {
        trust.identity().is_some().then_some(Self { message_of })
    }

    /// What a receipt has to say of its message; none where it is not signed: an event, or not the end.
    pub(crate) fn subject(&self, kind: Kind, ticket: Ticket, receipt: &Receipt) -> Option<Subject> {
        let Progress::Final(outcome) = &receipt.progress else { return None };
        if !kind.is_command() || ticket == Ticket(0) {
            return None;
        }
        // As the store has accepted it: what a sender has sent once more, with other data, counts for nothing.
        let message = (self.message_of)(ticket).filter(|message| message.id == receipt.id)?;
        if outcome.state == Final::Cancelled && outcome.started.is_none() && &*message.body == NO_DATA {
            // It may have been taken back before it came: then its data were never seen here.
            return None;
        }
        let data_hash = *blake3::hash(message.body.as_bytes()).as_bytes();
        Some(Subject { kind: message.kind, method: message.method, data_hash })
    }

    /// What is signed for `to` of these receipts when they go out, with the keys of that moment.
    pub(crate) fn attest<'a>(to: &NodeName, receipts: impl Iterator<Item = &'a [u8]>) -> Attested {
        let leaves: Vec<blake3::Hash> = receipts.map(tree::leaf).collect();
        Attested { to: to.clone(), root: tree::root(&leaves) }
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::{MessageId, Options};
    use protocol::name::MethodName;
    use protocol::outcome::Outcome;
    use protocol::time::Wall;

    use super::*;
    use crate::security::trust::fleet_of_tests::TestFleet;

    fn message(body: &str) -> Message {
        let (from, to) = (NodeName::new("central").unwrap(), NodeName::new("ship1").unwrap());
        let method = MethodName::new("ShellCommand").unwrap();
        let (options, created) = (Options::default(), Wall(1));
        Message { id: MessageId(7), from, to, kind: Kind::CommandAck, method, body: body.into(), options, created }
    }

    #[test]
    fn only_ends_of_commands_are_signed_and_with_what_was_accepted() {
        let fleet = TestFleet::new();
        let prover =
            |body: &'static str| Prover::new(&fleet.node("ship1"), Arc::new(move |_| Some(message(body)))).unwrap();
        let end =
            |id, state| Receipt { id: MessageId(id), progress: Progress::Final(Outcome::bare(state, None, Wall(2))) };
        let (ack, ticket) = (Kind::CommandAck, Ticket(3));
        let accepted = prover("[\"true\"]");
        for state in [Final::Done, Final::Refused, Final::Cancelled, Final::Interrupted] {
            let subject = accepted.subject(ack, ticket, &end(7, state)).unwrap();
            assert_eq!(subject.data_hash, *blake3::hash(b"[\"true\"]").as_bytes());
        }
        assert_eq!(accepted.subject(Kind::EventAck, ticket, &end(7, Final::Done)), None);
        assert_eq!(accepted.subject(ack, Ticket(0), &end(7, Final::Done)), None);
        assert_eq!(accepted.subject(ack, ticket, &end(8, Final::Done)), None, "the number stands for another message");
        let stored = Receipt { id: MessageId(7), progress: Progress::Stored };
        assert_eq!(accepted.subject(ack, ticket, &stored), None);
        // What was taken back before it came has data that nobody here has seen.
        assert_eq!(prover("[]").subject(ack, ticket, &end(7, Final::Cancelled)), None);
        assert!(prover("[]").subject(ack, ticket, &end(7, Final::Done)).is_some());
        let open = Trust::open(NodeName::new("ship1").unwrap(), NodeName::new("central").unwrap());
        assert!(Prover::new(&open, Arc::new(|_| None)).is_none());
    }
}
