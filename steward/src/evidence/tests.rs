//! What evidence shows, and that nothing of it can be another.

use protocol::message::{Kind, MessageId};
use protocol::name::MethodName;
use protocol::outcome::Progress;
use protocol::time::Wall;

use super::check::{Broken, Command, check, revoked_at};
use super::fleet_of_tests::{NOW, Rig, certified, command, name, outcome};
use super::tree::Step;
use super::verdict::Answer;
use super::*;
use crate::security::revocations::Revoked;

#[test]
fn each_end_of_a_body_can_be_shown_without_the_others() {
    let rig = Rig::new();
    for count in [1, 2, 3, 7, 64] {
        let numbers: Vec<u128> = (0..count).collect();
        for (number, evidence) in numbers.iter().zip(rig.evidence(&numbers)) {
            let proven = check(&evidence, &command(*number), &rig.key()).unwrap();
            assert_eq!(proven.outcome, outcome(*number));
            assert_eq!(proven.certificate, rig.certificate);
            let others = numbers.iter().filter(|other| *other != number);
            assert!(others.clone().all(|other| !evidence.receipt.contains(&command(*other).id.to_string())));
            for other in others.take(2) {
                assert!(check(&evidence, &command(*other), &rig.key()).is_err());
            }
        }
    }
}

#[test]
fn evidence_is_for_this_command_and_no_other() {
    let rig = Rig::new();
    let evidence = rig.evidence(&[1]).remove(0);
    let is = |command: Command| check(&evidence, &command, &rig.key()).unwrap_err();
    let right = || command(1);
    assert_eq!(is(Command { id: MessageId(5), ..right() }), Broken::Other("id"));
    assert_eq!(is(Command { kind: Kind::EventAck, ..right() }), Broken::Other("type"));
    assert_eq!(is(Command { method: MethodName::new("Other").unwrap(), ..right() }), Broken::Other("method"));
    assert_eq!(is(Command { data: r#"["rm","1"]"#.to_owned(), ..right() }), Broken::Other("data"));
    assert_eq!(is(Command { from: name("ann"), ..right() }), Broken::Signature(name("ship1")));
    let to = name("ship2");
    assert_eq!(is(Command { to: to.clone(), ..right() }), Broken::Name { signed: name("ship1"), to });
    assert!(matches!(check(&evidence, &right(), &Rig::new().key()), Err(Broken::Certificate(_))));
}

#[test]
fn evidence_that_was_altered_does_not_hold() {
    let rig = Rig::new();
    let right = rig.evidence(&[1, 2, 3]).remove(1);
    let holds = |evidence: &Evidence| check(evidence, &command(2), &rig.key()).is_ok();
    assert!(holds(&right));
    for at in 0..right.receipt.len() {
        let mut receipt = right.receipt.clone().into_bytes();
        receipt[at] ^= 1;
        let receipt = String::from_utf8(receipt).unwrap();
        assert!(!holds(&Evidence { receipt, ..right.clone() }), "byte {at}");
    }
    for at in 0..64 {
        let mut other = right.clone();
        other.signature[at] ^= 1;
        assert!(!holds(&other), "byte {at} of the signature");
    }
    let mut other = right.clone();
    other.path.pop();
    assert!(!holds(&other));
    other.path.push(Step::Right(blake3::hash(b"")));
    assert!(!holds(&other));
    let of_another = Rig::new().evidence(&[1, 2, 3]).remove(1);
    assert!(!holds(&Evidence { certificate: of_another.certificate, ..right.clone() }));
    let until = Rig::until(Some(Wall(NOW.0 - 1000)));
    let late = check(&until.evidence(&[2])[0], &command(2), &until.key());
    assert_eq!(late, Err(Broken::Expired { name: name("ship1") }));
}

#[test]
fn a_signature_over_other_receipts_proves_nothing() {
    let rig = Rig::new();
    let of_others = rig.evidence(&[1, 2]).remove(0);
    let mut receipts = wire::receipts::decode(&rig.body(&[1, 3]), &name("central"), "ship1").unwrap();
    gather(&mut receipts, &rig.body(&[1, 3]), of_others.signature, &rig.certificate.text).unwrap();
    let Progress::Final(outcome) = &receipts.receipts[0].1.progress else { panic!("it has not ended") };
    let (certificate, proof) = split(outcome.proof.as_ref().unwrap()).unwrap();
    let kept = join(certificate, proof).unwrap();
    assert_eq!(check(&kept, &command(1), &rig.key()), Err(Broken::Signature(name("ship1"))));
}

#[test]
fn what_is_kept_comes_back_or_is_refused() {
    let right = Rig::new().evidence(&[1, 2, 3]).remove(0);
    let bytes = encode(&right.certificate, &right.signature, &right.path, &right.receipt);
    let (certificate, proof) = split(&bytes).unwrap();
    assert_eq!(join(certificate, proof), Some(right));
    for len in 0..proof.len().min(64 + 2 + 33 * 2) {
        assert_eq!(join(certificate, &proof[..len]), None, "{len}");
    }
    for len in 0..certificate.len() + 2 {
        assert_eq!(split(&bytes[..len]), None, "{len}");
    }
    assert_eq!(join(certificate, &[&[9], &proof[1..]].concat()), None);
}

#[test]
fn a_key_that_was_revoked_later_is_told_apart() {
    let rig = Rig::new();
    let proven = check(&rig.evidence(&[1])[0], &command(1), &rig.key()).unwrap();
    let key = rig.node.public();
    let revoked = |at_ms| [Revoked { key: key.to_string(), name: "ship1".to_owned(), at_ms }];
    let standing = |list: &[Revoked]| proven.standing(revoked_at(&key, list));
    assert_eq!(standing(&[]), (Answer::Holds, None));
    let (answer, why) = standing(&revoked(NOW.0 + 1));
    assert!(answer == Answer::Holds && why.unwrap().contains("was revoked later"));
    assert_eq!(standing(&revoked(NOW.0)).0, Answer::Revoked);
    assert_eq!(standing(&revoked(NOW.0 - 1)).0, Answer::Revoked);
}

#[test]
fn the_key_that_a_certificate_renews_is_the_nodes_own() {
    let rig = Rig::new();
    let other = Rig::new().node.public();
    let right = rig.evidence(&[1]).remove(0);
    let with = |renews| {
        let certificate = certified(&rig.fleet, other, renews, None).text;
        check(&Evidence { certificate, ..right.clone() }, &command(1), &rig.key())
    };
    assert_eq!(with(Some(rig.node.public())).unwrap().key, rig.node.public());
    assert_eq!(with(None), Err(Broken::Signature(name("ship1"))));
}
