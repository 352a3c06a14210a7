//! What was signed of an end comes with it, goes with it, and is kept once.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::MessageId;
use protocol::outcome::{Final, Outcome, Proof};
use protocol::step::Write;
use protocol::time::Wall;
use rusqlite::Connection;

use super::super::*;
use super::{message, submit};

/// An end that was signed by the owner of this certificate.
fn signed(id: u128, finished: u64, certificate: &str) -> Write {
    let mut proof = vec![0, u8::try_from(certificate.len()).unwrap()];
    proof.extend_from_slice(certificate.as_bytes());
    proof.push(1);
    proof.extend_from_slice(&[7; 64]);
    proof.push(0);
    proof.extend_from_slice(format!("receipt of {id}").as_bytes());
    let outcome = Outcome { proof: Some(Proof::new(proof)), ..Outcome::bare(Final::Done, None, Wall(finished)) };
    Write::End { id: MessageId(id), attempts: 1, history: Vec::new(), outcome: Arc::new(outcome) }
}

fn kept(dir: &Path, id: u128) -> Option<Kept> {
    Reader::open(dir).unwrap().evidence(MessageId(id)).unwrap()
}

fn counts(dir: &Path) -> (i64, i64) {
    let store = Connection::open(dir.join("steward.db")).unwrap();
    let count = |table| store.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    (count("evidence"), count("signers"))
}

#[test]
fn what_was_signed_is_kept_with_the_end_and_certificates_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1), submit(2, "ship1", 2), submit(3, "ship1", 3)]).unwrap();
    assert_eq!(kept(dir.path(), 1).unwrap().outcome, None);
    store.commit(&[signed(1, 2000, "first"), signed(2, 2001, "first"), signed(3, 2002, "second")]).unwrap();
    assert_eq!(counts(dir.path()), (3, 2));
    for (id, certificate) in [(1, "first"), (2, "first"), (3, "second")] {
        let Kept { message: found, outcome, evidence } = kept(dir.path(), id).unwrap();
        assert_eq!((found, outcome.unwrap().state), (message(id, "ship1"), Final::Done));
        let Signed::Evidence(evidence) = evidence else { panic!("{evidence:?}") };
        assert_eq!((&*evidence.certificate, evidence.receipt), (certificate, format!("receipt of {id}")));
    }
    assert_eq!(kept(dir.path(), 4), None);
    // The first end stands, and so does what was signed of it.
    store.commit(&[signed(1, 9000, "second")]).unwrap();
    let Signed::Evidence(evidence) = kept(dir.path(), 1).unwrap().evidence else { panic!() };
    assert_eq!(&*evidence.certificate, "first");
}

#[test]
fn what_was_signed_goes_with_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1), submit(2, "ship1", 2), submit(3, "ship1", 3)]).unwrap();
    store.commit(&[signed(1, 2000, "first"), signed(2, 2001, "second"), signed(3, 90_000, "second")]).unwrap();
    let retention = Retention { keep: Duration::from_secs(10), ..Retention::default() };
    assert_eq!(store.prune(&retention, Wall(20_000)).unwrap().messages, 2);
    assert_eq!(counts(dir.path()), (1, 1));
    assert!(matches!(kept(dir.path(), 3).unwrap().evidence, Signed::Evidence(_)));
    store.prune(&retention, Wall(200_000)).unwrap();
    assert_eq!(counts(dir.path()), (0, 0));
}

#[test]
fn what_makes_no_sense_does_not_keep_a_message_from_ending() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1)]).unwrap();
    let outcome = Outcome { proof: Some(Proof::new(vec![0xff])), ..Outcome::bare(Final::Done, None, Wall(1)) };
    let end = Write::End { id: MessageId(1), attempts: 1, history: Vec::new(), outcome: Arc::new(outcome) };
    store.commit(&[end]).unwrap();
    let Kept { outcome, evidence, .. } = kept(dir.path(), 1).unwrap();
    assert!(outcome.is_some() && evidence == Signed::Nothing);
}
