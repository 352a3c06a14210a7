//! `steward.sock` in the node's directory: for the user who runs the node, and nobody else.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

use super::client::{SOCKET as NAME, socket_path};
use crate::audit::By;

/// A socket that listens; its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
}

/// Listens on the socket in this directory. A socket that is left over from a dead process is replaced; one that somebody
/// answers on is not.
///
/// It is made in a folder that only we can enter, and moved when its mode is right: at no moment can anybody else
/// connect. The path of that folder is short, whatever the node's directory is called (a socket's path has a limit).
pub(crate) async fn listen(dir: &Path) -> io::Result<(Socket, UnixListener)> {
    let path = dir.join(NAME);
    if answers(dir).await? {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("another process answers on {}; one node owns a directory", path.display()),
        ));
    }
    // Always of the same name: what a killed process has left there goes, and so does a link, but not what is behind it.
    let folder = dir.join(format!(".{NAME}.new"));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&folder)?;
    let bound = bind(&folder).and_then(|listener| {
        fs::rename(folder.join(NAME), &path)?;
        Ok(listener)
    });
    fs::remove_dir_all(&folder)?;
    Ok((Socket { path }, bound?))
}

fn bind(folder: &Path) -> io::Result<UnixListener> {
    let made = folder.join(NAME);
    let open = File::open(folder)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd()))?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answers(dir: &Path) -> io::Result<bool> {
    let (path, open) = socket_path(dir)?;
    let connected = UnixStream::connect(path).await;
    drop(open);
    match connected {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(false),
            _ => Err(error),
        },
    }
}

/// Connections of the user who runs the node, and of root. The socket's mode keeps others out; this keeps them out where
/// somebody has changed it.
#[derive(Debug)]
pub(crate) struct OfOurs(pub(crate) UnixListener);

/// Who is at the other end, as the kernel has it from the moment at which it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The user.
    uid: u32,
    /// The process.
    pid: Option<i32>,
}

impl From<Peer> for By {
    fn from(peer: Peer) -> Self {
        Self::Socket { uid: peer.uid, pid: peer.pid }
    }
}

impl Listener for OfOurs {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, _) = Listener::accept(&mut self.0).await;
            match stream.peer_cred() {
                Ok(peer) if is_ours(peer.uid()) => return (stream, Peer { uid: peer.uid(), pid: peer.pid() }),
                Ok(peer) => {
                    tracing::warn!(uid = peer.uid(), "another user is at the node's socket, and is turned away")
                }
                Err(error) => tracing::debug!(%error, "whoever is at the node's socket can't be told"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Peer { uid: rustix::process::geteuid().as_raw(), pid: i32::try_from(std::process::id()).ok() })
    }
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file is left behind");
        }
    }
}
