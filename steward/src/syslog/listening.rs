//! Takes lines from programs: on a unix datagram socket, over UDP, over TCP. An address that can't be had is tried again.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::framing::{Framed, Frames, LINE_BYTES_MAX, whole};
use super::line::Via;
use super::shelf::Inlet;
use super::source::Source;
use crate::supervise::Supervisor;
use crate::troubles::TOLD;

/// How soon an address is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// TCP connections at the same time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;

/// Bytes of datagrams that the kernel is to keep for us; it may allow less (`net.core.rmem_max`).
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Who may write to the unix socket: every program on the machine that reaches it, as to `/dev/log`.
const SOCKET_MODE: u32 = 0o666;

/// Listens at a source until `end`.
pub(super) async fn listen(
    source: Source,
    inlet: Inlet,
    supervisor: Supervisor,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let mut told = false;
    loop {
        let served = tokio::select! {
            () = end.cancelled() => return Ok(()),
            served = serve(&source, &inlet, &supervisor, &end) => served,
        };
        if let Source::Unix(path) = &source {
            remove(path);
        }
        let Err(error) = served else { return Ok(()) };
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(target: TOLD, %source, %error, "syslog can't be taken there; it is tried again");
        }
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn serve(source: &Source, inlet: &Inlet, supervisor: &Supervisor, end: &CancellationToken) -> io::Result<()> {
    match source {
        Source::Unix(path) => unix(path, inlet, end).await,
        Source::Udp(address) => udp(*address, inlet).await,
        Source::Tcp(address) => tcp(*address, inlet, supervisor, end).await,
        Source::Journal => Err(io::Error::other("the journal is no socket")),
    }
}

async fn unix(path: &Path, inlet: &Inlet, end: &CancellationToken) -> io::Result<()> {
    make_way(path)?;
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    tracing::info!(path = %path.display(), "syslog is taken");
    let mut buffer = vec![0; LINE_BYTES_MAX + 1];
    let taken = async {
        loop {
            let length = socket.recv(&mut buffer).await?;
            take(inlet, "unix", buffer.get(..length), Via::Here, None).await?;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        failed = taken => return failed,
    }
    // Nobody waits for us to read what was sent before, so it is read now; from here on whoever writes is told that nobody listens.
    fs::remove_file(path)?;
    let mut buffer = vec![0; LINE_BYTES_MAX + 1];
    while let Ok(length) = socket.try_recv(&mut buffer) {
        take(inlet, "unix", buffer.get(..length), Via::Here, None).await?;
    }
    Ok(())
}

/// Removes the socket of a process that was killed; one that somebody listens at, or another file, stays.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(is) if is.file_type().is_socket() => {
            let probe = std::os::unix::net::UnixDatagram::unbound()?;
            match probe.connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
                _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody else listens there")),
            }
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there; move it away")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) {
    if make_way(path).is_err() {
        tracing::debug!(path = %path.display(), "what is there is not removed");
    }
}

async fn udp(address: SocketAddr, inlet: &Inlet) -> io::Result<()> {
    let socket = UdpSocket::bind(address).await?;
    // What does not fit there is lost, and nobody hears of it.
    if let Err(error) = set_socket_recv_buffer_size(&socket, UDP_BUFFER_BYTES) {
        tracing::debug!(%error, "the kernel keeps as few datagrams as it does for anybody");
    }
    tracing::info!(%address, "syslog is taken over UDP");
    let mut buffer = vec![0; LINE_BYTES_MAX + 1];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        take(inlet, "udp", buffer.get(..length), Via::Network, Some(from.ip())).await?;
    }
}

async fn take(
    inlet: &Inlet,
    kind: &'static str,
    bytes: Option<&[u8]>,
    via: Via,
    from: Option<IpAddr>,
) -> io::Result<()> {
    match bytes.and_then(whole) {
        Some(line) => inlet.take(kind, line, via, from).await,
        None => Ok(()),
    }
}

async fn tcp(address: SocketAddr, inlet: &Inlet, supervisor: &Supervisor, end: &CancellationToken) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(%address, "syslog is taken over TCP");
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, from) = listener.accept().await?;
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(%from, most = CONNECTIONS_MAX, "a connection with syslog is closed because there are too many");
            continue;
        };
        let (inlet, end) = (inlet.clone(), end.clone());
        supervisor.once("syslog connection", async move {
            let read = tokio::select! {
                () = end.cancelled() => Ok(()),
                read = connection(stream, &inlet, from.ip()) => read,
            };
            if let Err(error) = read {
                tracing::debug!(%from, %error, "a connection with syslog has ended");
            }
            drop(permit);
        });
    }
}

async fn connection(mut stream: TcpStream, inlet: &Inlet, from: IpAddr) -> io::Result<()> {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; READ_BYTES]);
    let take = async |line: Framed| inlet.take("tcp", line, Via::Network, Some(from)).await;
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                if let Some(line) = frames.rest() {
                    take(line).await?;
                }
                return Err(error);
            }
        };
        for line in frames.push(buffer.get(..length).unwrap_or_default()) {
            take(line).await?;
        }
        if length == 0 {
            return match frames.rest() {
                Some(line) => take(line).await,
                None => Ok(()),
            };
        }
    }
}
