//! What nodes tell each other about the delivery itself: the body of `<to>.CTL.<from>`.

use std::borrow::Cow;

use protocol::event::{Control, Ticket};
use protocol::message::{Epoch, Incarnation, MessageId, Seq};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::Stream;
use serde::{Deserialize, Serialize};

use super::content::Want;
use super::hello::HelloText;
use super::live::Follow;
use super::namesake::Who;
use super::pack::DICTIONARY;
use super::subject::Ends;
use super::text::{self, Hex64, KindText};
use super::{NUMBER_MAX, TICKETS_MAX, VERSION, WireError, limit, number};

/// A control, for the core, for this broker, or for the results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// For the core.
    Control {
        /// The sender.
        from: NodeName,
        /// The process that is meant.
        to: Option<Incarnation>,
        /// What it says.
        control: Control,
    },
    /// The sender of a message wants to see its output while it is written.
    Follow {
        /// The sender.
        from: NodeName,
        /// The process that is meant.
        to: Option<Incarnation>,
        /// What it wants.
        follow: Follow,
    },
    /// The receiver of a message wants a piece of what goes along with it.
    Want {
        /// The receiver.
        from: NodeName,
        /// What it wants.
        want: Want,
    },
    /// Another process asks whether our name is taken.
    Who(Who),
}

/// All fields of all controls; `control` says which of them count.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ControlText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: NodeName,
    #[serde(with = "text")]
    to_node: NodeName,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    to_incarnation: Option<Hex64>,
    #[serde(borrow)]
    control: Cow<'a, str>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    nonce: Option<Hex64>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    epoch: Option<Hex64>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<Hex64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    hello: Option<HelloText<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tickets: Vec<u64>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    command_or_event: Option<KindText>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    method: Option<MethodName>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prev: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<u64>,
    #[serde(default, skip_serializing_if = "text::is_false")]
    again: bool,
    #[serde(default, skip_serializing_if = "text::is_false")]
    stop: bool,
    #[serde(default, skip_serializing_if = "text::is_false")]
    take_over: bool,
    /// In a probe; see [`dictionary_told`](super::pack::dictionary_told).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dictionary: Option<u64>,
}

impl<'a> ControlText<'a> {
    fn blank(from: &NodeName, to: &NodeName, to_incarnation: Option<Incarnation>, control: &'static str) -> Self {
        Self {
            v: VERSION,
            from_node: from.clone(),
            to_node: to.clone(),
            to_incarnation: to_incarnation.map(|to| Hex64(to.0)),
            control: Cow::Borrowed(control),
            nonce: None,
            epoch: None,
            incarnation: None,
            hello: None,
            tickets: Vec::new(),
            command_or_event: None,
            method: None,
            id: None,
            seq: None,
            prev: None,
            ticket: None,
            stream: None,
            offset: None,
            len: None,
            run: None,
            stdout: None,
            stderr: None,
            again: false,
            stop: false,
            take_over: false,
            dictionary: None,
        }
    }

    fn fill(self, control: &'a Control) -> Result<Self, WireError> {
        Ok(match control {
            Control::Probe { nonce, epoch, known } => Self {
                nonce: Some(Hex64(*nonce)),
                epoch: Some(Hex64(epoch.0)),
                incarnation: known.map(|known| Hex64(known.0)),
                dictionary: Some(DICTIONARY),
                ..self
            },
            Control::Hello(hello) => Self { hello: Some(HelloText::from_hello(hello)?), ..self },
            Control::Confirm(tickets) => Self { tickets: tickets.iter().map(|ticket| ticket.0).collect(), ..self },
            Control::Cancel { epoch, kind, method, id, seq, prev } => Self {
                epoch: Some(Hex64(epoch.0)),
                command_or_event: Some(KindText(*kind)),
                method: Some(method.clone()),
                id: Some(*id),
                seq: Some(seq.0),
                prev: (prev.next() != *seq).then_some(prev.0),
                ..self
            },
            Control::Ask { ticket, stream, offset, len } => Self {
                ticket: Some(ticket.0),
                stream: Some(Cow::Borrowed(stream.as_str())),
                offset: Some(*offset),
                len: Some(*len),
                ..self
            },
        })
    }

    fn read(self) -> Result<Control, WireError> {
        let what = self.control.as_ref();
        let missing = || WireError::Value("a field of the control is missing");
        let counted = |name, value: Option<u64>| number(name, value.ok_or_else(missing)?, NUMBER_MAX);
        let epoch = || number("epoch", self.epoch.ok_or_else(missing)?.0, NUMBER_MAX).map(Epoch);
        let kind = || self.command_or_event.map(|kind| kind.0).ok_or_else(missing);
        let method = || self.method.clone().ok_or_else(missing);
        Ok(match what {
            "probe" => Control::Probe {
                nonce: self.nonce.ok_or_else(missing)?.0,
                epoch: epoch()?,
                known: super::envelope::incarnation(self.incarnation)?,
            },
            "hello" => Control::Hello(self.hello.ok_or_else(missing)?.check(self.from_node.as_str())?),
            "confirm" => {
                limit("the number of tickets", self.tickets.len(), TICKETS_MAX)?;
                let tickets = self.tickets.iter().map(|ticket| number("ticket", *ticket, NUMBER_MAX).map(Ticket));
                Control::Confirm(tickets.collect::<Result<Vec<_>, _>>()?)
            }
            "cancel" => Control::Cancel {
                epoch: epoch()?,
                kind: kind()?,
                method: method()?,
                id: self.id.ok_or_else(missing)?,
                seq: Seq(counted("seq", self.seq)?),
                prev: Seq(before(self.prev, counted("seq", self.seq)?)?),
            },
            "ask" => Control::Ask {
                ticket: Ticket(counted("ticket", self.ticket)?),
                stream: stream(self.stream.as_deref().ok_or_else(missing)?)?,
                offset: counted("offset", self.offset)?,
                len: counted("len", self.len)?,
            },
            other => return Err(WireError::UnknownControl(other.chars().take(64).collect())),
        })
    }
}

fn name(control: &Control) -> &'static str {
    match control {
        Control::Probe { .. } => "probe",
        Control::Hello(_) => "hello",
        Control::Confirm(_) => "confirm",
        Control::Cancel { .. } => "cancel",
        Control::Ask { .. } => "ask",
    }
}

/// The number before `seq`; the one below it where none is given.
fn before(prev: Option<u64>, seq: u64) -> Result<u64, WireError> {
    let prev = prev.unwrap_or(seq.saturating_sub(1));
    if prev < seq { Ok(prev) } else { Err(WireError::Value("prev is not below seq")) }
}

/// The stream with this name.
pub(super) fn stream(text: &str) -> Result<Stream, WireError> {
    let known = Stream::ALL.into_iter().find(|stream| stream.as_str() == text);
    known.ok_or(WireError::Value("the stream is neither stdout nor stderr"))
}

/// The body that tells `control` to the node `to`.
pub(crate) fn encode(
    from: &NodeName,
    to: &NodeName,
    incarnation: Option<Incarnation>,
    control: &Control,
) -> Result<Vec<u8>, WireError> {
    write(&ControlText::blank(from, to, incarnation, name(control)).fill(control)?)
}

/// The body that asks whether the name `me` is taken.
pub(crate) fn encode_who(me: &NodeName, who: &Who) -> Result<Vec<u8>, WireError> {
    let incarnation = Some(Hex64(who.incarnation.0));
    write(&ControlText { incarnation, take_over: who.take_over, ..ControlText::blank(me, me, None, "who") })
}

/// The body that asks the node `to` for an output that is being written.
pub(crate) fn encode_follow(
    from: &NodeName,
    to: &NodeName,
    incarnation: Incarnation,
    follow: &Follow,
) -> Result<Vec<u8>, WireError> {
    let Follow { id, run, have: [stdout, stderr], again, stop } = *follow;
    let given = |number: u64| (number > 0).then_some(number);
    let (run, stdout, stderr) = (given(run), given(stdout), given(stderr));
    let blank = ControlText::blank(from, to, Some(incarnation), "follow");
    write(&ControlText { id: Some(id), run, stdout, stderr, again, stop, ..blank })
}

/// The body that asks the node `to` for a piece of what goes along with a message of its own.
pub(crate) fn encode_want(from: &NodeName, to: &NodeName, want: &Want) -> Result<Vec<u8>, WireError> {
    let Want { id, offset, len } = *want;
    let blank = ControlText::blank(from, to, None, "want");
    write(&ControlText { id: Some(id), offset: Some(offset), len: Some(len), ..blank })
}

fn write(text: &ControlText<'_>) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(text).map_err(|error| WireError::Json(error.to_string()))
}

/// Reads the body that came from `from` to the node `me`.
pub(crate) fn decode(body: &[u8], me: &NodeName, from: &str) -> Result<Told, WireError> {
    let text: ControlText<'_> = super::parse(body)?;
    super::check_head(text.v, &text.from_node, &text.to_node, &Ends { to: me.as_str(), from: Some(from) })?;
    if text.control == "who" {
        if from != me.as_str() {
            return Err(WireError::Mismatch("who"));
        }
        let incarnation = super::envelope::incarnation(text.incarnation)?;
        let incarnation = incarnation.ok_or(WireError::Value("a field of the control is missing"))?;
        return Ok(Told::Who(Who { incarnation, take_over: text.take_over }));
    }
    let to = super::envelope::incarnation(text.to_incarnation)?;
    if text.control == "follow" {
        let counted = |name, value: Option<u64>| number(name, value.unwrap_or(0), NUMBER_MAX);
        let id = text.id.ok_or(WireError::Value("a field of the control is missing"))?;
        let have = [counted("stdout", text.stdout)?, counted("stderr", text.stderr)?];
        let follow = Follow { id, run: counted("run", text.run)?, have, again: text.again, stop: text.stop };
        return Ok(Told::Follow { from: text.from_node.clone(), to, follow });
    }
    if text.control == "want" {
        let missing = || WireError::Value("a field of the control is missing");
        let counted = |name, value: Option<u64>| number(name, value.ok_or_else(missing)?, NUMBER_MAX);
        let (offset, len) = (counted("offset", text.offset)?, counted("len", text.len)?);
        let want = Want { id: text.id.ok_or_else(missing)?, offset, len };
        return Ok(Told::Want { from: text.from_node.clone(), want });
    }
    Ok(Told::Control { from: text.from_node.clone(), to, control: text.read()? })
}
