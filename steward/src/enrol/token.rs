//! The text that `steward invite` prints and `steward join` takes: where the broker is, whom to believe, and a key that
//! is good for asking once.
//!
//! ```text
//! steward1.BASE64URL( zstd( signature, 64 bytes ‖ JSON ) ‖ check, 4 bytes )
//! ```
//! The check tells a token that was cut off or mistyped. The signature of the fleet key tells one that was altered. The
//! JSON is compressed because the whole has to fit a QR code.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use protocol::name::NodeName;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::rfc3339;
use crate::security::certificate::Role;
use crate::security::keys::{KeyError, KeyKind, KeyPair, PublicKey, SIGNATURE_BYTES};

/// What a token of this version begins with.
const PREFIX: &str = "steward1.";

/// What a token of any version begins with.
const PREFIX_ANY: &str = "steward";

/// The longest token, in characters.
pub(crate) const TOKEN_CHARS_MAX: usize = 16 * 1024;

/// The longest content of a token once it is no longer compressed, in bytes.
const PLAIN_BYTES_MAX: usize = 32 * 1024;

/// Bytes of the check at the end.
const CHECK_BYTES: usize = 4;

/// Before what is signed, so that the signature is good for nothing else.
const SIGNED_FOR: &[u8] = b"steward-invitation-1\n";

/// The best that zstd does within reason: a token is made once, and its length is what people see.
const LEVEL: i32 = 19;

/// Addresses of brokers in a token at most.
pub(crate) const BROKERS_MAX: usize = 16;

/// What an invitation says.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Token {
    /// Its id: 22 characters of base64url.
    pub(crate) id: String,
    /// The name that the node will have.
    #[serde(with = "name_as_text")]
    pub(crate) name: NodeName,
    /// The role that it will have.
    pub(crate) role: Role,
    /// The labels that it will have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Until when it can be used, in milliseconds since 1970.
    pub(crate) expires_ms: u64,
    /// The fleet's public key: what this one has not signed is not believed.
    pub(crate) fleet: String,
    /// Where the broker is.
    pub(crate) brokers: Vec<String>,
    /// The CA that vouches for the broker (PEM), where that is not somebody that everybody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// The seed of the invitation's key, with which the node asks and, with `user`, logs in.
    seed: String,
    /// A NATS user (JWT) that may ask to join and nothing else, where the broker is the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
}

mod name_as_text {
    use protocol::name::NodeName;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(name: &NodeName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<NodeName, D::Error> {
        NodeName::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Why a token is not taken. Never quotes it: it holds a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Something else.
    #[error("this is no invitation: one begins with {PREFIX:?} (steward invite NAME on central makes one)")]
    NotOne,
    /// Of another version.
    #[error(
        "this invitation is of another version of steward ({0}); update steward on this machine, or on central and invite again"
    )]
    Version(String),
    /// Too long.
    #[error("this is no invitation: it has {0} characters, and one has at most {TOKEN_CHARS_MAX}")]
    TooLong(usize),
    /// The check does not fit.
    #[error(
        "the invitation is not whole: a character is missing or wrong; copy it again from its beginning to its end"
    )]
    Damaged,
    /// The signature does not fit.
    #[error(
        "the invitation was altered: the fleet that it names has not signed it like this; do not use it, and ask for \
         another one (steward invite NAME on central)"
    )]
    Altered,
    /// The content makes no sense.
    #[error("the invitation makes no sense ({0}); ask for another one (steward invite NAME on central)")]
    Content(String),
    /// Its time is over.
    #[error(
        "the invitation expired at {0}; ask for another one (steward invite NAME on central), or set this machine's clock if it is wrong"
    )]
    Expired(String),
    /// It would be too long.
    #[error("the invitation would have {found} {what}; at most {max} are possible")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        found: usize,
        /// How much is possible.
        max: usize,
    },
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} for {}, seed hidden)", self.id, self.name)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.seed);
    }
}

/// What an invitation is made of, beside what is made for it alone.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// The name that the node will have.
    pub(crate) name: NodeName,
    /// The role that it will have.
    pub(crate) role: Role,
    /// The labels that it will have.
    pub(crate) labels: BTreeMap<String, String>,
    /// Until when it can be used.
    pub(crate) expires: Wall,
    /// Where the broker is.
    pub(crate) brokers: Vec<String>,
    /// The CA that vouches for the broker (PEM).
    pub(crate) ca: Option<String>,
}

impl Token {
    /// A new invitation with an id and a key of its own.
    pub(crate) fn new(
        draft: Draft,
        fleet: &PublicKey,
        key: &KeyPair,
        user: Option<String>,
    ) -> Result<Self, TokenError> {
        if draft.brokers.is_empty() || draft.brokers.len() > BROKERS_MAX {
            return Err(TokenError::TooMuch { what: "broker addresses", found: draft.brokers.len(), max: BROKERS_MAX });
        }
        Ok(Self {
            id: id_of(&key.public()),
            name: draft.name,
            role: draft.role,
            labels: draft.labels,
            expires_ms: draft.expires.0,
            fleet: fleet.to_string(),
            brokers: draft.brokers,
            ca: draft.ca,
            seed: key.seed().as_str().to_owned(),
            user,
        })
    }

    /// As text, signed by the fleet key.
    pub(crate) fn seal(&self, fleet: &KeyPair) -> Result<Zeroizing<String>, TokenError> {
        let failed = |error: String| TokenError::Content(error);
        let json = Zeroizing::new(serde_json::to_vec(self).map_err(|error| failed(error.to_string()))?);
        let mut plain = Zeroizing::new(Vec::with_capacity(SIGNATURE_BYTES + json.len()));
        plain.extend_from_slice(&fleet.sign(&signed_bytes(&json)));
        plain.extend_from_slice(&json);
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(TokenError::TooMuch { what: "bytes", found: plain.len(), max: PLAIN_BYTES_MAX });
        }
        let mut packed = zstd::bulk::compress(&plain, LEVEL).map_err(|error| failed(error.to_string()))?;
        packed.extend_from_slice(&check(&packed));
        let text = Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&Zeroizing::new(packed))));
        if text.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::TooMuch { what: "characters", found: text.len(), max: TOKEN_CHARS_MAX });
        }
        Ok(text)
    }

    /// Reads a token. White space around it and within is passed over: mail and terminals break long lines.
    pub(crate) fn open(text: &str) -> Result<Self, TokenError> {
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).take(TOKEN_CHARS_MAX + 1).collect());
        let Some(code) = text.strip_prefix(PREFIX) else { return Err(no_prefix(&text)) };
        if text.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let packed = BASE64URL_NOPAD.decode(code.as_bytes()).map_err(|_| TokenError::Damaged)?;
        let (packed, said) = packed.split_last_chunk::<CHECK_BYTES>().ok_or(TokenError::Damaged)?;
        if check(packed) != *said {
            return Err(TokenError::Damaged);
        }
        let plain = zstd::bulk::decompress(packed, PLAIN_BYTES_MAX).map_err(|_| TokenError::Altered)?;
        Self::of_plain(&Zeroizing::new(plain))
    }

    /// Reads what a token holds: the signature, and the JSON.
    pub(crate) fn of_plain(plain: &[u8]) -> Result<Self, TokenError> {
        let (signature, json) = plain.split_first_chunk::<SIGNATURE_BYTES>().ok_or(TokenError::Altered)?;
        // What is wrong with the content is of no interest unless the fleet has signed it.
        let token: Self = serde_json::from_slice(json).map_err(|_| TokenError::Altered)?;
        let fleet = token.fleet().map_err(|_| TokenError::Altered)?;
        if !fleet.verify(&signed_bytes(json), signature) {
            return Err(TokenError::Altered);
        }
        let content = |why: KeyError| TokenError::Content(why.to_string());
        if token.id != id_of(&token.key().map_err(content)?.public()) {
            return Err(TokenError::Content("its id is not that of its key".to_owned()));
        }
        if token.brokers.is_empty() || token.brokers.len() > BROKERS_MAX {
            return Err(TokenError::Content("it names no broker, or too many".to_owned()));
        }
        Ok(token)
    }

    /// Refuses a token whose time is over.
    pub(crate) fn check_time(&self, now: Wall) -> Result<(), TokenError> {
        if now.0 < self.expires_ms { Ok(()) } else { Err(TokenError::Expired(rfc3339(Wall(self.expires_ms)))) }
    }

    /// The fleet's public key.
    pub(crate) fn fleet(&self) -> Result<PublicKey, KeyError> {
        PublicKey::parse(&self.fleet, KeyKind::Account)
    }

    /// The invitation's key.
    pub(crate) fn key(&self) -> Result<KeyPair, KeyError> {
        KeyPair::from_seed(&self.seed, KeyKind::User)
    }
}

/// The id of the invitation with this key: nobody can make another one with the same id.
pub(crate) fn id_of(key: &PublicKey) -> String {
    BASE64URL_NOPAD.encode(&blake3::hash(key.to_string().as_bytes()).as_bytes()[..16])
}

fn signed_bytes(json: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([SIGNED_FOR, json].concat())
}

fn check(packed: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::hash(packed).as_bytes()[..CHECK_BYTES]);
    check
}

fn no_prefix(text: &str) -> TokenError {
    let version = text.split_once('.').map(|(version, _)| version).filter(|version| version.len() < 16);
    match version.and_then(|version| version.strip_prefix(PREFIX_ANY)) {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            TokenError::Version(format!("{PREFIX_ANY}{digits}"))
        }
        Some(_) | None => TokenError::NotOne,
    }
}

#[cfg(test)]
mod tests;
