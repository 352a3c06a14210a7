//! How a node reaches the broker and logs in there, from options, from secrets in the environment, and from a context of
//! the `nats` tool. Nothing is read from the named files here: that is done at each attempt to connect, so that renewed
//! files are used without a restart.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_nats::ServerAddr;

use super::context::Context;
use super::options::{self as o, Opt};
use super::sources::{ConfigError, Sources};

/// How a node reaches the broker.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfig {
    /// The servers, at least one; any of them will do.
    pub(crate) addresses: Vec<ServerAddr>,
    /// Whom it trusts there.
    pub(crate) tls: Tls,
    /// How it logs in.
    pub(crate) login: Login,
    /// Whether a node without an identity believes whoever the broker brings, wherever the broker is.
    pub(crate) insecure: bool,
    /// How much it may send, in bits a second; `None` is without limit.
    pub(crate) link_rate: Option<u64>,
}

/// Encryption, beyond what the addresses and the broker itself ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The CAs that are trusted (PEM); with one, nothing goes out in plain.
    pub(crate) ca: Option<PathBuf>,
    /// This node's own certificate and its key (PEM).
    pub(crate) own: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins before the broker has said anything.
    pub(crate) is_first: bool,
}

/// How a node logs in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Login {
    /// With what stands in the address, if anything does.
    #[default]
    Address,
    /// With a user JWT, and the nkey that it was issued for.
    Jwt {
        /// The JWT, bare or as part of a credentials file.
        jwt: Secret,
        /// The nkey's seed; `None`: in the credentials file.
        seed: Option<Secret>,
    },
    /// With an nkey that the broker knows; its seed.
    Nkey(Secret),
    /// With name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// With a token.
    Token(Secret),
}

/// Something that must not be seen, or the file in which it stands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The thing itself.
    Text(Arc<str>),
    /// Read anew each time.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl BrokerConfig {
    /// Options first, then the context, then the defaults.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let context = match sources.given(&o::BROKER_CONTEXT, |name| Ok(name.to_owned()))? {
            Some(name) if !name.is_empty() => Context::read(&name)?,
            Some(_) | None => Context::default(),
        };
        let tls = tls(sources, &context)?;
        let login = match login(sources)? {
            Login::Address => context.login()?,
            given => given,
        };
        let addresses = match context.url {
            Some(url) if !sources.says(&o::BROKER_ADDRESS) => servers(&url)
                .map_err(|why| ConfigError::new(format!("the url of {}: {why}", context.path.display())))?,
            Some(_) | None => sources.many(&o::BROKER_ADDRESS, server)?,
        };
        if addresses.is_empty() {
            return Err(ConfigError::new("brokerAddress is empty; an example is 127.0.0.1:4222".to_owned()));
        }
        let insecure = sources.one(&o::INSECURE, super::boolean)?;
        let link_rate = sources.one(&o::LINK_RATE, super::units::bit_rate_or_none)?;
        Ok(Self { addresses, tls, login, insecure, link_rate })
    }
}

fn tls(sources: &Sources, context: &Context) -> Result<Tls, ConfigError> {
    let path = |opt: &Opt, other: &Option<PathBuf>| Ok(sources.path(opt)?.or_else(|| other.clone()));
    let (cert, key) = (path(&o::BROKER_TLS_CERT, &context.cert)?, path(&o::BROKER_TLS_KEY, &context.key)?);
    let own = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let why = "--broker-tls-cert and --broker-tls-key go together: a certificate is no use without its key";
            return Err(ConfigError::new(why.to_owned()));
        }
    };
    let is_first = match sources.says(&o::BROKER_TLS_FIRST) {
        true => sources.one(&o::BROKER_TLS_FIRST, super::boolean)?,
        false => context.tls_first,
    };
    Ok(Tls { ca: path(&o::BROKER_TLS_CA, &context.ca)?, own, is_first })
}

/// The one login that the options name.
fn login(sources: &Sources) -> Result<Login, ConfigError> {
    let file = |opt: &Opt| -> Result<Option<Secret>, ConfigError> { Ok(sources.path(opt)?.map(Secret::File)) };
    let variable = |name: &str| sources.environment.get(name).map(|text| Secret::Text(text.as_str().into()));
    let (creds, seed) = (file(&o::BROKER_CREDS)?, file(&o::BROKER_NKEY)?);
    let user = sources.given(&o::BROKER_USER, |user| Ok(user.to_owned()))?.filter(|user| !user.is_empty());
    let password = file(&o::BROKER_PASSWORD_FILE)?.or_else(|| variable(o::BROKER_PASSWORD_VARIABLE));
    let token = file(&o::BROKER_TOKEN_FILE)?.or_else(|| variable(o::BROKER_TOKEN_VARIABLE));
    let mut logins = Vec::new();
    match (creds, seed) {
        (Some(jwt), seed) => logins.push(("--broker-creds", Login::Jwt { jwt, seed })),
        (None, Some(seed)) => logins.push(("--broker-nkey", Login::Nkey(seed))),
        (None, None) => {}
    }
    match (user, password) {
        (Some(user), Some(password)) => logins.push(("--broker-user", Login::Password { user, password })),
        (Some(user), None) => {
            return Err(ConfigError::new(format!(
                "--broker-user is {user:?}, but there is no password: put it into a file and name that with \
                 --broker-password-file, or into the variable {}",
                o::BROKER_PASSWORD_VARIABLE
            )));
        }
        (None, Some(_)) => {
            return Err(ConfigError::new("there is a password for the broker, but no --broker-user".to_owned()));
        }
        (None, None) => {}
    }
    logins.extend(token.map(|token| ("a token", Login::Token(token))));
    match logins.len() {
        0 | 1 => Ok(logins.pop().map(|(_, login)| login).unwrap_or_default()),
        _ => {
            let names: Vec<&str> = logins.iter().map(|(name, _)| *name).collect();
            let names = names.join(" and ");
            Err(ConfigError::new(format!("{names} are both given; a broker takes one login, so leave one out")))
        }
    }
}

/// One or more servers with commas between.
fn servers(text: &str) -> Result<Vec<ServerAddr>, String> {
    super::sources::split(text).iter().map(|text| server(text)).collect()
}

pub(super) fn server(text: &str) -> Result<ServerAddr, String> {
    // The seed's "0" stands for "not given".
    let text = if text == "0" { o::BROKER_ADDRESS.default } else { text };
    let server: ServerAddr = text
        .parse()
        .map_err(|error| format!("must be HOST, HOST:PORT, nats://HOST:PORT or tls://HOST:PORT ({error})"))?;
    // The client would take other schemes for plain ones, which is not what whoever wrote `wss://` wants.
    match server.scheme() {
        "nats" | "tls" => Ok(server),
        scheme => Err(format!("{scheme}:// is not understood; use nats://HOST:PORT or tls://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::File;

    fn read(flags: &[(&'static str, &str)], environment: &[(&str, &str)]) -> Result<BrokerConfig, String> {
        let sources = Sources {
            flags: flags.iter().map(|(name, value)| (*name, vec![(*value).to_owned()])).collect(),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Sources::default()
        };
        BrokerConfig::read(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn a_login_is_one_of_them_and_complete() {
        let here = |name: &str| std::path::absolute(name).unwrap();
        let creds = read(&[("brokerCreds", "a.creds"), ("brokerTlsCa", "ca.pem")], &[]).unwrap();
        assert_eq!(creds.login, Login::Jwt { jwt: Secret::File(here("a.creds")), seed: None });
        assert_eq!(creds.tls.ca, Some(here("ca.pem")));
        let both = read(&[("brokerCreds", "a.jwt"), ("brokerNkey", "a.nk")], &[]).unwrap();
        let seed = Some(Secret::File(here("a.nk")));
        assert_eq!(both.login, Login::Jwt { jwt: Secret::File(here("a.jwt")), seed });
        let password = read(&[("brokerUser", "me")], &[("STEWARD_BROKER_PASSWORD", "hush-hush")]).unwrap();
        assert_eq!(
            password.login,
            Login::Password { user: "me".to_owned(), password: Secret::Text("hush-hush".into()) }
        );
        assert!(!format!("{password:?}").contains("hush"), "{password:?}");
        for (flags, expected) in [
            (vec![("brokerUser", "me")], "STEWARD_BROKER_PASSWORD"),
            (vec![("brokerPasswordFile", "x")], "no --broker-user"),
            (vec![("brokerTlsCert", "x")], "--broker-tls-key"),
            (vec![("brokerCreds", "x"), ("brokerTokenFile", "y")], "--broker-creds and a token are both given"),
            (vec![("brokerAddress", "wss://x:1")], "wss:// is not understood"),
        ] {
            let error = read(&flags, &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_error_about_an_address_hides_the_login_in_it() {
        let error = read(&[("brokerAddress", "wss://me:hush-hush@host:1")], &[]).unwrap_err();
        assert!(error.contains("wss://...@host:1") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_path_in_a_file_begins_where_the_file_lies() {
        let file = File::parse("/etc/steward/steward.toml".as_ref(), "brokerTlsCa = \"identity/ca.pem\"\n").unwrap();
        let config = BrokerConfig::read(&Sources { own: Some(file), ..Sources::default() }).unwrap();
        assert_eq!(config.tls.ca, Some(PathBuf::from("/etc/steward/identity/ca.pem")));
    }
}
