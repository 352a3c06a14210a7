//! What a signature covers, byte by byte.

use proptest::prelude::*;

use super::*;

const SUBJECT: &str = "ship1.CommandACK.ShellCommand";

fn pair() -> KeyPair {
    KeyPair::generate(KeyKind::User).unwrap()
}

fn signed(key: &KeyPair, headers: &mut HeaderMap, body: &[u8]) {
    sign(key, &key.public().to_string(), Wall(1_795_363_200_000), Some("a.b.c"), SUBJECT, headers, body);
}

fn is_right(subject: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let Ok(said) = read(Some(headers)) else { return false };
    signed_bytes(subject, headers, body).is_ok_and(|bytes| said.key.verify(&bytes, &said.signature))
}

#[test]
fn the_signed_bytes_are_those_of_the_document() {
    let mut headers = HeaderMap::new();
    headers.insert("Steward-Time", "7");
    headers.insert("Nats-Other", "not ours");
    headers.insert("Steward-Encoding", "zstd");
    headers.insert("Steward-Signature", "not signed itself");
    let bytes = signed_bytes(SUBJECT, &headers, b"{}").unwrap();
    let expected = "steward-1\nship1.CommandACK.ShellCommand\nSteward-Encoding: zstd\nSteward-Time: 7\n\n{}";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn every_part_that_is_altered_breaks_it() {
    let key = pair();
    let mut headers = HeaderMap::new();
    headers.insert("Steward-Encoding", "zstd");
    signed(&key, &mut headers, b"body");
    assert!(is_right(SUBJECT, &headers, b"body"));
    assert!(!is_right(SUBJECT, &headers, b"bodY"));
    assert!(!is_right("ship2.CommandACK.ShellCommand", &headers, b"body"));
    let altered: [(&str, &str); 6] = [
        ("Steward-Encoding", "none"),
        ("Steward-Time", "1795363200001"),
        ("Steward-Certificate", "a.b.d"),
        ("Steward-New", "x"),
        ("steward-new", "x"),
        ("STEWARD-ENCODING", "zstd"),
    ];
    for (name, value) in altered {
        let mut headers = headers.clone();
        headers.insert(name, value);
        assert!(!is_right(SUBJECT, &headers, b"body"), "{name}");
    }
    let mut twice = headers.clone();
    twice.append("Steward-Encoding", "zstd");
    assert!(!is_right(SUBJECT, &twice, b"body"));
    let mut other = headers.clone();
    other.insert(KEY, pair().public().to_string().as_str());
    assert!(!is_right(SUBJECT, &other, b"body"));
    headers.insert("Nats-Trace-Dest", "somewhere");
    assert!(is_right(SUBJECT, &headers, b"body"), "what is not ours is not signed");
}

#[test]
fn what_is_not_signed_says_so() {
    assert_eq!(read(None).unwrap_err(), Unreadable::Unsigned);
    assert_eq!(read(Some(&HeaderMap::new())).unwrap_err(), Unreadable::Unsigned);
    let mut headers = HeaderMap::new();
    signed(&pair(), &mut headers, b"");
    for (name, value) in
        [("Steward-Key", "U"), ("Steward-Time", "-1"), ("Steward-Time", ""), ("Steward-Signature", "!")]
    {
        let mut headers = headers.clone();
        headers.insert(name, value);
        assert!(matches!(read(Some(&headers)), Err(Unreadable::Header(_))), "{name}");
    }
    headers.append(SIGNATURE, "AAAA");
    assert!(matches!(read(Some(&headers)), Err(Unreadable::Header(_))), "two signatures");
}

#[test]
fn too_many_headers_are_not_looked_at() {
    let mut headers = HeaderMap::new();
    (0..=HEADERS_MAX).for_each(|n| headers.append("Steward-X", n.to_string()));
    assert!(signed_bytes(SUBJECT, &headers, b"").is_err());
    let mut headers = HeaderMap::new();
    headers.insert("Steward-X", "x".repeat(HEADER_BYTES_MAX));
    assert!(signed_bytes(SUBJECT, &headers, b"").is_err());
}

proptest! {
    /// Two different publishes never have the same signed bytes.
    #[test]
    fn no_two_publishes_have_the_same_bytes(
        one in ("[a-z.]{1,8}", prop::collection::btree_map("[a-z]{1,3}", "[a-z:\\- ]{0,6}", 0..3), "[a-z:\\-\n]{0,8}"),
        other in ("[a-z.]{1,8}", prop::collection::btree_map("[a-z]{1,3}", "[a-z:\\- ]{0,6}", 0..3), "[a-z:\\-\n]{0,8}"),
    ) {
        let bytes = |(subject, map, body): &(String, std::collections::BTreeMap<String, String>, String)| {
            let mut headers = HeaderMap::new();
            map.iter().for_each(|(name, value)| headers.insert(format!("Steward-{name}").as_str(), value.as_str()));
            signed_bytes(subject, &headers, body.as_bytes()).unwrap()
        };
        prop_assert_eq!(one == other, bytes(&one) == bytes(&other));
    }
}
