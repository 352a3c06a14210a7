//! Who gave the node something to do, as far as the machine says. Whoever is behind a name on another machine stands in
//! the signature of what he sends, not here.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Who gave it, and which way. Field names are a public interface: add, never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "camelCase")]
pub(crate) enum By {
    /// Whoever was at the other end of `steward.sock`, as the kernel says.
    Socket {
        /// The user.
        uid: u32,
        /// The process; it may be gone since, and its number another's. None where the kernel does not tell it.
        pid: Option<i32>,
    },
    /// Somebody on this machine who has the token of the port for messages.
    Port {
        /// The other end of the connection.
        from: SocketAddr,
    },
    /// Somebody who may write `inmsg.txt`.
    #[serde(rename = "inmsg.txt")]
    InputFile,
    /// Somebody who may put a file into `messages.d/`.
    #[serde(rename = "messages.d")]
    Spool,
    /// Somebody who may put a file into `startup/`, at each start.
    #[serde(rename = "startup")]
    Startup,
    /// A verb of the command line that works on the fleet's folder itself.
    Command {
        /// The user.
        uid: u32,
        /// The process.
        pid: u32,
    },
}

impl By {
    /// This very process.
    pub(crate) fn this_process() -> Self {
        Self::Command { uid: rustix::process::geteuid().as_raw(), pid: std::process::id() }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { uid, pid: Some(pid) } => write!(f, "from user {uid}, process {pid}, at the socket"),
            Self::Socket { uid, pid: None } => write!(f, "from user {uid} at the socket"),
            Self::Port { from } => write!(f, "from {from} at the port"),
            Self::InputFile => write!(f, "from inmsg.txt"),
            Self::Spool => write!(f, "from messages.d"),
            Self::Startup => write!(f, "from startup"),
            Self::Command { uid, pid } => write!(f, "by user {uid}, process {pid}"),
        }
    }
}
