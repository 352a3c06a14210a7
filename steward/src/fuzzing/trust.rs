//! What is believed: signatures, and everything that the fleet key signs. Nobody can make a signature by chance, so what
//! comes is tried as it is, and once more as claims that were signed: a key that was stolen signs anything.

use data_encoding::BASE64URL_NOPAD;
use protocol::time::Wall;

use super::arrival::message;
use crate::security::certificate::{CERTIFICATE_BYTES_MAX, Certificate};
use crate::security::keys::{KeyKind, KeyPair};
use crate::security::revocations;
use crate::security::rules::Pushed;
use crate::security::sender::Sender;
use crate::security::signing;

/// The fleet key of the targets: it signs nothing else.
const SEED: &str = "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI";

/// The key of a node.
const NODE_SEED: &str = "SUACAIJCEMSCKJRHFAUSUKZMFUXC6MBRGIZTINJWG44DSOR3HQ6T4PY7UE";

/// When it is.
const NOW: Wall = Wall(1_795_363_200_000);

pub(super) fn fleet() -> KeyPair {
    KeyPair::from_seed(SEED, KeyKind::Account).unwrap_or_else(|error| panic!("{error}"))
}

/// Certificates, lists of revoked keys and sets of rules.
pub(super) fn token(bytes: &[u8]) {
    let fleet = fleet();
    if let Ok(text) = std::str::from_utf8(bytes) {
        verify(text, &fleet);
    }
    verify(&signed(bytes, &fleet), &fleet);
}

/// A token with these claims, in which FLEET stands for the key that signs.
fn signed(claims: &[u8], fleet: &KeyPair) -> String {
    let head = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let claims = String::from_utf8_lossy(claims).replace("FLEET", &fleet.public().to_string());
    let text = format!("{head}.{}", BASE64URL_NOPAD.encode(claims.as_bytes()));
    format!("{text}.{}", BASE64URL_NOPAD.encode(&fleet.sign(text.as_bytes())))
}

#[cfg(test)]
pub(super) fn is_certificate(claims: &[u8]) -> bool {
    Certificate::verify(&signed(claims, &fleet()), &fleet().public()).is_ok()
}

fn verify(token: &str, fleet: &KeyPair) {
    if let Ok(certificate) = Certificate::verify(token, &fleet.public()) {
        assert!(token.len() <= CERTIFICATE_BYTES_MAX && *certificate.text == *token);
        let _holds: bool = certificate.holds(NOW);
        drop(Sender::certified(&certificate));
    }
    drop(Pushed::verify(token, &fleet.public()));
    let _is_list: bool = revocations::is_list(token, &fleet.public());
}

/// The headers of a signature, and what it would be over.
pub(super) fn signature(bytes: &[u8]) {
    let message = message(bytes);
    let Some(headers) = &message.headers else { return };
    let read = signing::read(Some(headers));
    let Ok(over) = signing::signed_bytes(&message.subject, headers, &message.payload) else { return };
    assert!(over.ends_with(&message.payload));
    if let Ok(signed) = read {
        assert!(!signed.key.verify(&over, &signed.signature), "a signature that nobody has made");
    }
    // What is signed here is believed here, and over nothing else.
    let key = KeyPair::from_seed(NODE_SEED, KeyKind::User).unwrap_or_else(|error| panic!("{error}"));
    let mut own = headers.clone();
    signing::sign(&key, &key.public().to_string(), NOW, None, &message.subject, &mut own, &message.payload);
    let Ok(signed) = signing::read(Some(&own)) else { return };
    // With two headers more there may be too many to be signed.
    let Ok(over) = signing::signed_bytes(&message.subject, &own, &message.payload) else { return };
    assert!(key.public().verify(&over, &signed.signature));
    let other = signing::signed_bytes(&format!("{}x", message.subject), &own, &message.payload);
    assert!(other.is_ok_and(|other| !key.public().verify(&other, &signed.signature)));
}
