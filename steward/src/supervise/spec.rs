//! What a kept task is called, and who may stop it. Whoever stops a task has to be able to start it again.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// A task that is kept running.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(super) name: Arc<str>,
    pub(super) stops: Stops,
    pub(super) within: Option<CancellationToken>,
}

impl Spec {
    /// A task that anybody may stop who may give commands to the node.
    pub(crate) fn new(name: &'static str) -> Self {
        Self::named(name.to_owned())
    }

    /// The same for one of several of a kind.
    pub(crate) fn named(name: String) -> Self {
        Self { name: name.into(), stops: Stops::Freely, within: None }
    }

    /// With another rule on who may stop it.
    pub(crate) fn stops(self, stops: Stops) -> Self {
        Self { stops, ..self }
    }

    /// Ends with this token, before the other tasks of the node.
    pub(crate) fn within(self, end: CancellationToken) -> Self {
        Self { within: Some(end), ..self }
    }
}

impl From<&'static str> for Spec {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

/// Who may stop a task. The reasons complete "it can't be stopped, because …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stops {
    /// Anybody who may give commands to the node.
    Freely,
    /// Only somebody at the node itself.
    Here(&'static str),
    /// Only another node.
    FromAfar(&'static str),
    /// Nobody.
    Never(&'static str),
}

/// From where somebody wants something of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whence {
    /// Through the socket in the node's directory.
    Here,
    /// With a message.
    Afar,
}

impl Stops {
    /// Whether a task that is down has to be tried again without anybody asking for it.
    pub(super) fn needs_rescue(self) -> bool {
        match self {
            Self::Freely => false,
            Self::Here(_) | Self::FromAfar(_) | Self::Never(_) => true,
        }
    }

    /// Whether a task may be stopped from there; the error says why it may not.
    pub(super) fn check(self, name: &str, whence: Whence) -> Result<(), ControlError> {
        let why = match (self, whence) {
            (Self::Freely, _) | (Self::Here(_), Whence::Here) | (Self::FromAfar(_), Whence::Afar) => return Ok(()),
            (Self::Here(why), Whence::Afar) => {
                format!("{name} can't be stopped from another node, because {why}; it can be at the node itself")
            }
            (Self::FromAfar(why), Whence::Here) => {
                format!(
                    "{name} can't be stopped at the node itself, because {why}; it can be from another node (--node)"
                )
            }
            (Self::Never(why), _) => format!("{name} can't be stopped, because {why}"),
        };
        Err(ControlError::Refused(why))
    }
}

/// Why a process was not stopped or started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    /// There is none.
    #[error("no process here is called {name:?}; those that can be stopped and started are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It may not be.
    #[error("{0}")]
    Refused(String),
    /// It does not do it in time.
    #[error("{0} was told, but has not done it yet; `steward ps` shows what becomes of it")]
    Late(String),
}
