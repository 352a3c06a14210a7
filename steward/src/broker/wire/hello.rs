//! Who a process is: the body of `$STEWARD.hello.<node>`, and a part of others.

use std::sync::Arc;

use protocol::event::{Hello, Occasion};
use protocol::message::{Epoch, Incarnation};
use protocol::name::NodeName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::pack::{DICTIONARY, dictionary_told};
use super::text::{self, Hex64};
use super::{INFO_BYTES_MAX, NUMBER_MAX, VERSION, WireError, limit, number};

/// A hello, as it stands in a body of its own or inside another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HelloText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: NodeName,
    #[serde(with = "text")]
    epoch: Hex64,
    #[serde(with = "text")]
    incarnation: Hex64,
    #[serde(default)]
    commits_at_start: u64,
    /// `up`, `interval`, `goodbye`, `answer` or `mistaken`.
    #[serde(with = "text")]
    occasion: OccasionName,
    /// The probe's, in an answer.
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    nonce: Option<Hex64>,
    /// In an answer: the commit at which the process after the one that the probe named began on this store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// See [`dictionary_told`](super::pack::dictionary_told).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dictionary: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OccasionName {
    Up,
    Interval,
    Goodbye,
    Answer,
    Mistaken,
}

impl OccasionName {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Up, "up"),
        (Self::Interval, "interval"),
        (Self::Goodbye, "goodbye"),
        (Self::Answer, "answer"),
        (Self::Mistaken, "mistaken"),
    ];
}

impl std::fmt::Display for OccasionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(occasion, _)| occasion == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl std::str::FromStr for OccasionName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|(_, name)| *name == text);
        known.map(|(occasion, _)| *occasion).ok_or("the occasion of a hello is unknown")
    }
}

impl<'a> HelloText<'a> {
    /// What the protocol says, as text.
    pub(super) fn from_hello(hello: &'a Hello) -> Result<Self, WireError> {
        let (occasion, nonce, since) = match hello.occasion {
            Occasion::Up => (OccasionName::Up, None, None),
            Occasion::Interval => (OccasionName::Interval, None, None),
            Occasion::Goodbye => (OccasionName::Goodbye, None, None),
            Occasion::Answer { nonce, since } => (OccasionName::Answer, Some(Hex64(nonce)), since),
            Occasion::Mistaken => (OccasionName::Mistaken, None, None),
        };
        let info = match hello.info.as_ref() {
            "" => None,
            info => Some(serde_json::from_str(info).map_err(|error| WireError::Json(error.to_string()))?),
        };
        Ok(Self {
            v: VERSION,
            from_node: hello.from.clone(),
            epoch: Hex64(hello.epoch.0),
            incarnation: Hex64(hello.incarnation.0),
            commits_at_start: hello.commits_at_start,
            occasion,
            nonce,
            since,
            info,
            dictionary: Some(DICTIONARY),
        })
    }

    /// The text, checked: `from` is whose hello it has to be.
    pub(super) fn check(self, from: &str) -> Result<Hello, WireError> {
        if self.v != VERSION {
            return Err(WireError::Version(self.v));
        }
        if self.from_node.as_str() != from {
            return Err(WireError::Mismatch("fromNode"));
        }
        let since = self.since.map(|since| number("since", since, NUMBER_MAX)).transpose()?;
        let occasion = match (self.occasion, self.nonce) {
            (OccasionName::Up, _) => Occasion::Up,
            (OccasionName::Interval, _) => Occasion::Interval,
            (OccasionName::Goodbye, _) => Occasion::Goodbye,
            (OccasionName::Mistaken, _) => Occasion::Mistaken,
            (OccasionName::Answer, Some(nonce)) => Occasion::Answer { nonce: nonce.0, since },
            (OccasionName::Answer, None) => return Err(WireError::Value("an answer has no nonce")),
        };
        let info: Arc<str> = match self.info {
            None => Arc::from(""),
            Some(info) => {
                limit("what a node says of itself", info.get().len(), INFO_BYTES_MAX)?;
                if !info.get().starts_with('{') {
                    return Err(WireError::Value("what a node says of itself is no JSON object"));
                }
                // Whoever shows it has to be able to read it, all of it.
                serde_json::from_str::<serde_json::Value>(info.get())
                    .map_err(|_| WireError::Value("what a node says of itself can't be read"))?;
                Arc::from(info.get())
            }
        };
        Ok(Hello {
            from: self.from_node,
            epoch: Epoch(number("epoch", self.epoch.0, NUMBER_MAX)?),
            incarnation: Incarnation(number("incarnation", self.incarnation.0, NUMBER_MAX)?),
            commits_at_start: number("commitsAtStart", self.commits_at_start, NUMBER_MAX)?,
            occasion,
            info,
        })
    }
}

/// The body of an announcement.
pub(crate) fn encode(hello: &Hello) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(&HelloText::from_hello(hello)?).map_err(|error| WireError::Json(error.to_string()))
}

/// Reads an announcement of the node `from`.
pub(crate) fn decode(body: &[u8], from: &str) -> Result<Hello, WireError> {
    super::parse::<HelloText<'_>>(body)?.check(from)
}

/// The `data` of a `SayHello` message (R16): an array with one string, the announcement.
pub(crate) fn encode_data(hello: &Hello) -> Result<Arc<str>, WireError> {
    let text = String::from_utf8(encode(hello)?).map_err(|_| WireError::NotUtf8)?;
    serde_json::to_string(&[text]).map(Arc::from).map_err(|error| WireError::Json(error.to_string()))
}

/// Which dictionary the announcement in the `data` of a `SayHello` message names; 0 for none.
pub(crate) fn dictionary_of_data(data: &str) -> u64 {
    serde_json::from_str::<[String; 1]>(data).map_or(0, |[text]| dictionary_told(text.as_bytes()))
}

/// The announcement in the `data` of a `SayHello` message from `from`, if it is one: an operator may send others.
pub(crate) fn decode_data(data: &str, from: &str) -> Option<Hello> {
    let [text] = serde_json::from_str::<[String; 1]>(data).ok()?;
    decode(text.as_bytes(), from).ok()
}
