//! What a fleet says, signed with its key: certificates, lists of revoked keys and sets of rules. Each has its own part; the frame
//! around it, with the form and the checks of it, is the same for all and stands here.

use protocol::time::Wall;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::jwt::{self, Claims, JwtError};
use super::keys::{KeyPair, PublicKey};

/// The form of what a fleet says. All kinds have the same one.
const FORM: u64 = 1;

/// Something that a fleet says.
#[derive(Debug, Clone)]
pub(crate) struct Statement<T> {
    /// The name of whom, or of what, it is about.
    pub(crate) name: String,
    /// The key, or whatever else, that it is about.
    pub(crate) about: String,
    /// Until when it holds, to the second; for ever if none.
    pub(crate) expires: Option<Wall>,
    /// What is said.
    pub(crate) said: T,
}

/// Why a statement is not made or not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StatementError {
    /// The token.
    #[error("{0}")]
    Token(#[from] JwtError),
    /// A later version of steward made it.
    #[error("it has form {0}, and this steward reads {FORM}; update it")]
    Form(u64),
}

#[derive(Serialize, Deserialize)]
struct Body<T> {
    steward: Part<T>,
}

#[derive(Serialize, Deserialize)]
struct Part<T> {
    v: u64,
    #[serde(flatten)]
    said: T,
}

/// The form alone, which is read first: of another one the rest may be anything.
#[derive(Deserialize)]
struct Form {
    v: u64,
}

#[derive(Deserialize)]
struct FormBody {
    steward: Form,
}

impl<T: Serialize + DeserializeOwned> Statement<T> {
    /// The token of it, signed with the fleet key.
    pub(crate) fn sign(self, fleet: &KeyPair, now: Wall) -> Result<String, StatementError> {
        let claims = Claims {
            exp: self.expires.map(|at| at.0 / 1000),
            jti: String::new(),
            iat: now.0 / 1000,
            iss: String::new(),
            name: self.name,
            nbf: None,
            sub: self.about,
            body: Body { steward: Part { v: FORM, said: self.said } },
        };
        Ok(jwt::encode(claims, fleet)?)
    }

    /// What a token says, if `fleet` has signed it; and when that was, to the second. At most so many bytes are looked at. Whether it still holds is another
    /// question.
    pub(crate) fn verify(token: &str, fleet: &PublicKey, bytes_max: usize) -> Result<(Self, Wall), StatementError> {
        let claims: Result<Claims<Body<T>>, JwtError> = jwt::verify(token, fleet, bytes_max);
        let claims = claims.map_err(|error| match jwt::verify::<FormBody>(token, fleet, bytes_max) {
            Ok(Claims { body: FormBody { steward: Form { v } }, .. }) if v != FORM => StatementError::Form(v),
            Ok(_) | Err(_) => StatementError::Token(error),
        })?;
        let Part { v, said } = claims.body.steward;
        if v != FORM {
            return Err(StatementError::Form(v));
        }
        let wall = |seconds: u64| Wall(seconds.saturating_mul(1000));
        let statement = Self { name: claims.name, about: claims.sub, expires: claims.exp.map(wall), said };
        Ok((statement, wall(claims.iat)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::KeyKind;
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Said {
        word: String,
    }

    fn statement(word: &str) -> Statement<Said> {
        let said = Said { word: word.to_owned() };
        Statement { name: "n".to_owned(), about: "a".to_owned(), expires: Some(Wall(9000)), said }
    }

    #[test]
    fn what_is_said_comes_back_and_another_form_is_named() {
        let fleet = KeyPair::generate(KeyKind::Account).unwrap();
        let token = statement("x").sign(&fleet, Wall(5999)).unwrap();
        let (read, issued) = Statement::<Said>::verify(&token, &fleet.public(), 4096).unwrap();
        assert_eq!((read.name.as_str(), read.about.as_str(), read.expires), ("n", "a", Some(Wall(9000))));
        assert_eq!((read.said, issued), (Said { word: "x".to_owned() }, Wall(5000)));
        // A later form, of which nothing but its number is known.
        let claims = Claims {
            exp: None,
            jti: String::new(),
            iat: 1,
            iss: String::new(),
            name: String::new(),
            nbf: None,
            sub: String::new(),
            body: serde_json::json!({ "steward": { "v": 2, "words": 3 } }),
        };
        let later = jwt::encode(claims, &fleet).unwrap();
        let refused = Statement::<Said>::verify(&later, &fleet.public(), 4096).unwrap_err();
        assert_eq!(refused, StatementError::Form(2));
        let other = KeyPair::generate(KeyKind::Account).unwrap().public();
        assert!(matches!(Statement::<Said>::verify(&token, &other, 4096), Err(StatementError::Token(_))));
    }
}
