//! What an operator has said of a fleet, and what has to be remembered of it: `fleet.toml` in its folder.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::AuthorityError;
use crate::broker::access::is_loopback;
use crate::security::secret_file;

const FILE: &str = "fleet.toml";

/// The port where none is given.
const PORT: u16 = 4222;

/// Addresses that a fleet's broker may have.
const ADDRESSES_MAX: usize = 16;

/// What is known of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where nodes reach the broker; none where it is not ours.
    pub(crate) addresses: Vec<Address>,
    /// Whether the broker is somebody else's.
    pub(crate) is_external: bool,
    /// Until when the broker's certificate holds.
    pub(super) tls_until: Option<Wall>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Text {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    external: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_until_ms: Option<u64>,
}

impl Settings {
    /// A fleet with a broker of its own, which nodes reach at these addresses.
    pub(crate) fn own(addresses: Vec<Address>) -> Result<Self, String> {
        match addresses.as_slice() {
            [] => Err("an address is missing".to_owned()),
            all if all.len() > ADDRESSES_MAX => Err(format!("there are more than {ADDRESSES_MAX} addresses")),
            [first, others @ ..] => match others.iter().find(|other| other.port != first.port) {
                Some(other) => {
                    let (first, other) = (first.port, other.port);
                    Err(format!("the broker listens on one port, so the addresses can't name {first} and {other}"))
                }
                None => Ok(Self { addresses, is_external: false, tls_until: None }),
            },
        }
    }

    /// A fleet whose broker is somebody else's.
    pub(crate) fn external() -> Self {
        Self { addresses: Vec::new(), is_external: true, tls_until: None }
    }

    pub(super) fn load(folder: &Path) -> Result<Self, AuthorityError> {
        let path = folder.join(FILE);
        let text = secret_file::read(&path)?;
        let damaged = |why: String| AuthorityError::Damaged { path: path.clone(), why };
        let text: Text = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let addresses: Result<Vec<Address>, String> = text.addresses.iter().map(|address| address.parse()).collect();
        let addresses = addresses.map_err(damaged)?;
        let settings = if text.external { Self::external() } else { Self::own(addresses).map_err(damaged)? };
        Ok(Self { tls_until: text.tls_until_ms.map(Wall), ..settings })
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), AuthorityError> {
        let text = Text {
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            external: self.is_external,
            tls_until_ms: self.tls_until.map(|at| at.0),
        };
        let path = folder.join(FILE);
        let text = toml::to_string(&text)
            .map_err(|error| AuthorityError::Damaged { path: path.clone(), why: error.to_string() })?;
        Ok(secret_file::write(&path, &text)?)
    }

    fn port(&self) -> u16 {
        self.addresses.first().map_or(PORT, |address| address.port)
    }

    /// Where the server listens. Whoever named this machine only from within wants nobody else to reach it.
    pub(super) fn listen_address(&self) -> String {
        let port = self.port();
        if self.addresses.iter().all(|address| is_loopback(&address.host)) {
            return format!("127.0.0.1:{port}");
        }
        let is_v6 = self.addresses.iter().any(|address| address.host.contains(':'));
        if is_v6 { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") }
    }

    /// Where the server is reached on its own machine.
    pub(super) fn local_address(&self) -> String {
        format!("tls://127.0.0.1:{}", self.port())
    }

    /// What the server's certificate is for: every name under which it may be reached.
    pub(super) fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.addresses.iter().map(|address| address.host.clone()).collect();
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for host in [own.as_str(), "localhost", "127.0.0.1", "::1"] {
            let is_fine = is_host_name(host) || IpAddr::from_str(host).is_ok();
            if is_fine && !hosts.iter().any(|known| known == host) {
                hosts.push(host.to_owned());
            }
        }
        hosts
    }
}

/// Where nodes reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// A host name, or an IP address without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape =
            || format!("{text:?} is no HOST:PORT; examples: hq.example.org:4222, 10.0.0.1:4222, [fd00::1]:4222");
        if IpAddr::from_str(text).is_ok_and(|address| address.is_ipv6()) {
            return Ok(Self { host: text.to_owned(), port: PORT });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(shape)?;
                if !IpAddr::from_str(host).is_ok_and(|address| address.is_ipv6()) {
                    return Err(shape());
                }
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(shape)?)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let port = match port {
            "" if !text.ends_with(':') => PORT,
            port => port.parse().ok().filter(|port| *port > 0).ok_or_else(shape)?,
        };
        let address = IpAddr::from_str(host).ok();
        if address.is_some_and(|address| address.is_unspecified()) {
            return Err(format!(
                "{host} is no address that nodes could connect to; give the one by which they reach this machine"
            ));
        }
        if address.is_none() && !is_host_name(host) {
            return Err(shape());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Letters, digits and dashes with dots between, as DNS has it.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
    };
    // What looks like an IPv4 address and is none would be looked up in vain.
    let is_number = text.rsplit('.').next().is_some_and(|label| label.chars().all(|c| c.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(is_label) && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("hq.example.org:4222", "hq.example.org", 4222),
            ("hq", "hq", 4222),
            ("10.0.0.1:14222", "10.0.0.1", 14222),
            ("[fd00::1]:4223", "fd00::1", 4223),
            ("[fd00::1]", "fd00::1", 4222),
            ("fd00::1", "fd00::1", 4222),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        let noise = [
            "",
            ":4222",
            "a:",
            "a:0",
            "a:70000",
            "a b",
            "a/b",
            "10.0.0.999:1",
            "[a]:1",
            "[fd00::1]x",
            "0.0.0.0:4222",
            "nats://a",
        ];
        for text in noise {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_broker_listens_where_it_is_to_be_reached() {
        let own = |texts: &[&str]| Settings::own(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(own(&["127.0.0.1:4333"]).unwrap().listen_address(), "127.0.0.1:4333");
        assert_eq!(own(&["hq:4222", "10.0.0.1"]).unwrap().listen_address(), "0.0.0.0:4222");
        assert_eq!(own(&["hq:4222", "fd00::1"]).unwrap().listen_address(), "[::]:4222");
        assert!(own(&["hq:4222", "hq:4223"]).unwrap_err().contains("one port"));
        let hosts = own(&["hq:4222"]).unwrap().hosts();
        assert!(["hq", "localhost", "127.0.0.1", "::1"].iter().all(|host| hosts.iter().any(|known| known == host)));
    }
}
