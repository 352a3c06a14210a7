//! Claims that somebody has signed, in the form of NATS: JSON Web Tokens, version 2, with an nkey's signature.
//!
//! What we make for the NATS server (operator, account, user) and our own certificates have this one form. The number
//! of a token (`jti`) is made as NATS makes it, from everything that the token says outside its own part.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512_256};

use super::keys::{KeyPair, PublicKey, SIGNATURE_BYTES};

/// What every token of ours begins with.
const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// The longest header that is read, in bytes of its text.
const HEADER_CHARS_MAX: usize = 256;

/// The claims that every token has, and its own part `B`, whose fields stand beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims<B> {
    /// Until when it holds, in seconds since 1970; for ever if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exp: Option<u64>,
    /// The number of the token; made by [`encode`].
    #[serde(default)]
    pub(crate) jti: String,
    /// When it was made, in seconds since 1970.
    pub(crate) iat: u64,
    /// The public key that signed it; set by [`encode`].
    #[serde(default)]
    pub(crate) iss: String,
    /// The name of whom it is about.
    #[serde(default)]
    pub(crate) name: String,
    /// From when it holds, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<u64>,
    /// The public key of whom it is about.
    pub(crate) sub: String,
    /// What is particular to this kind of token, such as an object `nats` or `steward`.
    #[serde(flatten)]
    pub(crate) body: B,
}

/// Why a token is not believed. Never quotes it: with a seed beside it, it is a login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    /// Too long to look at.
    #[error("it has {found} bytes; at most {max} are taken")]
    TooLong {
        /// What it has.
        found: usize,
        /// What is taken.
        max: usize,
    },
    /// Not three parts, not base64, not JSON.
    #[error("it is not a token: {0}")]
    Form(&'static str),
    /// Another kind of token or signature.
    #[error("it is not signed in the way of NATS (ed25519-nkey)")]
    Algorithm,
    /// Signed by another key than the one that is asked for.
    #[error("it is signed by {found}, not by {expected}")]
    Issuer {
        /// Whose signature it is said to have.
        found: String,
        /// Whose it should have.
        expected: String,
    },
    /// The signature is not over this text.
    #[error("its signature is wrong: it was altered, or it was never signed by {0}")]
    Signature(String),
    /// Claims that can't be written.
    #[error("the claims can't be written as JSON: {0}")]
    Json(String),
}

#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    iat: u64,
    iss: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    sub: &'a str,
}

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
}

/// The token: `claims`, signed by `signer`, whose public key becomes `iss`.
pub(crate) fn encode<B: Serialize>(mut claims: Claims<B>, signer: &KeyPair) -> Result<String, JwtError> {
    let failed = |error: serde_json::Error| JwtError::Json(error.to_string());
    claims.iss = signer.public().to_string();
    let Claims { exp, iat, iss, name, nbf, sub, .. } = &claims;
    let numbered = Numbered { exp: *exp, iat: *iat, iss, name, nbf: *nbf, sub };
    let numbered = serde_json::to_vec(&numbered).map_err(failed)?;
    claims.jti = BASE32_NOPAD.encode(&Sha512_256::digest(&numbered));
    let body = serde_json::to_vec(&claims).map_err(failed)?;
    let text = format!("{}.{}", BASE64URL_NOPAD.encode(HEADER.as_bytes()), BASE64URL_NOPAD.encode(&body));
    let signature = BASE64URL_NOPAD.encode(&signer.sign(text.as_bytes()));
    Ok(format!("{text}.{signature}"))
}

/// The claims of `token`, if `issuer` has signed it. `bytes_max` is the longest token that is looked at. Whether it still
/// holds is the caller's question.
pub(crate) fn verify<B: DeserializeOwned>(
    token: &str,
    issuer: &PublicKey,
    bytes_max: usize,
) -> Result<Claims<B>, JwtError> {
    if token.len() > bytes_max {
        return Err(JwtError::TooLong { found: token.len(), max: bytes_max });
    }
    let (text, signature) = token.rsplit_once('.').ok_or(JwtError::Form("it has no signature"))?;
    let (header, body) = text.split_once('.').ok_or(JwtError::Form("it has no claims"))?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok();
    let signature: Option<[u8; SIGNATURE_BYTES]> = signature.and_then(|bytes| bytes.try_into().ok());
    let signature = signature.ok_or(JwtError::Form("its signature can't be read"))?;
    // The signature comes first: nothing that is not signed is parsed.
    if !issuer.verify(text.as_bytes(), &signature) {
        return Err(unsigned(body, issuer));
    }
    check_header(header)?;
    let body = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| JwtError::Form("its claims can't be read"))?;
    let claims: Claims<B> =
        serde_json::from_slice(&body).map_err(|_| JwtError::Form("its claims are not those of such a token"))?;
    let expected = issuer.to_string();
    if claims.iss != expected {
        return Err(JwtError::Issuer { found: shown(&claims.iss), expected });
    }
    Ok(claims)
}

fn check_header(text: &str) -> Result<(), JwtError> {
    if text.len() > HEADER_CHARS_MAX {
        return Err(JwtError::Form("its header is too long"));
    }
    let header = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| JwtError::Form("its header can't be read"))?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| JwtError::Form("its header can't be read"))?;
    if !header.typ.eq_ignore_ascii_case("jwt") || !header.alg.eq_ignore_ascii_case("ed25519-nkey") {
        return Err(JwtError::Algorithm);
    }
    Ok(())
}

/// Why the signature does not fit: mostly because somebody else has signed, and then it says who.
fn unsigned(body: &str, issuer: &PublicKey) -> JwtError {
    #[derive(Deserialize)]
    struct Said {
        iss: String,
    }
    let said = BASE64URL_NOPAD.decode(body.as_bytes()).ok().and_then(|body| serde_json::from_slice::<Said>(&body).ok());
    let expected = issuer.to_string();
    match said {
        Some(said) if said.iss != expected => JwtError::Issuer { found: shown(&said.iss), expected },
        Some(_) | None => JwtError::Signature(expected),
    }
}

/// As much of a key as a line of the log can take, from a text that anybody may have written.
fn shown(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).take(56).collect()
}

#[cfg(test)]
mod tests;
