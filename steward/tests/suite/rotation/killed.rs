//! SIGKILL at each named point of a renewal, on either side. For a steward that was built with the feature `crash-points`; `scripts/test` builds one for
//! these.

use std::fs;
use std::path::PathBuf;

use super::{joined, key, key_of, rotate, settled};
use crate::enrolment::made;
use crate::harness::{Fleet, Node, event, eventually, shell};

/// Where the switches of a node stand.
fn switches(node: &mut Node<'_>) -> PathBuf {
    let path = node.dir().with_extension("switches");
    node.set_variable("STEWARD_SWITCHES", path.to_str().unwrap());
    path
}

/// Central and a member that run, both with switches.
fn pair(fleet: &Fleet) -> (Node<'_>, Node<'_>, crate::harness::Process, [PathBuf; 2]) {
    let (mut central, broker) = made(fleet);
    let of_central = switches(&mut central);
    central.start();
    let mut ship1 = joined(fleet, &central, "ship1");
    let of_ship = switches(&mut ship1);
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo in"))["stdout"], "in\n");
    (central, ship1, broker, [of_central, of_ship])
}

#[test]
fn whatever_is_killed_in_a_renewal_gets_in_and_goes_on_by_itself() {
    let fleet = Fleet::without_broker();
    let (mut central, mut ship1, _broker, [of_central, of_ship]) = pair(&fleet);
    let points = ["begun", "certified", "switched", "connected", "settled"];
    let at_ship = points.iter().map(|point| (false, format!("crash renewal-{point} 1")));
    let at_central = [1, 2].map(|passage| (true, format!("crash renewal-kept {passage}")));
    for (is_central, crash) in at_ship.chain(at_central) {
        let before = key(&ship1);
        let switches = if is_central { &of_central } else { &of_ship };
        fs::write(switches, &crash).unwrap();
        ship1.ask("POST", "/v1/keys/renew", "");
        let killed = if is_central { &mut central } else { &mut ship1 };
        eventually(&crash, || (!killed.runs()).then_some(()));
        fs::write(switches, "").unwrap();
        killed.start();
        let after = settled(&central, &ship1);
        assert_ne!(after, before, "{crash}");
        assert_eq!(central.send_and_wait(&shell("ship1", "echo whole"))["stdout"], "whole\n", "{crash}");
        assert_eq!(ship1.send_and_wait(&event("central", "TextLogging", &["up\n"]))["state"], "done", "{crash}");
    }
}

#[test]
fn central_is_killed_in_its_own_renewal() {
    let fleet = Fleet::without_broker();
    let (mut central, ship1, _broker, [of_central, _]) = pair(&fleet);
    for point in ["begun 1", "kept 1", "certified 1", "switched 1", "connected 1", "kept 2", "settled 1"] {
        let before = key(&central);
        fs::write(&of_central, format!("crash renewal-{point}")).unwrap();
        central.ask("POST", "/v1/keys/renew", "");
        eventually(point, || (!central.runs()).then_some(()));
        fs::write(&of_central, "").unwrap();
        central.start();
        eventually("it has come to its end", || {
            let keys = central.ask("GET", "/v1/keys", "");
            (keys["state"] == "current" && keys["key"] != before && !central.dir().join("identity.previous").exists())
                .then_some(())
        });
        assert_eq!(central.send_and_wait(&shell("ship1", "echo whole"))["stdout"], "whole\n", "{point}");
        assert_eq!(ship1.send_and_wait(&event("central", "TextLogging", &["up\n"]))["state"], "done", "{point}");
    }
}

/// The broker does not let the new login in: the node goes back to the old one, says so, and nothing of it is lost.
#[test]
fn a_node_whose_new_login_is_refused_goes_back_to_the_old_one() {
    let fleet = Fleet::without_broker();
    let (central, mut ship1, _broker, [_, of_ship]) = pair(&fleet);
    let before = key(&ship1);
    fs::write(&of_ship, "crash renewal-certified 1").unwrap();
    ship1.ask("POST", "/v1/keys/renew", "");
    eventually("it has its new certificate", || (!ship1.runs()).then_some(()));
    fs::write(&of_ship, "").unwrap();
    // A login for another key, which no broker takes.
    let login = ship1.dir().join("identity.next/node.creds");
    let good = fs::read(&login).unwrap();
    fs::copy(ship1.dir().join("identity/node.creds"), &login).unwrap();
    ship1.start();
    let row = eventually("it has gone back", || {
        ship1.json(&["ps"]).into_iter().find(|row| row["kind"] == "keys" && row["state"] == "fell-back")
    });
    assert!(row["note"].as_str().unwrap().contains("the old ones are used again"), "{row}");
    assert_eq!((key(&ship1), key_of(&central, "ship1")), (before.clone(), before.clone()));
    assert_eq!(central.send_and_wait(&shell("ship1", "echo still here"))["stdout"], "still here\n");
    let told = rotate(&ship1, &["--timeout", "20s"]);
    assert!(told.code == 1 && told.stderr.contains("stay good"), "{told:?}");
    // Somebody has mended it, and it is tried again.
    eventually("it is there again", || login.exists().then_some(()));
    fs::write(&login, good).unwrap();
    ship1.kill();
    ship1.start();
    assert_ne!(settled(&central, &ship1), before);
    assert_eq!(central.send_and_wait(&shell("ship1", "echo renewed"))["stdout"], "renewed\n");
}
