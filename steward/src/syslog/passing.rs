//! Passes lines of nodes on to a syslog address. Nobody there says that he has them; so they are sent at least once: again
//! where a connection has failed, and again after a crash. While there is nobody, whoever brings lines waits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::source::Target;
use crate::troubles::TOLD;

/// Batches of lines that may wait; whoever brings more waits.
const QUEUE_MAX: usize = 16;

/// The pause before another try: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long a connection, or a write to one, may take.
const LIMIT: Duration = Duration::from_secs(10);

struct Waiting {
    lines: Vec<Vec<u8>>,
    told: oneshot::Sender<()>,
}

/// The way there. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Passing {
    queue: mpsc::Sender<Waiting>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

impl Passing {
    /// Passes lines on; returns once they have left. False: the node stops.
    pub(crate) async fn pass(&self, lines: Vec<Vec<u8>>) -> bool {
        let (told, answer) = oneshot::channel();
        self.queue.send(Waiting { lines, told }).await.is_ok() && answer.await.is_ok()
    }
}

/// The task that passes lines on.
pub(super) struct Passer {
    target: Target,
    queue: Mutex<mpsc::Receiver<Waiting>>,
}

enum Connection {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Passer {
    /// With the way to it.
    pub(super) fn new(target: Target) -> (Passing, Arc<Self>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        (Passing { queue }, Arc::new(Self { target, queue: Mutex::new(waiting) }))
    }

    /// Passes on until `end`.
    pub(super) async fn run(self: Arc<Self>, end: CancellationToken) -> anyhow::Result<()> {
        let mut queue = self.queue.lock().await;
        let mut connection = None;
        loop {
            let batch = tokio::select! {
                () = end.cancelled() => return Ok(()),
                batch = queue.recv() => batch,
            };
            let Some(Waiting { lines, told }) = batch else { return Ok(()) };
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = self.pass(&mut connection, &lines) => {}
            }
            // Whoever asked may be gone since; the lines are there all the same.
            told.send(()).ok();
        }
    }

    /// Sends all of them, however long that takes.
    async fn pass(&self, connection: &mut Option<Connection>, lines: &[Vec<u8>]) {
        let (mut sent, mut pause, mut told) = (0, RETRY.0, false);
        while let Some(rest) = lines.get(sent..).filter(|rest| !rest.is_empty()) {
            let result = async {
                let open = match connection.take() {
                    Some(open) => open,
                    None => within(self.connect()).await?,
                };
                connection.insert(open).send(rest, &mut sent).await
            };
            let Err(error) = result.await else { continue };
            *connection = None;
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(target: TOLD, target = %self.target, %error, "syslog can't be passed on; it is tried again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        match &self.target {
            Target::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Connection::Unix(socket))
            }
            Target::Udp(address) => {
                let to = tokio::net::lookup_host(address).await?.next();
                let to = to.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
                let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
                socket.connect(to).await?;
                Ok(Connection::Udp(socket))
            }
            Target::Tcp(address) => Ok(Connection::Tcp(TcpStream::connect(address).await?)),
        }
    }
}

impl Connection {
    /// Sends lines, and counts those that have left.
    async fn send(&mut self, lines: &[Vec<u8>], sent: &mut usize) -> io::Result<()> {
        match self {
            Self::Unix(socket) => {
                for line in lines {
                    within(socket.send(line)).await?;
                    *sent += 1;
                }
            }
            Self::Udp(socket) => {
                for line in lines {
                    within(socket.send(line)).await?;
                    *sent += 1;
                }
            }
            Self::Tcp(stream) => {
                // As many as are here at once: what was written of them before a failure is not known anyway.
                let text: Vec<_> = lines.iter().map(|line| super::files::one_line(line)).collect();
                let mut text = text.join(b"\n".as_slice());
                text.push(b'\n');
                within(stream.write_all(&text)).await?;
                *sent += lines.len();
            }
        }
        Ok(())
    }
}

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(LIMIT, what).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
