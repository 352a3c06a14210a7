//! Header blocks that are none: the server passes them on as they are, and the client of the receiver has to read them. One that
//! it can't read costs the receiver a connection, and a few milliseconds; nothing is lost by it, and nothing runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::still_works;
use crate::harness::{Fleet, Node, eventually};

/// A client that speaks as it likes.
struct Raw(TcpStream);

impl Raw {
    fn connect(fleet: &Fleet) -> Self {
        let mut stream = TcpStream::connect(fleet.broker.address()).unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").unwrap();
        Self(stream)
    }

    /// Publishes with this block for headers, and returns once the server has taken it.
    fn publish(&mut self, subject: &str, headers: &[u8]) {
        let total = headers.len() + 2;
        let line = format!("HPUB {subject} {} {total}\r\n", headers.len());
        self.0.write_all(&[line.as_bytes(), headers, b"{}\r\nPING\r\n"].concat()).unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"PONG\r\n") {
            let mut some = [0; 4096];
            let count = self.0.read(&mut some).unwrap();
            assert!(count > 0, "the server hung up: {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&some[..count]);
        }
        assert!(!String::from_utf8_lossy(&heard).contains("-ERR"), "{}", String::from_utf8_lossy(&heard));
    }
}

/// Blocks that are no headers, by what is wrong with them.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let many: String = (0..5000).map(|number| format!("A{number}: x\r\n")).collect();
    vec![
        ("nothing", b"\r\n".to_vec()),
        ("no version", b"X\r\n\r\n".to_vec()),
        ("another version", b"NATS/9.9\r\nA: b\r\n\r\n".to_vec()),
        ("a status that is no number", b"NATS/1.0 abc\r\n\r\n".to_vec()),
        ("a status out of range", b"NATS/1.0 99999999999999999999\r\n\r\n".to_vec()),
        ("no colon", b"NATS/1.0\r\nnonsense\r\n\r\n".to_vec()),
        ("no name", b"NATS/1.0\r\n: x\r\n\r\n".to_vec()),
        ("a space in a name", b"NATS/1.0\r\nA B: x\r\n\r\n".to_vec()),
        ("a control byte in a name", b"NATS/1.0\r\nA\x01B: x\r\n\r\n".to_vec()),
        ("no UTF-8", b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n".to_vec()),
        ("a lone carriage return in a value", b"NATS/1.0\r\nA: b\rc\r\n\r\n".to_vec()),
        ("a lone line feed in a value", b"NATS/1.0\r\nA: b\nc\r\n\r\n".to_vec()),
        ("a zero in a value", b"NATS/1.0\r\nA: b\0c\r\n\r\n".to_vec()),
        ("a value that goes on", b"NATS/1.0\r\nA: b\r\n c\r\n\td\r\n\r\n".to_vec()),
        ("no end", b"NATS/1.0\r\nA: b".to_vec()),
        ("very many", format!("NATS/1.0\r\n{many}\r\n").into_bytes()),
    ]
}

fn connects(node: &Node<'_>) -> u64 {
    let all = node.ask("GET", "/v1/ps", "");
    all.as_array().unwrap().iter().find(|process| process["kind"] == "link").unwrap()["restarts"].as_u64().unwrap()
}

fn is_up(node: &Node<'_>) {
    eventually("the link is up", || (node.ask("GET", "/v1/info", "")["linkState"] == "up").then_some(()));
}

#[test]
fn a_header_block_that_is_none_costs_a_connection_and_nothing_else() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    still_works(&central, &ship1);
    let (pid, mut raw) = (ship1.pid(), Raw::connect(&fleet));
    for (what, headers) in broken() {
        let before = connects(&ship1);
        raw.publish("ship1.EventACK.TextLogging", &headers);
        is_up(&ship1);
        still_works(&central, &ship1);
        assert!(connects(&ship1) - before <= 1, "{what}: {} new connections", connects(&ship1) - before);
        assert!(ship1.runs() && ship1.pid() == pid, "{what}");
    }
}

/// One after the other, without a pause: the worst of them ends the client's own task.
#[test]
fn whoever_sends_such_blocks_without_end_keeps_a_node_away_and_does_not_end_it_or_fill_its_log() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    still_works(&central, &ship1);
    let (pid, mut raw) = (ship1.pid(), Raw::connect(&fleet));
    for _ in 0..300 {
        raw.publish("ship1.EventACK.TextLogging", b"NATS/1.0\r\nA: b\rc\r\n\r\n");
        raw.publish("ship1.EventACK.TextLogging", b"NATS/1.0\r\nnonsense\r\n\r\n");
    }
    is_up(&ship1);
    still_works(&central, &ship1);
    assert!(ship1.runs() && ship1.pid() == pid);
    let log = ship1.log().len();
    assert!(log < 512 * 1024, "{log} bytes of log");
}
