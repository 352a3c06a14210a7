//! What the fleet tells the NATS server, signed: its operator, its accounts, its users (JWTs of NATS, version 2). The form
//! of a token is `security/jwt.rs`'s business; here stands what they say.

use std::collections::BTreeMap;

use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::roles::{Scope, Subjects, Template};
use crate::security::jwt::{self, Claims, JwtError};
use crate::security::keys::{KeyPair, PublicKey};

/// The version of the claims.
const VERSION: u64 = 2;

/// The longest account that is read back, in bytes.
const ACCOUNT_BYTES_MAX: usize = 1 << 20;

/// Keys that can be revoked: an account has to fit into one message of the broker, a megabyte.
pub(crate) const REVOKED_MAX: usize = 5000;

#[derive(Serialize, Deserialize)]
struct Nats<T> {
    nats: T,
}

#[derive(Serialize)]
struct Operator {
    system_account: String,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u64,
}

/// An account's part of its claims.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Account {
    limits: Limits,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signing_keys: Vec<ScopedKey>,
    /// Public keys of users, and when they were revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    revocations: BTreeMap<String, u64>,
    default_permissions: Permissions,
    #[serde(rename = "type")]
    kind: String,
    version: u64,
}

/// Without limit, all of them: the machine sets them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Limits {
    subs: i64,
    data: i64,
    payload: i64,
    imports: i64,
    exports: i64,
    wildcards: bool,
    conn: i64,
    leaf: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Permissions {
    #[serde(rename = "pub", default)]
    publish: Subjects,
    #[serde(rename = "sub", default)]
    subscribe: Subjects,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ScopedKey {
    kind: String,
    key: String,
    role: String,
    template: Template,
}

/// A user under a scoped key: what it may do stands with the key.
#[derive(Serialize)]
struct ScopedUser {
    issuer_account: String,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u64,
}

/// A user that carries its own permissions.
#[derive(Serialize)]
struct FreeUser {
    #[serde(flatten)]
    template: Template,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u64,
}

/// The operator, who vouches for the accounts.
pub(super) fn operator(operator: &KeyPair, system: &PublicKey, now: Wall) -> Result<String, JwtError> {
    let nats = Operator { system_account: system.to_string(), kind: "operator", version: VERSION };
    let subject = operator.public();
    jwt::encode(claims("steward", &subject, seconds(now), None, Nats { nats }), operator)
}

/// The account through which accounts are pushed to the server.
pub(super) fn system_account(operator: &KeyPair, system: &PublicKey, now: Wall) -> Result<String, JwtError> {
    let nats = account(Vec::new());
    jwt::encode(claims("SYS", system, seconds(now), None, Nats { nats }), operator)
}

/// The fleet's account, with a key for each scope. Whoever is signed for by another key may do nothing.
pub(super) fn fleet_account(
    operator: &KeyPair,
    subject: &PublicKey,
    signers: &[(Scope, PublicKey)],
    now: Wall,
) -> Result<String, JwtError> {
    let signers = signers.iter().map(|(scope, key)| ScopedKey {
        kind: "user_scope".to_owned(),
        key: key.to_string(),
        role: scope.as_str().to_owned(),
        template: scope.template(),
    });
    let nats = account(signers.collect());
    jwt::encode(claims("fleet", subject, seconds(now), None, Nats { nats }), operator)
}

/// The account with these users revoked as well. Its time is later than before, or the server would not take it.
pub(super) fn revoke(
    operator: &KeyPair,
    account: &str,
    keys: &[PublicKey],
    now: Wall,
) -> Result<Option<String>, JwtError> {
    let mut claims: Claims<Nats<Account>> = jwt::verify(account, &operator.public(), ACCOUNT_BYTES_MAX)?;
    let revocations = &mut claims.body.nats.revocations;
    for key in keys {
        revocations.insert(key.to_string(), seconds(now));
    }
    if revocations.len() > REVOKED_MAX {
        return Ok(None);
    }
    claims.iat = seconds(now).max(claims.iat + 1);
    jwt::encode(claims, operator).map(Some)
}

/// A user in a scope.
pub(super) fn scoped_user(
    signer: &KeyPair,
    account: &PublicKey,
    name: &str,
    subject: &PublicKey,
    now: Wall,
    expires: Option<Wall>,
) -> Result<String, JwtError> {
    let nats = ScopedUser { issuer_account: account.to_string(), kind: "user", version: VERSION };
    jwt::encode(claims(name, subject, seconds(now), expires.map(seconds), Nats { nats }), signer)
}

/// A user of the system account who can do nothing but push accounts.
pub(super) fn pusher(system: &KeyPair, subject: &PublicKey, now: Wall, expires: Wall) -> Result<String, JwtError> {
    let only = |subject: &str| Subjects { allow: vec![subject.to_owned()], deny: Vec::new() };
    let template = Template {
        publish: only(super::push::SUBJECT),
        subscribe: only(super::push::ANSWERS),
        subs: 2,
        data: -1,
        payload: -1,
        allowed_connection_types: Vec::new(),
    };
    let nats = FreeUser { template, kind: "user", version: VERSION };
    jwt::encode(claims("steward", subject, seconds(now), Some(seconds(expires)), Nats { nats }), system)
}

fn account(signing_keys: Vec<ScopedKey>) -> Account {
    let nothing = || Subjects { allow: Vec::new(), deny: vec![">".to_owned()] };
    let is_scoped = !signing_keys.is_empty();
    Account {
        limits: Limits {
            subs: -1,
            data: -1,
            payload: -1,
            imports: -1,
            exports: -1,
            wildcards: true,
            conn: -1,
            leaf: -1,
        },
        signing_keys,
        revocations: BTreeMap::new(),
        default_permissions: if is_scoped {
            Permissions { publish: nothing(), subscribe: nothing() }
        } else {
            Permissions::default()
        },
        kind: "account".to_owned(),
        version: VERSION,
    }
}

fn claims<B>(name: &str, subject: &PublicKey, iat: u64, exp: Option<u64>, body: B) -> Claims<B> {
    Claims {
        exp,
        jti: String::new(),
        iat,
        iss: String::new(),
        name: name.to_owned(),
        nbf: None,
        sub: subject.to_string(),
        body,
    }
}

fn seconds(at: Wall) -> u64 {
    at.0 / 1000
}
