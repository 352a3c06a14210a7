//! A message as people and programs write it (R28), and what makes it a message that can be sent.
//!
//! ```json
//! { "toNode": "ship1", "data": ["bash","-c","ls -l ../"], "commandOrEvent": "CommandACK", "method": "ShellCommand",
//!   "timeout": 3, "retries": 3 }
//! ```
//! Keys and values are case sensitive. `commandOrEvent` and `method` must be there, and either `toNode` or `toNodes`, a list
//! of names: that is one message for each of them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Body, Kind, Message, MessageId, Options};
use protocol::name::{MethodName, NodeName};
use protocol::time::Wall;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::Defaults;
use crate::clock;
use crate::methods::schedule::spec::{Spec, Written};
use crate::methods::{self, schedule};
use crate::replies::spec::Given;

/// The longest `data`, in bytes of its JSON: what a receiver takes.
pub(crate) const DATA_BYTES_MAX: usize = crate::broker::wire::DATA_BYTES_MAX;

/// The most names in `toNodes`.
pub(crate) const NODES_MAX: usize = 4096;

/// The most strings in `data`.
pub(crate) const DATA_ITEMS_MAX: usize = 4096;

/// The shortest and the longest `timeout`, in seconds.
pub(crate) const TIMEOUT_SECONDS: (f64, f64) = (0.001, 86_400.0);

/// The longest `methodTimeout`, in seconds (a year). 0 is without limit.
pub(crate) const METHOD_TIMEOUT_SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// One message as it is written. A key that is absent has the default of the node that sends it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageInput {
    /// The node that is to have it; empty where several are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) to_node: String,
    /// The nodes that are to have it, each a message of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to_nodes: Option<Vec<String>>,
    /// What the method is given.
    pub(crate) data: Vec<String>,
    /// `CommandACK`, `CommandNACK`, `EventACK` or `EventNACK`.
    pub(crate) command_or_event: String,
    /// What handles it.
    pub(crate) method: String,
    /// Seconds to wait for a first receipt before it is sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<f64>,
    /// Attempts before it is given up; 0 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<u32>,
    /// Seconds that the method may run; 0 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method_timeout: Option<f64>,
    /// Not started after this point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Deadline>,
    /// May start before the messages ahead of it have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parallel: Option<bool>,
    /// Harmless to run again after a crash in the middle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rerun: Option<bool>,
    /// For its receiver alone to read, and what comes of it for its sender alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seal: Option<bool>,
    /// What becomes of its result here: `console`, `file`, `fileAppend`, `none`, or a method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_method: Option<String>,
    /// The folder of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_name: Option<String>,
    /// When it runs, again and again, on its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<Written>,
}

/// A point in time, or a distance from now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a time as in \"2026-11-22T10:42:00Z\", or a number of seconds from now")]
pub(crate) enum Deadline {
    /// Seconds from when the message is accepted.
    In(f64),
    /// RFC 3339, with an offset or `Z`.
    At(String),
}

const KEYS: [&str; 16] = [
    "toNode",
    "toNodes",
    "data",
    "commandOrEvent",
    "method",
    "timeout",
    "retries",
    "methodTimeout",
    "deadline",
    "parallel",
    "rerun",
    "seal",
    "replyMethod",
    "directory",
    "fileName",
    "schedule",
];

impl<'de> Deserialize<'de> for MessageInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = MessageInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message as in { \"toNode\": \"ship1\", \"commandOrEvent\": \"CommandACK\", … }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MessageInput, A::Error> {
        let mut input = MessageInput::default();
        let mut seen = [false; KEYS.len()];
        while let Some(key) = map.next_key::<String>()? {
            let Some(index) = KEYS.iter().position(|known| **known == *key) else {
                return Err(A::Error::custom(unknown("key", &key, &KEYS)));
            };
            if std::mem::replace(&mut seen[index], true) {
                return Err(A::Error::custom(format!("the key \"{key}\" stands there twice; keep one")));
            }
            match &*key {
                "toNode" => input.to_node = value(&mut map, &key)?,
                "toNodes" => input.to_nodes = Some(value(&mut map, &key)?),
                "data" => input.data = value(&mut map, &key)?,
                "commandOrEvent" => input.command_or_event = value(&mut map, &key)?,
                "method" => input.method = value(&mut map, &key)?,
                "timeout" => input.timeout = value(&mut map, &key)?,
                "retries" => input.retries = value(&mut map, &key)?,
                "methodTimeout" => input.method_timeout = value(&mut map, &key)?,
                "deadline" => input.deadline = value(&mut map, &key)?,
                "parallel" => input.parallel = value(&mut map, &key)?,
                "rerun" => input.rerun = value(&mut map, &key)?,
                "seal" => input.seal = value(&mut map, &key)?,
                "replyMethod" => input.reply_method = value(&mut map, &key)?,
                "directory" => input.directory = value(&mut map, &key)?,
                "fileName" => input.file_name = value(&mut map, &key)?,
                "schedule" => input.schedule = value(&mut map, &key)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match (seen[0], seen[1]) {
            (false, false) => {
                return Err(A::Error::custom("the key \"toNode\" is missing (for several nodes: \"toNodes\")"));
            }
            (true, true) => {
                return Err(A::Error::custom("the keys \"toNode\" and \"toNodes\" stand there both; keep one"));
            }
            (true, false) | (false, true) => {}
        }
        for (key, index) in [("commandOrEvent", 3), ("method", 4)] {
            if !seen[index] {
                return Err(A::Error::custom(format!("the key \"{key}\" is missing")));
            }
        }
        Ok(input)
    }
}

/// The value of a key; the error names the key. (serde_json takes line and column out of the inner error's text.)
fn value<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A, key: &str) -> Result<T, A::Error> {
    map.next_value().map_err(|error| A::Error::custom(format!("\"{key}\": {error}")))
}

/// Says that `word` is none of `known`, and which of them is nearest.
fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let shown: String = word.chars().take(80).collect();
    let nearest = known.iter().min_by_key(|known| distance(&word.to_lowercase(), &known.to_lowercase()));
    match nearest {
        Some(near) if distance(&word.to_lowercase(), &near.to_lowercase()) <= 3 => {
            format!("unknown {what} {shown:?}; did you mean {near:?}? (case counts)")
        }
        _ => format!("unknown {what} {shown:?}; there are {}", known.join(", ")),
    }
}

/// How many letters have to be changed, put in or taken out to make `a` of `b`. Words that are long differ a lot.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

impl MessageInput {
    /// The messages that this asks for, in the order in which their nodes are named, or why there can be none and what to do
    /// about it. `id` gives the id of the message that has so many before it.
    pub(crate) fn check(self, defaults: &Defaults, id: impl FnMut(usize) -> MessageId) -> Result<Vec<Message>, String> {
        let nodes = self.nodes()?;
        let method = MethodName::new(&self.method).map_err(|error| format!("\"method\": {error}"))?;
        let kind = Kind::parse(&self.command_or_event).ok_or_else(|| {
            let kinds = Kind::ALL.map(Kind::as_str);
            format!("\"commandOrEvent\": {}", unknown("type", &self.command_or_event, &kinds))
        })?;
        let seal = self.seal.unwrap_or(false);
        for to in &nodes {
            may_go(to, kind, seal, defaults)?;
        }
        let replies: Vec<Option<Body>> =
            nodes.iter().map(|to| self.reply(kind, to, &method, defaults)).collect::<Result<_, _>>()?;
        if self.schedule.is_some() {
            return self.ordered(kind, defaults)?.build(nodes, kind, replies, defaults, id);
        }
        self.build(nodes, kind, replies, defaults, id)
    }

    /// The same as an order: the method that runs another one by a schedule.
    fn ordered(self, kind: Kind, defaults: &Defaults) -> Result<Self, String> {
        let Some(Written(spec)) = self.schedule else { return Ok(self) };
        if kind != Kind::CommandAck {
            return Err("\"schedule\": its results have to come back, so only a CommandACK can have one".to_owned());
        }
        let timeout = method_timeout(self.method_timeout, defaults.method_timeout)?;
        let spec = Spec {
            method_timeout: timeout.map(|timeout| timeout.as_secs_f64()).or(spec.method_timeout),
            rerun: self.rerun.unwrap_or(spec.rerun),
            ..spec
        };
        let data = schedule::wrap(&spec, &self.method, self.data).map_err(|why| format!("\"schedule\": {why}"))?;
        let method = methods::SCHEDULE.to_owned();
        Ok(Self { method, data, method_timeout: None, rerun: None, parallel: None, schedule: None, ..self })
    }

    /// The messages, as it is known who is to have them and what becomes of their results.
    fn build(
        self,
        nodes: Vec<NodeName>,
        kind: Kind,
        replies: Vec<Option<Body>>,
        defaults: &Defaults,
        mut id: impl FnMut(usize) -> MessageId,
    ) -> Result<Vec<Message>, String> {
        let method = MethodName::new(&self.method).map_err(|error| format!("\"method\": {error}"))?;
        let seal = self.seal.unwrap_or(false);
        let created = clock::wall();
        let stands = methods::stands(kind, method.as_str());
        let limit = if stands { None } else { defaults.method_timeout };
        let options = Options {
            timeout: timeout(self.timeout)?.unwrap_or(defaults.timeout),
            retries: self.retries.unwrap_or(defaults.retries),
            method_timeout: method_timeout(self.method_timeout, limit)?,
            deadline: self.deadline.map(|deadline| deadline.point(created)).transpose()?,
            parallel: self.parallel.unwrap_or(stands),
            rerun: self.rerun.unwrap_or(false),
            seal,
            reply: None,
        };
        let body: Arc<str> = body(&self.data)?.into();
        let message = |(index, to): (usize, NodeName)| Message {
            id: id(index),
            from: defaults.from.clone(),
            kind,
            method: method.clone(),
            body: Arc::clone(&body),
            // What the node is told for all goes before what a message says, so that no message leaves it open by mistake.
            options: Options {
                seal: seal || defaults.seal.covers(&to),
                reply: replies.get(index).cloned().flatten(),
                ..options.clone()
            },
            to,
            created,
        };
        Ok(nodes.into_iter().enumerate().map(message).collect())
    }

    /// What becomes of its result here, as it is stored.
    fn reply(
        &self,
        kind: Kind,
        to: &NodeName,
        method: &MethodName,
        defaults: &Defaults,
    ) -> Result<Option<Body>, String> {
        let Self { reply_method, directory, file_name, .. } = self;
        let (reply_method, directory, file_name) = (reply_method.clone(), directory.clone(), file_name.clone());
        let spec = Given { reply_method, directory, file_name }.check(kind, to, method, &defaults.own)?;
        Ok(spec.map(|spec| spec.text()).transpose()?.map(Into::into))
    }

    /// The names of those who are to have it, as they are written.
    pub(crate) fn receivers(&self) -> &[String] {
        self.to_nodes.as_deref().unwrap_or(std::slice::from_ref(&self.to_node))
    }

    /// Who is to have it, each of them once.
    fn nodes(&self) -> Result<Vec<NodeName>, String> {
        let Some(names) = &self.to_nodes else {
            return Ok(vec![NodeName::new(&self.to_node).map_err(|error| format!("\"toNode\": {error}"))?]);
        };
        if names.is_empty() || names.len() > NODES_MAX {
            let many = names.len();
            return Err(format!("\"toNodes\" has {many} names; it may have 1 to {NODES_MAX}: send several messages"));
        }
        let mut seen = HashSet::with_capacity(names.len());
        let mut nodes = Vec::with_capacity(names.len());
        for name in names {
            let node = NodeName::new(name).map_err(|error| format!("\"toNodes\": {error}"))?;
            if !seen.insert(node.clone()) {
                return Err(format!("\"toNodes\" names {node} twice; keep one"));
            }
            nodes.push(node);
        }
        Ok(nodes)
    }
}

/// Whether a message of this kind can reach that node from here, sealed as it has to be.
fn may_go(to: &NodeName, kind: Kind, seal: bool, defaults: &Defaults) -> Result<(), String> {
    if kind.is_command() && !defaults.may_command && *to != defaults.from {
        let from = &defaults.from;
        return Err(format!(
            "\"commandOrEvent\": {from} is a node like others of its fleet, and the broker takes commands from central and \
             operators only; send it from one of these, or let {from} join as an operator"
        ));
    }
    if (seal || defaults.seal.covers(to)) && !defaults.may_seal {
        return Err(
            "\"seal\": this node has no identity, so it can't seal, and nobody could seal back for it; let it join a fleet \
             (steward invite on central, steward join here), or leave the key out"
                .to_owned(),
        );
    }
    Ok(())
}

fn body(data: &[String]) -> Result<String, String> {
    if data.len() > DATA_ITEMS_MAX {
        return Err(format!(
            "\"data\" has {} strings; at most {DATA_ITEMS_MAX} are allowed: send several messages",
            data.len()
        ));
    }
    let body = serde_json::to_string(data).map_err(|error| format!("\"data\": {error}"))?;
    if body.len() > DATA_BYTES_MAX {
        return Err(format!(
            "\"data\" has {} bytes as JSON; at most {DATA_BYTES_MAX} are allowed: send several messages",
            body.len()
        ));
    }
    Ok(body)
}

fn timeout(seconds: Option<f64>) -> Result<Option<Duration>, String> {
    let (min, max) = TIMEOUT_SECONDS;
    match seconds {
        None => Ok(None),
        Some(seconds) if (min..=max).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        Some(seconds) => Err(format!(
            "\"timeout\": {seconds} seconds are not between {min} and {max}; leave the key out for the node's default"
        )),
    }
}

fn method_timeout(seconds: Option<f64>, default: Option<Duration>) -> Result<Option<Duration>, String> {
    let (min, max) = (TIMEOUT_SECONDS.0, METHOD_TIMEOUT_SECONDS_MAX);
    match seconds {
        None => Ok(default),
        Some(0.0) => Ok(None),
        Some(seconds) if (min..=max).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        Some(seconds) => {
            Err(format!("\"methodTimeout\": {seconds} seconds are not between {min} and {max}; 0 is without limit"))
        }
    }
}

impl Deadline {
    fn point(self, now: Wall) -> Result<Wall, String> {
        match self {
            Self::In(seconds) if (0.0..=METHOD_TIMEOUT_SECONDS_MAX).contains(&seconds) => {
                let millis = Duration::from_secs_f64(seconds).as_millis();
                Ok(Wall(now.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))))
            }
            Self::In(seconds) => Err(format!(
                "\"deadline\": {seconds} seconds from now are not between 0 and {METHOD_TIMEOUT_SECONDS_MAX}"
            )),
            Self::At(text) => {
                let time: jiff::Timestamp = text.parse().map_err(|_| {
                    let shown: String = text.chars().take(80).collect();
                    format!(
                        "\"deadline\": {shown:?} is no time; write it as \"2026-11-22T10:42:00Z\", or as a number of seconds from now"
                    )
                })?;
                u64::try_from(time.as_millisecond())
                    .map(Wall)
                    .map_err(|_| format!("\"deadline\": {text:?} lies before 1970"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::ids;

    fn defaults() -> Defaults {
        Defaults::new(NodeName::new("central").unwrap())
    }

    fn read(text: &str) -> Result<Message, String> {
        let input: MessageInput = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut messages = input.check(&defaults(), |_| ids::next())?;
        assert_eq!(messages.len(), 1);
        Ok(messages.remove(0))
    }

    fn with(extra: &str) -> Result<Message, String> {
        read(&format!(r#"{{"toNode":"ship1","commandOrEvent":"CommandACK","method":"ShellCommand"{extra}}}"#))
    }

    #[test]
    fn the_seeds_examples_are_messages() {
        let message = read(
            r#"{ "toNode": "ship1", "data": ["bash","-c","netstat -an|grep -i listen"],
                 "commandOrEvent":"CommandACK", "method":"ShellCommand", "timeout":3, "retries":3 }"#,
        )
        .unwrap();
        assert_eq!(message.to.as_str(), "ship1");
        assert_eq!(message.kind, Kind::CommandAck);
        assert_eq!(message.options.timeout, Duration::from_secs(3));
        assert_eq!(message.options.retries, 3);
        assert_eq!(&*message.body, r#"["bash","-c","netstat -an|grep -i listen"]"#);
        let message = read(
            r#"{ "toNode": "central", "data": ["some message sent from a ship for testing\n"],
                 "commandOrEvent":"EventACK", "method":"TextLogging" }"#,
        )
        .unwrap();
        assert_eq!(message.options.timeout, Duration::from_secs(10));
        assert_eq!(message.options.retries, 0);
        assert_eq!(message.options.method_timeout, None);
    }

    /// The broker would drop it without a word to whoever waits.
    #[test]
    fn a_command_that_the_broker_would_not_take_is_refused_where_it_is_given() {
        let read = |to: &str, kind: &str| {
            let text =
                format!(r#"{{"toNode":"{to}","commandOrEvent":"{kind}","method":"ShellCommand","data":["true"]}}"#);
            let input: MessageInput = serde_json::from_str(&text).unwrap();
            let plain = Defaults { may_command: false, ..Defaults::new(NodeName::new("ship1").unwrap()) };
            input.check(&plain, |_| ids::next())
        };
        for kind in ["CommandACK", "CommandNACK"] {
            assert!(read("ship2", kind).unwrap_err().contains("join as an operator"));
            read("ship1", kind).unwrap();
        }
        for kind in ["EventACK", "EventNACK"] {
            read("ship2", kind).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let cases = [
            (r#","tonode":"x""#, "did you mean \"toNode\"?"),
            (r#","methodtimout":3"#, "did you mean \"methodTimeout\"?"),
            (r#","whatever":{"a":[1]}"#, "there are toNode, toNodes, data"),
            (r#","toNode":"x""#, "twice"),
            (r#","data":"ls""#, "\"data\": invalid type"),
            (r#","data":["a",1]"#, "\"data\": invalid type"),
            (r#","retries":-1"#, "\"retries\": invalid value"),
            (r#","retries":1.5"#, "\"retries\": invalid type"),
            (r#","timeout":0"#, "\"timeout\": 0 seconds"),
            (r#","timeout":86401"#, "\"timeout\": 86401 seconds"),
            (r#","methodTimeout":-3"#, "\"methodTimeout\": -3 seconds"),
            (r#","deadline":"tomorrow""#, "\"deadline\": \"tomorrow\" is no time"),
            (r#","deadline":true"#, "\"deadline\": a time as in"),
            (r#","parallel":1"#, "\"parallel\": invalid type"),
        ];
        for (extra, reason) in cases {
            let error = with(extra).unwrap_err();
            assert!(error.contains(reason), "{extra}: {error}");
        }
        let error = read(r#"{"toNode":"ship 1","commandOrEvent":"CommandACK","method":"M"}"#).unwrap_err();
        assert!(error.contains("' ' at position 5"), "{error}");
        let error = read(r#"{"toNode":"ship1","commandOrEvent":"commandack","method":"M"}"#).unwrap_err();
        assert!(error.contains("did you mean \"CommandACK\"?"), "{error}");
        let error = read(r#"{"toNode":"ship1","commandOrEvent":"CommandACK"}"#).unwrap_err();
        assert!(error.contains("\"method\" is missing"), "{error}");
    }

    #[test]
    fn several_nodes_get_a_message_each_in_their_order() {
        let read = |nodes: &str| {
            let text = format!(r#"{{"toNodes":{nodes},"commandOrEvent":"EventACK","method":"M","data":["x"]}}"#);
            let input: MessageInput = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            input.check(&defaults(), |index| MessageId(index as u128))
        };
        let messages = read(r#"["ship2","ship1"]"#).unwrap();
        let got: Vec<(u128, &str, &str)> = messages.iter().map(|one| (one.id.0, one.to.as_str(), &*one.body)).collect();
        assert_eq!(got, [(0, "ship2", r#"["x"]"#), (1, "ship1", r#"["x"]"#)]);
        let many: Vec<String> = (0..=NODES_MAX).map(|n| format!("ship{n}")).collect();
        assert_eq!(read(&serde_json::to_string(&many[1..]).unwrap()).unwrap().len(), NODES_MAX);
        for (nodes, reason) in [
            (&*serde_json::to_string(&many).unwrap(), "has 4097 names; it may have 1 to 4096"),
            ("[]", "has 0 names"),
            (r#"["a","b","a"]"#, "names a twice"),
            (r#"["a","b."]"#, "\"toNodes\": the name \"b.\" has '.' at position 2"),
            (r#""a""#, "\"toNodes\": invalid type"),
            ("null", "\"toNodes\": invalid type"),
            (r#"["a"],"toNode":"b""#, "\"toNode\" and \"toNodes\" stand there both"),
        ] {
            let error = read(nodes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let error = serde_json::from_str::<MessageInput>(r#"{"commandOrEvent":"EventACK","method":"M"}"#).unwrap_err();
        assert!(error.to_string().contains("\"toNode\" is missing (for several nodes: \"toNodes\")"), "{error}");
    }

    #[test]
    fn options_are_taken_as_they_stand() {
        let message = with(r#","timeout":0.25,"methodTimeout":1.5,"parallel":true,"rerun":true,"retries":0"#).unwrap();
        assert_eq!(message.options.timeout, Duration::from_millis(250));
        assert_eq!(message.options.method_timeout, Some(Duration::from_millis(1500)));
        assert!(message.options.parallel && message.options.rerun);
        let message = with(r#","deadline":"2026-11-22T12:00:00+02:00""#).unwrap();
        assert_eq!(message.options.deadline, Some(Wall(1_795_341_600_000)));
        let message = with(r#","deadline":60"#).unwrap();
        assert_eq!(message.options.deadline, Some(Wall(message.created.0 + 60_000)));
    }

    #[test]
    fn data_has_its_limits() {
        let long = "x".repeat(DATA_BYTES_MAX - 4);
        assert!(with(&format!(r#","data":["{long}"]"#)).is_ok());
        assert!(with(&format!(r#","data":["{long}x"]"#)).unwrap_err().contains("at most"));
        let many = vec!["\"\""; DATA_ITEMS_MAX].join(",");
        assert!(with(&format!(r#","data":[{many}]"#)).is_ok());
        assert!(with(&format!(r#","data":[{many},""]"#)).unwrap_err().contains("at most"));
    }

    #[test]
    fn what_the_command_line_writes_can_be_read() {
        let input = MessageInput {
            to_node: "ship1".into(),
            data: vec!["a\u{0}\"ä".into()],
            command_or_event: "EventNACK".into(),
            method: "M".into(),
            timeout: Some(0.5),
            deadline: Some(Deadline::In(3.0)),
            rerun: Some(true),
            seal: Some(true),
            ..MessageInput::default()
        };
        let text = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<MessageInput>(&text).unwrap(), input);
        let input = MessageInput { to_node: String::new(), to_nodes: Some(vec!["a".into()]), ..input };
        let text = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<MessageInput>(&text).unwrap(), input);
    }
}
