//! Keys against the crate that NATS clients use, and against what is not a key.

use proptest::prelude::*;

use super::*;

const KINDS: [(KeyKind, nkeys::KeyPairType); 3] = [
    (KeyKind::Operator, nkeys::KeyPairType::Operator),
    (KeyKind::Account, nkeys::KeyPairType::Account),
    (KeyKind::User, nkeys::KeyPairType::User),
];

#[test]
fn seeds_and_public_keys_are_those_of_nats() {
    for (kind, theirs) in KINDS {
        let ours = KeyPair::generate(kind).unwrap();
        let other = nkeys::KeyPair::from_seed(&ours.seed()).unwrap();
        assert_eq!(other.public_key(), ours.public().to_string());
        assert_eq!(other.key_pair_type(), theirs);
        other.verify(b"text", &ours.sign(b"text")).unwrap();

        let made = nkeys::KeyPair::new(theirs);
        let read = KeyPair::from_seed(&made.seed().unwrap(), kind).unwrap();
        assert_eq!(read.public().to_string(), made.public_key());
        let public = PublicKey::parse(&made.public_key(), kind).unwrap();
        let signature = made.sign(b"text").unwrap().try_into().unwrap();
        assert!(public.verify(b"text", &signature));
        assert!(!public.verify(b"texT", &signature));
    }
}

#[test]
fn a_key_of_another_kind_is_refused_by_name() {
    let node = KeyPair::generate(KeyKind::User).unwrap();
    let error = PublicKey::parse(&node.public().to_string(), KeyKind::Account).unwrap_err();
    assert_eq!(error.to_string(), "it is not a fleet's or account's key");
    assert_eq!(KeyPair::from_seed(&node.seed(), KeyKind::Account).unwrap_err(), KeyError::Kind(KeyKind::Account));
}

#[test]
fn a_secret_does_not_show() {
    let node = KeyPair::generate(KeyKind::User).unwrap();
    let seal = SealKey::generate().unwrap();
    let shown = format!("{node:?} {seal:?}");
    assert!(!shown.contains(node.seed().as_str()) && !shown.contains(seal.seed().as_str()), "{shown}");
    assert!(shown.contains("seed hidden"));
}

#[test]
fn seal_keys_are_those_of_nats() {
    let ours = SealKey::generate().unwrap();
    assert_eq!(SealKey::from_seed(&ours.seed()).unwrap().public(), ours.public());
    let theirs = nkeys::XKey::from_seed(&ours.seed()).unwrap();
    assert_eq!(theirs.public_key(), ours.public().to_string());
    let made = nkeys::XKey::new();
    let read = SealKey::from_seed(&made.seed().unwrap()).unwrap();
    assert_eq!(read.public().to_string(), made.public_key());
    assert_eq!(made.public_key().parse::<SealPublic>().unwrap(), read.public());
    assert_eq!(*read.agree(&ours.public()).unwrap(), *ours.agree(&read.public()).unwrap());
    // A node's key is none for sealing, and the other way round.
    let node = KeyPair::generate(KeyKind::User).unwrap();
    assert_eq!(node.public().to_string().parse::<SealPublic>(), Err(KeyError::Seal));
    assert_eq!(SealKey::from_seed(&node.seed()).unwrap_err(), KeyError::Seal);
    assert!(ours.public().to_string().parse::<PublicKey>().is_err());
}

/// With such a key everybody would know what the two sides have agreed on.
#[test]
fn nothing_is_agreed_with_a_weak_key() {
    let mut one = [0; KEY_BYTES];
    one[0] = 1;
    for weak in [[0; KEY_BYTES], one] {
        assert!(SealKey::generate().unwrap().agree(&SealPublic::from(weak)).is_none());
    }
}

/// A key whose order is small "verifies" nearly everything; nobody honest has one.
#[test]
fn a_weak_key_verifies_nothing() {
    let text = encode(&[KeyKind::User.prefix()], &[0; 32]);
    let key: PublicKey = text.parse().unwrap();
    assert!(!key.verify(b"anything", &[0; 64]));
}

proptest! {
    #[test]
    fn one_wrong_character_is_noticed(at in 0_usize..56, with in "[A-Z2-7]") {
        let text = KeyPair::generate(KeyKind::User).unwrap().public().to_string();
        let mut wrong = text.clone();
        wrong.replace_range(at..=at, &with);
        prop_assume!(wrong != text);
        prop_assert!(wrong.parse::<PublicKey>().is_err());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,70}") {
        prop_assert!(text.parse::<PublicKey>().is_err());
        prop_assert!(text.parse::<SealPublic>().is_err());
        prop_assert!(KeyPair::from_seed(&text, KeyKind::User).is_err());
        prop_assert!(SealKey::from_seed(&text).is_err());
    }
}
