//! What a node and central say to each other while the node renews its keys. Whoever has the old key and the new one signs for
//! both; central signs with the fleet key. Nothing here is secret.

use protocol::name::NodeName;
use serde::{Deserialize, Serialize};

use crate::enrol::wire::{RequestError, is_signed, open, seal, sign};
use crate::security::keys::{KeyKind, KeyPair, PublicKey, SealPublic};

/// Before the name of the node that is answered. Every node may listen there; only it can do anything with it.
const ANSWER_PREFIX: &str = "$STEWARD.fleet.renewed.";

/// The longest of what a node says, in bytes.
pub(crate) const WORD_BYTES_MAX: usize = 4 * 1024;

/// Before what is signed, so that the signatures are good for nothing else.
const RENEW_SIGNED_FOR: &str = "steward-renew-1";
const USING_SIGNED_FOR: &str = "steward-using-1";
const ANSWER_SIGNED_FOR: &str = "steward-renewed-1";

/// Where central answers this node.
pub(crate) fn answers(name: &NodeName) -> String {
    format!("{ANSWER_PREFIX}{name}")
}

/// What a node says to central about its keys, on the subject of its questions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Word {
    /// It wants to be certified for a new key.
    Renew(Renew),
    /// It has put the new key to use.
    Using(Using),
}

/// A node wants to be certified for a new key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Renew {
    /// The node.
    pub(crate) name: String,
    /// The key that it has.
    pub(crate) old_key: String,
    /// The key with which it will sign.
    pub(crate) new_key: String,
    /// The key for which others will seal.
    pub(crate) new_seal_key: String,
    /// Made with the key that it has: it is that node.
    old_signature: String,
    /// Made with the new key: that is its own.
    new_signature: String,
}

/// A node has put its new key to use: whoever says so is connected with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Using {
    /// The node.
    pub(crate) name: String,
    /// The new key.
    pub(crate) key: String,
    /// Made with it.
    signature: String,
}

impl Word {
    /// Asks for a certificate for new keys.
    pub(crate) fn renew(name: &NodeName, old: &KeyPair, new: &KeyPair, seal: &SealPublic) -> Self {
        let mut renew = Renew {
            name: name.to_string(),
            old_key: old.public().to_string(),
            new_key: new.public().to_string(),
            new_seal_key: seal.to_string(),
            old_signature: String::new(),
            new_signature: String::new(),
        };
        let signed = renew.signed();
        (renew.old_signature, renew.new_signature) = (sign(old, &signed), sign(new, &signed));
        Self::Renew(renew)
    }

    /// Says that the new key is in use.
    pub(crate) fn using(name: &NodeName, new: &KeyPair) -> Self {
        let mut using = Using { name: name.to_string(), key: new.public().to_string(), signature: String::new() };
        using.signature = sign(new, &using.signed());
        Self::Using(using)
    }

    /// Reads a word. The signatures are for [`Renew::prove`] and [`Using::prove`].
    pub(crate) fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > WORD_BYTES_MAX {
            return Err(RequestError::TooLong(body.len()));
        }
        serde_json::from_slice(body).map_err(|error| RequestError::Form(error.to_string()))
    }

    /// The node that says so of itself.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Renew(renew) => &renew.name,
            Self::Using(using) => &using.name,
        }
    }

    /// The new key that it is about.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Renew(renew) => &renew.new_key,
            Self::Using(using) => &using.key,
        }
    }
}

impl Renew {
    /// The new keys, if whoever asks has shown to have both the old key and the new one.
    pub(crate) fn prove(&self) -> Result<(PublicKey, SealPublic), RequestError> {
        let key = |text: &str, what| PublicKey::parse(text, KeyKind::User).map_err(|_| RequestError::Key(what));
        let (old, new) = (key(&self.old_key, "old key")?, key(&self.new_key, "new key")?);
        let seal: SealPublic = self.new_seal_key.parse().map_err(|_| RequestError::Key("new seal key"))?;
        let signed = self.signed();
        for (key, signature, whose) in
            [(&old, &self.old_signature, "the old key"), (&new, &self.new_signature, "the new key")]
        {
            if !is_signed(key, &signed, signature) {
                return Err(RequestError::Signature(whose));
            }
        }
        Ok((new, seal))
    }

    fn signed(&self) -> String {
        let Self { name, old_key, new_key, new_seal_key, .. } = self;
        format!("{RENEW_SIGNED_FOR}\n{name}\n{old_key}\n{new_key}\n{new_seal_key}\n")
    }
}

impl Using {
    /// An error if whoever says so has not shown to have the key.
    pub(crate) fn prove(&self) -> Result<(), RequestError> {
        let key = PublicKey::parse(&self.key, KeyKind::User).map_err(|_| RequestError::Key("key"))?;
        match is_signed(&key, &self.signed(), &self.signature) {
            true => Ok(()),
            false => Err(RequestError::Signature("the new key")),
        }
    }

    fn signed(&self) -> String {
        let Self { name, key, .. } = self;
        format!("{USING_SIGNED_FOR}\n{name}\n{key}\n")
    }
}

/// What central answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// The node.
    pub(crate) name: String,
    /// The new key that it is about.
    pub(crate) key: String,
    /// What it comes to.
    pub(crate) verdict: Verdict,
}

/// What a word comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// The fleet vouches for the new key.
    Certified(Certified),
    /// It does not, for this reason.
    Refused(String),
}

/// What the node needs to use its new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certified {
    /// Its certificate.
    pub(crate) certificate: String,
    /// Its NATS user (JWT), where the broker is the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Whether central has seen the new key in use: the old one is revoked.
    pub(crate) settled: bool,
}

impl Answer {
    /// As it is published.
    pub(crate) fn seal(&self, fleet: &KeyPair) -> serde_json::Result<String> {
        seal(self, ANSWER_SIGNED_FOR, fleet)
    }

    /// What `fleet` says to this very word, if that is what has arrived. What it has not signed, or is about other keys, is for
    /// nobody here.
    pub(crate) fn to(word: &Word, body: &[u8], fleet: &PublicKey) -> Option<Verdict> {
        let answer: Self = open(body, ANSWER_SIGNED_FOR, fleet)?;
        (answer.name == word.name() && answer.key == word.key()).then_some(answer.verdict)
    }
}
