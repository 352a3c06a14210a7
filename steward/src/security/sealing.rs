//! Sealing: a body that nobody but its receiver can read, and the headers that belong to it.
//!
//! The sender makes a pair of keys for each receiver, agrees with the receiver's key on a secret, and forgets the private half
//! at once: so whoever gets the sender's files later reads nothing of what it has sent. The pair is used for
//! [`SESSION_MS_MAX`]; each body has a key of its own, made of the secret and of random bytes, so that nothing is ever
//! encrypted twice with one key. Who has sealed it and for which subject is bound into the box. `docs/wire.md` has the form.
//!
//! It decides about nobody: who has sent a box is the business of the signature over it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use protocol::name::NodeName;
use protocol::time::Wall;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::keys::{KeyError, PublicKey, SealKey, SealPublic};
use super::signing::{self, Unreadable};

/// The key for which the body is sealed; absent for a plain one.
pub(crate) const SEAL: HeaderName = HeaderName::from_static("Steward-Seal");

/// What the bound context begins with: a box for another purpose is none for this.
const PURPOSE: &str = "steward-seal-1";

/// What the secret of a session is made for.
const SESSION: &str = "steward 2026-11-23 seal 1: the secret of a session";

/// Bytes of the public half of a session's key.
const SESSION_KEY_BYTES: usize = 32;

/// Bytes by which the key of one body differs from all others: so many that random ones never meet.
const SALT_BYTES: usize = 24;

/// Bytes by which an altered box is found out.
const TAG_BYTES: usize = 16;

/// Bytes before what is sealed.
const HEAD_BYTES: usize = SESSION_KEY_BYTES + SALT_BYTES;

/// Bytes that sealing adds to a publish at most: the box, its header, and the line between headers and body in it.
pub(crate) const OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES + 80;

/// The longest box, in bytes: the longest body, packed or not, with the headers in it.
const BOX_BYTES_MAX: usize = 8 * 1024 * 1024 + HEADERS_BYTES_MAX + HEAD_BYTES + TAG_BYTES;

/// Bytes of the headers in a box at most.
const HEADERS_BYTES_MAX: usize = 1024;

/// Headers in a box at most.
const HEADERS_MAX: usize = 8;

/// How long one session is used, in milliseconds: what its secret opens is no more than that, and a new one costs both sides
/// 0.1 ms.
const SESSION_MS_MAX: u64 = 10 * 60 * 1000;

/// Sessions that are kept for those that we seal for (150 bytes each). With more, all are made anew.
const SEALING_MAX: usize = 65_536;

/// Sessions that are kept of those that have sealed for us (150 bytes each). With more, all are worked out anew.
const OPENING_MAX: usize = 65_536;

/// The secret of a session, wiped when it is dropped.
type Secret = Zeroizing<[u8; 32]>;

/// What a node seals that does not ask for it, and what it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// All that it sends.
    pub(crate) all: bool,
    /// All that it sends to these.
    pub(crate) to: Arc<BTreeSet<NodeName>>,
    /// Messages that come in plain are refused.
    pub(crate) require: bool,
}

impl Policy {
    /// Whether everything for this node is sealed.
    pub(crate) fn covers(&self, to: &NodeName) -> bool {
        self.all || self.to.contains(to)
    }

    /// Whether it asks for anything.
    pub(crate) fn is_used(&self) -> bool {
        self.all || self.require || !self.to.is_empty()
    }

    /// Why a message is refused before any rule is asked.
    pub(crate) fn refusal(&self, sealed: bool) -> Option<&'static str> {
        (self.require && !sealed).then_some(PLAIN)
    }
}

/// What is said to whoever sends a plain message to a node that wants all of them sealed.
const PLAIN: &str = "it is not sealed, and this node takes sealed messages only (its option seal is require): send it again \
                     with \"seal\": true (steward send --seal), or start the node that sends it with --seal";

/// What a box is bound to, so that it can't be passed off for another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'a> {
    /// The key that signs it.
    pub(crate) signer: &'a PublicKey,
    /// The subject on which it travels.
    pub(crate) subject: &'a str,
}

impl Bound<'_> {
    fn text(&self) -> String {
        format!("{PURPOSE}\n{}\n{}\n", self.signer, self.subject)
    }
}

/// What was in a box.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    /// The headers of ours that belong to the body.
    pub(crate) headers: HeaderMap,
    /// The body, as it was before it was sealed: compressed, if the headers say so.
    pub(crate) body: Bytes,
}

/// Why a box can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopenable {
    /// It is too short or too long for a box.
    Length,
    /// It was altered, or is for somebody else, or was sealed by somebody else than who signed it.
    Altered,
    /// What is in it has no form that a node would give it.
    Content,
}

/// The sessions of one process.
#[derive(Default)]
pub(crate) struct Sessions {
    sealing: Mutex<HashMap<SealPublic, Session>>,
    /// By the sender's key of the session, and ours.
    opening: Mutex<HashMap<(SealPublic, SealPublic), Secret>>,
}

#[derive(Clone)]
struct Session {
    public: SealPublic,
    secret: Secret,
    since: Wall,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(secrets hidden)")
    }
}

impl Sessions {
    /// Seals a body and its headers for `to`. Takes about a microsecond and some more for long bodies; 0.1 ms for the first
    /// one of a session.
    pub(crate) fn seal(
        &self,
        to: &SealPublic,
        bound: Bound<'_>,
        now: Wall,
        headers: Option<&HeaderMap>,
        body: &[u8],
    ) -> Result<(HeaderMap, Bytes), KeyError> {
        let session = self.session(to, now)?;
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| KeyError::Random)?;
        let lines = lines(headers);
        let mut sealed = Vec::with_capacity(HEAD_BYTES + lines.len() + 1 + body.len() + TAG_BYTES);
        sealed.extend_from_slice(session.public.bytes());
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(lines.as_bytes());
        sealed.push(b'\n');
        sealed.extend_from_slice(body);
        let key = key_of(&session.secret, &salt).ok_or(KeyError::Seal)?;
        let (_, content) = sealed.split_at_mut(HEAD_BYTES);
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(bound.text()), content);
        sealed.extend_from_slice(tag.map_err(|_| KeyError::Seal)?.as_ref());
        let mut outside = HeaderMap::new();
        outside.insert(SEAL, to.to_string());
        Ok((outside, sealed.into()))
    }

    /// Opens what was sealed for `key`. Allocates no more than the box has bytes. Takes about a microsecond and some more for
    /// long bodies; 0.05 ms for the first one of a session.
    pub(crate) fn open(&self, key: &SealKey, bound: Bound<'_>, sealed: &[u8]) -> Result<Opened, Unopenable> {
        if sealed.len() > BOX_BYTES_MAX {
            return Err(Unopenable::Length);
        }
        let (public, rest) = sealed.split_first_chunk::<SESSION_KEY_BYTES>().ok_or(Unopenable::Length)?;
        let (salt, content) = rest.split_first_chunk::<SALT_BYTES>().ok_or(Unopenable::Length)?;
        if content.len() <= TAG_BYTES {
            return Err(Unopenable::Length);
        }
        let session = (SealPublic::from(*public), key.public());
        let known = self.lock_opening().get(&session).cloned();
        let is_new = known.is_none();
        let secret = match known {
            Some(secret) => secret,
            None => secret_of(key, &session.0, &session.0, &session.1).ok_or(Unopenable::Altered)?,
        };
        let message_key = key_of(&secret, salt).ok_or(Unopenable::Altered)?;
        let mut content = content.to_vec();
        let opened = message_key.open_in_place(nonce(), Aad::from(bound.text()), &mut content);
        let len = opened.map_err(|_| Unopenable::Altered)?.len();
        content.truncate(len);
        // Only what was genuine takes a place.
        if is_new {
            let mut opening = self.lock_opening();
            if opening.len() >= OPENING_MAX {
                opening.clear();
            }
            opening.insert(session, secret);
        }
        parse(content.into())
    }

    /// The session with the holder of `to`: the one in use, or a new one.
    fn session(&self, to: &SealPublic, now: Wall) -> Result<Session, KeyError> {
        let mut sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes a session old, too.
        let known = sealing.get(to).filter(|session| session.since.0.abs_diff(now.0) < SESSION_MS_MAX);
        if let Some(session) = known {
            return Ok(session.clone());
        }
        let own = SealKey::generate()?;
        let secret = secret_of(&own, to, &own.public(), to).ok_or(KeyError::Seal)?;
        let session = Session { public: own.public(), secret, since: now };
        if sealing.len() >= SEALING_MAX {
            sealing.clear();
        }
        sealing.insert(*to, session.clone());
        Ok(session)
    }

    fn lock_opening(&self) -> MutexGuard<'_, HashMap<(SealPublic, SealPublic), Secret>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key for which something is sealed, if it is sealed at all. Nothing of it is proven.
pub(crate) fn sealed_for(headers: Option<&HeaderMap>) -> Result<Option<SealPublic>, Unreadable> {
    let Some(headers) = headers else { return Ok(None) };
    let Some(text) = signing::one(headers, SEAL, "Steward-Seal")? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Unreadable::Header("Steward-Seal"))
}

/// The secret that one side works out of its private key and the other's public one; the same on both sides.
fn secret_of(own: &SealKey, other: &SealPublic, sender: &SealPublic, receiver: &SealPublic) -> Option<Secret> {
    let shared = own.agree(other)?;
    let mut hasher = blake3::Hasher::new_derive_key(SESSION);
    for part in [shared.as_ref(), sender.bytes(), receiver.bytes()] {
        hasher.update(part);
    }
    let secret = Zeroizing::new(*hasher.finalize().as_bytes());
    zeroize::Zeroize::zeroize(&mut hasher);
    Some(secret)
}

/// The key of one body.
fn key_of(secret: &Secret, salt: &[u8; SALT_BYTES]) -> Option<LessSafeKey> {
    let key = Zeroizing::new(*blake3::keyed_hash(secret, salt).as_bytes());
    UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).ok().map(LessSafeKey::new)
}

/// Each key is used for one body, so they can all have the same.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}

/// Headers as they stand in a box.
fn lines(headers: Option<&HeaderMap>) -> String {
    let mut lines = String::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        for value in values {
            // Writing to a string can't fail.
            let _written: fmt::Result = writeln!(lines, "{name}: {}", value.as_str());
        }
    }
    lines
}

/// Takes headers and body of an opened box apart.
pub(crate) fn parse(content: Bytes) -> Result<Opened, Unopenable> {
    let mut headers = HeaderMap::new();
    let mut at = 0;
    loop {
        let rest = content.get(at..).ok_or(Unopenable::Content)?;
        let window = rest.get(..HEADERS_BYTES_MAX.saturating_sub(at).min(rest.len())).ok_or(Unopenable::Content)?;
        let end = window.iter().position(|byte| *byte == b'\n').ok_or(Unopenable::Content)?;
        let line = window.get(..end).ok_or(Unopenable::Content)?;
        at += end + 1;
        if line.is_empty() {
            return Ok(Opened { headers, body: content.slice(at..) });
        }
        let (name, value) = header(line).ok_or(Unopenable::Content)?;
        if headers.len() >= HEADERS_MAX || headers.get(name.clone()).is_some() {
            return Err(Unopenable::Content);
        }
        headers.insert(name, value);
    }
}

/// One header of ours.
fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~')))?;
    let (name, value) = line.split_once(": ")?;
    let name = Some(name).filter(|name| name.starts_with("Steward-"))?;
    Some((name.parse().ok()?, value.parse().ok()?))
}

#[cfg(test)]
mod tests;
