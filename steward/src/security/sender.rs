//! Who has sent something, as far as it is proven: what every rule is asked about.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::name::NodeName;

use super::certificate::{Certificate, Role};
use super::keys::PublicKey;

/// Who has sent something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its role, from its certificate.
    pub(crate) role: Role,
    /// Its labels, from its certificate.
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    /// The key that has signed. None: nothing is signed here, and the name is only what was said.
    pub(crate) key: Option<PublicKey>,
}

impl Sender {
    /// Whose certificate this is.
    pub(crate) fn certified(certificate: &Certificate) -> Self {
        Self {
            name: certificate.name.clone(),
            role: certificate.role,
            labels: certificate.labels.clone(),
            key: Some(certificate.key),
        }
    }

    /// Somebody who only says who it is, where nobody signs.
    pub(crate) fn unsigned(name: NodeName, central: &NodeName) -> Self {
        let role = if name == *central { Role::Central } else { Role::Node };
        Self { name, role, labels: Arc::default(), key: None }
    }
}
