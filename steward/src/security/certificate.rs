//! What a fleet says of a node: its name, its key, its role and its labels, signed by the fleet key.
//!
//! A certificate is the only source of what a node is allowed to be: what a node says of itself is never one. Of several
//! certificates for one name the one with the highest serial counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use protocol::name::NodeName;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::keys::{KeyError, KeyKind, KeyPair, PublicKey, SealPublic};
use super::statement::{Statement, StatementError};

/// The longest certificate, in bytes: it travels in a header.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 4096;

/// The highest serial: what every store and every language can hold.
const SERIAL_MAX: u64 = (1 << 53) - 1;

/// Labels of a node at most.
pub(crate) const LABELS_MAX: usize = 32;

/// Bytes of the name of a label, and of its value, at most.
pub(crate) const LABEL_BYTES_MAX: usize = 63;

/// What a node is in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Takes commands, sends events.
    Node,
    /// Manages the others.
    Central,
    /// A person's machine, from which commands are sent.
    Operator,
}

impl Role {
    /// All three.
    pub(crate) const ALL: [Self; 3] = [Self::Node, Self::Central, Self::Operator];

    /// The role with this name, case sensitive.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// As it stands in certificates and rules.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Central => "central",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a fleet is to say of a node.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Its name.
    pub(crate) name: NodeName,
    /// The key with which it signs.
    pub(crate) key: PublicKey,
    /// The key for which others seal.
    pub(crate) seal_key: SealPublic,
    /// Its role.
    pub(crate) role: Role,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Higher than that of any certificate for this name before.
    pub(crate) serial: u64,
    /// The key that this one takes the place of, which is believed as well until it is revoked.
    pub(crate) renews: Option<PublicKey>,
    /// Until when it holds; for ever if none.
    pub(crate) expires: Option<Wall>,
}

/// What a fleet says of a node, verified.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Its name.
    pub(crate) name: NodeName,
    /// The key with which it signs.
    pub(crate) key: PublicKey,
    /// The key for which others seal.
    pub(crate) seal_key: SealPublic,
    /// The fleet that says so.
    pub(crate) fleet: PublicKey,
    /// Its role.
    pub(crate) role: Role,
    /// Its labels, at most [`LABELS_MAX`].
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    /// The higher, the newer.
    pub(crate) serial: u64,
    /// The key that this one takes the place of, which is believed as well until it is revoked.
    pub(crate) renews: Option<PublicKey>,
    /// When it was signed, to the second.
    pub(crate) issued: Wall,
    /// Until when it holds, to the second; for ever if none.
    pub(crate) expires: Option<Wall>,
    /// The token itself.
    pub(crate) text: Arc<str>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} {} {} serial {})", self.role, self.name, self.key, self.serial)
    }
}

/// Why a certificate is not made or not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The token.
    #[error("the certificate is not believed: {0}")]
    Statement(#[from] StatementError),
    /// A field makes no sense.
    #[error("the certificate's {field} makes no sense: {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// A key makes no sense.
    #[error("the certificate's {field} makes no sense: {why}")]
    Key {
        /// Which.
        field: &'static str,
        /// Why.
        why: KeyError,
    },
    /// Too much for a header.
    #[error("the certificate would have {0} bytes; at most {CERTIFICATE_BYTES_MAX} are allowed, so use fewer labels")]
    TooLong(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    fleet: String,
    role: Role,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    seal_key: String,
    serial: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renews: Option<String>,
}

impl Certificate {
    /// Signs with the fleet key.
    pub(crate) fn issue(draft: Draft, fleet: &KeyPair, now: Wall) -> Result<Self, CertificateError> {
        check_labels(&draft.labels)?;
        let said = Part {
            fleet: fleet.public().to_string(),
            role: draft.role,
            labels: draft.labels,
            seal_key: draft.seal_key.to_string(),
            serial: draft.serial,
            renews: draft.renews.map(|key| key.to_string()),
        };
        let (name, about) = (draft.name.to_string(), draft.key.to_string());
        let token = Statement { name, about, expires: draft.expires, said }.sign(fleet, now)?;
        if token.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLong(token.len()));
        }
        Self::verify(&token, &fleet.public())
    }

    /// What the token says, if `fleet` has signed it. Whether it still holds is another question: [`Self::holds`].
    pub(crate) fn verify(token: &str, fleet: &PublicKey) -> Result<Self, CertificateError> {
        let (statement, issued) = Statement::<Part>::verify(token, fleet, CERTIFICATE_BYTES_MAX)?;
        let part = statement.said;
        if part.fleet != fleet.to_string() {
            let why = "it is not the key that has signed".to_owned();
            return Err(CertificateError::Field { field: "fleet", why });
        }
        if part.serial > SERIAL_MAX {
            let why = format!("it is above {SERIAL_MAX}");
            return Err(CertificateError::Field { field: "serial", why });
        }
        check_labels(&part.labels)?;
        let name = NodeName::new(&statement.name)
            .map_err(|error| CertificateError::Field { field: "name", why: error.to_string() })?;
        let key_in = |field, text: &str| {
            PublicKey::parse(text, KeyKind::User).map_err(|why| CertificateError::Key { field, why })
        };
        let key = key_in("key (sub)", &statement.about)?;
        let renews = part.renews.map(|text| key_in("renews", &text)).transpose()?;
        let seal_key = part.seal_key.parse().map_err(|why| CertificateError::Key { field: "sealKey", why })?;
        Ok(Self {
            name,
            key,
            seal_key,
            fleet: *fleet,
            role: part.role,
            labels: Arc::new(part.labels),
            serial: part.serial,
            renews,
            issued,
            expires: statement.expires,
            text: Arc::from(token),
        })
    }

    /// Whether it has not expired.
    pub(crate) fn holds(&self, now: Wall) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// Labels are compared in rules and shown in tables: short, and of harmless characters.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), CertificateError> {
    let wrong = |why: String| Err(CertificateError::Field { field: "labels", why });
    if labels.len() > LABELS_MAX {
        return wrong(format!("there are {}; at most {LABELS_MAX} are allowed", labels.len()));
    }
    for (label, value) in labels {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.chars().all(fine) {
            let label: String = label.chars().take(LABEL_BYTES_MAX).collect();
            return wrong(format!("{label:?} is no name; use 1 to {LABEL_BYTES_MAX} of A-Z a-z 0-9 _ - . /"));
        }
        if value.len() > LABEL_BYTES_MAX || value.chars().any(char::is_control) {
            return wrong(format!("the value of {label} has more than {LABEL_BYTES_MAX} bytes or a control character"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
