//! What a node and central say to each other while the node joins. Each side signs: the node with the invitation's key
//! and its own, central with the fleet key. Nothing here is secret.

use data_encoding::BASE64URL_NOPAD;
use protocol::name::NodeName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::security::keys::{KeyKind, KeyPair, PublicKey, SIGNATURE_BYTES, SealPublic};

/// Before the id of the invitation with which somebody asks to join.
const JOIN_PREFIX: &str = "$STEWARD.join.";

/// Before the id of the invitation whose user is answered.
const JOINED_PREFIX: &str = "$STEWARD.joined.";

/// What central listens to.
pub(crate) const JOIN_ALL: &str = "$STEWARD.join.*";

/// The longest request, in bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// The longest answer, in bytes: a certificate, a NATS user, central's certificate, and a CA.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Characters of an id.
const ID_CHARS: usize = 22;

/// Before what a node signs, so that the signatures are good for nothing else.
const REQUEST_SIGNED_FOR: &str = "steward-join-1";

/// Before what central signs.
const ANSWER_SIGNED_FOR: &str = "steward-joined-1";

/// Where one asks to join.
pub(crate) fn join(id: &str) -> String {
    format!("{JOIN_PREFIX}{id}")
}

/// Where the answer comes.
pub(crate) fn joined(id: &str) -> String {
    format!("{JOINED_PREFIX}{id}")
}

/// The invitation that a request is about, if the subject is one of those.
pub(crate) fn id_in(subject: &str) -> Option<&str> {
    let id = subject.strip_prefix(JOIN_PREFIX)?;
    let fine =
        id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    fine.then_some(id)
}

/// A node asks to join.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    /// The invitation.
    pub(crate) id: String,
    /// The node's name, which has to be the invitation's.
    pub(crate) name: String,
    /// The key with which it will sign.
    pub(crate) node_key: String,
    /// The key for which others will seal.
    pub(crate) seal_key: String,
    /// Made with the invitation's key: the node has the token.
    invitation_signature: String,
    /// Made with the node's key: the key is its own.
    node_signature: String,
}

/// Why a request is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// Too long.
    #[error("it has {0} bytes; at most {REQUEST_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not JSON, or not of this form.
    #[error("it can't be read: {0}")]
    Form(String),
    /// A key makes no sense.
    #[error("its {0} makes no sense")]
    Key(&'static str),
    /// A signature is wrong.
    #[error("it is not signed with {0}")]
    Signature(&'static str),
}

impl Request {
    /// A request for this node, which has the token and its own keys.
    pub(crate) fn new(id: &str, name: &NodeName, invitation: &KeyPair, node: &KeyPair, seal: &SealPublic) -> Self {
        let (node_key, seal_key) = (node.public().to_string(), seal.to_string());
        let mut request = Self {
            id: id.to_owned(),
            name: name.to_string(),
            node_key,
            seal_key,
            invitation_signature: String::new(),
            node_signature: String::new(),
        };
        let signed = request.signed();
        request.invitation_signature = sign(invitation, &signed);
        request.node_signature = sign(node, &signed);
        request
    }

    /// Reads a request. The signatures are for [`Self::prove`].
    pub(crate) fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong(body.len()));
        }
        serde_json::from_slice(body).map_err(|error| RequestError::Form(error.to_string()))
    }

    /// The keys, if whoever asks has shown to have this invitation and the node's key.
    pub(crate) fn prove(&self, invitation: &PublicKey) -> Result<(PublicKey, SealPublic), RequestError> {
        let node = PublicKey::parse(&self.node_key, KeyKind::User).map_err(|_| RequestError::Key("node key"))?;
        let seal: SealPublic = self.seal_key.parse().map_err(|_| RequestError::Key("seal key"))?;
        let signed = self.signed();
        for (key, signature, whose) in [
            (invitation, &self.invitation_signature, "the invitation's key"),
            (&node, &self.node_signature, "the node's key"),
        ] {
            if !is_signed(key, &signed, signature) {
                return Err(RequestError::Signature(whose));
            }
        }
        Ok((node, seal))
    }

    fn signed(&self) -> String {
        let Self { id, name, node_key, seal_key, .. } = self;
        format!("{REQUEST_SIGNED_FOR}\n{id}\n{name}\n{node_key}\n{seal_key}\n")
    }
}

/// What central answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// The invitation.
    pub(crate) id: String,
    /// The node key that was in the request.
    pub(crate) node_key: String,
    /// What it comes to.
    pub(crate) verdict: Verdict,
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// The node is one of the fleet.
    Welcome(Welcome),
    /// It is not, for this reason.
    Refused(String),
}

/// What a new node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Welcome {
    /// The node's certificate.
    pub(crate) certificate: String,
    /// Central's certificate.
    pub(crate) central: String,
    /// The node's NATS user (JWT), where the broker is the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    said: String,
    signature: String,
}

impl Answer {
    /// As it is published.
    pub(crate) fn seal(&self, fleet: &KeyPair) -> serde_json::Result<String> {
        seal(self, ANSWER_SIGNED_FOR, fleet)
    }

    /// Reads an answer; none if `fleet` has not signed it.
    pub(crate) fn open(body: &[u8], fleet: &PublicKey) -> Option<Self> {
        open(body, ANSWER_SIGNED_FOR, fleet)
    }
}

/// An answer of central as it is published, signed with the fleet key for one purpose.
pub(super) fn seal<T: Serialize>(answer: &T, purpose: &str, fleet: &KeyPair) -> serde_json::Result<String> {
    let said = serde_json::to_string(answer)?;
    let signature = sign(fleet, &signed_for(purpose, &said));
    serde_json::to_string(&Signed { said, signature })
}

/// Reads an answer; none if `fleet` has not signed it for this purpose.
pub(super) fn open<T: DeserializeOwned>(body: &[u8], purpose: &str, fleet: &PublicKey) -> Option<T> {
    if body.len() > ANSWER_BYTES_MAX {
        return None;
    }
    let Signed { said, signature } = serde_json::from_slice(body).ok()?;
    is_signed(fleet, &signed_for(purpose, &said), &signature).then(|| serde_json::from_str(&said).ok()).flatten()
}

fn signed_for(purpose: &str, said: &str) -> String {
    format!("{purpose}\n{said}")
}

/// The signature over a text, as it stands in JSON.
pub(super) fn sign(key: &KeyPair, text: &str) -> String {
    BASE64URL_NOPAD.encode(&key.sign(text.as_bytes()))
}

/// Whether that is this key's signature over this text.
pub(super) fn is_signed(key: &PublicKey, text: &str, signature: &str) -> bool {
    let signature: Option<[u8; SIGNATURE_BYTES]> =
        BASE64URL_NOPAD.decode(signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    signature.is_some_and(|signature| key.verify(text.as_bytes(), &signature))
}
