//! A host and a port, as people write them, and what rules say of them. Names are compared as they are written: what they
//! stand for is asked of the resolver only when somebody is connected, and never here.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The longest host, in bytes: what a name of the DNS may have.
const HOST_BYTES_MAX: usize = 253;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// A name in small letters, or an address in its usual form.
    pub(crate) host: String,
    /// 0 stands for any port that is free, where somebody listens.
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split(text)?;
        let port =
            port.parse().map_err(|_| format!("{port:?} in {text:?} is no port; ports are numbers up to 65535"))?;
        Ok(Self { host: usual(host)?, port })
    }
}

impl Place {
    /// What somebody connects to: a port of 0 is none.
    pub(crate) fn target(text: &str) -> Result<Self, String> {
        let place: Self = text.parse()?;
        if place.port == 0 {
            return Err(format!("{text:?} names no port to connect to"));
        }
        Ok(place)
    }

    /// Where somebody listens: an address of the machine, and a port alone stands for its loopback.
    pub(crate) fn listener(text: &str) -> Result<Self, String> {
        let place = match text.parse::<u16>() {
            Ok(port) => Self { host: "127.0.0.1".to_owned(), port },
            Err(_) => text.parse()?,
        };
        match place.host.parse::<IpAddr>() {
            Ok(_) => Ok(place),
            Err(_) if place.host == "localhost" => Ok(Self { host: "127.0.0.1".to_owned(), ..place }),
            Err(_) => {
                Err(format!("{text:?} is no place to listen; write a port, or an address and a port: 127.0.0.1:8080"))
            }
        }
    }
}

fn split(text: &str) -> Result<(&str, &str), String> {
    let no_place =
        || format!("{text:?} is no host and port; write HOST:PORT, and an IPv6 address in brackets: [::1]:80");
    let (host, port) = text.rsplit_once(':').ok_or_else(no_place)?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.contains(':') => Ok((address, port)),
        Some(_) => Err(no_place()),
        None if host.contains(':') => Err(no_place()),
        None => Ok((host, port)),
    }
}

/// A host in the form in which hosts are compared.
fn usual(host: &str) -> Result<String, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.chars().all(is_fine) {
        return Err(format!("{host:?} is neither the name of a host nor an address"));
    }
    Ok(host.to_ascii_lowercase())
}

/// Places that a rule names: `HOST:PORT`, `HOST:FROM-TO`, `HOST:*`, and `*` for any host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// None: any.
    host: Option<String>,
    ports: RangeInclusive<u16>,
}

impl Places {
    /// Whether this place is one of them.
    pub(crate) fn have(&self, place: &Place) -> bool {
        self.host.as_ref().is_none_or(|host| *host == place.host) && self.ports.contains(&place.port)
    }
}

impl FromStr for Places {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, ports) = split(text)?;
        let host = if host == "*" { None } else { Some(usual(host)?) };
        let port = |text: &str| {
            text.parse::<u16>()
                .map_err(|_| format!("{text:?} is no port; write a number, a range like 8000-8099, or *"))
        };
        let ports = match ports.split_once('-') {
            _ if ports == "*" => 0..=u16::MAX,
            Some((from, to)) => port(from)?..=port(to)?,
            None => port(ports)?..=port(ports)?,
        };
        if ports.is_empty() {
            return Err(format!("{text:?} names no port: the range ends before it begins"));
        }
        Ok(Self { host, ports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them_and_come_out_in_one_form() {
        let read = |text: &str| text.parse::<Place>().map(|place| place.to_string());
        assert_eq!(read("LocalHost:80"), Ok("localhost:80".to_owned()));
        assert_eq!(read("[0:0:0:0:0:0:0:1]:80"), Ok("[::1]:80".to_owned()));
        assert_eq!(read("192.0.2.7:443"), Ok("192.0.2.7:443".to_owned()));
        for bad in ["", "80", "a", "a:", ":80", "a:b", "a:65536", "a:-1", "::1:80", "[a]:80", "[::1]", "a b:1", "a\0:1"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&format!("{}:1", "a".repeat(254))).is_err());
        assert!(Place::target("localhost:0").is_err());
        let listener = |text: &str| Place::listener(text).map(|place| place.to_string());
        assert_eq!(listener("8080"), Ok("127.0.0.1:8080".to_owned()));
        assert_eq!(listener("localhost:0"), Ok("127.0.0.1:0".to_owned()));
        assert_eq!(listener("[::]:22"), Ok("[::]:22".to_owned()));
        assert!(listener("router.lan:22").is_err());
    }

    #[test]
    fn a_rule_names_places_and_no_others() {
        let has = |rule: &str, place: &str| rule.parse::<Places>().unwrap().have(&place.parse().unwrap());
        assert!(has("localhost:80", "LOCALHOST:80") && !has("localhost:80", "localhost:81"));
        assert!(!has("localhost:80", "127.0.0.1:80") && !has("127.0.0.1:80", "127.1:80"));
        assert!(has("[::1]:8000-8099", "[0::1]:8099") && !has("[::1]:8000-8099", "[::1]:8100"));
        assert!(has("router:*", "router:22") && !has("router:*", "router2:22"));
        assert!(has("*:22", "anything:22") && !has("*:22", "anything:23") && has("*:*", "a:1"));
        for bad in ["", "*", "a", "a:", "a:9-1", "a:1-", "a:1-x", "a b:1", "*.lan:80"] {
            assert!(bad.parse::<Places>().is_err(), "{bad:?}");
        }
    }
}
