//! More than there is room for: made-up names, bodies that are a thousand times as large as they travel, headers without
//! end, pieces of outputs that nobody asked for. Memory and disk stay within what is named here, and a good message passes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::still_works;
use crate::harness::{Fleet, Node, SOON, event, eventually, shell, until};

/// What a node may take in memory, whatever comes. Idle, this build takes about 40 MiB.
const MEMORY_KIB_MAX: u64 = 512 * 1024;

/// What a name may take of it, in a run with more of them than usual, up to as many as are known (200,000).
const NAME_KIB: u64 = 4;

/// What it may take on disk, beside what it is told to log.
const DISK_BYTES_MAX: u64 = 768 << 20;

/// Made-up names; `HOSTILE_NAMES` says another number.
const NAMES: usize = 12_000;

/// What each of them says of itself, in bytes.
const INFO_BYTES: usize = 12 * 1024;

fn disk(folder: &Path) -> u64 {
    // What goes while we look takes no room.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(is) if is.is_dir() => disk(&entry.path()),
        Ok(is) => is.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn within_bounds(node: &mut Node<'_>) {
    within(node, MEMORY_KIB_MAX);
}

fn within(node: &mut Node<'_>, memory_max: u64) {
    assert!(node.runs(), "{} has ended", node.name());
    let (memory, disk) = (node.memory_peak_kib(), disk(node.dir()));
    assert!(memory < memory_max, "{} took {memory} KiB at its peak", node.name());
    assert!(disk < DISK_BYTES_MAX, "{} takes {disk} bytes", node.name());
}

async fn stranger(fleet: &Fleet) -> Client {
    async_nats::connect(fleet.broker.address()).await.unwrap()
}

/// A message to itself passes behind everything that a stranger has published; with some patience, because what a flood
/// has swept away is tried again after pauses that grow.
fn is_through(node: &Node<'_>) {
    let id = node.send(&event(node.name(), "TextLogging", &["behind all of it"]));
    until(10 * SOON, "a message passes behind the flood", || {
        let message = node.show(&id);
        if message["state"] == "done" { Ok(()) } else { Err(message.to_string()) }
    });
}

fn zstd_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Steward-Encoding", "zstd");
    headers
}

/// The process of a node, as it stands in what is sent to it.
async fn incarnation(client: &Client, central: &Node<'_>, ship: &str) -> (String, String) {
    let mut messages = client.subscribe(format!("{ship}.EventACK.TextLogging")).await.unwrap();
    client.flush().await.unwrap();
    central.send_and_wait(&event(ship, "TextLogging", &["to be overheard"]));
    let message = messages.next().await.unwrap();
    let body: Value = serde_json::from_slice(&crate::harness::unpacked(&message.payload)).unwrap();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (text("toIncarnation"), text("epoch"))
}

/// A flood of hellos from made-up names.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn made_up_names_fill_no_memory_and_no_disk() {
    let names = std::env::var("HOSTILE_NAMES").map_or(NAMES, |names| names.parse().unwrap());
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    still_works(&central, &ship1);
    let client = stranger(&fleet).await;
    let filler = "x".repeat(INFO_BYTES);
    for number in 0..names {
        let from = format!("made-up-{number}");
        let hello = json!({
            "v": 1, "fromNode": from, "epoch": format!("{number:016x}"), "incarnation": format!("{number:016x}"),
            "commitsAtStart": 1, "occasion": "up", "info": { "filler": filler }
        });
        let body = match number % 3 {
            0 => json!({ "v": 1, "fromNode": from, "toNode": "central", "control": "hello", "hello": hello }),
            1 => {
                json!({ "v": 1, "fromNode": from, "toNode": "central", "control": "probe", "nonce": format!("{number:016x}"), "epoch": format!("{number:016x}") })
            }
            _ => json!({
                "v": 1, "fromNode": from, "toNode": "central", "commandOrEvent": "EventNACK", "method": "SayHello",
                "epoch": format!("{number:016x}"), "floor": 0,
                "items": [{ "id": "0193a5b2-7c1e-7d3a-9b52-5a1f0e6c2d10", "seq": 1, "data": [hello.to_string()] }]
            }),
        };
        let subject = match number % 3 {
            2 => "central.EventNACK.SayHello".to_owned(),
            _ => format!("central.CTL.{from}"),
        };
        client.publish(subject, body.to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    is_through(&central);
    still_works(&central, &ship1);
    let known = central.ask("GET", "/v1/nodes", "").as_array().unwrap().len();
    assert!(known > 1000.min(names / 2), "only {known} names have come through: this shows nothing");
    within(&mut central, MEMORY_KIB_MAX + NAME_KIB * names.min(200_000) as u64);
    let lines = central.log().lines().count();
    assert!(lines < 1000, "{lines} log lines");
}

/// Bodies that are small on the way and huge when they are unpacked, on every subject.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bombs_go_off_nowhere() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let client = stranger(&fleet).await;
    let (to, _) = incarnation(&client, &central, "ship1").await;
    let zeros = zstd::bulk::compress(&vec![0; 256 << 20], 1).unwrap();
    // Its size does not stand in front of it.
    let silent = zstd::stream::encode_all(&vec![b' '; 64 << 20][..], 1).unwrap();
    // Many frames, one after the other, each of them small.
    let frame = zstd::bulk::compress(&vec![b' '; 1 << 20], 1).unwrap();
    let frames = frame.repeat(500);
    let deep = zstd::bulk::compress(&vec![b'['; 8 << 20], 1).unwrap();
    for node in ["central", "ship1"] {
        for kind in
            ["CommandACK", "CommandNACK", "EventACK", "EventNACK", "ACK", "CTL", "DATA", "REPLY", "ECHO", "NAME"]
        {
            for last in ["central", "ship1", "ShellCommand", "TextLogging", "SayHello"] {
                for body in [&zeros, &silent, &frames, &deep] {
                    let mut headers = zstd_headers();
                    for (name, value) in
                        [("Ticket", "1"), ("Stream", "stdout"), ("Offset", "0"), ("Total", "9223372036854775807")]
                    {
                        headers.insert(format!("Steward-{name}"), value);
                    }
                    let body = Bytes::from(body.clone());
                    client.publish_with_headers(format!("{node}.{kind}.{last}"), headers, body).await.unwrap();
                }
            }
        }
        let body = Bytes::from(zeros.clone());
        client.publish_with_headers(format!("$STEWARD.hello.{node}"), zstd_headers(), body).await.unwrap();
    }
    client.flush().await.unwrap();
    still_works(&central, &ship1);
    // Those that are as large as may be, and make sense: nothing refuses them before they are read.
    let data = format!("[\"{}\"]", "x".repeat(500 * 1024));
    for round in 0..60_u64 {
        let kind = ["EventACK", "CommandACK", "EventNACK"][round as usize % 3];
        let items: Vec<String> = (1..=15)
            .map(|number| {
                let seq = round * 15 + number;
                format!("{{\"id\":\"0193a5b2-7c1e-7d3a-9b52-{seq:012x}\",\"seq\":{seq},\"data\":{data}}}")
            })
            .collect();
        let body = format!(
            "{{\"v\":1,\"fromNode\":\"stranger\",\"toNode\":\"ship1\",\"commandOrEvent\":\"{kind}\",\"method\":\"NoSuchMethod\",\
             \"epoch\":\"0000000000000001\",\"toIncarnation\":\"{to}\",\"floor\":0,\"items\":[{}]}}",
            items.join(",")
        );
        let body = Bytes::from(zstd::bulk::compress(body.as_bytes(), 1).unwrap());
        client.publish_with_headers(format!("ship1.{kind}.NoSuchMethod"), zstd_headers(), body).await.unwrap();
    }
    client.flush().await.unwrap();
    is_through(&ship1);
    still_works(&central, &ship1);
    within_bounds(&mut central);
    within_bounds(&mut ship1);
}

/// Pieces beyond the end of an output, over what is there already, of other lengths, and without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pieces_that_nobody_asked_for_change_no_output() {
    const OUTPUT_BYTES: usize = 3_000_000;
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    still_works(&central, &ship1);
    let client = stranger(&fleet).await;
    let mut pieces = client.subscribe("central.DATA.ship1").await.unwrap();
    client.flush().await.unwrap();
    let id = central.send(&shell("ship1", &format!("head -c {OUTPUT_BYTES} /dev/urandom | tee output")));
    let first = pieces.next().await.unwrap();
    let headers = first.headers.unwrap();
    let number = |name: &str| headers.get(name).unwrap().as_str().parse::<u64>().unwrap();
    let (ticket, total) = (number("Steward-Ticket"), number("Steward-Total"));
    let junk = Bytes::from(vec![b'!'; 60_000]);
    for round in 0..500_u64 {
        let (offset, total) = match round % 6 {
            0 => (0, total),
            1 => (1, total),
            2 => (total - junk.len() as u64, total),
            3 => (total, total + junk.len() as u64),
            4 => (i64::MAX as u64 - junk.len() as u64, i64::MAX as u64),
            _ => (round * junk.len() as u64, i64::MAX as u64),
        };
        for (subject, ticket) in
            [("central.DATA.ship1", ticket), ("central.DATA.ship1", round), ("central.DATA.ship9", ticket)]
        {
            let mut headers = HeaderMap::new();
            headers.insert("Steward-Ticket", ticket.to_string());
            headers.insert("Steward-Stream", if round % 2 == 0 { "stdout" } else { "stderr" });
            headers.insert("Steward-Offset", offset.to_string());
            headers.insert("Steward-Total", total.to_string());
            client.publish_with_headers(subject, headers, junk.clone()).await.unwrap();
        }
    }
    client.flush().await.unwrap();
    let ended = central.ended(&id);
    assert_eq!((&ended["state"], &ended["truncated"]), (&json!("done"), &json!(false)), "{ended}");
    assert_eq!(central.bytes(&format!("/v1/messages/{id}/stdout")), fs::read(ship1.dir().join("output")).unwrap());
    still_works(&central, &ship1);
    within_bounds(&mut central);
    assert!(disk(&central.dir().join("blobs")) < 4 * OUTPUT_BYTES as u64);
}

/// Headers as no client would write them, straight into the broker: names and values that no header may have, thousands
/// of them, one twice, line ends in them, and blocks that do not end.
#[test]
fn headers_that_make_no_sense_are_no_more_than_dropped() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    still_works(&central, &ship1);
    let many: String = (0..5000).map(|number| format!("X-{number}: y\r\n")).collect();
    let twice = "Steward-Encoding: zstd\r\n".repeat(1000);
    let long = format!("Steward-Ticket: {}\r\n", "9".repeat(100_000));
    let blocks: Vec<Vec<u8>> = [
        many.as_str(),
        &twice,
        &long,
        "Steward-Ticket: 1\r\n 2\r\n",
        "Steward-Ticket\r\n",
        ": empty\r\n",
        "Steward-Encoding: \r\n",
        "Steward-Encoding: zstd\nSteward-Ticket: 1\r\n",
        "Steward Ticket: 1\r\n",
        "Steward-Ticket: -1\r\nSteward-Stream: ../../x\r\nSteward-Offset: +1\r\nSteward-Total: 0x10\r\n",
        "Steward-Stream: st\u{e4}rke\r\n",
        "Nats-Trace-Dest: central.CommandACK.ShellCommand\r\n",
    ]
    .iter()
    .map(|lines| format!("NATS/1.0\r\n{lines}\r\n").into_bytes())
    .chain([
        b"NATS/1.0 503\r\n\r\n".to_vec(),
        b"NATS/1.0 99999 \xff\xfe\r\n\r\n".to_vec(),
        b"NATS/1.0\r\nSteward-Stream: \xff\xfe\xfd\r\n\r\n".to_vec(),
        b"NATS/1.0\r\nSteward-Ticket: 1\x00\r\n\r\n".to_vec(),
        b"NATS/1.0\r\nSteward-Ticket: 1".to_vec(),
        b"NATS/9.9\r\n\r\n".to_vec(),
        b"\r\n\r\n".to_vec(),
    ])
    .collect();
    for node in ["central", "ship1"] {
        for last in ["ACK.central", "CTL.central", "DATA.ship1", "REPLY.ship1", "CommandACK.ShellCommand", "ECHO.1"] {
            for block in &blocks {
                publish_raw(&fleet, &format!("{node}.{last}"), block, b"{}");
            }
        }
    }
    still_works(&central, &ship1);
    within_bounds(&mut central);
    within_bounds(&mut ship1);
}

/// Subjects with more or other parts than a node's, wildcards and signs of paths among them.
#[test]
fn names_that_are_none_reach_nothing() {
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    still_works(&central, &ship1);
    let long = "x".repeat(2000);
    let names =
        ["*", ">", "a.b", "..", "../../etc/passwd", "/etc/passwd", "a b", "", "\u{e4}", "ship1\u{0}", "$SYS", &long];
    for name in names {
        // No argument of a program can hold a NUL.
        if !name.contains('\u{0}') {
            let refused = central.cli(&["send", "--node", name, "--", "true"]);
            assert!(refused.code != 0 && !refused.stderr.contains("panicked"), "{name:?}: {refused:#?}");
        }
        for (key, value) in [("toNode", name), ("method", name)] {
            let mut message = event("ship1", "TextLogging", &["x"]);
            message[key] = value.into();
            let answer = central.ask("POST", "/v1/messages", &json!([message]).to_string());
            assert!(answer["error"].is_string() && answer["ids"].is_null(), "{key} {name:?}: {answer}");
        }
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in ["/v1/messages?node=", "/v1/errors?node=", "/v1/messages/"] {
            let answer = central.ask("GET", &format!("{path}{encoded}"), "");
            assert!(answer["error"].is_string() || answer.as_array().unwrap().is_empty(), "{path}{name:?}: {answer}");
        }
        let body = json!({
            "v": 1, "fromNode": name, "toNode": "ship1", "commandOrEvent": "CommandNACK", "method": "ShellCommand",
            "epoch": "0000000000000001", "items": [{
                "id": "0193a5b2-7c1e-7d3a-9b52-5a1f0e6c2d10", "seq": 1, "data": ["bash", "-c", format!("echo >> {}", ran.path())]
            }]
        });
        for subject in [
            "ship1.CommandNACK.ShellCommand",
            "ship1.CommandNACK.*",
            "ship1.CommandNACK.ShellCommand.x",
            "ship1..ShellCommand",
        ] {
            publish_raw(&fleet, subject, b"NATS/1.0\r\n\r\n", body.to_string().as_bytes());
        }
    }
    still_works(&central, &ship1);
    assert!(ran.lines().is_empty());
    within_bounds(&mut central);
}

/// One message on a connection of its own, with bytes as headers that no client checks. The server may refuse it.
fn publish_raw(fleet: &Fleet, subject: &str, headers: &[u8], body: &[u8]) {
    let mut stream = TcpStream::connect(fleet.broker.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut bytes = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n".to_vec();
    bytes.extend(format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + body.len()).as_bytes());
    bytes.extend([headers, body, b"\r\nPING\r\n"].concat());
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    eventually("the server answers", || {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap_or(0);
        answer.extend(&some[..count]);
        let text = String::from_utf8_lossy(&answer);
        (count == 0 || text.contains("PONG") || text.contains("-ERR")).then_some(())
    });
}
