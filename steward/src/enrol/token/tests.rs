//! What a token says survives its way; what is not whole or was altered is told.

use proptest::prelude::*;

use super::*;

fn draft() -> Draft {
    Draft {
        name: NodeName::new("ship1").unwrap(),
        role: Role::Node,
        labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
        expires: Wall(1_000_000),
        brokers: vec!["tls://central.example.com:4222".to_owned()],
        ca: Some("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned()),
    }
}

fn sealed() -> (Token, KeyPair, Zeroizing<String>) {
    let (fleet, key) = (KeyPair::generate(KeyKind::Account).unwrap(), KeyPair::generate(KeyKind::User).unwrap());
    let token = Token::new(draft(), &fleet.public(), &key, Some("eyJ0.eyJq.c2ln".to_owned())).unwrap();
    let text = token.seal(&fleet).unwrap();
    (token, fleet, text)
}

#[test]
fn a_token_says_what_it_was_made_of_also_over_several_lines() {
    let (token, _, text) = sealed();
    assert_eq!(Token::open(&text).unwrap(), token);
    let (first, second) = text.split_at(40);
    assert_eq!(Token::open(&format!("  {first}\n  {second}\r\n")).unwrap(), token);
    assert_eq!(token.check_time(Wall(999_999)), Ok(()));
    assert!(token.check_time(Wall(1_000_000)).unwrap_err().to_string().contains("expired at 1970-01-01"));
    let hidden = format!("{token:?}");
    assert!(!hidden.contains(token.seed.as_str()), "{hidden}");
}

#[test]
fn what_is_no_token_is_told_from_one_that_is_not_whole() {
    let (_, _, text) = sealed();
    assert_eq!(Token::open("hello"), Err(TokenError::NotOne));
    assert_eq!(Token::open(""), Err(TokenError::NotOne));
    assert_eq!(Token::open("steward2.abc"), Err(TokenError::Version("steward2".to_owned())));
    assert_eq!(Token::open(&text[..text.len() - 3]), Err(TokenError::Damaged));
    assert_eq!(Token::open(&format!("{}é", text.as_str())), Err(TokenError::Damaged));
    assert!(matches!(Token::open(&format!("{PREFIX}{}", "A".repeat(TOKEN_CHARS_MAX))), Err(TokenError::TooLong(_))));
}

#[test]
fn a_token_that_was_altered_is_told_even_if_its_check_was_made_again() {
    let (token, _, text) = sealed();
    let other = KeyPair::generate(KeyKind::Account).unwrap();
    // Somebody who wants another role, and has no fleet key.
    let mut altered = token.clone();
    altered.role = Role::Operator;
    assert_eq!(Token::open(&altered.seal(&other).unwrap()), Err(TokenError::Altered));
    // The same with what the old token has for a signature.
    let packed = BASE64URL_NOPAD.decode(text.strip_prefix(PREFIX).unwrap().as_bytes()).unwrap();
    let plain = zstd::bulk::decompress(&packed[..packed.len() - CHECK_BYTES], PLAIN_BYTES_MAX).unwrap();
    let plain = [&plain[..SIGNATURE_BYTES], &serde_json::to_vec(&altered).unwrap()].concat();
    let mut packed = zstd::bulk::compress(&plain, LEVEL).unwrap();
    packed.extend_from_slice(&check(&packed));
    let forged = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&packed));
    assert_eq!(Token::open(&forged), Err(TokenError::Altered));
}

#[test]
fn a_token_that_unpacks_to_more_than_a_token_is_refused() {
    let mut packed = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    packed.extend_from_slice(&check(&packed));
    let bomb = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&packed));
    assert!(bomb.len() < TOKEN_CHARS_MAX, "{}", bomb.len());
    assert_eq!(Token::open(&bomb), Err(TokenError::Altered));
}

proptest! {
    #[test]
    fn whatever_is_given_for_a_token_is_refused_without_harm(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Token::open(&text).is_err());
        let mut packed = bytes;
        packed.extend_from_slice(&check(&packed));
        let text = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&packed));
        prop_assert!(Token::open(&text).is_err());
    }

    #[test]
    fn no_single_character_can_be_changed(at in 0_usize..10_000, to in "[A-Za-z0-9_-]") {
        let (_, _, text) = sealed();
        let at = PREFIX.len() + at % (text.len() - PREFIX.len());
        let mut changed = text.as_str().to_owned();
        changed.replace_range(at..=at, &to);
        if changed != *text {
            prop_assert!(Token::open(&changed).is_err());
        }
    }
}
