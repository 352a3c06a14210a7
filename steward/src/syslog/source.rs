//! Where lines come from and where they may be passed on to, as an operator writes it: `unix:/run/steward/log`,
//! `udp:127.0.0.1:5514`, `tcp:5514`, `journal`. Nothing is opened here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Something that lines are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A unix datagram socket of ours, as `/dev/log` is one.
    Unix(PathBuf),
    /// UDP.
    Udp(SocketAddr),
    /// TCP.
    Tcp(SocketAddr),
    /// The journal of systemd.
    Journal,
}

/// Something that lines are passed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A unix datagram socket of somebody else.
    Unix(PathBuf),
    /// UDP, `HOST:PORT`.
    Udp(String),
    /// TCP, `HOST:PORT`.
    Tcp(String),
}

impl Source {
    /// Whether only this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Journal => true,
            Self::Udp(address) | Self::Tcp(address) => address.ip().is_loopback(),
        }
    }

    /// Reads what an operator has written.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shape = || {
            "must be unix:/PATH, udp:[ADDRESS:]PORT, tcp:[ADDRESS:]PORT or journal, as in udp:127.0.0.1:5514".to_owned()
        };
        match text.split_once(':') {
            None if text == "journal" => Ok(Self::Journal),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(("udp", address)) => Ok(Self::Udp(socket(address).ok_or_else(shape)?)),
            Some(("tcp", address)) => Ok(Self::Tcp(socket(address).ok_or_else(shape)?)),
            _ => Err(shape()),
        }
    }
}

/// `ADDRESS:PORT`, or `PORT` of the loopback address.
fn socket(text: &str) -> Option<SocketAddr> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(port) = text.parse() {
        return Some(SocketAddr::new(local, port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => {
            Some(SocketAddr::new(local, port.parse().ok()?))
        }
        _ => text.parse().ok(),
    }
}

impl Target {
    /// Reads what an operator has written.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shape = || "must be unix:/PATH, udp:HOST:PORT or tcp:HOST:PORT, as in udp:logs.example.org:514".to_owned();
        let address = |text: &str| match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(text.to_owned())
            }
            _ => Err(shape()),
        };
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(("udp", text)) => Ok(Self::Udp(address(text)?)),
            Some(("tcp", text)) => Ok(Self::Tcp(address(text)?)),
            _ => Err(shape()),
        }
    }

    /// Whether what is passed on there would come back in here.
    pub(crate) fn is(&self, source: &Source) -> bool {
        let same = |text: &str, address: &SocketAddr| {
            socket(text).is_some_and(|to| {
                to.port() == address.port()
                    && (to.ip() == address.ip() || (to.ip().is_loopback() && address.ip().is_unspecified()))
            })
        };
        match (self, source) {
            (Self::Unix(to), Source::Unix(path)) => to == path,
            (Self::Udp(to), Source::Udp(address)) | (Self::Tcp(to), Source::Tcp(address)) => same(to, address),
            _ => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Journal => f.write_str("journal"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_targets_are_read_as_people_write_them() {
        for (text, shown, local) in [
            ("unix:/run/log", "unix:/run/log", true),
            ("udp:5514", "udp:127.0.0.1:5514", true),
            ("udp:localhost:5514", "udp:127.0.0.1:5514", true),
            ("tcp:[::1]:514", "tcp:[::1]:514", true),
            ("tcp:0.0.0.0:514", "tcp:0.0.0.0:514", false),
            ("journal", "journal", true),
        ] {
            let source = Source::parse(text).unwrap();
            assert_eq!((source.to_string().as_str(), source.is_local()), (shown, local), "{text}");
        }
        for text in
            ["", "unix:", "udp:", "udp:host:514", "tcp:127.0.0.1", "udp:127.0.0.1:70000", "journal:", "/dev/log"]
        {
            assert!(Source::parse(text).is_err(), "{text:?} must be refused");
        }
        for text in ["udp:logs.example.org:514", "tcp:[::1]:514", "unix:/dev/log"] {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "udp:514", "tcp:host:0", "journal", "udp::514"] {
            assert!(Target::parse(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_target_that_is_a_source_is_noticed() {
        let is = |target, source| Target::parse(target).unwrap().is(&Source::parse(source).unwrap());
        assert!(is("unix:/dev/log", "unix:/dev/log") && is("udp:localhost:514", "udp:127.0.0.1:514"));
        assert!(is("tcp:127.0.0.1:514", "tcp:0.0.0.0:514"));
        assert!(!is("udp:127.0.0.1:514", "tcp:127.0.0.1:514") && !is("udp:10.0.0.1:514", "udp:127.0.0.1:514"));
    }
}
