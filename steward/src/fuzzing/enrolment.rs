//! What somebody hands to a machine that is to join, and what strangers send to central, which answers whoever has an
//! invitation: an invitation, a request, an answer, a question.

use crate::enrol::renewal::wire::{Answer, WORD_BYTES_MAX, Word};
use crate::enrol::token::{Token, TokenError};
use crate::enrol::{outcasts, wire};
use crate::security::keys::{KeyKind, PublicKey};

/// A token as text, and what one holds. Nothing that is not signed is ever taken for one.
pub(super) fn invitation(bytes: &[u8]) {
    if let Ok(token) = Token::of_plain(bytes) {
        assert!(token.fleet().is_ok() && token.key().is_ok() && !token.brokers.is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Token::open(text) {
        Ok(token) => assert!(token.fleet().is_ok() && token.key().is_ok()),
        Err(error @ (TokenError::NotOne | TokenError::Version(_) | TokenError::Content(_))) => {
            let shown = error.to_string();
            assert!(shown.len() < 1000, "an error is too long: {shown}");
        }
        Err(_) => {}
    }
}

/// What comes in on the subjects of enrolment, taken for each thing that comes there.
pub(super) fn joining(bytes: &[u8]) {
    // Some key that has signed none of it.
    let (fleet, user) = (key(KeyKind::Account), key(KeyKind::User));
    if let Ok(request) = wire::Request::parse(bytes) {
        assert!(bytes.len() <= wire::REQUEST_BYTES_MAX);
        assert!(request.prove(&user).is_err(), "a request was proven without its key");
    }
    assert!(wire::Answer::open(bytes, &fleet).is_none(), "an answer was believed that nobody signed");
    outcasts::is_behind(bytes, 1);
    renewing(bytes, &fleet);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(id) = wire::id_in(text)
    {
        assert_eq!(wire::join(id), text);
    }
}

/// What comes in on the subject of a node's questions, and what a node that renews its keys hears.
fn renewing(bytes: &[u8], fleet: &PublicKey) {
    let Ok(word) = Word::parse(bytes) else { return };
    assert!(bytes.len() <= WORD_BYTES_MAX);
    match &word {
        // Whoever has both keys can make one, and a fuzzer has none.
        Word::Renew(renew) => assert!(renew.prove().is_err(), "a renewal was proven without its keys"),
        Word::Using(using) => assert!(using.prove().is_err(), "a key was proven without itself"),
    }
    assert!(Answer::to(&word, bytes, fleet).is_none(), "an answer was believed that nobody signed");
}

fn key(kind: KeyKind) -> PublicKey {
    let text = match kind {
        KeyKind::Account => "ABMGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMC4H",
        KeyKind::User | KeyKind::Operator => "UBMGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGNGPY",
    };
    PublicKey::parse(text, kind).unwrap_or_else(|error| panic!("{error}"))
}
