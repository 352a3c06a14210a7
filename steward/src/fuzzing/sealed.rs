//! What is sealed: boxes as they arrive, and what somebody puts into one whose key the fleet knows.

use protocol::message::Kind;
use protocol::name::NodeName;
use protocol::time::Wall;

use super::arrival::message;
use crate::broker::wire::{self, BODY_BYTES_MAX, CHUNK_BYTES_MAX, pack::Packer};
use crate::security::keys::{KeyKind, KeyPair, SealKey};
use crate::security::sealing::{self, Bound, Opened, Sessions};

/// The key for which the boxes are.
const SEAL_SEED: &str = "SXAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6IC6WE";

/// The key of whoever signs them.
const NODE_SEED: &str = "SUACAIJCEMSCKJRHFAUSUKZMFUXC6MBRGIZTINJWG44DSOR3HQ6T4PY7UE";

/// When it is.
const NOW: Wall = Wall(1_795_363_200_000);

/// A box as it stands on the wire, and the same bytes as the content of a genuine one.
pub(super) fn sealed(bytes: &[u8]) {
    let message = message(bytes);
    let signer = KeyPair::from_seed(NODE_SEED, KeyKind::User).unwrap_or_else(|error| panic!("{error}")).public();
    let key = SealKey::from_seed(SEAL_SEED).unwrap_or_else(|error| panic!("{error}"));
    let bound = Bound { signer: &signer, subject: &message.subject };
    let sessions = Sessions::default();
    let _named: bool = sealing::sealed_for(message.headers.as_ref()).is_ok();
    if let Ok(opened) = sessions.open(&key, bound, &message.payload) {
        assert!(opened.body.len() < message.payload.len());
    }
    let Ok(opened) = sealing::parse(message.payload.clone()) else { return };
    assert!(message.payload.ends_with(&opened.body), "a body that did not arrive");
    // What was taken apart can be put together and comes back as it was.
    let made = sessions.seal(&key.public(), bound, NOW, Some(&opened.headers), &opened.body);
    let (outside, made) = made.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(sealing::sealed_for(Some(&outside)), Ok(Some(key.public())));
    let again = sessions.open(&key, bound, &made).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!((&again.body, &again.headers), (&opened.body, &opened.headers));
    read(&opened);
}

/// What is opened is read like anything else that has arrived.
fn read(Opened { headers, body }: &Opened) {
    let me = NodeName::new("ship1").unwrap_or_else(|error| panic!("{error}"));
    let mut packer = Packer::default();
    if let Ok(chunk) = wire::chunk::decode(Some(headers), body, &mut packer) {
        assert!(chunk.bytes.len() <= CHUNK_BYTES_MAX);
    }
    if let Ok(body) = packer.unpack_json(Some(headers), body) {
        assert!(body.len() <= BODY_BYTES_MAX);
        drop(wire::envelope::decode(&body, &me, Kind::CommandAck, "ShellCommand"));
    }
}

/// Whether there is a body in this, and so many headers.
#[cfg(test)]
pub(super) fn headers_in(bytes: &[u8]) -> Option<usize> {
    let opened = sealing::parse(message(bytes).payload).ok()?;
    read(&opened);
    Some(opened.headers.len())
}

/// Whether it is a genuine box.
#[cfg(test)]
pub(super) fn is_opened(bytes: &[u8]) -> bool {
    let message = message(bytes);
    let signer = KeyPair::from_seed(NODE_SEED, KeyKind::User).unwrap().public();
    let key = SealKey::from_seed(SEAL_SEED).unwrap();
    Sessions::default().open(&key, Bound { signer: &signer, subject: &message.subject }, &message.payload).is_ok()
}
