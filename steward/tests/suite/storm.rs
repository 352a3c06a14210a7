//! Everything at once: messages to two ships while the sender, the ships and the broker are killed and frozen in turn. The
//! simulator does this in virtual time and in thousands of orders; here it is done to real processes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Dice, Fleet, Node, shell};

const ROUNDS: usize = 30;
const MESSAGES_A_ROUND: usize = 8;

/// Every so many commands one prints a lot.
const LONG_EVERY: usize = 10;
const LONG_BYTES: u64 = 200_000;

#[test]
fn nothing_is_lost_and_nothing_runs_twice_in_a_storm_of_kills() {
    storm(1);
}

#[test]
fn nor_in_another_one() {
    storm(2);
}

/// `STORMS=40 cargo test -p steward --test suite storm -- --ignored`
#[test]
#[ignore = "long: as many storms as STORMS says"]
fn nor_in_many_more() {
    let storms = std::env::var("STORMS").map_or(20, |storms| storms.parse().unwrap());
    (3..3 + storms).for_each(storm);
}

fn storm(seed: u64) {
    let fleet = Fleet::new();
    let mut central = fleet.node("central");
    let mut ships = [fleet.node("ship1"), fleet.node("ship2")];
    let ran = ["ship1", "ship2"].map(|ship| fleet.file(ship.replace("ship", "ran").as_str()));
    let mut dice = Dice(seed);
    let mut sent: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for round in 0..ROUNDS {
        let numbers = round * MESSAGES_A_ROUND..(round + 1) * MESSAGES_A_ROUND;
        let messages: Vec<(usize, usize, Value)> = numbers
            .map(|number| {
                let ship = dice.throw(2) as usize;
                let print =
                    if number % LONG_EVERY == 0 { format!("; head -c {LONG_BYTES} /dev/zero") } else { String::new() };
                let script = format!("echo {number} >> {}{print}", ran[ship].path());
                (number, ship, shell(ships[ship].name(), &script))
            })
            .collect();
        let ids = central.send_all(&messages.iter().map(|(_, _, message)| message.clone()).collect::<Vec<_>>());
        sent.extend(ids.into_iter().zip(messages.iter().map(|(number, ship, _)| (*number, *ship))));
        strike(&mut dice, &fleet, &mut central, &mut ships);
    }
    let ended = central.all_ended(ROUNDS * MESSAGES_A_ROUND);
    let lines = ran.map(|file| file.lines().iter().map(|line| line.parse::<usize>().unwrap()).collect::<Vec<_>>());
    for (ship, lines) in lines.iter().enumerate() {
        assert!(lines.is_sorted_by(|one, next| one < next), "seed {seed}: twice, or out of order on {ship}: {lines:?}");
    }
    for message in &ended {
        let (number, ship) = sent[message["id"].as_str().unwrap()];
        let has_run = lines[ship].binary_search(&number).is_ok();
        match message["state"].as_str().unwrap() {
            "done" => {
                assert!(has_run, "seed {seed}: done, but it has not run: {message}");
                let expected = if number % LONG_EVERY == 0 { LONG_BYTES } else { 0 };
                assert_eq!(message["stdoutBytes"], expected, "seed {seed}: {message}");
            }
            "interrupted" => {}
            state => panic!("seed {seed}: {state}: {message}"),
        }
    }
    let done = ended.iter().filter(|message| message["state"] == "done").count();
    assert!(done > ended.len() / 2, "seed {seed}: only {done} of {} came through", ended.len());
}

/// Something happens to somebody.
fn strike(dice: &mut Dice, fleet: &Fleet, central: &mut Node<'_>, ships: &mut [Node<'_>; 2]) {
    let ship = dice.throw(2) as usize;
    match dice.throw(6) {
        0 => {
            central.kill();
            central.start();
        }
        1 | 2 => {
            ships[ship].kill();
            ships[ship].start();
        }
        3 => {
            fleet.broker.stop();
            fleet.broker.start();
        }
        4 => {
            ships[ship].freeze();
            central.kill();
            central.start();
            ships[ship].thaw();
        }
        _ => {
            fleet.broker.freeze();
            ships[ship].kill();
            ships[ship].start();
            fleet.broker.thaw();
        }
    }
}
