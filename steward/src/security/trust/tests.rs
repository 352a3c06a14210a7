//! Whom a node believes, without a broker.

use std::time::Duration;

use async_nats::HeaderMap;

use super::fleet_of_tests::{TestFleet, TestShelf, copy};
use super::*;
use crate::clock::wall;
use crate::security::replays::Stale;

const SUBJECT: &str = "ship1.CommandACK.ShellCommand";

fn send(from: &Trust, introduces: bool) -> Option<HeaderMap> {
    from.sign(wall(), SUBJECT, None, b"{}", introduces)
}

fn take(at: &Trust, headers: Option<&HeaderMap>) -> Result<NodeName, Refusal> {
    let proof = at.verify(SUBJECT, headers, b"{}", wall())?;
    Ok(at.sender(&proof, "central")?.name)
}

fn kind(result: Result<NodeName, Refusal>) -> &'static str {
    result.err().map_or("believed", |refusal| refusal.kind())
}

#[test]
fn a_node_is_believed_once_it_has_shown_its_certificate() {
    let fleet = TestFleet::new();
    let (central, ship) = (fleet.node("central"), fleet.node("ship1"));
    assert_eq!(kind(take(&ship, send(&central, false).as_ref())), "unknown_key");
    assert_eq!(kind(take(&ship, send(&central, true).as_ref())), "believed");
    assert_eq!(kind(take(&ship, send(&central, false).as_ref())), "believed");
    assert_eq!(kind(take(&ship, None)), "unsigned");
    assert_eq!(kind(take(&ship, Some(&HeaderMap::new()))), "unsigned");
}

#[test]
fn what_the_store_knows_is_known_after_a_restart() {
    let fleet = TestFleet::new();
    let (central, shelf) = (fleet.node("central"), TestShelf::default());
    let ship = fleet.identity("ship1", 1);
    let again = copy(&ship);
    assert_eq!(kind(take(&fleet.trust(ship, &shelf), send(&central, true).as_ref())), "believed");
    assert_eq!(kind(take(&fleet.trust(again, &shelf), send(&central, false).as_ref())), "believed");
}

#[test]
fn a_stranger_and_another_fleet_are_not_believed() {
    let (fleet, other) = (TestFleet::new(), TestFleet::new());
    let ship = fleet.node("ship1");
    assert_eq!(kind(take(&ship, send(&other.node("central"), true).as_ref())), "certificate");
    // Somebody who shows the certificate of another.
    let central = fleet.node("central");
    let mut borrowed = send(&other.node("central"), false).unwrap();
    borrowed.insert("Steward-Certificate", &*central.identity().unwrap().certificate.text);
    assert_eq!(kind(take(&ship, Some(&borrowed))), "signature");
    let thief = other.node("central");
    let headers = {
        let mut headers = HeaderMap::new();
        let certificate = central.identity().unwrap().certificate.text.clone();
        let key = &thief.identity().unwrap().keys.node;
        let public = key.public().to_string();
        signing::sign(key, &public, wall(), Some(&certificate), SUBJECT, &mut headers, b"{}");
        headers
    };
    assert_eq!(take(&ship, Some(&headers)), Err(Refusal::OtherCertificate));
}

#[test]
fn a_name_belongs_to_the_key_with_the_highest_serial() {
    let fleet = TestFleet::new();
    let ship = fleet.node("ship1");
    let node = |serial| fleet.trust(fleet.identity("central", serial), &TestShelf::default());
    let (first, second, third, rival) = (node(1), node(2), node(3), node(2));
    assert_eq!(kind(take(&ship, send(&second, true).as_ref())), "believed");
    for old in [&first, &rival] {
        let refusal = take(&ship, send(old, true).as_ref()).unwrap_err();
        assert_eq!(refusal.kind(), "other_key");
        assert!(refusal.is_alarming());
        assert!(refusal.to_string().contains("revoke the name and invite the node again"), "{refusal}");
    }
    assert_eq!(kind(take(&ship, send(&third, true).as_ref())), "believed");
    assert_eq!(kind(take(&ship, send(&second, false).as_ref())), "unknown_key", "its key was replaced");
    assert_eq!(kind(take(&ship, send(&second, true).as_ref())), "other_key");
    let namesake = fleet.trust(fleet.identity("ship1", 9), &TestShelf::default());
    assert_eq!(kind(take(&ship, send(&namesake, true).as_ref())), "other_key", "nobody else is this node");
}

/// A node renews its keys: what it has signed with either is its own until the old one is revoked.
#[test]
fn both_keys_of_a_renewal_are_believed_until_the_old_one_is_revoked() {
    let fleet = TestFleet::new();
    let (old, shelf) = (fleet.identity("central", 7), TestShelf::default());
    let new = fleet.renewed(&old, 9);
    let (central, ship) = (fleet.trust(copy(&old), &TestShelf::default()), fleet.node("ship1"));
    let before = send(&central, true);
    assert_eq!(kind(take(&ship, before.as_ref())), "believed");
    central.take_on(copy(&new));
    assert_eq!(central.identity().unwrap().certificate, new.certificate);
    assert_eq!(kind(take(&ship, send(&central, true).as_ref())), "believed");
    // What was on its way, without a certificate and with one; and its own words come back to it.
    let thief = fleet.trust(copy(&old), &TestShelf::default());
    for headers in [send(&thief, false), before.clone()] {
        assert_eq!(kind(take(&ship, headers.as_ref())), "believed");
        assert_eq!(kind(take(&central, headers.as_ref())), "believed");
    }
    assert_eq!(ship.who_is(&NodeName::new("central").unwrap()).key, Some(new.certificate.key));
    // Who was not there has the certificate of the new one only, from its store, or from both in the wrong order.
    let later = fleet.trust(fleet.identity("ship2", 1), &shelf);
    assert_eq!(kind(take(&later, send(&central, true).as_ref())), "believed");
    assert_eq!(kind(take(&later, before.as_ref())), "believed");
    let restarted = fleet.trust(fleet.identity("ship2", 1), &shelf);
    assert_eq!(kind(take(&restarted, before.as_ref())), "believed");
    // A node that has to go back to its old keys is still itself, to others and to itself.
    central.take_on(copy(&old));
    assert_eq!(kind(take(&ship, send(&central, true).as_ref())), "believed");
    assert_eq!(kind(take(&central, send(&central, true).as_ref())), "believed");
    // Someone whom the fleet has not named in the new certificate is not.
    let other = fleet.trust(fleet.identity("central", 8), &TestShelf::default());
    assert_eq!(kind(take(&ship, send(&other, true).as_ref())), "other_key");
    let list = fleet.revoke(1, &old.certificate.key, "central");
    for node in [&ship, &later, &restarted] {
        assert!(
            node.revocations().unwrap().apply(&list).unwrap_or(false) || node.revocations().unwrap().version() == 1
        );
        assert_eq!(kind(take(node, before.as_ref())), "revoked");
    }
    central.take_on(new);
    assert_eq!(kind(take(&ship, send(&central, false).as_ref())), "believed");
}

#[test]
fn a_revoked_key_is_refused_and_an_expired_certificate_too() {
    let fleet = TestFleet::new();
    let (central, ship) = (fleet.node("central"), fleet.node("ship1"));
    assert_eq!(kind(take(&ship, send(&central, true).as_ref())), "believed");
    let list = fleet.revoke(1, &central.identity().unwrap().keys.node.public(), "central");
    assert!(ship.revocations().unwrap().apply(&list).unwrap());
    assert_eq!(kind(take(&ship, send(&central, true).as_ref())), "revoked");

    let soon = Wall(wall().0 + 3_600_000);
    let expiring = fleet.identity_until("central", 2, Some(soon));
    let central = fleet.trust(expiring, &TestShelf::default());
    let headers = send(&central, true);
    assert_eq!(kind(take(&ship, headers.as_ref())), "believed");
    let late = ship.verify(SUBJECT, headers.as_ref(), b"{}", soon).unwrap_err();
    assert!(late.to_string().contains("--replace"), "{late}");
}

#[test]
fn whoever_signs_speaks_for_itself_only() {
    let fleet = TestFleet::new();
    let (ship, other) = (fleet.node("ship1"), fleet.node("ship2"));
    let refusal = take(&ship, send(&other, true).as_ref()).unwrap_err();
    assert_eq!(refusal.to_string(), "it says that it is from central, but ship2 has signed it");
}

#[test]
fn what_is_not_addressed_has_to_be_fresh() {
    let fleet = TestFleet::new();
    let (central, ship) = (fleet.node("central"), fleet.node("ship1"));
    let now = wall();
    let started = Wall(now.0 - 60_000);
    let fresh = |at: u64| {
        let headers = central.sign(Wall(at), SUBJECT, None, b"{}", true);
        let proof = ship.verify(SUBJECT, headers.as_ref(), b"{}", now).unwrap();
        ship.fresh(&proof, now, started).map_err(|refusal| match refusal {
            Refusal::Stale { name, why } => (name.to_string(), why),
            other => panic!("{other}"),
        })
    };
    let stale = |why| Err(("central".to_owned(), why));
    assert_eq!(fresh(now.0), Ok(()));
    assert_eq!(fresh(now.0), stale(Stale::Seen));
    assert_eq!(fresh(now.0 - 60_001), stale(Stale::BeforeStart));
    assert_eq!(fresh(now.0 - 400_000), stale(Stale::Old(Duration::from_secs(400))));
    assert_eq!(fresh(now.0 + 400_000), stale(Stale::Future(Duration::from_secs(400))));
}

#[test]
fn without_an_identity_commands_of_others_are_refused_and_its_own_are_not() {
    let name = |text: &str| NodeName::new(text).unwrap();
    let ship = Trust::closed(name("ship1"), name("central")).unwrap();
    let proof = ship.verify(SUBJECT, None, b"{}", wall()).unwrap();
    let central = ship.sender(&proof, "central").unwrap();
    assert!(ship.refusal(&central, Kind::CommandAck).unwrap().contains("--insecure"));
    assert!(ship.refusal(&central, Kind::CommandNack).is_some());
    assert!(ship.refusal(&central, Kind::EventAck).is_none());
    assert_eq!(ship.sender(&proof, "ship1"), Err(Refusal::Impostor), "anybody could say so");
    let own = send(&ship, false);
    let proof = ship.verify(SUBJECT, own.as_ref(), b"{}", wall()).unwrap();
    assert!(ship.refusal(&ship.sender(&proof, "ship1").unwrap(), Kind::CommandAck).is_none());
    assert!(ship.sign(wall(), "ship2.CommandACK.X", None, b"", true).is_none(), "nobody else could read it");
    let last_process = Trust::closed(name("ship1"), name("central")).unwrap();
    let proof = last_process.verify(SUBJECT, own.as_ref(), b"{}", wall()).unwrap();
    assert_eq!(last_process.sender(&proof, "ship1"), Err(Refusal::Impostor));
}

#[test]
fn an_open_node_believes_everybody_and_signs_nothing() {
    let name = |text: &str| NodeName::new(text).unwrap();
    let ship = Trust::open(name("ship1"), name("central"));
    assert!(send(&ship, true).is_none());
    let proof = ship.verify(SUBJECT, None, b"{}", wall()).unwrap();
    let central = ship.sender(&proof, "central").unwrap();
    assert_eq!((central.role, ship.refusal(&central, Kind::CommandAck)), (Role::Central, None));
    assert_eq!(ship.fresh(&proof, wall(), wall()), Ok(()));
}

#[test]
fn what_is_sealed_is_for_its_receiver_and_under_its_signer_only() {
    let fleet = TestFleet::new();
    let (central, ship, other) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let (to, certificate) =
        (NodeName::new("ship1").unwrap(), |trust: &Trust| trust.identity().unwrap().certificate.clone());
    let seal =
        |trust: &Trust| trust.protect(Some(&to), wall(), SUBJECT, Plain::new(None, Bytes::from_static(b"{}"), true));
    // Without its certificate, nothing is sealed, and nothing is left plain.
    let unknown = seal(&central).unwrap_err();
    assert_eq!(unknown, Unsealable::NoKey(to.clone()));
    central.meets(&certificate(&ship));
    let (headers, body) = seal(&central).unwrap();
    let proof = ship.verify(SUBJECT, headers.as_ref(), &body, wall()).unwrap();
    assert_eq!(&*ship.unseal(&proof, SUBJECT, headers.as_ref(), &body).unwrap().unwrap().body, b"{}");
    assert!(ship.unseal(&proof, SUBJECT, None, &body).unwrap().is_none());
    // Somebody else, who may verify it.
    let proof = other.verify(SUBJECT, headers.as_ref(), &body, wall()).unwrap();
    let refused = other.unseal(&proof, SUBJECT, headers.as_ref(), &body).unwrap_err();
    assert!(
        matches!(&refused, Refusal::SealKey { name, key } if name.as_str() == "central" && *key == certificate(&ship).seal_key)
    );
    // Somebody else signs it.
    let mut sealed = HeaderMap::new();
    sealed.insert("Steward-Seal", certificate(&ship).seal_key.to_string());
    let stolen = other.sign(wall(), SUBJECT, Some(sealed), &body, true);
    let proof = ship.verify(SUBJECT, stolen.as_ref(), &body, wall()).unwrap();
    let refused = ship.unseal(&proof, SUBJECT, stolen.as_ref(), &body).unwrap_err();
    assert!(refused.is_alarming() && refused.kind() == "box", "{refused}");
    // Who has no keys says so.
    let open = Trust::open(to.clone(), NodeName::new("central").unwrap());
    assert_eq!(seal(&open), Err(Unsealable::NoIdentity));
    let proof = open.verify(SUBJECT, headers.as_ref(), &body, wall()).unwrap();
    assert_eq!(open.unseal(&proof, SUBJECT, headers.as_ref(), &body).unwrap_err(), Refusal::SealedForNobody);
}

/// With a newer certificate of its receiver, what is sealed from then on is for the newer key.
#[test]
fn a_newer_certificate_is_sealed_for_at_once() {
    let fleet = TestFleet::new();
    let (central, to) = (fleet.node("central"), NodeName::new("ship1").unwrap());
    let sealed_for = || {
        let (headers, _) =
            central.protect(Some(&to), wall(), SUBJECT, Plain::new(None, Bytes::from_static(b"{}"), false)).unwrap();
        headers.unwrap().get("Steward-Seal").unwrap().to_string()
    };
    for serial in 1..=2 {
        let certificate = fleet.identity("ship1", serial).certificate;
        central.meets(&certificate);
        assert_eq!(sealed_for(), certificate.seal_key.to_string());
    }
}

/// While a node renews its keys, others seal for either of them; what it seals itself always fits its signature.
#[test]
fn what_was_sealed_for_the_key_before_is_opened_while_that_is_kept() {
    let fleet = TestFleet::new();
    let (central, body) = (fleet.node("central"), || Bytes::from_static(b"{}"));
    let (before, after, last) = (fleet.identity("ship1", 1), fleet.identity("ship1", 2), fleet.identity("ship1", 3));
    let certificates = [before.certificate.clone(), after.certificate.clone()];
    let ship = fleet.trust(before, &TestShelf::default());
    let (to, of_central) = (NodeName::new("ship1").unwrap(), central.identity().unwrap().certificate.clone());
    let sealed: Vec<_> = certificates
        .iter()
        .map(|certificate| {
            central.meets(certificate);
            central.protect(Some(&to), wall(), SUBJECT, Plain::new(None, body(), true)).unwrap()
        })
        .collect();
    let open = |sealed: &(Option<HeaderMap>, Bytes)| {
        let proof = ship.verify(SUBJECT, sealed.0.as_ref(), &sealed.1, wall()).unwrap();
        ship.unseal(&proof, SUBJECT, sealed.0.as_ref(), &sealed.1).map(|opened| opened.unwrap().body)
    };
    assert_eq!((open(&sealed[0]).unwrap(), open(&sealed[1]).unwrap_err().kind()), (body(), "seal_key"));
    ship.take_on(after);
    assert_eq!((open(&sealed[0]).unwrap(), open(&sealed[1]).unwrap()), (body(), body()));
    ship.take_on(last);
    assert_eq!((open(&sealed[0]).unwrap_err().kind(), open(&sealed[1]).unwrap()), ("seal_key", body()));
    ship.meets(&of_central);
    let own =
        ship.protect(Some(&of_central.name), wall(), "central.ACK.ship1", Plain::new(None, body(), true)).unwrap();
    let proof = central.verify("central.ACK.ship1", own.0.as_ref(), &own.1, wall()).unwrap();
    assert!(central.unseal(&proof, "central.ACK.ship1", own.0.as_ref(), &own.1).unwrap().is_some());
}
