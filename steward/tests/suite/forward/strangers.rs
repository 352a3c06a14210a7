//! Others on the same broker, and forwards of a fleet as it is set up.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::tcp::{Service, dial, noise, pass};
use super::{Forwarding, allow, to};
use crate::attacks::members::{Members, replay};
use crate::enrolment::{invite, join, made, steward};
use crate::harness::{Fleet, Process, eventually, run};

/// Passes through forwarded connections, and must not be readable where it is sealed.
const SECRET: &str = "xyzzy-plugh-0451-and-some-more-of-it";

/// So long without a message, and a recording is over.
const QUIET: Duration = Duration::from_millis(300);

async fn recorded(tape: &mut async_nats::Subscriber) -> Vec<Message> {
    let mut all = Vec::new();
    while let Ok(Some(message)) = tokio::time::timeout(QUIET, tape.next()).await {
        all.push(message);
    }
    all
}

fn unpacked(message: &Message) -> Vec<u8> {
    crate::harness::unpacked(&message.payload)
}

fn is_readable(message: &Message) -> bool {
    String::from_utf8_lossy(&unpacked(message)).contains(SECRET)
}

/// Asks the echo for the secret on a connection that is open.
fn asks(stream: &mut std::net::TcpStream) {
    stream.write_all(SECRET.as_bytes()).unwrap();
    let mut back = [0; SECRET.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, SECRET.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_member_puts_nothing_into_a_forward_and_reads_nothing_of_it() {
    let fleet = Fleet::new();
    let (echo, members) = (Service::echo(), Members::new());
    let thief = async_nats::connect(fleet.broker.address()).await.unwrap();
    let mut tape = thief.subscribe(">").await.unwrap();
    thief.flush().await.unwrap();
    let (mut central, mut ship1) = (fleet.absent("central", &[]), fleet.absent("ship1", &[]));
    let (_, _, ship2) = (members.join(&central), members.join(&ship1), members.member("ship2", 1));
    central.start();
    ship1.start();
    allow(&ship1, &format!("forward = [\"{}\"]", echo.address()));

    let sealed = Forwarding::open(&fleet, &central, &["--seal", "0", &to(&echo)]);
    asks(&mut dial(sealed.port()));
    let all = recorded(&mut tape).await;
    assert!(all.iter().any(|message| message.subject.as_str() == "ship1.DATA.central"));
    assert!(!all.iter().any(is_readable), "it is sealed");
    drop(sealed);

    let plain = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    let mut open = dial(plain.port());
    asks(&mut open);
    let all = recorded(&mut tape).await;
    let bundles: Vec<&Message> =
        all.iter().filter(|message| message.subject.as_str() == "ship1.DATA.central").collect();
    let said = bundles.iter().find(|message| is_readable(message)).expect("a plain one can be read");
    let mut head: Value = serde_json::from_slice(unpacked(said).split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let connections = echo.connections();

    // The next bytes of the connection that is open, the end of it, a new one, and the end of all.
    let (id, header) = (plain.id(), "Steward-Forward");
    let frame = &mut head["frames"][0];
    (frame["offset"], frame["length"]) = (SECRET.len().into(), 6.into());
    let bytes = format!("{head}\nforged");
    head["frames"][0]["reset"] = "bye".into();
    let reset = format!("{head}\nforged");
    let mut fresh = head.clone();
    fresh["frames"] = serde_json::json!([{ "connection": 1_000_001, "open": true, "length": 6 }]);
    let fresh = format!("{fresh}\nforged");
    let over = format!("{}\n", serde_json::json!({ "v": 1, "side": "sender", "run": head["run"], "over": "bye" }));
    for body in [&bytes, &reset, &fresh, &over] {
        for subject in ["ship1.DATA.ship2", "ship1.DATA.central", "ship1.DATA.ship1"] {
            ship2.publish_with(&thief, subject, (header, &id), body.as_bytes()).await;
        }
    }
    // What was said in earnest, once more.
    for message in &bundles {
        replay(&thief, message).await;
    }
    thief.flush().await.unwrap();
    asks(&mut open);
    assert_eq!(echo.connections(), connections);
    drop(open);
    drop(plain);

    // And in another forward.
    let again = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    asks(&mut dial(again.port()));
    let connections = echo.connections();
    for message in all.iter().filter(|message| message.subject.contains(".DATA.")) {
        replay(&thief, message).await;
    }
    thief.flush().await.unwrap();
    asks(&mut dial(again.port()));
    assert_eq!(echo.connections(), connections + 1);
}

/// With the permissions, the logins and the TLS that `steward init` sets up.
#[test]
fn a_forward_passes_the_broker_of_a_fleet() {
    let fleet = Fleet::without_broker();
    let echo = Service::echo();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let ship1 = fleet.absent("ship1", &[]);
    run(fleet.dir(), &mut join(&fleet, ship1.dir(), &invite(&central, &["ship1"]))).ok();
    let _runs = Process::start("ship1-run", fleet.dir(), &mut steward(ship1.dir(), &["run"]));
    eventually("it runs", || ship1.answers().then_some(()));
    allow(&ship1, &format!("forward = [\"{}\"]", echo.address()));
    let forwarding = Forwarding::open(&fleet, &central, &["--seal", "0", &to(&echo)]);
    let all = noise(9, 500_000);
    assert!(pass(dial(forwarding.port()), &all) == all);
    // A plain node gives no commands, so it opens nothing either.
    let other = Forwarding::start(&fleet, &ship1, &["0", &format!("central:{}", echo.address())]).ends();
    assert!(other.0 != 0, "{other:?}");
    assert_eq!(echo.connections(), 1);
}
