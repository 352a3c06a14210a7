//! The JSON bodies of the wire. What is taken has to come back the same when it is written and read once more: else two
//! nodes could understand the same bytes in two ways.

use protocol::event::{Envelope, Receipts};
use protocol::message::Kind;
use protocol::name::{Lane, NodeName};

use crate::broker::wire::control::Told;
use crate::broker::wire::{WireError, control, envelope, hello, namesake, receipts};
use crate::methods;

/// The node that reads.
const ME: &str = "ship1";

/// The node that writes, as far as it stands in the subject.
const PEER: &str = "central";

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Messages of a lane.
pub(super) fn envelope(body: &[u8]) {
    let me = name(ME);
    for kind in Kind::ALL {
        for method in ["ShellCommand", "TextLogging", "NoSuchMethod"] {
            let Ok(read) = envelope::decode(body, &me, kind, method) else { continue };
            assert!(read.items.len() <= crate::broker::wire::ITEMS_MAX && read.kind == kind);
            for item in &read.items {
                let Ok(data) = methods::data(&item.body) else { panic!("data is no array of strings") };
                drop(methods::check(protocol::message::Kind::CommandAck, method, &data));
            }
            let written = write_envelope(&me, &read).unwrap_or_else(|error| panic!("it can't be written: {error}"));
            assert_eq!(envelope::decode(&written, &me, kind, method), Ok(read));
        }
    }
}

fn write_envelope(to: &NodeName, envelope: &Envelope) -> Result<Vec<u8>, WireError> {
    let mut items = Vec::new();
    for item in &envelope.items {
        if !items.is_empty() {
            items.push(b',');
        }
        envelope::encode_item(item, &mut items)?;
    }
    let lane = Lane { peer: to.clone(), kind: envelope.kind, method: envelope.method.clone() };
    envelope::encode(&envelope.from, envelope.epoch, &lane, envelope.to, envelope.floor, &items)
}

/// Receipts.
pub(super) fn receipts(body: &[u8]) {
    let me = name(ME);
    let Ok(read) = receipts::decode(body, &me, PEER) else { return };
    let written = write_receipts(&me, &read).unwrap_or_else(|error| panic!("they can't be written: {error}"));
    assert_eq!(receipts::decode(&written, &me, PEER), Ok(read));
}

fn write_receipts(to: &NodeName, receipts: &Receipts) -> Result<Vec<u8>, WireError> {
    let mut parts = Vec::new();
    for (ticket, receipt) in &receipts.receipts {
        if !parts.is_empty() {
            parts.push(b',');
        }
        receipts::encode_receipt(*ticket, receipt, None, &mut parts)?;
    }
    let Receipts { from, incarnation, epoch, commits, .. } = receipts;
    let teller = receipts::Teller { from: from.clone(), incarnation: *incarnation, epoch: *epoch, commits: *commits };
    receipts::encode(&teller, to, receipts.to, &parts)
}

/// What is said about the delivery.
pub(super) fn control(body: &[u8]) {
    let me = name(ME);
    // The question whether a name is free comes from the node itself, so to speak.
    drop(control::decode(body, &me, ME));
    let told = control::decode(body, &me, PEER);
    if let Ok(Told::Follow { from, to: Some(to), follow }) = told {
        let written = control::encode_follow(&from, &me, to, &follow);
        let written = written.unwrap_or_else(|error| panic!("it can't be written: {error}"));
        assert_eq!(control::decode(&written, &me, PEER), Ok(Told::Follow { from, to: Some(to), follow }));
        return;
    }
    if let Ok(Told::Want { from, want }) = told {
        let written = control::encode_want(&from, &me, &want);
        let written = written.unwrap_or_else(|error| panic!("it can't be written: {error}"));
        assert_eq!(control::decode(&written, &me, PEER), Ok(Told::Want { from, want }));
        return;
    }
    let Ok(Told::Control { from, to, control }) = told else { return };
    let written =
        control::encode(&from, &me, to, &control).unwrap_or_else(|error| panic!("it can't be written: {error}"));
    assert_eq!(control::decode(&written, &me, PEER), Ok(Told::Control { from, to, control }));
}

/// Announcements, alone and in a message, and the answer to the question whether a name is free.
pub(super) fn hello(body: &[u8]) {
    if let Ok(text) = std::str::from_utf8(body) {
        drop(hello::decode_data(text, PEER));
    }
    if let Ok(read) = namesake::decode(body, &name(PEER)) {
        let written =
            namesake::encode(&name(PEER), &read).unwrap_or_else(|error| panic!("it can't be written: {error}"));
        assert_eq!(namesake::decode(&written, &name(PEER)), Ok(read));
    }
    let Ok(read) = hello::decode(body, PEER) else { return };
    let written = hello::encode(&read).unwrap_or_else(|error| panic!("it can't be written: {error}"));
    assert_eq!(hello::decode(&written, PEER), Ok(read.clone()));
    let message = hello::encode_data(&read).unwrap_or_else(|error| panic!("it can't be written: {error}"));
    assert_eq!(hello::decode_data(&message, PEER), Some(read));
}
