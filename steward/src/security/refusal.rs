//! Why something that has arrived is not believed: the reasons, and what an operator reads about them.

use std::time::Duration;

use protocol::name::NodeName;
use protocol::time::Wall;

use super::certificate::CertificateError;
use super::keys::{PublicKey, SealPublic};
use super::replays::Stale;
use super::signing::Unreadable;
use crate::clock::rfc3339;

/// Why something is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It has no signature.
    #[error(
        "it is not signed, and a node of a fleet takes nothing unsigned; if its sender is one of yours, let it join (steward \
         invite on central, steward join there)"
    )]
    Unsigned,
    /// A header of the signature.
    #[error("its header {0} is missing or makes no sense")]
    Header(&'static str),
    /// Nobody here knows the key.
    #[error("it is signed with a key that is unknown here ({0}), without a certificate")]
    UnknownKey(PublicKey),
    /// The signature does not fit.
    #[error("its signature is wrong: it was altered on its way, or somebody else made it in the name of {0}")]
    Signature(PublicKey),
    /// The certificate does not fit.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is for another key.
    #[error("the certificate that came with it is for another key")]
    OtherCertificate,
    /// The name has another key.
    #[error(
        "it is signed in the name of {name} with {key} (certificate {serial}), but {name} has the key {known} (certificate \
         {known_serial}): somebody uses the name, or the node was set up from old files. If it is {name}, revoke the name \
         and invite the node again"
    )]
    OtherKey {
        /// The name.
        name: NodeName,
        /// The key that was used.
        key: PublicKey,
        /// The serial of its certificate.
        serial: u64,
        /// The key of that name.
        known: PublicKey,
        /// The serial of that key's certificate.
        known_serial: u64,
    },
    /// As many nodes are known as can be.
    #[error("{0} is not known here, and as many nodes are known as can be; nothing of it is taken")]
    TooMany(NodeName),
    /// Its certificate can't be kept at the moment.
    #[error("{0} is not known here yet, and this node is too busy to take down who it is; it tries again")]
    Busy(NodeName),
    /// The key is on the list.
    #[error("its key ({0}) is revoked")]
    Revoked(PublicKey),
    /// The certificate is over.
    #[error("the certificate of {name} has expired ({}); let it join anew (steward invite {name} --replace on central). If it has not, one of the two clocks is wrong", rfc3339(*.at))]
    Expired {
        /// Whose.
        name: NodeName,
        /// When.
        at: Wall,
    },
    /// Somebody speaks in the name of another.
    #[error("it says that it is from {said}, but {signed} has signed it")]
    Name {
        /// Who has signed.
        signed: NodeName,
        /// Who is said to have sent it.
        said: String,
    },
    /// It says that it is from us.
    #[error("it says that it is from this node, and it is not")]
    Impostor,
    /// It is sealed, and there is no identity here.
    #[error(
        "it is sealed, and this node has no identity, so it has no key that could open it: let it join the fleet (steward \
         invite on central, steward join here)"
    )]
    SealedForNobody,
    /// It is sealed for a key that is not here.
    #[error(
        "{name} has sealed it for a key that this node does not have ({key}), so {name} knows an older certificate of this \
         node; it is shown the newest one and sends again"
    )]
    SealKey {
        /// Who has signed.
        name: NodeName,
        /// The key.
        key: SealPublic,
    },
    /// The box can't be opened.
    #[error(
        "{name} has signed it, but it can't be opened with the key that it names: {name} has passed on what somebody else \
         has sealed, or made no box at all"
    )]
    Box {
        /// Who has signed.
        name: NodeName,
    },
    /// It is not fresh.
    #[error("{}", stale(.name, *.why))]
    Stale {
        /// Who has signed.
        name: NodeName,
        /// Why.
        why: Stale,
    },
}

impl From<Unreadable> for Refusal {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Unsigned => Self::Unsigned,
            Unreadable::Header(name) => Self::Header(name),
        }
    }
}

impl Refusal {
    /// All names of reasons, for the metrics.
    pub(crate) const KINDS: [&'static str; 11] = [
        "unsigned",
        "header",
        "unknown_key",
        "signature",
        "certificate",
        "other_key",
        "revoked",
        "name",
        "seal_key",
        "box",
        "stale",
    ];

    /// A short name for counters.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Header(_) => "header",
            Self::UnknownKey(_) => "unknown_key",
            Self::Signature(_) => "signature",
            Self::Certificate(_) | Self::OtherCertificate | Self::Expired { .. } | Self::TooMany(_) | Self::Busy(_) => {
                "certificate"
            }
            Self::OtherKey { .. } => "other_key",
            Self::Revoked(_) => "revoked",
            Self::Name { .. } | Self::Impostor => "name",
            Self::SealKey { .. } | Self::SealedForNobody => "seal_key",
            Self::Box { .. } => "box",
            Self::Stale { .. } => "stale",
        }
    }

    /// What lines of the log are limited by: what needs another answer is another topic.
    pub(crate) fn topic(&self) -> &'static str {
        match self {
            Self::OtherCertificate => "other_certificate",
            Self::Expired { .. } => "expired",
            Self::TooMany(_) => "too_many",
            Self::Busy(_) => "busy",
            Self::Stale { why: Stale::Old(_) | Stale::Future(_), .. } => "clock",
            Self::Unsigned
            | Self::Header(_)
            | Self::UnknownKey(_)
            | Self::Signature(_)
            | Self::Certificate(_)
            | Self::OtherKey { .. }
            | Self::Revoked(_)
            | Self::Name { .. }
            | Self::Impostor
            | Self::SealedForNobody
            | Self::SealKey { .. }
            | Self::Box { .. }
            | Self::Stale { .. } => self.kind(),
        }
    }

    /// Who has signed it, where that is proven.
    pub(crate) fn signed_by(&self) -> Option<&NodeName> {
        match self {
            Self::Name { signed: name, .. } | Self::Stale { name, .. } | Self::Expired { name, .. } => Some(name),
            Self::OtherKey { name, .. } | Self::TooMany(name) | Self::Busy(name) => Some(name),
            Self::SealKey { name, .. } | Self::Box { name } => Some(name),
            Self::Unsigned
            | Self::Header(_)
            | Self::UnknownKey(_)
            | Self::Signature(_)
            | Self::Certificate(_)
            | Self::OtherCertificate
            | Self::Revoked(_)
            | Self::SealedForNobody
            | Self::Impostor => None,
        }
    }

    /// Whether an operator has to hear of it: somebody has a key that he should not have, or a node has lost its own.
    pub(crate) fn is_alarming(&self) -> bool {
        matches!(
            self,
            Self::OtherKey { .. } | Self::Name { .. } | Self::Revoked(_) | Self::TooMany(_) | Self::Box { .. }
        )
    }
}

/// The sender is genuine, so what is wrong is a clock, unless somebody plays a recording.
fn stale(name: &NodeName, why: Stale) -> String {
    let apart = |by: Duration, way: &str| {
        let seconds = by.as_secs();
        format!(
            "{name} has signed it {seconds} s {way} this node's clock: set the clock of {name}, or the one here, right \
             (NTP); if both are right, somebody plays a recording"
        )
    };
    match why {
        Stale::Old(by) => apart(by, "ago by"),
        Stale::Future(by) => apart(by, "ahead of"),
        Stale::BeforeStart => format!(
            "{name} has signed it before this process started: somebody plays a recording, or the clock of {name} is \
             behind the one here"
        ),
        Stale::Seen => format!("{name} has signed it, but it has been here before: somebody plays a recording"),
    }
}
