//! Somebody at the broker who says what he likes. What he says in the name of a node, word for word or cut off, must count
//! for nothing; what he says in a name of his own must harm nobody else. Changed messages in the name of a node are tried
//! where nodes sign what they send; elsewhere nothing tells them from real ones.

use async_nats::HeaderMap;
use serde_json::Value;

use super::{Fault, Struck};
use crate::dice::Dice;
use crate::tape::{Recorded, Tape};
use crate::world::World;

/// In whose name nonsense is said.
pub(crate) const STRANGER: &str = "stranger";

/// Messages of one strike.
const MESSAGES: usize = 400;

/// Bytes of nonsense at once.
const GARBAGE_BYTES_MAX: usize = 2000;

/// Nonsense.
pub(super) const GARBAGE: Fault = Fault {
    name: "wire-garbage",
    does: "400 bodies of garbage, and real ones that are cut off, on every kind of subject",
    prepare: listen,
    strike: |world, dice| say(world, dice, garbage),
};

/// The past.
pub(super) const REPLAY: Fault = Fault {
    name: "wire-replay",
    does: "400 messages of the last seconds are published again as they were, in any order",
    prepare: listen,
    strike: |world, dice| say(world, dice, |tape, dice, _| Some(tape[dice.index(tape.len())].clone())),
};

/// A node that means no good.
pub(super) const STRANGER_TALKS: Fault = Fault {
    name: "wire-stranger",
    does: "400 real messages with fields changed, swapped and lost, in the name of a node that nobody knows",
    prepare: listen,
    strike: |world, dice| say(world, dice, changed),
};

/// Lies.
pub(super) const FORGED: Fault = Fault {
    name: "wire-forged",
    does: "400 real messages with body, headers or target changed, in the name of the node that has signed them (members of a fleet only)",
    prepare: |world, dice| match world.papers {
        Some(_) => listen(world, dice),
        None => Err("these nodes believe everybody on the broker".to_owned()),
    },
    strike: |world, dice| say(world, dice, forged),
};

fn listen(world: &mut World<'_>, _: &mut Dice) -> Result<(), String> {
    if world.tape.is_none() {
        let tape = Tape::record(&world.fleet.broker.address());
        world.tape = Some(tape.map_err(|error| format!("{error:#}"))?);
    }
    Ok(())
}

/// What is made of what was recorded, if anything can be.
type Make = fn(&[Recorded], &mut Dice, &[String]) -> Option<Recorded>;

fn say(world: &mut World<'_>, dice: &mut Dice, make: Make) -> Result<Struck, String> {
    let names: Vec<String> = world.machines.iter().map(|machine| machine.name.clone()).collect();
    let Some(tape) = &world.tape else { return Err("nobody has listened".to_owned()) };
    let recorded = tape.all();
    if recorded.is_empty() {
        return Err("nothing was said so far".to_owned());
    }
    let made: Vec<Recorded> = (0..MESSAGES).filter_map(|_| make(&recorded, dice, &names)).collect();
    let count = made.len();
    tape.say(made).map_err(|error| format!("the broker does not take it: {error:#}"))?;
    Ok(format!("{count} messages").into())
}

fn garbage(tape: &[Recorded], dice: &mut Dice, names: &[String]) -> Option<Recorded> {
    if dice.chance(50) {
        let mut cut = tape[dice.index(tape.len())].clone();
        cut.body.truncate(dice.index(cut.body.len().max(1)));
        // A piece of an output may have any length, so that one cut off is a real one.
        return (!cut.subject.contains(".DATA.")).then_some(cut);
    }
    let last = ["central", "ship1", "x.y", "ShellCommand", "TextLogging", "SayHello", "0"];
    let kinds =
        ["CommandACK", "CommandNACK", "EventACK", "EventNACK", "ACK", "CTL", "DATA", "REPLY", "ECHO", "NAME", "X"];
    let node = names[dice.index(names.len())].as_str();
    let subject = match dice.throw(12) {
        0 => format!("$STEWARD.hello.{node}"),
        _ => format!("{node}.{}.{}", dice.pick(&kinds), dice.pick(&last)),
    };
    let body = match dice.throw(5) {
        0 => Vec::new(),
        1 => br#"{"v":1}"#.to_vec(),
        2 => b"[".repeat(GARBAGE_BYTES_MAX),
        3 => br#"{"v":1,"fromNode":"central","toNode":"ship1","receipts":[{"ticket":-1}]}"#.to_vec(),
        _ => (0..dice.index(GARBAGE_BYTES_MAX)).map(|_| dice.throw(256) as u8).collect(),
    };
    Some(Recorded { subject, headers: None, body })
}

/// A real message, told by the stranger, with some of it changed.
fn changed(tape: &[Recorded], dice: &mut Dice, _: &[String]) -> Option<Recorded> {
    let (recorded, other) = (&tape[dice.index(tape.len())], &tape[dice.index(tape.len())]);
    let (mut body, other) = (recorded.json()?, other.json().unwrap_or_default());
    let from = body["fromNode"].as_str()?.to_owned();
    for _ in 0..dice.between(1, 4) {
        spoil(&mut body, &other, dice);
    }
    let subject: Vec<&str> = recorded
        .subject
        .split('.')
        .enumerate()
        .map(|(at, word)| if at > 0 && word == from { STRANGER } else { word })
        .collect();
    disown(&mut body);
    let body = serde_json::to_vec(&body).ok()?;
    Some(Recorded { subject: subject.join("."), headers: None, body })
}

/// A real message with something changed that its signature covers, or without its signature.
fn forged(tape: &[Recorded], dice: &mut Dice, names: &[String]) -> Option<Recorded> {
    let mut recorded = tape[dice.index(tape.len())].clone();
    let headers = recorded.headers.clone()?;
    let kept = |kept: &dyn Fn(&str) -> bool| {
        let pairs = headers.iter().filter(|(name, _)| kept(name.as_ref()));
        let pairs = pairs.flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone())));
        pairs.collect::<Vec<_>>()
    };
    let mut pairs = kept(&|_| true);
    match dice.throw(5) {
        0 => {
            let at = dice.index(recorded.body.len().max(1));
            *recorded.body.get_mut(at)? ^= 1 << dice.throw(8);
        }
        1 => pairs = kept(&|name| name != "Steward-Signature"),
        2 => {
            let at = dice.index(pairs.len().max(1));
            let (name, value) = pairs.get_mut(at)?;
            let changed = format!("{}0", value.as_str());
            *value = changed.parse().ok()?;
            name.to_string().starts_with("Steward-").then_some(())?;
        }
        3 => {
            let other = &tape[dice.index(tape.len())];
            (other.body != recorded.body).then(|| recorded.body.clone_from(&other.body))?;
        }
        _ => {
            let (first, rest) = recorded.subject.split_once('.')?;
            let other = &names[dice.index(names.len())];
            let moved = format!("{other}.{rest}");
            (other != first && names.iter().any(|name| name == first)).then(|| recorded.subject = moved)?;
        }
    }
    let mut headers = HeaderMap::new();
    pairs.into_iter().for_each(|(name, value)| headers.append(name, value));
    recorded.headers = Some(headers);
    Some(recorded)
}

/// Changes something somewhere in a value.
fn spoil(value: &mut Value, other: &Value, dice: &mut Dice) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = dice.index(fields.len());
            let Some(name) = fields.keys().nth(at).cloned() else { return };
            match dice.throw(8) {
                0 => drop(fields.remove(&name)),
                1 => drop(other.get(&name).map(|theirs| fields.insert(name, theirs.clone()))),
                2 => drop(fields.insert(name, Value::Null)),
                _ => {
                    if let Some(field) = fields.get_mut(&name) {
                        spoil(field, other.get(&name).unwrap_or(&Value::Null), dice);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = dice.index(items.len());
            match dice.throw(4) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => spoil(&mut items[at], other.get(at).unwrap_or(&Value::Null), dice),
            }
        }
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or(0);
            *value = match dice.throw(5) {
                0 => 0.into(),
                1 => u64::MAX.into(),
                2 => (-1).into(),
                3 => number.wrapping_add(1).into(),
                _ => dice.throw(1 << 53).into(),
            };
        }
        Value::String(text) => {
            let mut bytes = std::mem::take(text).into_bytes();
            if !bytes.is_empty() {
                let at = dice.index(bytes.len());
                match dice.throw(3) {
                    0 => bytes.truncate(at),
                    1 => bytes[at] = b'0' + dice.throw(10) as u8,
                    _ => bytes[at] = dice.throw(256) as u8,
                }
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::Bool(it) => *it = !*it,
        Value::Object(_) | Value::Array(_) | Value::Null => *value = dice.throw(1000).into(),
    }
}

/// Puts the stranger's name to it, and takes everything out of it that the audit would take for an order.
fn disown(body: &mut Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("fromNode".to_owned(), STRANGER.into());
        if let Some(hello) = fields.get_mut("hello").and_then(Value::as_object_mut) {
            hello.insert("fromNode".to_owned(), STRANGER.into());
        }
    }
    for item in body["items"].as_array_mut().into_iter().flatten() {
        if item.is_object() {
            item["data"] = serde_json::json!([STRANGER]);
        }
    }
}
