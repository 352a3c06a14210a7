//! The line between one node and the broker: a TCP proxy that can be cut, slow, narrow, half open, and torn in the middle of
//! a frame. It carries bytes and understands none of them.
//!
//! ```text
//! node ─▶ reading ─▶ queue (bounded) ─▶ writing ─▶ broker      and the same back
//! ```
//! What is on its way waits in the queue, so that delay is no limit of throughput, and a narrow line pushes back.

mod sieve;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;
use sieve::Sieve;

/// Bytes that are read at once, and pieces that may be on their way in one direction.
const PIECE_BYTES: usize = 16 * 1024;
/// See [`PIECE_BYTES`].
const PIECES_MAX: usize = 64;

/// Bytes of a piece on a narrow line, and pieces that may be on their way: what modems and routers buffer.
const NARROW_PIECE_BYTES: usize = 512;

/// What a line is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything passes at once.
    Open,
    /// Connections break, and none can be made.
    Cut,
    /// Everything takes so much longer, in each direction.
    Slow(Duration),
    /// No more than so many bytes a second pass, in each direction.
    Narrow(u64),
    /// So many messages in a hundred are lost, in each direction.
    Lossy(u64),
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the node to the broker.
    Up,
    /// From the broker to the node.
    Down,
}

/// What all connections of a line share.
#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Connections with a lower number are open and dead, in these directions.
    dead: watch::Sender<(u64, bool, bool)>,
    /// Connections with a lower number break in the middle of what passes next.
    torn_below: AtomicU64,
    connections: AtomicU64,
}

/// The line of one node. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// A line to the broker, with an address of its own.
    pub(crate) fn lay(broker: SocketAddr) -> io::Result<Self> {
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            broker,
            mode: watch::Sender::new(Mode::Open),
            dead: watch::Sender::new((0, false, false)),
            torn_below: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let task = runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where its node connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it is like, also for connections that are there.
    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Whether it is as it should be.
    pub(crate) fn is_open(&self) -> bool {
        *self.shared.mode.borrow() == Mode::Open
    }

    /// The connections of this moment stay open, and nothing comes out of them any more in these directions, ever.
    pub(crate) fn kill_silently(&self, up: bool, down: bool) {
        let below = self.shared.connections.load(Ordering::Acquire);
        self.shared.dead.send_replace((below, up, down));
    }

    /// The connections of this moment break when half of what passes next has passed.
    pub(crate) fn tear(&self) {
        let below = self.shared.connections.load(Ordering::Acquire);
        self.shared.torn_below.store(below, Ordering::Release);
    }
}

/// The threads of all lines.
pub(crate) fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let made = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Another thread may have been quicker; then this one is not needed.
        RUNTIME.set(made).map_err(Runtime::shutdown_background).ok();
    }
    RUNTIME.get().ok_or_else(|| io::Error::other("no runtime"))
}

/// Does something when the process is told to stop.
pub(crate) fn on_interrupt(action: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        action();
    });
    Ok(())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((node, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // How it ended is of no interest: both ends see that it did.
            carry(node, &shared).await.ok();
        });
    }
}

async fn carry(node: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let number = shared.connections.fetch_add(1, Ordering::AcqRel);
    let mut mode = shared.mode.subscribe();
    if *mode.borrow() == Mode::Cut {
        return reset(&node);
    }
    let broker = TcpStream::connect(shared.broker).await?;
    node.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    // Whatever ends the two halves, both sides see a broken connection and not an orderly end.
    node.set_zero_linger()?;
    broker.set_zero_linger()?;
    let ((node_in, node_out), (broker_in, broker_out)) = (node.into_split(), broker.into_split());
    let cut = async { while mode.wait_for(|mode| *mode == Mode::Cut).await.is_err() {} };
    tokio::select! {
        () = cut => {}
        _ = pass(node_in, broker_out, Direction::Up, number, shared) => {}
        _ = pass(broker_in, node_out, Direction::Down, number, shared) => {}
    }
    Ok(())
}

fn reset(stream: &TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

/// Carries bytes in one direction until either end closes, or it is torn.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    number: u64,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let (queue, waiting) = mpsc::channel(PIECES_MAX);
    // What was read before the end still comes out: the queue ends only when it is empty.
    tokio::try_join!(read(from, queue, shared), write(to, waiting, direction, number, shared)).map(drop)
}

async fn read(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let mut block = vec![0; PIECE_BYTES];
    loop {
        let mode = *shared.mode.borrow();
        let most = if matches!(mode, Mode::Narrow(_)) { NARROW_PIECE_BYTES } else { PIECE_BYTES };
        let count = from.read(&mut block[..most]).await?;
        if count == 0 {
            return Ok(());
        }
        let delay = if let Mode::Slow(delay) = *shared.mode.borrow() { delay } else { Duration::ZERO };
        #[expect(clippy::disallowed_methods, reason = "a line is slow in real time")]
        let due = Instant::now() + delay;
        if queue.send((due, block[..count].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<(Instant, Vec<u8>)>,
    direction: Direction,
    number: u64,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let (mut sieve, mut dice) = (Sieve::default(), Dice::of(number, direction as u64));
    while let Some((due, piece)) = waiting.recv().await {
        sleep_until(due).await;
        let (below, up, down) = *shared.dead.borrow();
        let is_dead = if direction == Direction::Up { up } else { down };
        if is_dead && number < below {
            continue;
        }
        if number < shared.torn_below.load(Ordering::Acquire) {
            to.write_all(&piece[..piece.len() / 2]).await?;
            return Err(io::Error::other("torn"));
        }
        let mode = *shared.mode.borrow();
        if let Mode::Narrow(bytes_a_second) = mode {
            sleep(Duration::from_secs_f64(piece.len() as f64 / bytes_a_second as f64)).await;
        }
        let lost = if let Mode::Lossy(percent) = mode { percent } else { 0 };
        let piece = sieve.pass(&piece, lost > 0, || dice.chance(lost));
        to.write_all(&piece).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line, its node's end and its broker's end.
    fn laid() -> (Link, std::net::TcpStream, std::net::TcpStream) {
        let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::lay(broker.local_addr().unwrap()).unwrap();
        let node = std::net::TcpStream::connect(link.address()).unwrap();
        let (accepted, _) = broker.accept().unwrap();
        for end in [&node, &accepted] {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        (link, node, accepted)
    }

    fn exchange(node: &mut std::net::TcpStream, broker: &mut std::net::TcpStream) {
        use std::io::{Read as _, Write as _};
        let mut bytes = [0; 4];
        node.write_all(b"ping").unwrap();
        broker.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        broker.write_all(b"pong").unwrap();
        node.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");
    }

    #[test]
    fn bytes_pass_both_ways_and_a_cut_is_seen_at_both_ends() {
        use std::io::Read as _;
        let (link, mut node, mut broker) = laid();
        exchange(&mut node, &mut broker);
        link.set(Mode::Cut);
        assert!(matches!(node.read(&mut [0; 4]), Ok(0) | Err(_)));
        assert!(matches!(broker.read(&mut [0; 4]), Ok(0) | Err(_)));
        assert!(!link.is_open());
    }

    #[test]
    fn a_slow_line_takes_its_time_and_a_torn_one_ends_in_the_middle() {
        use std::io::{Read as _, Write as _};
        let (link, mut node, mut broker) = laid();
        exchange(&mut node, &mut broker);
        link.set(Mode::Slow(Duration::from_millis(100)));
        let timer = crate::timer::Timer::start();
        exchange(&mut node, &mut broker);
        assert!(timer.elapsed() >= Duration::from_millis(200));
        link.set(Mode::Open);
        link.tear();
        node.write_all(&[7; 100]).unwrap();
        let mut got = Vec::new();
        // The end is a reset, so that what was read before it counts.
        let end = broker.read_to_end(&mut got);
        assert!(got.len() <= 50, "{} bytes, {end:?}", got.len());
    }

    #[test]
    fn a_line_that_is_dead_one_way_stays_open_and_a_new_one_works() {
        use std::io::{Read as _, Write as _};
        let (link, mut node, mut broker) = laid();
        exchange(&mut node, &mut broker);
        link.kill_silently(true, false);
        node.write_all(b"lost").unwrap();
        broker.write_all(b"pong").unwrap();
        let mut bytes = [0; 4];
        node.read_exact(&mut bytes).unwrap();
        broker.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(broker.read(&mut bytes).is_err(), "nothing comes, and nothing ends");
    }
}
