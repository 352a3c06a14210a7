//! Evidence for tests: a fleet whose key is always the same, and a node that has signed bodies of receipts.

use std::collections::BTreeMap;

use protocol::event::{Receipts, Ticket};
use protocol::message::{Epoch, Incarnation, Kind, MessageId};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Output, Progress, Receipt};
use protocol::time::Wall;

use super::check::{Command, check};
use super::kept::Case;
use super::{Evidence, gather, join, signed_bytes, split, tree};
use crate::broker::wire::receipts::{Subject, Teller, decode, encode, encode_receipt, texts};
use crate::security::certificate::{Certificate, Draft, Role};
use crate::security::keys::{KeyKind, KeyPair, PublicKey, SealKey};

/// When it all happens.
pub(crate) const NOW: Wall = Wall(1_795_363_200_000);

/// What the output is whose receipt does not hold it.
pub(crate) const LONG: &[u8] = b"a long output, as it lies in a file\n";

/// The fleet, and ship1.
pub(crate) struct Rig {
    pub(crate) fleet: KeyPair,
    pub(crate) node: KeyPair,
    pub(crate) certificate: Certificate,
}

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// The command with this number.
pub(crate) fn command(number: u128) -> Command {
    Command {
        id: MessageId(0x0193_0000_0000_7000_8000_0000_0000_0000 + number),
        from: name("central"),
        to: name("ship1"),
        kind: Kind::CommandAck,
        method: MethodName::new("ShellCommand").unwrap(),
        data: format!(r#"["echo","{number}"]"#),
    }
}

/// How it ends: with a text in its receipt, and with an output that is too long for one.
pub(crate) fn outcome(number: u128) -> Outcome {
    let text = format!("{number}\n");
    let hash = *blake3::hash(text.as_bytes()).as_bytes();
    Outcome {
        exit_code: Some(0),
        started: Some(Wall(NOW.0 - 5)),
        stdout: Output { len: text.len() as u64, hash, truncated: false, inline: Some(text.into()) },
        stderr: Output { len: LONG.len() as u64, hash: *blake3::hash(LONG).as_bytes(), truncated: false, inline: None },
        ..Outcome::bare(Final::Done, None, NOW)
    }
}

/// What the fleet says of a key of ship1.
pub(crate) fn certified(
    fleet: &KeyPair,
    key: PublicKey,
    renews: Option<PublicKey>,
    expires: Option<Wall>,
) -> Certificate {
    let seal_key = SealKey::generate().unwrap().public();
    let (role, labels) = (Role::Node, BTreeMap::new());
    let draft = Draft { name: name("ship1"), key, seal_key, role, labels, serial: 3, expires, renews };
    Certificate::issue(draft, fleet, NOW).unwrap()
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::until(None)
    }

    /// The same, with a certificate that ends then.
    pub(crate) fn until(expires: Option<Wall>) -> Self {
        Self::of(KeyPair::generate(KeyKind::Account).unwrap(), expires)
    }

    /// The same in this fleet.
    pub(crate) fn of(fleet: KeyPair, expires: Option<Wall>) -> Self {
        let node = KeyPair::generate(KeyKind::User).unwrap();
        let certificate = certified(&fleet, node.public(), None, expires);
        Self { fleet, node, certificate }
    }

    /// The key of the fleet.
    pub(crate) fn key(&self) -> PublicKey {
        self.fleet.public()
    }

    /// A body with the ends of these commands.
    pub(crate) fn body(&self, numbers: &[u128]) -> Vec<u8> {
        let mut parts = Vec::new();
        for number in numbers {
            let Command { id, kind, method, data, .. } = command(*number);
            let subject = Subject { kind, method, data_hash: *blake3::hash(data.as_bytes()).as_bytes() };
            let receipt = Receipt { id, progress: Progress::Final(outcome(*number)) };
            let comma: &[u8] = if parts.is_empty() { b"" } else { b"," };
            parts.extend_from_slice(comma);
            encode_receipt(Ticket(7), &receipt, Some(&subject), &mut parts).unwrap();
        }
        let teller = Teller { from: name("ship1"), incarnation: Incarnation(1), epoch: Epoch(2), commits: 3 };
        encode(&teller, &name("central"), Epoch(4), &parts).unwrap()
    }

    /// What central keeps of such a body.
    pub(crate) fn gathered(&self, body: &[u8]) -> Receipts {
        let leaves: Vec<_> = texts(body).unwrap().iter().map(|text| tree::leaf(text.as_bytes())).collect();
        let bytes = signed_bytes(&self.key(), &name("ship1"), &name("central"), &tree::root(&leaves));
        let mut receipts = decode(body, &name("central"), "ship1").unwrap();
        gather(&mut receipts, body, self.node.sign(&bytes), &self.certificate.text).unwrap();
        receipts
    }

    /// What is kept of the ends of these commands.
    pub(crate) fn evidence(&self, numbers: &[u128]) -> Vec<Evidence> {
        let receipts = self.gathered(&self.body(numbers)).receipts;
        let kept = receipts.into_iter().map(|(_, receipt)| {
            let Progress::Final(outcome) = receipt.progress else { panic!("it has not ended") };
            let proof = outcome.proof.unwrap();
            let (certificate, proof) = split(&proof).unwrap();
            join(certificate, proof).unwrap()
        });
        kept.collect()
    }

    /// Commands that can be shown to others.
    pub(crate) fn cases(&self, numbers: &[u128]) -> Vec<Case> {
        let cases = numbers.iter().zip(self.evidence(numbers)).map(|(number, evidence)| {
            let command = command(*number);
            let proven = check(&evidence, &command, &self.key()).unwrap();
            Case { command, evidence, proven }
        });
        cases.collect()
    }
}
