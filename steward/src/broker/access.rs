//! How this node gets in at the broker: TLS and login. Files are read anew for each attempt to connect, so that renewed
//! ones are used without a restart. What is secret is never logged, and never part of an error.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};

use crate::config::broker::{Login, Secret, Tls};
use crate::security::keys::{KeyKind, KeyPair, PublicKey, SEED_CHARS};

/// The largest file that holds a login, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Chooses the cryptography of TLS for the whole process, before anything uses it.
pub(crate) fn choose_tls() {
    if async_nats::rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("another provider of cryptography was chosen before");
    }
}

/// With which key a client has logged in last, where it logs in with one. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyUsed(Arc<Mutex<Option<PublicKey>>>);

impl KeyUsed {
    /// The key; none before the first attempt, and where the login is of another kind.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, pair: &KeyPair) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pair.public());
    }
}

/// How this node gets in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// Whom it trusts.
    pub(crate) tls: Tls,
    /// How it logs in.
    pub(crate) login: Login,
}

impl Access {
    /// Options of the client that do what this says.
    pub(crate) fn options(&self, servers: &[ServerAddr]) -> ConnectOptions {
        self.options_telling(servers, &KeyUsed::default())
    }

    /// The same; `used` says with which key the client has logged in last.
    pub(crate) fn options_telling(&self, servers: &[ServerAddr], used: &KeyUsed) -> ConnectOptions {
        let options = match &self.login {
            Login::Address => in_address(servers),
            login => {
                let (login, used) = (login.clone(), used.clone());
                ConnectOptions::with_auth_callback(move |nonce| {
                    let (login, used) = (login.clone(), used.clone());
                    async move { login.answer(&nonce, &used).await.map_err(AuthError::new) }
                })
            }
        };
        // Whoever names a CA or shows a certificate wants TLS, and must not be talked out of it by whoever answers.
        let options = options.require_tls(self.tls.ca.is_some() || self.tls.own.is_some());
        let options = match &self.tls.ca {
            Some(ca) => options.add_root_certificates(ca.clone()),
            None => options,
        };
        let options = match &self.tls.own {
            Some((cert, key)) => options.add_client_certificate(cert.clone(), key.clone()),
            None => options,
        };
        if self.tls.is_first { options.tls_first() } else { options }
    }

    /// A word for the log where a password or token would go over a network in plain.
    pub(super) fn plain_secret(&self, servers: &[ServerAddr]) -> Option<&'static str> {
        let is_secret_sent = match &self.login {
            Login::Password { .. } | Login::Token(_) => true,
            Login::Address => servers.iter().any(|server| server.username().is_some()),
            // These sign what the server asks; they never send the key.
            Login::Jwt { .. } | Login::Nkey(_) => false,
        };
        let is_encrypted = self.tls.ca.is_some() || self.tls.own.is_some() || self.tls.is_first;
        let is_exposed =
            servers.iter().any(|server| !server.tls_required() && !is_loopback(server.host())) && !is_encrypted;
        (is_secret_sent && is_exposed).then_some(
            "the login for the broker goes over the network in plain unless the broker insists on TLS; with \
             tls://HOST:PORT or --broker-tls-ca it never does",
        )
    }
}

/// Whether an address of this host leads to this machine only.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
}

/// async-nats does not look at the login in an address (`nats://user:password@host`, `nats://token@host`), so the first
/// one there is goes into the options.
fn in_address(servers: &[ServerAddr]) -> ConnectOptions {
    let named = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match named {
        Some((user, Some(password))) => ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned()),
        Some((token, None)) => ConnectOptions::with_token(token.to_owned()),
        None => ConnectOptions::new(),
    }
}

/// Why there is no answer to the broker, in words; becomes part of the link's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

impl Login {
    /// What the broker is told, which may have sent something to sign.
    async fn answer(&self, nonce: &[u8], used: &KeyUsed) -> Result<Auth, Unusable> {
        let mut auth = Auth::new();
        match self {
            Self::Address => {}
            Self::Jwt { jwt, seed } => {
                let text = jwt.read().await?;
                let pair = match seed {
                    Some(seed) => seed.pair().await?,
                    None => jwt.pair_in(&text)?,
                };
                used.note(&pair);
                auth.jwt = Some(jwt.jwt_in(&text)?.to_owned());
                auth.signature = Some(pair.sign(nonce).to_vec());
            }
            Self::Nkey(seed) => {
                let pair = seed.pair().await?;
                used.note(&pair);
                auth.nkey = Some(pair.public().to_string());
                auth.signature = Some(pair.sign(nonce).to_vec());
            }
            Self::Password { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.line().await?);
            }
            Self::Token(token) => auth.token = Some(token.line().await?),
        }
        Ok(auth)
    }
}

impl Secret {
    /// The whole text.
    async fn read(&self) -> Result<String, Unusable> {
        match self {
            Self::Text(text) => Ok(text.as_ref().to_owned()),
            Self::File(path) => read_file(path).await,
        }
    }

    /// The text without the line end that editors put behind it.
    async fn line(&self) -> Result<String, Unusable> {
        Ok(self.read().await?.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn pair(&self) -> Result<KeyPair, Unusable> {
        let text = self.read().await?;
        self.pair_in(&text)
    }

    /// The pair whose seed stands in a text: alone, or in a credentials file.
    fn pair_in(&self, text: &str) -> Result<KeyPair, Unusable> {
        let seed = text.split_whitespace().find(|word| word.starts_with('S') && word.len() == SEED_CHARS);
        let seed = seed.ok_or_else(|| Unusable(format!("there is no nkey seed in {}", self.place())))?;
        KeyPair::from_seed(seed, KeyKind::User)
            .map_err(|error| Unusable(format!("the nkey seed in {} can't be used: {error}", self.place())))
    }

    /// The JWT in a text: alone, or in a credentials file.
    fn jwt_in<'t>(&self, text: &'t str) -> Result<&'t str, Unusable> {
        let is_jwt = |word: &&str| word.starts_with("eyJ") && word.split('.').count() == 3;
        text.split_whitespace()
            .find(is_jwt)
            .ok_or_else(|| Unusable(format!("there is no user JWT in {}", self.place())))
    }

    fn place(&self) -> String {
        match self {
            Self::Text(_) => "the value that was given".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

async fn read_file(path: &Path) -> Result<String, Unusable> {
    let failed = |error: std::io::Error| Unusable(format!("{} can't be read: {error}", path.display()));
    let bytes = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Unusable(format!("{} has {bytes} bytes; a login has at most {FILE_BYTES_MAX}", path.display())));
    }
    tokio::fs::read_to_string(path).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<ServerAddr> {
        vec![text.parse().unwrap()]
    }

    #[tokio::test]
    async fn a_credentials_file_gives_the_jwt_and_signs_what_the_server_asks() {
        let pair = KeyPair::generate(KeyKind::User).unwrap();
        let seed = pair.seed();
        let seed = seed.as_str();
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.creds");
        std::fs::write(&file, creds).unwrap();
        let whole = Login::Jwt { jwt: Secret::File(file), seed: None };
        let parts = Login::Jwt {
            jwt: Secret::Text("eyJ0.eyJq.c2ln\n".into()),
            seed: Some(Secret::Text(format!("{seed}\n").into())),
        };
        for login in [whole, parts] {
            let auth = login.answer(b"nonce", &KeyUsed::default()).await.unwrap();
            assert_eq!(auth.jwt.as_deref(), Some("eyJ0.eyJq.c2ln"));
            assert_eq!(auth.signature.unwrap(), pair.sign(b"nonce"));
        }
    }

    #[tokio::test]
    async fn a_login_that_can_not_be_used_says_which_and_shows_nothing() {
        let missing =
            Login::Token(Secret::File("/does/not/exist".into())).answer(b"", &KeyUsed::default()).await.err().unwrap();
        assert!(missing.to_string().starts_with("/does/not/exist can't be read"), "{missing}");
        let text = Login::Nkey(Secret::Text("SUHUSHHUSH".into())).answer(b"", &KeyUsed::default()).await.err().unwrap();
        assert_eq!(text.to_string(), "there is no nkey seed in the value that was given");
        let password = Login::Password { user: "me".to_owned(), password: Secret::Text("p w \n".into()) };
        assert_eq!(password.answer(b"", &KeyUsed::default()).await.unwrap().password.as_deref(), Some("p w "));
    }

    #[test]
    fn a_password_in_plain_is_worth_a_word() {
        let password = Login::Password { user: "me".to_owned(), password: Secret::Text("p".into()) };
        let access = Access { login: password, tls: Tls::default() };
        assert!(access.plain_secret(&servers("10.0.0.1:4222")).is_some());
        assert!(access.plain_secret(&servers("tls://10.0.0.1:4222")).is_none());
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            assert!(access.plain_secret(&servers(host)).is_none(), "{host}");
        }
        let tls = Tls { ca: Some("ca.pem".into()), ..Tls::default() };
        assert!(Access { tls, ..access }.plain_secret(&servers("10.0.0.1:4222")).is_none());
        assert!(Access::default().plain_secret(&servers("10.0.0.1:4222")).is_none());
        assert!(Access::default().plain_secret(&servers("nats://me:p@10.0.0.1:4222")).is_some());
    }
}
