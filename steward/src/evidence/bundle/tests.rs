//! Bundles, and what somebody could make of one.

use std::io::Cursor;

use super::*;
use crate::evidence::fleet_of_tests::{LONG, NOW, Rig, command};
use crate::security::revocations::Revocations;

fn written(rig: &Rig, numbers: &[u128], revoked: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &rig.key(), revoked).unwrap();
    for case in rig.cases(numbers) {
        writer.add(&case, |_| Ok(LONG)).unwrap();
    }
    writer.finish().unwrap()
}

fn read_all(bytes: &[u8], fleet: &PublicKey, newer: &[Revoked]) -> Result<Vec<Verdict>, BundleError> {
    let mut verdicts = Vec::new();
    read(Cursor::new(bytes), fleet, newer, |verdict| {
        verdicts.push(verdict);
        Ok(())
    })?;
    Ok(verdicts)
}

/// With the right hash at its end, as whoever alters a bundle would write it.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let body = &bytes[..bytes.len() - 69];
    [body, format!("end {}\n", blake3::hash(body).to_hex()).as_bytes()].concat()
}

fn holds(bytes: &[u8], rig: &Rig) -> bool {
    read_all(bytes, &rig.key(), &[])
        .is_ok_and(|verdicts| verdicts.iter().all(|verdict| verdict.answer == Answer::Holds))
}

#[test]
fn a_bundle_is_read_by_whoever_knows_the_fleet_alone() {
    let rig = Rig::new();
    let bytes = written(&rig, &[1, 2, 3], "");
    let verdicts = read_all(&bytes, &rig.key(), &[]).unwrap();
    assert_eq!(verdicts.len(), 3);
    for (number, verdict) in [1, 2, 3].into_iter().zip(&verdicts) {
        let signed = verdict.signed.as_ref().unwrap();
        assert_eq!((verdict.answer, &verdict.id), (Answer::Holds, &command(number).id.to_string()));
        assert_eq!(verdict.data, ["echo".to_owned(), number.to_string()]);
        assert_eq!(signed.stdout.text.as_deref(), Some(format!("{number}\n").as_str()));
        assert_eq!(signed.stderr.bytes, LONG.len() as u64);
    }
    assert!(matches!(read_all(&bytes, &Rig::new().key(), &[]), Err(BundleError::Fleet { .. })));
}

#[test]
fn no_byte_of_a_bundle_can_be_another() {
    let rig = Rig::new();
    let bytes = written(&rig, &[1, 2], "");
    assert!(holds(&bytes, &rig));
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(read_all(&other, &rig.key(), &[]).is_err(), "byte {at}");
        assert!(read_all(&bytes[..at], &rig.key(), &[]).is_err(), "cut at {at}");
    }
    assert!(read_all(&[bytes.as_slice(), b"\n"].concat(), &rig.key(), &[]).is_err());
}

#[test]
fn whoever_makes_the_hash_anew_gains_nothing() {
    let rig = Rig::new();
    let bytes = written(&rig, &[1, 2], "");
    let first = FIRST.len() + bytes[FIRST.len()..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for at in first..bytes.len() - 69 {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(!holds(&sealed(&other), &rig), "byte {at}: {}", String::from_utf8_lossy(&other[at - 20..at + 20]));
    }
    // That it was made anew is not what is refused.
    assert!(holds(&sealed(&bytes), &rig));
}

#[test]
fn an_output_that_is_not_what_was_signed_is_told() {
    let rig = Rig::new();
    let bytes = written(&rig, &[1], "");
    let at = bytes.windows(LONG.len()).position(|window| window == LONG).unwrap();
    let mut other = bytes.clone();
    other[at] = b'A';
    let verdicts = read_all(&sealed(&other), &rig.key(), &[]).unwrap();
    assert_eq!(verdicts[0].answer, Answer::Altered);
    other.remove(at);
    let verdicts = read_all(&sealed(&other), &rig.key(), &[]).unwrap();
    assert_eq!(verdicts[0].answer, Answer::Altered);
    let case = rig.cases(&[1]).remove(0);
    for changed in [&LONG[1..], b"something else", &[LONG, b"x"].concat()] {
        let mut writer = Writer::new(Vec::new(), &rig.key(), "").unwrap();
        let added = writer.add(&case, |_| Ok(changed));
        assert!(matches!(added, Err(BundleError::Output { .. })), "{changed:?}");
    }
}

#[test]
fn a_bundle_says_which_keys_were_revoked() {
    let rig = Rig::new();
    let list = |at_ms| {
        let revoked = Revoked { key: rig.node.public().to_string(), name: "ship1".to_owned(), at_ms };
        (Revocations::issue(1, vec![revoked.clone()], &rig.fleet, NOW).unwrap(), revoked)
    };
    let (later, _) = list(NOW.0 + 1);
    let (before, entry) = list(NOW.0 - 1);
    let verdict =
        |token: &str, newer: &[Revoked]| read_all(&written(&rig, &[1], token), &rig.key(), newer).unwrap().remove(0);
    let told = verdict(&later, &[]);
    assert!(told.answer == Answer::Holds && told.signed.unwrap().revoked_at.is_some());
    assert_eq!(verdict(&before, &[]).answer, Answer::Revoked);
    assert_eq!(verdict("", &[entry]).answer, Answer::Revoked);
    let forged = written(&rig, &[1], &Rig::new().certificate.text);
    assert!(matches!(read_all(&forged, &rig.key(), &[]), Err(BundleError::Part { part: 0, .. })));
}

#[test]
fn what_is_no_bundle_is_refused_by_name() {
    let rig = Rig::new();
    let say = |bytes: &[u8]| read_all(bytes, &rig.key(), &[]).unwrap_err().to_string();
    assert!(say(b"").contains("no bundle"));
    assert!(say(b"PK\x03\x04").contains("no bundle"));
    assert!(say(b"steward-bundle-12\n{}").contains("version 12"));
    assert!(say(b"steward-bundle-\x1b[2J\n").contains("no bundle"));
    assert!(say(b"steward-bundle-1\n").contains("not whole"));
    let say_sealed = |body: &str| say(&sealed(&[body.as_bytes(), &[0; 69]].concat()));
    let head = format!("steward-bundle-1\n{{\"fleet\":\"{}\",\"revoked\":\"\"}}\n", rig.key());
    assert!(say_sealed(&head).contains("no command"));
    assert!(say_sealed("steward-bundle-1\n").contains("no bundle"));
    assert!(say_sealed(&format!("{head}{}", "[".repeat(2_000_000))).contains("no end within"));
    assert!(say_sealed(&format!("{head}{}\n", "[".repeat(100_000))).contains("part 1 makes no sense"));
    assert!(say_sealed(&format!("{head}{{\"id\":\"../../etc/passwd\"}}\n")).contains("part 1 makes no sense"));
}

#[test]
fn a_bundle_has_a_most() {
    let rig = Rig::new();
    let case = rig.cases(&[1]).remove(0);
    let mut writer = Writer::new(io::sink(), &rig.key(), "").unwrap();
    for _ in 0..COMMANDS_MAX {
        writer.add(&case, |_| Ok(LONG)).unwrap();
    }
    assert!(matches!(writer.add(&case, |_| Ok(LONG)), Err(BundleError::TooMany)));
}
