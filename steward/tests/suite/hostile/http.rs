//! Clients of the socket and of the metrics that do not behave: they connect and say nothing, send half of a request, never
//! take the answer, announce more than they send, or send far too much. Others are served all the same.

use std::io::{ErrorKind, Read as _, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::still_works;
use crate::harness::{Fleet, Node, Port, SOON, event, get, until};

/// More connections than any server of a node has places.
const CROWD: usize = 400;

/// What a node may take with a crowd at its doors.
const MEMORY_KIB_MAX: u64 = 120 * 1024;

fn socket(node: &Node<'_>) -> UnixStream {
    UnixStream::connect(node.dir().join("steward.sock")).unwrap()
}

/// Sends what the other end takes.
fn send(stream: &mut impl Write, bytes: &[u8]) {
    match stream.write_all(bytes) {
        // Somebody else has got the place.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        sent => sent.unwrap(),
    }
}

/// Slow-loris: connections that say nothing, or begin a head and never end it.
#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let (mut central, ship1) =
        (fleet.node_with("central", &["--prom-host-and-port", &port.address()]), fleet.node("ship1"));
    get(&port.address(), "/metrics");
    let mut crowd: (Vec<UnixStream>, Vec<TcpStream>) = Default::default();
    for number in 0..CROWD {
        let (mut near, mut far) = (socket(&central), TcpStream::connect(port.address()).unwrap());
        let begun: &[u8] = if number % 2 == 0 { b"" } else { b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Slow: " };
        send(&mut near, begun);
        send(&mut far, begun);
        crowd.0.push(near);
        crowd.1.push(far);
    }
    // At once, and not when the time of the others is over.
    assert!(String::from_utf8(get(&port.address(), "/metrics")).unwrap().contains("steward_"));
    still_works(&central, &ship1);
    assert!(central.runs() && central.memory_peak_kib() < MEMORY_KIB_MAX, "{} KiB", central.memory_peak_kib());
    drop(crowd);
    get(&port.address(), "/metrics");
}

/// A whole head, and a body that never comes: each waits alone, and an ordinary message passes all of them.
#[test]
fn bodies_that_never_come_hold_up_nobody() {
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut waiting = Vec::new();
    for (path, length) in [("/v1/messages", 64 << 20), ("/v1/messages", 1000), ("/v1/ps/stop", 20), ("/v1/info", 20)] {
        for _ in 0..20 {
            let mut stream = socket(&central);
            send(
                &mut stream,
                format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n[").as_bytes(),
            );
            waiting.push(stream);
        }
    }
    still_works(&central, &ship1);
    assert!(central.runs() && central.memory_peak_kib() < MEMORY_KIB_MAX, "{} KiB", central.memory_peak_kib());
}

/// Asks for much, and never takes it.
#[test]
fn answers_that_nobody_takes_fill_no_memory() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let (mut central, ship1) =
        (fleet.node_with("central", &["--prom-host-and-port", &port.address()]), fleet.node("ship1"));
    let large = central.send_and_wait(&crate::harness::shell("ship1", "head -c 8000000 /dev/zero"));
    let path = format!("/v1/messages/{}/stdout", large["id"].as_str().unwrap());
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut stream = socket(&central);
        send(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        waiting.push(stream);
    }
    // The metrics are small, so they are asked for again and again on one connection.
    let many = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10_000);
    let mut pipelined = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(port.address()).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // The node takes no more of it than it answers.
        stream.write_all(many.as_bytes()).ok();
        pipelined.push(stream);
    }
    still_works(&central, &ship1);
    get(&port.address(), "/metrics");
    assert!(central.runs() && central.memory_peak_kib() < MEMORY_KIB_MAX, "{} KiB", central.memory_peak_kib());
    // They are closed by themselves in the end, with the answers cut.
    let mut last = pipelined.pop().unwrap();
    last.set_read_timeout(Some(SOON)).unwrap();
    until(2 * SOON, "a connection that takes nothing is closed", || {
        let tasks = String::from_utf8(get(&port.address(), "/metrics")).unwrap();
        drop(tasks);
        let waits = central.json(&["ps"]).iter().filter(|task| task["name"] == "metrics connection").count();
        if waits <= 1 { Ok(()) } else { Err(format!("{waits} connections")) }
    });
    let mut rest = Vec::new();
    last.read_to_end(&mut rest).ok();
}

/// Far too much of everything that can stand in a request.
#[test]
fn huge_requests_are_refused_in_words() {
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let answer = |request: &[u8]| {
        let mut stream = socket(&central);
        stream.set_read_timeout(Some(SOON)).unwrap();
        send(&mut stream, request);
        let mut answer = Vec::new();
        // An answer that comes before the end of the request may be followed by a reset.
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let status = |request: &str, status: &str| {
        let answer = answer(request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{:.60}: {answer:.200}", request);
    };
    let end = "Connection: close\r\n\r\n";
    status(&format!("GET /{} HTTP/1.1\r\n{end}", "x".repeat(1 << 20)), "4");
    status(&format!("GET /v1/info HTTP/1.1\r\nX: {}\r\n{end}", "x".repeat(1 << 20)), "431");
    status(&format!("GET /v1/info HTTP/1.1\r\n{}{end}", "X: y\r\n".repeat(5000)), "431");
    status(&format!("POST /v1/messages HTTP/1.1\r\nContent-Length: 99999999999\r\n{end}"), "413");
    status(&format!("POST /v1/messages HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n{end}"), "4");
    status(&format!("POST /v1/ps/stop HTTP/1.1\r\nContent-Length: 5000\r\n{end}"), "413");
    let deep = "[".repeat(1_000_000);
    status(&format!("POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n{end}{deep}", deep.len()), "400");
    let nested = format!("[{{\"toNode\":{}", "[".repeat(500_000));
    status(&format!("POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n{end}{nested}", nested.len()), "400");
    for path in
        ["/v1/messages/..%2f..%2fsteward.db/stdout", "/v1/messages/%00/stdout", "/v1/../steward.db", "/%2e%2e/x"]
    {
        status(&format!("GET {path} HTTP/1.1\r\n{end}"), "40");
    }
    status(&format!("GET /v1/messages?limit=999999999&node=%27%3B--&since=1 HTTP/1.1\r\n{end}"), "200");
    status(&format!("GET /v1/messages?limit=-1 HTTP/1.1\r\n{end}"), "400");
    // Chunks without an end, each of them fine.
    let mut chunks = format!("POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{end}").into_bytes();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    chunks.extend(std::iter::repeat_n(chunk, 70).flatten());
    assert!(answer(&chunks).starts_with("HTTP/1.1 413"));
    still_works(&central, &ship1);
    let many = Value::from(vec![event("ship1", "TextLogging", &["x"]); 100_000]).to_string();
    assert!(many.len() < 64 << 20);
    assert_eq!(central.ask("POST", "/v1/messages", &many)["ids"].as_array().unwrap().len(), 100_000);
    assert!(central.runs());
}
