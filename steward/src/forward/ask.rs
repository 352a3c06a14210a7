//! What a `PortForward` message asks of the node that gets it, as it stands in its data.

use std::time::Duration;

use super::place::Place;
use crate::config::units;

/// How long the connections of a forward outlast that nothing is heard of the other node, where the message does not say.
pub(crate) const HOLD: Duration = Duration::from_secs(600);

/// The shortest and the longest time that a message may say instead.
const HOLD_MIN: Duration = Duration::from_secs(1);
/// See [`HOLD_MIN`].
const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the node that gets the message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// It connects there, for connections that the sender of the message takes in.
    Connect,
    /// It listens there, and the sender of the message connects.
    Listen,
}

impl Does {
    /// Its name in data.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Listen => "listen",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// What the node does.
    pub(crate) does: Does,
    /// Where.
    pub(crate) place: Place,
    /// How long connections outlast that nothing is heard of the other side.
    pub(crate) hold: Duration,
}

impl Ask {
    /// Reads the data of a message, or says what is wrong with it.
    pub(crate) fn parse(data: &[String]) -> Result<Self, String> {
        let [does, place, options @ ..] = data else {
            return Err("data has at least two items: connect HOST:PORT, or listen ADDRESS:PORT".to_owned());
        };
        let (does, place) = match does.as_str() {
            "connect" => (Does::Connect, Place::target(place)?),
            "listen" => (Does::Listen, Place::listener(place)?),
            other => return Err(format!("data[0] is connect or listen, not {other:?}")),
        };
        let mut hold = HOLD;
        for option in options {
            match option.split_once('=') {
                Some(("hold", text)) => hold = Self::hold(text)?,
                _ => return Err(format!("{option:?} is no option; there is hold=DURATION")),
            }
        }
        Ok(Self { does, place, hold })
    }

    /// Reads how long connections outlast silence.
    pub(crate) fn hold(text: &str) -> Result<Duration, String> {
        let hold = units::duration(text)?;
        if (HOLD_MIN..=HOLD_MAX).contains(&hold) {
            return Ok(hold);
        }
        Err(format!(
            "connections are held for {} s at least and {} h at most",
            HOLD_MIN.as_secs(),
            HOLD_MAX.as_secs() / 3600
        ))
    }

    /// The data that says so.
    pub(crate) fn data(&self) -> Vec<String> {
        let mut data = vec![self.does.as_str().to_owned(), self.place.to_string()];
        if self.hold != HOLD {
            data.push(format!("hold={}ms", self.hold.as_millis()));
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stands_in_the_data_and_comes_back_from_it() {
        let read = |words: &[&str]| Ask::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for words in [&["connect", "localhost:80"][..], &["listen", "0.0.0.0:2222", "hold=90s"], &["listen", "8080"]] {
            let ask = read(words).unwrap();
            assert_eq!(Ask::parse(&ask.data()), Ok(ask));
        }
        assert_eq!(read(&["connect", "localhost:80"]).unwrap().hold, HOLD);
        assert_eq!(read(&["listen", "0.0.0.0:2222", "hold=90s"]).unwrap().hold, Duration::from_secs(90));
        for bad in [
            &[][..],
            &["connect"],
            &["localhost:80", "x"],
            &["connect", "80"],
            &["listen", "router.lan:80"],
            &["connect", "localhost:80", "user=root"],
            &["connect", "localhost:80", "hold=0"],
            &["connect", "localhost:80", "hold=2d"],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
