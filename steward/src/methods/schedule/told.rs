//! What a node tells the sender of an order: how the order is, and how a run of it ended. It travels as the data of a
//! `ScheduleResult` event: `data[0]` is this as JSON, and behind it come standard output and standard error of the run.

use data_encoding::BASE64;
use protocol::message::MessageId;
use protocol::outcome::{Final, Outcome};
use serde::{Deserialize, Serialize};

use super::state::{Begun, State};
use crate::methods::once::Ran;

/// Bytes of output that are kept of a run, both streams together; as base64 they still fit into one message.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// How the reason begins for which a result is refused that nobody waits for. Its node ends the order then.
pub(crate) const NO_SUCH_ORDER: &str = "no such order";

/// Bytes of a reason at most.
const REASON_BYTES_MAX: usize = 4096;

/// How an order is, as its node tells it. Times are milliseconds since 1970 by the node's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    /// The form of this.
    pub(crate) v: u8,
    /// The message that is the order.
    pub(crate) order: String,
    /// Rises with each of these of an order.
    pub(crate) serial: u64,
    /// When it was told.
    pub(crate) at_ms: u64,
    /// When it is due next; none while it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_ms: Option<u64>,
    /// Runs that have begun.
    pub(crate) runs: u64,
    /// Runs that were left out.
    pub(crate) missed: u64,
    /// Whether it is paused.
    #[serde(default)]
    pub(crate) paused: bool,
    /// A run that has ended, if this is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<RunTold>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunTold {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// When it was due.
    pub(crate) due_ms: u64,
    /// When it began.
    pub(crate) started_ms: u64,
    /// When it ended.
    pub(crate) finished_ms: u64,
    /// The final state.
    pub(crate) state: String,
    /// Why, where the state does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The exit code of a command that ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// Whether it wrote more than is kept of a run.
    #[serde(default)]
    pub(crate) truncated: bool,
    /// Which of the outputs, standard output and standard error, are written in base64.
    #[serde(default)]
    pub(crate) base64: [bool; 2],
}

/// The same, understood: with its outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// The order.
    pub(crate) order: MessageId,
    /// How it is.
    pub(crate) told: Told,
    /// How the run ended; none if this is about the order alone.
    pub(crate) state: Option<Final>,
    /// Standard output and standard error.
    pub(crate) written: [Vec<u8>; 2],
}

impl Told {
    /// How an order is.
    pub(crate) fn of(order: MessageId, state: &State, next_ms: Option<u64>, at_ms: u64) -> Self {
        let State { serial, runs, missed, paused, .. } = *state;
        Self { v: 1, order: order.to_string(), serial, at_ms, next_ms, runs, missed, paused, run: None }
    }

    /// The same with a run that has ended.
    pub(super) fn with(self, begun: &Begun, ran: Ran) -> Result<Vec<String>, String> {
        let Ran { outcome, written } = ran;
        let Outcome { state, reason, exit_code, signal, started, finished, stdout, stderr, .. } = outcome;
        let [(out, out_is_base64), (err, err_is_base64)] = written.map(as_text);
        let run = RunTold {
            number: begun.run,
            due_ms: begun.due,
            started_ms: started.map_or(begun.at, |started| started.0),
            finished_ms: finished.0,
            state: state.as_str().to_owned(),
            reason: reason.map(|reason| reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()),
            exit_code,
            signal,
            truncated: stdout.truncated || stderr.truncated,
            base64: [out_is_base64, err_is_base64],
        };
        let mut data = Self { run: Some(run), ..self }.data()?;
        data.extend([out, err]);
        Ok(data)
    }

    /// The data of the event, without outputs.
    pub(crate) fn data(&self) -> Result<Vec<String>, String> {
        Ok(vec![serde_json::to_string(self).map_err(|error| error.to_string())?])
    }
}

/// Bytes as a text, and whether that is base64: where they are no text, or would be longer as JSON than in base64.
fn as_text(bytes: Vec<u8>) -> (String, bool) {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    match String::from_utf8(bytes) {
        Ok(text) if text.bytes().map(length).sum::<usize>() <= BASE64.encode_len(text.len()) => (text, false),
        Ok(text) => (BASE64.encode(text.as_bytes()), true),
        Err(error) => (BASE64.encode(error.as_bytes()), true),
    }
}

/// Reads what a node tells.
pub(crate) fn read(data: &[String]) -> Result<Received, String> {
    let (head, written) =
        data.split_first().ok_or("data is empty; it is for nodes that run by a schedule to send this")?;
    let told: Told = serde_json::from_str(head).map_err(|error| format!("data[0] can't be read: {error}"))?;
    let order = told.order.parse().map_err(|_| format!("{:?} is no id of a message", told.order))?;
    if told.v != 1 {
        return Err(format!("it has the form {}, and this steward knows 1", told.v));
    }
    let Some(run) = &told.run else {
        return match written {
            [] => Ok(Received { order, told, state: None, written: [Vec::new(), Vec::new()] }),
            _ => Err("there is output, and no run that has written it".to_owned()),
        };
    };
    let state = Final::parse(&run.state).ok_or_else(|| format!("{:?} is no final state", run.state))?;
    let [out, err] = written else {
        return Err(format!("{} outputs are there instead of two", written.len()));
    };
    let bytes = |text: &String, is_base64: bool| match is_base64 {
        true => BASE64.decode(text.as_bytes()).map_err(|error| format!("an output is no base64: {error}")),
        false => Ok(text.clone().into_bytes()),
    };
    let written = [bytes(out, run.base64[0])?, bytes(err, run.base64[1])?];
    Ok(Received { order, state: Some(state), told, written })
}

#[cfg(test)]
mod tests {
    use protocol::outcome::Output;
    use protocol::time::Wall;

    use super::*;
    use crate::intake::input::DATA_BYTES_MAX;

    fn ran(out: Vec<u8>, err: &str) -> Ran {
        let outcome = Outcome {
            exit_code: Some(3),
            started: Some(Wall(11)),
            stderr: Output { truncated: true, ..Output::default() },
            ..Outcome::bare(Final::Failed, Some("why"), Wall(12))
        };
        Ran { outcome, written: [out, err.as_bytes().to_vec()] }
    }

    fn told() -> Told {
        Told::of(MessageId(7), &State::new(Wall(1)), Some(9), 5)
    }

    #[test]
    fn a_result_is_read_as_it_was_told() {
        let begun = Begun { run: 4, due: 10, at: 11, slot: 0 };
        for out in [b"text \"with\" quotes\n".to_vec(), vec![0xff, 0, 1], vec![1; 5000], Vec::new()] {
            let result = read(&told().with(&begun, ran(out.clone(), "err\n")).unwrap()).unwrap();
            assert_eq!(result.written, [out, b"err\n".to_vec()]);
            assert_eq!((result.order, result.state), (MessageId(7), Some(Final::Failed)));
            let run = result.told.run.unwrap();
            assert_eq!((run.number, run.due_ms, run.started_ms, run.finished_ms), (4, 10, 11, 12));
            assert_eq!((run.exit_code, run.truncated, run.reason.as_deref()), (Some(3), true, Some("why")));
        }
        let result = read(&told().data().unwrap()).unwrap();
        assert_eq!((result.state, result.told), (None, told()));
    }

    /// Whatever a run has written, its result fits into a message.
    #[test]
    fn the_longest_output_fits() {
        let len = usize::try_from(OUTPUT_BYTES_MAX).unwrap();
        for byte in [b'\n', b'"', b'\\', 0, 1, 0x7f, 0xff, b'x'] {
            let begun = Begun { run: u64::MAX, due: u64::MAX, at: u64::MAX, slot: 255 };
            let mut long = ran(vec![byte; len], "");
            long.outcome.reason = Some("\u{1}".repeat(REASON_BYTES_MAX).into());
            let data = told().with(&begun, long).unwrap();
            let body = serde_json::to_string(&data).unwrap();
            assert!(body.len() <= DATA_BYTES_MAX, "{byte}: {}", body.len());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let with = |from: &str, to: &str| {
            let mut data = told().with(&Begun { run: 1, due: 2, at: 3, slot: 0 }, ran(Vec::new(), "")).unwrap();
            data[0] = data[0].replace(from, to);
            data
        };
        for (data, reason) in [
            (Vec::new(), "data is empty"),
            (vec!["{}".to_owned()], "missing field"),
            (with("\"v\":1", "\"v\":2"), "the form 2"),
            (with("\"failed\"", "\"gone\""), "no final state"),
            (with("\"order\":\"", "\"order\":\"x"), "no id"),
            (with("\"run\"", "\"ran\""), "no run that has written it"),
            (with("[false,false]", "[true,false]")[..2].to_vec(), "1 outputs"),
            (vec![with("[false,false]", "[true,false]")[0].clone(), "!".to_owned(), String::new()], "no base64"),
        ] {
            let error = read(&data).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
