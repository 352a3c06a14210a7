//! What the tests share: the harness of the package `chaos`, around the program of this very build.

use std::fs;
use std::ops::Deref;
use std::path::Path;

pub(crate) use chaos::harness::{
    Dice, DiskKind, Effects, Node, Port, Process, Ran, SOON, event, eventually, get, kill, nats_server, parent, post,
    run, shell, stays, until, with,
};

#[cfg(target_arch = "x86_64")]
pub(crate) use chaos::harness::{Held, hold};

/// The program that is tested.
const STEWARD: &str = env!("CARGO_BIN_EXE_steward");

/// A fleet of it.
pub(crate) struct Fleet(chaos::harness::Fleet);

impl Fleet {
    /// A broker that runs, and no node yet.
    pub(crate) fn new() -> Self {
        let fleet = Self::without_broker();
        fleet.broker.start();
        fleet
    }

    /// The same with these lines in the broker's configuration.
    pub(crate) fn with_broker(config: &str) -> Self {
        let fleet = Self::without_broker();
        fleet.broker.configure(config);
        fleet.broker.start();
        fleet
    }

    /// A broker that is not started yet; its port is reserved.
    pub(crate) fn without_broker() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// The same in a temporary folder below another one than usual.
    pub(crate) fn within(folder: &Path) -> Self {
        Self(chaos::harness::Fleet::within(Path::new(STEWARD), folder))
    }
}

impl Deref for Fleet {
    type Target = chaos::harness::Fleet;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The dictionary with which short bodies are packed.
const DICTIONARY: &[u8] = include_bytes!("../../src/broker/wire/pack/dictionary-1.zdict");

/// A JSON body as it was before it was packed, with the dictionary or without it; none if it is no whole frame.
pub(crate) fn try_unpacked(body: &[u8]) -> Option<Vec<u8>> {
    if !body.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        return Some(body.to_vec());
    }
    let mut bytes = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::with_dictionary(body, DICTIONARY).unwrap();
    std::io::Read::read_to_end(&mut decoder, &mut bytes).ok().map(|_| bytes)
}

/// The same for a body that is whole.
pub(crate) fn unpacked(body: &[u8]) -> Vec<u8> {
    try_unpacked(body).unwrap()
}

/// A test can't be done on this machine. It says so, and leaves a note for `scripts/test`, which counts it as skipped:
/// the test runner itself knows passed and failed only.
#[expect(clippy::print_stderr, reason = "whoever runs this test alone is to see it")]
pub(crate) fn skipped(test: &str, why: &str) {
    eprintln!("\nSKIPPED: {test}: {why}\n");
    let notes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped-tests");
    let mut notes = fs::File::options().create(true).append(true).open(notes).unwrap();
    std::io::Write::write_all(&mut notes, format!("{test}: {why}\n").as_bytes()).unwrap();
}

/// The harness itself: a test that fails leaves nothing behind either.
#[test]
fn whatever_a_test_started_ends_with_it_even_if_it_panics() {
    let mut dir = std::path::PathBuf::new();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let fleet = Fleet::new();
        dir = fleet.dir().to_owned();
        let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
        let id = central.send(&shell("ship1", "sleep 600 & sleep 600"));
        central.awaits(&id, "running");
        assert!(fleet.processes().len() > 4);
        panic!("on purpose: what follows is how a failure looks");
    }));
    assert!(failed.is_err());
    eventually("no process is left", || chaos::harness::marked(&dir).is_empty().then_some(()));
    assert!(!dir.exists());
}
