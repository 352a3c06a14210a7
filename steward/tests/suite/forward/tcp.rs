//! Services that connections are forwarded to, and programs that use them.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::SOON;

/// Somebody who listens on a port; it ends with the test.
pub(super) struct Service {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    written: AtomicU64,
    resets: AtomicUsize,
}

impl Service {
    /// Sends back what it gets, and ends when that does.
    pub(super) fn echo() -> Self {
        Self::of(|stream, _| {
            let mut piece = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut piece)? {
                    0 => return stream.shutdown(Shutdown::Write),
                    count => stream.write_all(&piece[..count])?,
                }
            }
        })
    }

    /// Writes as long as somebody takes it.
    pub(super) fn flood() -> Self {
        Self::of(|stream, counts| {
            let piece = vec![7; 32 * 1024];
            loop {
                stream.write_all(&piece)?;
                counts.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        })
    }

    fn of(serve: fn(&mut TcpStream, &Counts) -> io::Result<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, ends, counts) = (listener.local_addr().unwrap(), Arc::default(), Arc::new(Counts::default()));
        let service = Self { address, ends: Arc::clone(&ends), counts: Arc::clone(&counts) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if AtomicBool::load(&ends, Ordering::Relaxed) {
                    return;
                }
                let counts = Arc::clone(&counts);
                counts.connections.fetch_add(1, Ordering::Relaxed);
                counts.open.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    let served = serve(&mut stream, &counts);
                    if served.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
                        counts.resets.fetch_add(1, Ordering::Relaxed);
                    }
                    counts.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        service
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Those that are open.
    pub(super) fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Those that were broken off, and did not come to an end.
    pub(super) fn resets(&self) -> usize {
        self.counts.resets.load(Ordering::Relaxed)
    }

    /// Bytes that were taken from it.
    pub(super) fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
    }
}

/// A connection to a port of this machine, on which nothing waits for ever.
pub(super) fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends all of this and then the end, and meanwhile takes all that comes back.
pub(super) fn pass(stream: TcpStream, all: &[u8]) -> Vec<u8> {
    let mut back = Vec::with_capacity(all.len());
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(all).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut back).unwrap();
    });
    back
}

/// Whether a connection is broken off, and does not just end.
pub(super) fn is_reset(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    // A write shows it too, where the other side has nothing to say.
    let read = stream.read_to_end(&mut rest);
    read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// Bytes that differ everywhere.
pub(super) fn noise(seed: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// So long is waited between two looks at how far something is.
pub(super) const LOOK: Duration = Duration::from_millis(10);
