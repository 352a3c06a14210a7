//! Certificates: there and back, and those that a fleet would not sign.

use super::super::jwt::{self, Claims, JwtError};
use super::super::keys::SealKey;
use super::*;

fn draft() -> Draft {
    Draft {
        name: NodeName::new("ship1").unwrap(),
        key: KeyPair::generate(KeyKind::User).unwrap().public(),
        seal_key: SealKey::generate().unwrap().public(),
        role: Role::Node,
        labels: BTreeMap::from([("site".to_owned(), "north sea".to_owned())]),
        serial: 7,
        renews: Some(KeyPair::generate(KeyKind::User).unwrap().public()),
        expires: None,
    }
}

const NOW: Wall = Wall(1_795_363_200_000);

#[test]
fn a_certificate_comes_back_as_it_was_issued() {
    let fleet = KeyPair::generate(KeyKind::Account).unwrap();
    let draft = draft();
    let issued = Certificate::issue(draft.clone(), &fleet, NOW).unwrap();
    let read = Certificate::verify(&issued.text, &fleet.public()).unwrap();
    assert_eq!(read, issued);
    assert_eq!((read.name, read.key, read.seal_key), (draft.name, draft.key, draft.seal_key));
    assert_eq!(read.renews, draft.renews);
    assert_eq!((read.role, read.serial, read.issued, read.expires), (Role::Node, 7, NOW, None));
    assert_eq!(*read.labels, draft.labels);
    assert_eq!(read.fleet, fleet.public());
}

#[test]
fn an_expired_one_no_longer_holds() {
    let fleet = KeyPair::generate(KeyKind::Account).unwrap();
    let draft = Draft { expires: Some(Wall(NOW.0 + 1000)), ..draft() };
    let issued = Certificate::issue(draft, &fleet, NOW).unwrap();
    assert!(issued.holds(NOW) && !issued.holds(Wall(NOW.0 + 1000)));
}

#[test]
fn another_fleets_certificate_is_refused() {
    let (ours, theirs) = (KeyPair::generate(KeyKind::Account).unwrap(), KeyPair::generate(KeyKind::Account).unwrap());
    let issued = Certificate::issue(draft(), &theirs, NOW).unwrap();
    let error = Certificate::verify(&issued.text, &ours.public()).unwrap_err();
    assert!(error.to_string().contains(&format!("signed by {}", theirs.public())), "{error}");
}

#[test]
fn labels_have_limits() {
    let fleet = KeyPair::generate(KeyKind::Account).unwrap();
    let issue = |labels: Vec<(String, String)>| {
        Certificate::issue(Draft { labels: labels.into_iter().collect(), ..draft() }, &fleet, NOW)
    };
    let label = |n: usize| (format!("label{n}"), "x".repeat(LABEL_BYTES_MAX));
    issue((0..LABELS_MAX).map(label).collect()).unwrap();
    assert!(issue((0..=LABELS_MAX).map(label).collect()).is_err());
    for wrong in [("", "x"), ("a b", "x"), ("a", "x\ny")] {
        assert!(issue(vec![(wrong.0.to_owned(), wrong.1.to_owned())]).is_err(), "{wrong:?}");
    }
    assert!(issue(vec![("a".to_owned(), "x".repeat(LABEL_BYTES_MAX + 1))]).is_err());
}

/// What a fleet key signs for something else is no certificate.
#[test]
fn a_token_of_another_kind_is_no_certificate() {
    #[derive(Serialize)]
    struct Nats {
        nats: u64,
    }
    let fleet = KeyPair::generate(KeyKind::Account).unwrap();
    let sub = KeyPair::generate(KeyKind::User).unwrap().public().to_string();
    let claims = Claims {
        exp: None,
        jti: String::new(),
        iat: 1,
        iss: String::new(),
        name: "ship1".to_owned(),
        nbf: None,
        sub,
        body: Nats { nats: 1 },
    };
    let token = jwt::encode(claims, &fleet).unwrap();
    let refused = Certificate::verify(&token, &fleet.public());
    assert!(matches!(refused, Err(CertificateError::Statement(StatementError::Token(JwtError::Form(_))))));
}
