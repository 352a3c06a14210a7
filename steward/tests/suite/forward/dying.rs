//! What becomes of connections when something between their ends goes away: with a link they wait, with a node they break.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::tcp::{LOOK, Service, dial, is_reset, noise, pass};
use super::{Forwarding, forwards, pair, to};
use crate::harness::{Fleet, eventually};

/// What passes in each direction.
const SIZE: usize = 50 * 1024 * 1024;

/// Passes a lot through an echo, and has something happen where so many parts of a hundred have come back.
fn pass_while(stream: TcpStream, happens: &[(usize, &dyn Fn())]) {
    let (all, got) = (noise(3, SIZE), AtomicUsize::new(0));
    let mut back = vec![0; SIZE];
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&all).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            for piece in back.chunks_mut(64 * 1024) {
                (&stream).read_exact(piece).unwrap();
                got.fetch_add(piece.len(), Ordering::Relaxed);
            }
            assert_eq!((&stream).read(&mut [0]).unwrap(), 0, "nothing comes behind the end");
        });
        for (percent, happen) in happens {
            while got.load(Ordering::Relaxed) < SIZE / 100 * percent {
                thread::park_timeout(LOOK);
            }
            happen();
        }
    });
    assert!(back == all);
}

#[test]
fn fifty_megabytes_pass_both_ways_while_the_link_is_cut() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, _ship1) = pair(&fleet, &echo);
    let forwarding = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    let cut = || {
        fleet.broker.stop();
        fleet.broker.is_knocked_at(2);
        fleet.broker.start();
    };
    let freeze = || {
        fleet.broker.signal(Signal::STOP);
        thread::park_timeout(10 * LOOK);
        fleet.broker.signal(Signal::CONT);
    };
    pass_while(dial(forwarding.port()), &[(10, &cut), (30, &freeze), (50, &cut), (51, &cut)]);
    assert_eq!(echo.connections(), 1);
}

#[test]
fn a_node_that_dies_breaks_its_connections_off_and_takes_new_ones_when_it_is_back() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (mut central, mut ship1) = pair(&fleet, &echo);
    let mut forwarding = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    let begun = |forwarding: &Forwarding| {
        let mut stream = dial(forwarding.port());
        stream.write_all(&noise(1, 100_000)).unwrap();
        stream.read_exact(&mut [0; 50_000]).unwrap();
        stream
    };
    let open = begun(&forwarding);
    ship1.kill();
    eventually("its service sees a reset", || (echo.resets() == 1 && echo.open() == 0).then_some(()));
    ship1.start();
    assert!(is_reset(open), "a program here sees one, too");
    let all = noise(5, 200_000);
    assert!(pass(dial(forwarding.port()), &all) == all, "the forward goes on with the node");

    let open = begun(&forwarding);
    central.kill();
    assert!(is_reset(open));
    central.start();
    forwarding.is_open(2);
    eventually("so does its service", || (echo.resets() == 2 && echo.open() == 0).then_some(()));
    assert!(pass(dial(forwarding.port()), &all) == all, "the command asks again");
    eventually("what the dead process wanted is over", || (forwards(&ship1).len() == 1).then_some(()));
    let first = central.ended(&forwarding.id());
    assert!(first["reason"].as_str().unwrap().contains("no `steward forward` that runs there"), "{first}");

    // In good order it is the same.
    let open = begun(&forwarding);
    assert_eq!(ship1.terminate(), 0);
    ship1.start();
    assert!(is_reset(open));
    assert!(pass(dial(forwarding.port()), &all) == all);
}

#[test]
fn a_command_that_is_killed_leaves_nothing_open() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, ship1) = pair(&fleet, &echo);
    let mut forwarding = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    let open = dial(forwarding.port());
    eventually("it is connected", || (echo.open() == 1).then_some(()));
    forwarding.process.kill();
    assert!(is_reset(open));
    assert_eq!(central.ended(&forwarding.id())["state"], "cancelled");
    assert!(forwards(&ship1).is_empty() && forwards(&central).is_empty());
    eventually("its service sees a reset", || (echo.resets() == 1).then_some(()));
}
