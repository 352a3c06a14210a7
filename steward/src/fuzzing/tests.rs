//! The targets without a fuzzer: over the corpus as it is committed, and over changes of it.
//!
//! What the fuzzer has found is a file in the corpus from then on.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::{TARGETS, Target};

/// Changed inputs of each target.
const CASES: u32 = 1000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus().join(target.name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Something that a fuzzer does to an input.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let word = prop::sample::select(
        vec!["[", "{", "\"", "]", "}", "\\u0000", "\\ud800", "-1", "9223372036854775807", "18446744073709551615"]
            .into_iter()
            .chain(["1e999", "null", "\n", "\n\n", "\n%%\n", "\0", "\u{feff}", ",", ":", "..", "/", "*", ">", "\r\n"])
            .collect::<Vec<_>>(),
    );
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<Index>(), word).prop_map(|(at, word)| Change::Insert(at, word.as_bytes().to_vec())),
        (any::<Index>(), 1..64_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<Index>(), 1..64_usize).prop_map(|(at, count)| Change::Repeat(at, count)),
        (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

fn changed(seeds: &[Vec<u8>], which: &Index, changes: &[Change]) -> Vec<u8> {
    let mut bytes = which.get(seeds).clone();
    for change in changes {
        let len = bytes.len();
        match change {
            Change::Byte(at, byte) if len > 0 => bytes[at.index(len)] = *byte,
            Change::Insert(at, word) => drop(bytes.splice(at.index(len + 1)..at.index(len + 1), word.iter().copied())),
            Change::Remove(at, count) if len > 0 => {
                let at = at.index(len);
                bytes.drain(at..(at + count).min(len));
            }
            Change::Repeat(at, count) if len > 0 => {
                let at = at.index(len);
                let piece = bytes[at..(at + count).min(len)].to_vec();
                bytes.splice(at..at, piece.iter().copied().cycle().take(8 * piece.len()));
            }
            Change::Splice(at, other, from) => {
                let other = other.get(seeds);
                bytes.truncate(at.index(len + 1));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
            Change::Byte(..) | Change::Remove(..) | Change::Repeat(..) => {}
        }
    }
    bytes
}

fn drive(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "fuzz/corpus/{name} is empty");
    for seed in &seeds {
        (target.run)(seed);
    }
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let inputs = (any::<Index>(), prop::collection::vec(change(), 0..6));
    let run = |(which, changes): (Index, Vec<Change>)| {
        (target.run)(&changed(&seeds, &which, &changes));
        Ok(())
    };
    TestRunner::new(config).run(&inputs, run).unwrap();
}

macro_rules! targets {
    ($($name:ident),+) => {
        $(#[test]
        fn $name() {
            drive(stringify!($name));
        })+

        #[test]
        fn every_target_is_driven_and_has_its_corpus() {
            let driven = [$(stringify!($name)),+];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), driven);
            let mut folders: Vec<_> =
                fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            folders.sort();
            let mut driven = driven.to_vec();
            driven.sort_unstable();
            assert_eq!(folders, driven);
        }
    };
}

targets!(
    envelope, receipts, control, hello, frame, node, inmsg, document, rules, signature, sealed, token, invitation,
    joining, bundle, syslog
);

/// The corpus must reach what lies behind the first checks, else it is worth nothing.
#[test]
fn the_corpus_has_inputs_that_are_taken() {
    use crate::broker::wire;
    use protocol::message::Kind;
    use protocol::name::NodeName;
    let me = NodeName::new("ship1").unwrap();
    let taken = |name: &str, reads: &dyn Fn(&[u8]) -> bool| {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        assert!(seeds(target).iter().any(|seed| reads(seed)), "no input of {name} is taken");
    };
    taken("envelope", &|body| wire::envelope::decode(body, &me, Kind::CommandAck, "ShellCommand").is_ok());
    taken("receipts", &|body| wire::receipts::decode(body, &me, "central").is_ok());
    taken("control", &|body| wire::control::decode(body, &me, "central").is_ok());
    taken("invitation", &|bytes| crate::enrol::token::Token::of_plain(bytes).is_ok());
    taken("invitation", &|bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| crate::enrol::token::Token::open(text).is_ok())
    });
    taken("joining", &|body| crate::enrol::wire::Request::parse(body).is_ok());
    taken("sealed", &|frame| super::sealed::headers_in(frame) == Some(0));
    taken("sealed", &|frame| super::sealed::headers_in(frame) == Some(8));
    taken("sealed", &super::sealed::is_opened);
    taken("bundle", &|bytes| super::bundle::holds(bytes));
    taken("hello", &|body| wire::hello::decode(body, "central").is_ok());
    taken("token", &|claims| super::trust::is_certificate(claims));
}
