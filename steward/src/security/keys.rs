//! Keys in the text form of NATS (nkeys): one kind of key for the login at the broker and for what nodes sign.
//!
//! A public key is 56 characters, a seed 58; the first letters say whose it is (`U` a node, `A` a fleet or a NATS
//! account, `O` a NATS operator, `X` a key for sealing; seeds have an `S` before it). A seed never shows up in `Debug`
//! and is wiped from memory when it is dropped.

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::MontgomeryPoint;
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// Bytes of a public key and of a seed, before they become text.
const KEY_BYTES: usize = 32;

/// Characters of a public key.
const PUBLIC_CHARS: usize = 56;

/// Characters of a seed.
pub(crate) const SEED_CHARS: usize = 58;

/// What the first byte of every seed says, before the kind.
const SEED_PREFIX: u8 = 18 << 3;

/// What the first byte of a public key for sealing says.
const SEAL_PREFIX: u8 = 23 << 3;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum KeyKind {
    /// A NATS operator: vouches for accounts.
    Operator,
    /// A NATS account, or a fleet: vouches for users, or for nodes.
    Account,
    /// A NATS user: a node.
    User,
}

impl KeyKind {
    const ALL: [(Self, u8, &'static str); 3] = [
        (Self::Operator, 14 << 3, "an operator's"),
        (Self::Account, 0, "a fleet's or account's"),
        (Self::User, 20 << 3, "a node's"),
    ];

    fn prefix(self) -> u8 {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, prefix, _)| *prefix)
    }

    fn of_prefix(prefix: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == prefix).map(|(kind, ..)| *kind)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, ..)| kind == self).map_or("", |(.., name)| name))
    }
}

/// Why a text is no key. Never quotes it: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// It has another length.
    #[error("it has {found} characters and a key of this form has {expected}")]
    Length {
        /// What it has.
        found: usize,
        /// What it should have.
        expected: usize,
    },
    /// It is not base32, or a character is wrong.
    #[error("it is no key: a character is wrong or missing")]
    Damaged,
    /// It is a key of another kind.
    #[error("it is not {0} key")]
    Kind(KeyKind),
    /// It is no key for sealing.
    #[error("it is no key for sealing (X…)")]
    Seal,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// A public key. Whether it is one that can have signed anything shows when something is verified with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PublicKey {
    kind: KeyKind,
    key: [u8; KEY_BYTES],
}

impl PublicKey {
    /// Reads a key that has to be of this kind.
    pub(crate) fn parse(text: &str, kind: KeyKind) -> Result<Self, KeyError> {
        let key: Self = text.parse()?;
        if key.kind == kind { Ok(key) } else { Err(KeyError::Kind(kind)) }
    }

    /// Whether `signature` over `bytes` was made with this key. Weak keys and signatures in another form are refused.
    #[must_use]
    pub(crate) fn verify(&self, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let key = VerifyingKey::from_bytes(&self.key);
        key.is_ok_and(|key| key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let raw = decode(text, PUBLIC_CHARS)?;
        let (prefix, key) = raw.split_first().ok_or(KeyError::Damaged)?;
        let kind = KeyKind::of_prefix(*prefix).ok_or(KeyError::Damaged)?;
        Ok(Self { kind, key: key.try_into().map_err(|_| KeyError::Damaged)? })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&[self.kind.prefix()], &self.key))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A pair of keys that signs.
pub(crate) struct KeyPair {
    kind: KeyKind,
    key: SigningKey,
}

impl KeyPair {
    /// A new one, from the system's random bytes.
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(Self { kind, key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a seed (`SU…`, `SA…`, `SO…`) that has to be of this kind.
    pub(crate) fn from_seed(text: &str, kind: KeyKind) -> Result<Self, KeyError> {
        let raw = decode(text, SEED_CHARS)?;
        let (prefix, seed) = raw.split_first_chunk::<2>().ok_or(KeyError::Damaged)?;
        let found = prefix_of_seed(*prefix).and_then(KeyKind::of_prefix).ok_or(KeyError::Damaged)?;
        if found != kind {
            return Err(KeyError::Kind(kind));
        }
        let seed = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(seed).map_err(|_| KeyError::Damaged)?);
        Ok(Self { kind, key: SigningKey::from_bytes(&seed) })
    }

    /// The seed. Whoever has it can sign as this node.
    pub(crate) fn seed(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.key.to_bytes());
        Zeroizing::new(encode(&seed_prefix(self.kind.prefix()), seed.as_ref()))
    }

    /// What others know it by.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey { kind: self.kind, key: self.key.verifying_key().to_bytes() }
    }

    /// Signs. Takes about 20 µs.
    #[must_use]
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, seed hidden)", self.public())
    }
}

/// A public key (x25519) that something can be sealed for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SealPublic([u8; KEY_BYTES]);

impl SealPublic {
    /// The key itself, as it stands inside what is sealed.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl From<[u8; KEY_BYTES]> for SealPublic {
    fn from(key: [u8; KEY_BYTES]) -> Self {
        Self(key)
    }
}

impl FromStr for SealPublic {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match decode(text, PUBLIC_CHARS)?.split_first() {
            Some((&SEAL_PREFIX, key)) => Ok(Self(key.try_into().map_err(|_| KeyError::Damaged)?)),
            Some(_) | None => Err(KeyError::Seal),
        }
    }
}

impl fmt::Display for SealPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&[SEAL_PREFIX], &self.0))
    }
}

impl fmt::Debug for SealPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A pair of keys (x25519) that opens what was sealed for it.
pub(crate) struct SealKey {
    secret: Zeroizing<[u8; KEY_BYTES]>,
    public: SealPublic,
}

impl SealKey {
    /// A new one, from the system's random bytes.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(secret.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(Self::new(secret))
    }

    /// Reads a seed (`SX…`).
    pub(crate) fn from_seed(text: &str) -> Result<Self, KeyError> {
        let raw = decode(text, SEED_CHARS)?;
        let (prefix, secret) = raw.split_first_chunk::<2>().ok_or(KeyError::Damaged)?;
        if prefix_of_seed(*prefix) != Some(SEAL_PREFIX) {
            return Err(KeyError::Seal);
        }
        Ok(Self::new(Zeroizing::new(secret.try_into().map_err(|_| KeyError::Damaged)?)))
    }

    fn new(secret: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let public = SealPublic(MontgomeryPoint::mul_base_clamped(*secret).to_bytes());
        Self { secret, public }
    }

    /// The seed. Whoever has it can read what was sealed for this node.
    pub(crate) fn seed(&self) -> Zeroizing<String> {
        Zeroizing::new(encode(&seed_prefix(SEAL_PREFIX), self.secret.as_ref()))
    }

    /// What others seal with.
    pub(crate) fn public(&self) -> SealPublic {
        self.public
    }

    /// What only the holders of this pair and of the other one can know; none for a key that leaves no secret, which nobody
    /// honest has. Takes about 50 µs.
    pub(crate) fn agree(&self, other: &SealPublic) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let shared = Zeroizing::new(MontgomeryPoint(other.0).mul_clamped(*self.secret).to_bytes());
        (*shared != [0; KEY_BYTES]).then_some(shared)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({}, seed hidden)", self.public)
    }
}

/// The two first bytes of a seed, whose public key has this prefix.
fn seed_prefix(prefix: u8) -> [u8; 2] {
    [SEED_PREFIX | prefix >> 5, (prefix & 31) << 3]
}

/// The prefix of the public key to the two first bytes of a seed.
fn prefix_of_seed([first, second]: [u8; 2]) -> Option<u8> {
    (first & 248 == SEED_PREFIX).then_some((first & 7) << 5 | second >> 3)
}

fn encode(prefix: &[u8], key: &[u8]) -> String {
    let mut raw = Zeroizing::new(Vec::with_capacity(prefix.len() + key.len() + 2));
    raw.extend_from_slice(prefix);
    raw.extend_from_slice(key);
    let check = crc16(&raw);
    raw.extend_from_slice(&check.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

fn decode(text: &str, chars: usize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if text.len() != chars {
        return Err(KeyError::Length { found: text.len(), expected: chars });
    }
    let mut raw = Zeroizing::new(BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| KeyError::Damaged)?);
    let (key, check) = raw.split_last_chunk::<2>().ok_or(KeyError::Damaged)?;
    if crc16(key) != u16::from_le_bytes(*check) {
        return Err(KeyError::Damaged);
    }
    let len = key.len();
    raw.truncate(len);
    Ok(raw)
}

/// CRC-16 as XMODEM has it: finds what was mistyped, protects from nobody.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests;
