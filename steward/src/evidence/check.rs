//! Whether evidence holds: everything is worked out again from the key of the fleet on, and nothing is believed because
//! it was believed before.

use protocol::message::{Kind, MessageId};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Outcome, Progress};
use protocol::time::Wall;

use super::verdict::Answer;
use super::{Evidence, signed_bytes, tree};
use crate::broker::wire::receipts::decode_receipt;
use crate::clock::rfc3339;
use crate::security::certificate::{Certificate, CertificateError};
use crate::security::keys::PublicKey;
use crate::security::revocations::Revoked;

/// The command whose end is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Its identity.
    pub(crate) id: MessageId,
    /// Who has sent it.
    pub(crate) from: NodeName,
    /// Who has run it.
    pub(crate) to: NodeName,
    /// Its type.
    pub(crate) kind: Kind,
    /// Its method.
    pub(crate) method: MethodName,
    /// Its data, as JSON text.
    pub(crate) data: String,
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    /// What the fleet says of the node that has signed.
    pub(crate) certificate: Certificate,
    /// The key with which it has: that of the certificate, or the one before it.
    pub(crate) key: PublicKey,
    /// How the command has ended, as that node says.
    pub(crate) outcome: Outcome,
}

impl Proven {
    /// What a revocation of the key means for it: what was signed before stands, as far as the node's clock can be believed.
    pub(crate) fn standing(&self, revoked: Option<Wall>) -> (Answer, Option<String>) {
        let Certificate { name, .. } = &self.certificate;
        match revoked {
            None => (Answer::Holds, None),
            Some(at) if self.outcome.finished < at => {
                let at = rfc3339(at);
                let why = format!(
                    "the key of node {name} was revoked later, at {at}; whoever has it now could sign this, too"
                );
                (Answer::Holds, Some(why))
            }
            Some(at) => {
                let at = rfc3339(at);
                (
                    Answer::Revoked,
                    Some(format!("the key of node {name} was revoked at {at}, before the command had ended")),
                )
            }
        }
    }
}

/// Why evidence does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The certificate.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// Somebody else has signed.
    #[error("it was signed by node {signed}, and the command was for node {to}")]
    Name {
        /// Who has signed.
        signed: NodeName,
        /// Whom the command was for.
        to: NodeName,
    },
    /// The signature.
    #[error(
        "the signature is not that of node {0} over this receipt for this sender: something was altered, or the node has \
         never signed it"
    )]
    Signature(NodeName),
    /// The receipt can't be read.
    #[error("the signed receipt can't be read: {0}")]
    Receipt(String),
    /// It is for something else.
    #[error("the signed receipt is for another command: its {0} is not that of this message")]
    Other(&'static str),
    /// The certificate was not valid at that time.
    #[error("the certificate of node {name} had ended when the command did, by the node's own clock")]
    Expired {
        /// The node.
        name: NodeName,
    },
}

/// Checks what was signed of the end of `command`, for whoever trusts `fleet` and nobody else. Takes about 150 µs.
pub(crate) fn check(evidence: &Evidence, command: &Command, fleet: &PublicKey) -> Result<Proven, Broken> {
    let certificate = Certificate::verify(&evidence.certificate, fleet)?;
    if certificate.name != command.to {
        return Err(Broken::Name { signed: certificate.name, to: command.to.clone() });
    }
    let root = tree::climb(tree::leaf(evidence.receipt.as_bytes()), &evidence.path);
    let bytes = signed_bytes(fleet, &command.to, &command.from, &root);
    // While a node renews its keys, the one before is its own as well: its certificate says so.
    let mut keys = [Some(certificate.key), certificate.renews].into_iter().flatten();
    let Some(key) = keys.find(|key| key.verify(&bytes, &evidence.signature)) else {
        return Err(Broken::Signature(certificate.name));
    };
    let (receipt, subject) = decode_receipt(&evidence.receipt).map_err(|error| Broken::Receipt(error.to_string()))?;
    let Progress::Final(outcome) = receipt.progress else {
        return Err(Broken::Receipt("it does not say how the command has ended".to_owned()));
    };
    let subject = subject.ok_or(Broken::Other("data"))?;
    let data_hash = *blake3::hash(command.data.as_bytes()).as_bytes();
    let same = [
        ("id", receipt.id == command.id),
        ("type", subject.kind == command.kind),
        ("method", subject.method == command.method),
        ("data", subject.data_hash == data_hash),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        return Err(Broken::Other(what));
    }
    if !certificate.holds(outcome.finished) {
        return Err(Broken::Expired { name: certificate.name });
    }
    Ok(Proven { certificate, key, outcome })
}

/// When the key that has signed was revoked, if it was.
pub(crate) fn revoked_at(key: &PublicKey, revoked: &[Revoked]) -> Option<Wall> {
    let key = key.to_string();
    revoked.iter().find(|revoked| revoked.key == key).map(|revoked| Wall(revoked.at_ms))
}
