//! One HTTP request at a time, over a node's socket or to its metrics. Knows only what our own servers need.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// An answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as it came.
    pub body: Vec<u8>,
}

/// Asks a node through its socket.
pub fn socket(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    exchange(stream, method, path, "", body)
}

/// Asks at a port, with further headers (`Name: value`, each with its line end).
pub fn post(address: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    exchange(stream, "POST", path, headers, body)
}

/// What lies at `http://ADDRESS/PATH`.
#[track_caller]
pub fn get(address: &str, path: &str) -> Vec<u8> {
    let answer = request(address, path).unwrap_or_else(|error| panic!("http://{address}{path}: {error}"));
    assert_eq!(answer.status, 200, "{address}{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.body
}

/// The same for whoever can go on without it.
pub fn request(address: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    exchange(stream, "GET", path, "", "")
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    // HTTP/1.0: the answer comes as it is and ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: steward\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&answer[..end.unwrap_or(answer.len())]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, end) {
        (Some(status), Some(end)) => Ok(Answer { status, body: answer.split_off(end + 4) }),
        (None, _) | (_, None) => Err(io::Error::other(format!("no HTTP answer: {head:?}"))),
    }
}
