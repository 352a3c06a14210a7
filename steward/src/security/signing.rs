//! Signatures of what is published: which bytes are signed, and the headers that carry them. Decides about nobody.
//!
//! Signed is everything that a receiver goes by: the subject, all headers whose name begins with `Steward-` (but the
//! signature itself), and the exact bytes of the body as it stands on the wire. `docs/wire.md` has the form.

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use data_encoding::BASE64URL_NOPAD;
use protocol::time::Wall;

use super::keys::{KeyKind, KeyPair, PublicKey, SIGNATURE_BYTES};

/// The public key of the sender.
pub(crate) const KEY: HeaderName = HeaderName::from_static("Steward-Key");

/// When it was signed, in milliseconds since 1970, by the sender's clock.
pub(crate) const TIME: HeaderName = HeaderName::from_static("Steward-Time");

/// The certificate of the sender, where the receiver may not know it.
pub(crate) const CERTIFICATE: HeaderName = HeaderName::from_static("Steward-Certificate");

/// The signature, base64url.
pub(crate) const SIGNATURE: HeaderName = HeaderName::from_static("Steward-Signature");

/// What the signed bytes begin with: a signature for another purpose is none for this.
const PURPOSE: &[u8] = b"steward-1\n";

/// The beginning of the names of headers that are signed, in any case of letters.
const PREFIX: &str = "steward-";

/// Bytes that a signature adds to a publish at most, without a certificate.
pub(crate) const OVERHEAD_BYTES: usize = 256;

/// Headers of ours that a publish may have; more make no sense, and are work for whoever checks them.
const HEADERS_MAX: usize = 16;

/// Bytes of names and values of our headers together, at most.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// What the headers say about a signature. Nothing of it is proven.
#[derive(Debug, Clone)]
pub(crate) struct Signed<'a> {
    /// The key that is said to have signed.
    pub(crate) key: PublicKey,
    /// When it is said to have been signed.
    pub(crate) at: Wall,
    /// The certificate that came with it.
    pub(crate) certificate: Option<&'a str>,
    /// The signature.
    pub(crate) signature: [u8; SIGNATURE_BYTES],
}

/// Why there is no signature to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not signed at all.
    Unsigned,
    /// A header is missing, or there twice, or makes no sense.
    Header(&'static str),
}

/// Signs a publish: adds the headers that say who has signed it, and when.
pub(crate) fn sign(
    key: &KeyPair,
    public: &str,
    at: Wall,
    certificate: Option<&str>,
    subject: &str,
    headers: &mut HeaderMap,
    body: &[u8],
) {
    headers.insert(KEY, public);
    headers.insert(TIME, at.0.to_string());
    if let Some(certificate) = certificate {
        headers.insert(CERTIFICATE, certificate);
    }
    // Headers of our own making always have a form that can be signed.
    if let Ok(bytes) = signed_bytes(subject, headers, body) {
        headers.insert(SIGNATURE, BASE64URL_NOPAD.encode(&key.sign(&bytes)));
    }
}

/// [`sign`], with the headers handed through.
pub(crate) fn signed(
    key: &KeyPair,
    public: &str,
    at: Wall,
    certificate: Option<&str>,
    subject: &str,
    mut headers: HeaderMap,
    body: &[u8],
) -> HeaderMap {
    sign(key, public, at, certificate, subject, &mut headers, body);
    headers
}

/// What the headers say about a signature.
pub(crate) fn read(headers: Option<&HeaderMap>) -> Result<Signed<'_>, Unreadable> {
    let headers = headers.ok_or(Unreadable::Unsigned)?;
    let signature = one(headers, SIGNATURE, "Steward-Signature")?.ok_or(Unreadable::Unsigned)?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let signature = signature.ok_or(Unreadable::Header("Steward-Signature"))?;
    let key = one(headers, KEY, "Steward-Key")?.and_then(|text| PublicKey::parse(text, KeyKind::User).ok());
    let at = one(headers, TIME, "Steward-Time")?.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(Signed {
        key: key.ok_or(Unreadable::Header("Steward-Key"))?,
        at: at.and_then(|text| text.parse().ok()).map(Wall).ok_or(Unreadable::Header("Steward-Time"))?,
        certificate: one(headers, CERTIFICATE, "Steward-Certificate")?,
        signature,
    })
}

/// The bytes that are signed.
pub(crate) fn signed_bytes(subject: &str, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut ours: Vec<(&str, &str)> = Vec::with_capacity(HEADERS_MAX);
    let mut len = 0;
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let is_ours = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        if !is_ours || name == AsRef::<str>::as_ref(&SIGNATURE) {
            continue;
        }
        for value in values {
            ours.push((name, value.as_str()));
            len += name.len() + value.as_str().len();
        }
    }
    // A line break in a value would let one header pass for two.
    let odd = |text: &str| text.chars().any(char::is_control);
    if ours.len() > HEADERS_MAX || len > HEADER_BYTES_MAX || ours.iter().any(|(name, value)| odd(name) || odd(value)) {
        return Err(Unreadable::Header("Steward-*"));
    }
    // Those of one name stay in their order.
    ours.sort_by_key(|(name, _)| *name);
    let mut bytes = Vec::with_capacity(PURPOSE.len() + subject.len() + len + 4 * ours.len() + body.len() + 2);
    bytes.extend_from_slice(PURPOSE);
    bytes.extend_from_slice(subject.as_bytes());
    bytes.push(b'\n');
    for (name, value) in ours {
        for part in [name, ": ", value, "\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// The value of a header that may be there once.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: HeaderName,
    text: &'static str,
) -> Result<Option<&'a str>, Unreadable> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_str())),
        (_, Some(_)) => Err(Unreadable::Header(text)),
    }
}

#[cfg(test)]
mod tests;
