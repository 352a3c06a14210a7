//! A web server that answers as a test wants it to: byte for byte, over TCP or TLS, and rudely if need be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What carries a request.
pub(crate) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// What to answer: is given the request's first line.
type Answer = dyn Fn(&str, &mut dyn Stream) -> io::Result<()> + Send + Sync;

/// It runs until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<usize>>,
    ends: Arc<AtomicBool>,
}

impl Server {
    /// One without encryption.
    pub(crate) fn start(answer: impl Fn(&str, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer))
    }

    /// One with TLS.
    pub(crate) fn tls(
        config: ServerConfig,
        answer: impl Fn(&str, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(Arc::new(config)), Arc::new(answer))
    }

    fn listen(tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            open: Arc::default(),
            ends: Arc::default(),
        };
        let (asked, open, ends) = (Arc::clone(&server.asked), Arc::clone(&server.open), Arc::clone(&server.ends));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (tls, answer, asked, open) = (tls.clone(), answer.clone(), Arc::clone(&asked), Arc::clone(&open));
                *open.lock().unwrap() += 1;
                thread::spawn(move || {
                    // A client that goes away is what many of these tests are about.
                    serve(stream, tls, &*answer, &asked).ok();
                    *open.lock().unwrap() -= 1;
                });
            }
        });
        server
    }

    /// Where something lies here, as a URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same with TLS, by this name.
    pub(crate) fn secure(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }

    /// What it was asked: heads and bodies.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        *self.open.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
    }
}

fn serve(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &Answer,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    match tls {
        None => exchange(&mut stream, answer, asked),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            exchange(&mut stream, answer, asked)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn exchange(stream: &mut dyn Stream, answer: &Answer, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
        if !request[0].is_ascii_uppercase() {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    }
    let head = String::from_utf8(request).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    asked.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
    answer(head.lines().next().unwrap(), stream)?;
    stream.flush()
}

/// An answer with its length.
pub(crate) fn reply(stream: &mut dyn Stream, status: &str, body: &[u8]) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Test: yes\r\n\r\n", body.len())?;
    stream.write_all(body)
}

/// Waits until the other side has gone.
pub(crate) fn hang(stream: &mut dyn Stream) -> io::Result<()> {
    stream.read(&mut [0]).map(drop)
}
