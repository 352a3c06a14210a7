//! `--listen`: the part of the API that is about messages, over HTTP on a port of the loopback interface, for programs that can't
//! use a unix socket.
//!
//! Any user of the machine can connect to a port, so each request has to bring the token in `listen.token` (mode 0600, made at
//! the first start): `Authorization: Bearer TOKEN`. A request without it is answered with 401 before anything of it is read. Nothing
//! else of the API is here: with the token one can send and look, not stop parts of the node or renew its keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64URL_NOPAD;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Api, ApiError, LIMITS, messages, serve};
use crate::config::ListenAddress;
use crate::security::secret_file::{self, SecretFileError};

/// The token's file in the node's directory.
const TOKEN: &str = "listen.token";

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// The fewest characters of a token that somebody else has made.
const TOKEN_CHARS_MIN: usize = 32;

/// What every request has to bring.
struct Lock {
    /// Of the token: two hashes are compared in the same time, wherever they differ.
    hash: blake3::Hash,
    /// Where the token is.
    path: PathBuf,
    /// Whether it has been said that somebody came without it.
    is_said: AtomicBool,
}

impl Lock {
    /// Reads the token in this directory, and makes one where there is none. Blocks for a moment.
    fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(TOKEN);
        let token = match secret_file::read(&path) {
            Err(SecretFileError::Missing { .. }) => {
                let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
                getrandom::fill(bytes.as_mut_slice()).context("the system gives no random numbers for a token")?;
                let token = Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_slice()));
                secret_file::write(&path, &token)?;
                token
            }
            read => read?,
        };
        anyhow::ensure!(
            token.len() >= TOKEN_CHARS_MIN,
            "the token in {} has less than {TOKEN_CHARS_MIN} characters, so it could be guessed; remove the file, and one is made",
            path.display()
        );
        Ok(Self { hash: blake3::hash(token.as_bytes()), path, is_said: AtomicBool::new(false) })
    }

    fn is_opened_by(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = value.and_then(|value| value.split_at_checked(b"Bearer ".len()));
        given.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(b"Bearer ") && blake3::hash(token.trim_ascii()) == self.hash
        })
    }
}

/// Lets a request through that brings the token.
async fn check(State(lock): State<Arc<Lock>>, request: Request, next: Next) -> Response {
    if lock.is_opened_by(request.headers()) {
        return next.run(request).await;
    }
    if !lock.is_said.swap(true, Ordering::Relaxed) {
        let from = request.extensions().get::<SocketAddr>().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%from, "somebody asks on the port for messages without the token; further ones are not told");
    }
    let path = lock.path.display();
    let text = format!("this needs the header Authorization: Bearer TOKEN, with the token in {path}");
    let mut answer = ApiError::new(StatusCode::UNAUTHORIZED, text).into_response();
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

impl Api {
    /// Serves what is about messages on a port of the loopback interface until the end.
    pub(crate) async fn run_on_port(self, address: SocketAddr, end: CancellationToken) -> anyhow::Result<()> {
        anyhow::ensure!(address.ip().is_loopback(), "{address} can be reached from other machines");
        let lock = Arc::new(Lock::open(&self.dir)?);
        let address = ListenAddress { host: Some(address.ip().to_string()), port: address.port() };
        let Some(listener) = serve::listen(&address, "messages can be given, and what becomes of them", &end).await
        else {
            return Ok(());
        };
        let supervisor = self.supervisor.clone();
        let router = messages::routes().fallback(messages::unknown).with_state(self.shared());
        let router = router.layer(from_fn_with_state(lock, check));
        serve::serve(listener, router, LIMITS, "port connection", &supervisor, end).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_it_opens() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::open(dir.path()).unwrap();
        let token = secret_file::read(&dir.path().join(TOKEN)).unwrap();
        assert_eq!(token.len(), 43);
        assert_eq!(Lock::open(dir.path()).unwrap().hash, lock.hash);
        let opens = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            lock.is_opened_by(&headers)
        };
        assert!(opens(&format!("Bearer {}", *token)) && opens(&format!("bearer  {} ", *token)));
        let wrong = format!("Bearer {}x", &token[1..]);
        for value in
            ["", "Bearer", "Bearer ", &token, &format!("Basic {}", *token), &format!("Bearer {}", &token[1..]), &wrong]
        {
            assert!(!opens(value), "{value}");
        }
        assert!(!lock.is_opened_by(&HeaderMap::new()));
    }

    #[test]
    fn a_token_that_could_be_guessed_or_read_by_others_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        secret_file::write(&dir.path().join(TOKEN), "hunter2").unwrap();
        assert!(Lock::open(dir.path()).err().unwrap().to_string().contains("could be guessed"));
        std::fs::write(dir.path().join(TOKEN), "x".repeat(40)).unwrap();
        std::fs::set_permissions(dir.path().join(TOKEN), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Lock::open(dir.path()).err().unwrap().to_string().contains("can be read or written by others"));
    }
}
