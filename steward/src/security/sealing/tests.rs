//! Boxes as they are made, and everything that is not one.

use proptest::prelude::*;

use super::*;
use crate::security::keys::{KeyKind, KeyPair};

const SUBJECT: &str = "ship1.CommandACK.ShellCommand";
const NOW: Wall = Wall(1_795_363_200_000);

/// A sender, and a receiver that shares nothing with it.
struct Rig {
    sender: Sessions,
    signer: PublicKey,
    receiver: Sessions,
    key: SealKey,
}

impl Rig {
    fn new() -> Self {
        Self {
            sender: Sessions::default(),
            signer: KeyPair::generate(KeyKind::User).unwrap().public(),
            receiver: Sessions::default(),
            key: SealKey::generate().unwrap(),
        }
    }

    fn bound(&self) -> Bound<'_> {
        Bound { signer: &self.signer, subject: SUBJECT }
    }

    fn seal(&self, body: &[u8]) -> Bytes {
        self.sender.seal(&self.key.public(), self.bound(), NOW, None, body).unwrap().1
    }

    fn open(&self, sealed: &[u8]) -> Result<Bytes, Unopenable> {
        self.receiver.open(&self.key, self.bound(), sealed).map(|opened| opened.body)
    }
}

fn chunk_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Steward-Ticket", "7");
    headers.insert("Steward-Stream", "stdout");
    headers
}

#[test]
fn what_is_sealed_is_opened_with_its_headers() {
    let rig = Rig::new();
    let (outside, sealed) =
        rig.sender.seal(&rig.key.public(), rig.bound(), NOW, Some(&chunk_headers()), b"secret").unwrap();
    assert_eq!(sealed_for(Some(&outside)), Ok(Some(rig.key.public())));
    assert_eq!(outside.len(), 1, "headers belong into the box");
    let opened = rig.receiver.open(&rig.key, rig.bound(), &sealed).unwrap();
    assert_eq!(&*opened.body, b"secret");
    assert_eq!(opened.headers.get("Steward-Ticket").unwrap().as_str(), "7");
    assert_eq!(opened.headers.get("Steward-Stream").unwrap().as_str(), "stdout");
    assert!(sealed.len() <= b"secret".len() + OVERHEAD_BYTES);
}

#[test]
fn a_box_for_another_key_subject_or_signer_stays_shut() {
    let rig = Rig::new();
    let sealed = rig.seal(b"secret");
    let (stranger, other) = (SealKey::generate().unwrap(), KeyPair::generate(KeyKind::User).unwrap().public());
    assert_eq!(rig.receiver.open(&stranger, rig.bound(), &sealed).unwrap_err(), Unopenable::Altered);
    // Somebody who signs a box of another, and somebody who moves one.
    let (thief, moved) = (Bound { signer: &other, ..rig.bound() }, Bound { subject: "ship1.ACK.x", ..rig.bound() });
    assert_eq!(rig.receiver.open(&rig.key, thief, &sealed).unwrap_err(), Unopenable::Altered);
    assert_eq!(rig.receiver.open(&rig.key, moved, &sealed).unwrap_err(), Unopenable::Altered);
    assert_eq!(&*rig.open(&sealed).unwrap(), b"secret");
}

/// A session is one pair of keys for its time and no longer; no two boxes have the same bytes, whatever is in them.
#[test]
fn a_session_ends_and_no_box_is_like_another() {
    let rig = Rig::new();
    let session = |sealed: &Bytes| sealed.slice(..SESSION_KEY_BYTES);
    let (first, second) = (rig.seal(b"same"), rig.seal(b"same"));
    assert_eq!(session(&first), session(&second));
    assert_ne!(first.slice(SESSION_KEY_BYTES..HEAD_BYTES), second.slice(SESSION_KEY_BYTES..HEAD_BYTES));
    assert_ne!(first.slice(HEAD_BYTES..), second.slice(HEAD_BYTES..));
    let to = rig.key.public();
    for later in [Wall(NOW.0 + SESSION_MS_MAX), Wall(NOW.0 - SESSION_MS_MAX)] {
        let sealed = rig.sender.seal(&to, rig.bound(), later, None, b"same").unwrap().1;
        assert_ne!(session(&first), session(&sealed));
        assert_eq!(&*rig.open(&sealed).unwrap(), b"same");
    }
}

/// What the sender keeps is of no use to whoever gets it: the pair of a session is gone once its secret is made.
#[test]
fn the_sender_itself_can_open_nothing_with_its_keys() {
    let rig = Rig::new();
    let own = SealKey::generate().unwrap();
    assert_eq!(rig.sender.open(&own, rig.bound(), &rig.seal(b"secret")).unwrap_err(), Unopenable::Altered);
}

#[test]
fn what_no_node_would_put_into_a_box_is_refused() {
    let long = format!("Steward-A: {}\n\n", "x".repeat(HEADERS_BYTES_MAX));
    let many: String = (0..=HEADERS_MAX).map(|number| format!("Steward-{number}: x\n")).collect();
    for content in
        ["", "no line", "Steward-A\n\n", "Nats-A: x\n\n", "Steward-A: \u{e4}\n\n", &long, &format!("{many}\n")]
    {
        assert_eq!(parse(Bytes::copy_from_slice(content.as_bytes())).unwrap_err(), Unopenable::Content, "{content:?}");
    }
    let twice = "Steward-A: x\nSteward-A: y\n\n";
    assert_eq!(parse(Bytes::from_static(twice.as_bytes())).unwrap_err(), Unopenable::Content);
    assert!(parse(Bytes::from_static(b"\n")).unwrap().body.is_empty());
}

#[test]
fn a_header_that_names_no_key_or_two_is_refused() {
    let mut headers = HeaderMap::new();
    assert_eq!(sealed_for(None), Ok(None));
    assert_eq!(sealed_for(Some(&headers)), Ok(None));
    headers.insert(SEAL, "XABC");
    assert_eq!(sealed_for(Some(&headers)), Err(Unreadable::Header("Steward-Seal")));
    let key = SealKey::generate().unwrap().public().to_string();
    headers.insert(SEAL, key.clone());
    headers.append(SEAL, key);
    assert_eq!(sealed_for(Some(&headers)), Err(Unreadable::Header("Steward-Seal")));
}

#[test]
fn a_box_that_is_too_long_is_not_even_looked_at() {
    let rig = Rig::new();
    assert_eq!(rig.open(&vec![1; BOX_BYTES_MAX + 1]), Err(Unopenable::Length));
    assert_eq!(rig.open(&rig.seal(b"")[..HEAD_BYTES + TAG_BYTES]), Err(Unopenable::Length));
}

proptest! {
    #[test]
    fn any_body_comes_back(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        let rig = Rig::new();
        prop_assert_eq!(&*rig.open(&rig.seal(&body)).unwrap(), body.as_slice());
    }

    #[test]
    fn one_changed_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let rig = Rig::new();
        let mut sealed = rig.seal(b"a body of some length").to_vec();
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        // The highest bit of an x25519 key has no meaning; the key is bound all the same.
        prop_assert_eq!(rig.open(&sealed), Err(Unopenable::Altered));
    }

    #[test]
    fn any_cut_is_noticed(len in 0..100_usize) {
        let rig = Rig::new();
        let sealed = rig.seal(b"a body of some length, which is not short");
        prop_assert!(rig.open(sealed.get(..len).unwrap()).is_err());
    }

    #[test]
    fn any_bytes_are_opened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let rig = Rig::new();
        prop_assert!(rig.open(&bytes).is_err());
        // As content, they are taken apart without a panic.
        let opened = parse(Bytes::from(bytes.clone()));
        prop_assert!(opened.is_err() || opened.is_ok_and(|opened| bytes.ends_with(&opened.body)));
    }
}
