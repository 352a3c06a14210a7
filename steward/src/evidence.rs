//! Evidence: what a node has signed of the end of a command, in a form that somebody else can check who trusts nobody but
//! the key of the fleet.
//!
//! A node signs each body of receipts that says how commands have ended: not the body as it travels, which may be
//! compressed or sealed, but the root of a tree ([`tree`]) whose leaves are its receipts. So one signature does for all of
//! them, and each can be shown without the others. Whoever has sent a command keeps its receipt, the way from there to
//! the root, the signature and the certificate of the signer, with the end of the message and in the same transaction.
//!
//! It decides nothing about delivery: a command ends whether there is evidence or not. `docs/evidence.md` has the form.

pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod kept;
pub(crate) mod tree;
pub(crate) mod verdict;

use std::sync::Arc;

use async_nats::header::HeaderName;
use protocol::event::Receipts;
use protocol::name::NodeName;
use protocol::outcome::{Progress, Proof};

use self::tree::Step;
use crate::broker::wire::{self, WireError};
use crate::security::certificate::CERTIFICATE_BYTES_MAX;
use crate::security::keys::{PublicKey, SIGNATURE_BYTES};

/// What the signed bytes begin with: a signature for another purpose is none for this.
const PURPOSE: &str = "steward-receipts-1";

/// The header with the signature.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("Steward-Proof");

/// The longest receipt that is kept, in bytes; nodes send up to 72 KiB. Of a longer one there is no evidence.
pub(crate) const RECEIPT_BYTES_MAX: usize = 128 * 1024;

/// The version of the form in which it is kept.
const VERSION: u8 = 1;

/// What is kept of the end of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// What the fleet says of the node that has signed.
    pub(crate) certificate: Arc<str>,
    /// Its signature over the root.
    pub(crate) signature: [u8; SIGNATURE_BYTES],
    /// The way from the receipt to the root.
    pub(crate) path: Vec<Step>,
    /// The receipt, byte by byte as it was signed.
    pub(crate) receipt: String,
}

/// The bytes that are signed: `from` says to `to` what is below this root.
pub(crate) fn signed_bytes(fleet: &PublicKey, from: &NodeName, to: &NodeName, root: &blake3::Hash) -> Vec<u8> {
    format!("{PURPOSE}\n{fleet}\n{from}\n{to}\n{}\n", root.to_hex()).into_bytes()
}

/// Puts beside each end of a command what was signed of it by the owner of this certificate. `body` is what the receipts
/// were read from. The signature is kept as it is: who has sent the receipts is proven already, and a node that signs
/// something else harms nobody but its own evidence; whoever asks for that is told.
pub(crate) fn gather(
    receipts: &mut Receipts,
    body: &[u8],
    signature: [u8; SIGNATURE_BYTES],
    certificate: &str,
) -> Result<(), WireError> {
    let texts = wire::receipts::texts(body)?;
    let leaves: Vec<blake3::Hash> = texts.iter().map(|text| tree::leaf(text.as_bytes())).collect();
    for (at, ((_, receipt), text)) in receipts.receipts.iter_mut().zip(&texts).enumerate() {
        let Progress::Final(outcome) = &mut receipt.progress else { continue };
        // What names no command proves nothing about one.
        if text.len() > RECEIPT_BYTES_MAX || wire::receipts::decode_receipt(text)?.1.is_none() {
            continue;
        }
        let path = tree::path(&leaves, at);
        outcome.proof = Some(encode(certificate, &signature, &path, text));
    }
    Ok(())
}

/// Evidence as one piece of bytes, in which it passes through the core.
fn encode(certificate: &str, signature: &[u8; SIGNATURE_BYTES], path: &[Step], receipt: &str) -> Proof {
    let proof = encode_proof(signature, path, receipt);
    let len = u16::try_from(certificate.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(certificate.len() + proof.len() + 2);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(certificate.as_bytes().get(..usize::from(len)).unwrap_or_default());
    bytes.extend_from_slice(&proof);
    Proof::new(bytes)
}

fn encode_proof(signature: &[u8; SIGNATURE_BYTES], path: &[Step], receipt: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(receipt.len() + SIGNATURE_BYTES + path.len() * 33 + 2);
    bytes.push(VERSION);
    bytes.extend_from_slice(signature);
    bytes.push(u8::try_from(path.len()).unwrap_or(u8::MAX));
    for step in path {
        let (side, hash) = match step {
            Step::Left(hash) => (0, hash),
            Step::Right(hash) => (1, hash),
        };
        bytes.push(side);
        bytes.extend_from_slice(hash.as_bytes());
    }
    bytes.extend_from_slice(receipt.as_bytes());
    bytes
}

/// The certificate, and all the rest: a store keeps a certificate once, however many ends it has signed.
pub(crate) fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (certificate, proof) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((std::str::from_utf8(certificate).ok()?, proof))
}

/// What [`split`] has taken apart. None: it is not what was kept.
pub(crate) fn join(certificate: &str, proof: &[u8]) -> Option<Evidence> {
    let (version, rest) = proof.split_first()?;
    let (signature, rest) = rest.split_first_chunk::<SIGNATURE_BYTES>()?;
    let (steps, mut rest) = rest.split_first()?;
    if *version != VERSION || usize::from(*steps) > tree::STEPS_MAX || certificate.len() > CERTIFICATE_BYTES_MAX {
        return None;
    }
    let mut path = Vec::with_capacity(usize::from(*steps));
    for _ in 0..*steps {
        let (side, after) = rest.split_first()?;
        let (hash, after) = after.split_first_chunk::<32>()?;
        let hash = blake3::Hash::from_bytes(*hash);
        path.push(match side {
            0 => Step::Left(hash),
            1 => Step::Right(hash),
            _ => return None,
        });
        rest = after;
    }
    let receipt = std::str::from_utf8(rest).ok()?.to_owned();
    Some(Evidence { certificate: Arc::from(certificate), signature: *signature, path, receipt })
}

#[cfg(test)]
pub(crate) mod fleet_of_tests;
#[cfg(test)]
mod tests;
