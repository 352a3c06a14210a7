//! Tokens: there and back, and what is wrong with those of others.

use proptest::prelude::*;

use super::*;
use crate::security::keys::KeyKind;

const BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Body {
    nats: serde_json::Value,
}

fn claims(exp: Option<u64>) -> Claims<Body> {
    let sub = KeyPair::generate(KeyKind::User).unwrap().public().to_string();
    let body = Body { nats: serde_json::json!({ "type": "user", "version": 2 }) };
    Claims {
        exp,
        jti: String::new(),
        iat: 1_795_363_200,
        iss: String::new(),
        name: "ship1".into(),
        nbf: None,
        sub,
        body,
    }
}

#[test]
fn a_token_comes_back_as_it_was_signed() {
    let account = KeyPair::generate(KeyKind::Account).unwrap();
    let token = encode(claims(Some(2_000_000_000)), &account).unwrap();
    let back: Claims<Body> = verify(&token, &account.public(), BYTES_MAX).unwrap();
    assert_eq!(back.iss, account.public().to_string());
    assert_eq!(back.jti.len(), 52);
    assert_eq!(back.name, "ship1");
    assert_eq!(back.exp, Some(2_000_000_000));
}

#[test]
fn the_token_of_another_says_whose_it_is() {
    let (ours, theirs) = (KeyPair::generate(KeyKind::Account).unwrap(), KeyPair::generate(KeyKind::Account).unwrap());
    let token = encode(claims(None), &theirs).unwrap();
    let error = verify::<Body>(&token, &ours.public(), BYTES_MAX).unwrap_err();
    assert_eq!(error.to_string(), format!("it is signed by {}, not by {}", theirs.public(), ours.public()));
}

#[test]
fn another_way_of_signing_is_refused() {
    let account = KeyPair::generate(KeyKind::Account).unwrap();
    let token = encode(claims(None), &account).unwrap();
    let body = token.split('.').nth(1).unwrap();
    let text = format!("{}.{body}", BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"none"}"#));
    let signed = format!("{text}.{}", BASE64URL_NOPAD.encode(&account.sign(text.as_bytes())));
    assert_eq!(verify::<Body>(&signed, &account.public(), BYTES_MAX), Err(JwtError::Algorithm));
    let unsigned = format!("{text}.");
    assert!(matches!(verify::<Body>(&unsigned, &account.public(), BYTES_MAX), Err(JwtError::Form(_))));
}

#[test]
fn a_long_token_is_not_looked_at() {
    let account = KeyPair::generate(KeyKind::Account).unwrap();
    let error = verify::<Body>(&"x".repeat(BYTES_MAX + 1), &account.public(), BYTES_MAX).unwrap_err();
    assert_eq!(error, JwtError::TooLong { found: BYTES_MAX + 1, max: BYTES_MAX });
}

proptest! {
    #[test]
    fn an_altered_token_is_refused(at in 0_usize..500, with in "[A-Za-z0-9_.-]") {
        let account = KeyPair::generate(KeyKind::Account).unwrap();
        let token = encode(claims(None), &account).unwrap();
        let at = at % token.len();
        let mut altered = token.clone();
        altered.replace_range(at..=at, &with);
        prop_assume!(altered != token);
        prop_assert!(verify::<Body>(&altered, &account.public(), BYTES_MAX).is_err());
    }

    #[test]
    fn any_text_is_refused(token in "\\PC{0,200}") {
        let account = KeyPair::generate(KeyKind::Account).unwrap();
        prop_assert!(verify::<Body>(&token, &account.public(), BYTES_MAX).is_err());
    }
}
