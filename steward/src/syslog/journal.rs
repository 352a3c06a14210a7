//! Reads the journal of systemd with `journalctl`, from where it was read before, and makes lines of RFC 5424 of its entries.
//! The journal keeps them itself; so it is read on only while the spool has room, and how far it was read is in the spool
//! beside the lines. A node that is killed reads on behind the last line that it has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::time::Wall;
use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use super::framing::LINE_BYTES_MAX;
use super::line::{self, Line};
use super::shelf::{Inlet, Shelf};
use crate::child::Program;
use crate::clock;

/// The program that reads it.
const PROGRAM: &str = "journalctl";

/// What is asked for of each entry; an entry may have much more.
const FIELDS: [&str; 8] =
    ["MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", "_COMM", "_HOSTNAME"];

/// Bytes of an entry as JSON; of a longer one nothing is taken but that it was there. Bytes that are no text take 4 each.
const ENTRY_BYTES_MAX: usize = 16 * LINE_BYTES_MAX;

/// Entries that are written at once.
const GROUP_MAX: usize = 256;

/// How long it is waited for further entries before those that are here are written.
const GATHER: Duration = Duration::from_millis(200);

/// How soon it is tried again when the spool had no room.
const RETRY: Duration = Duration::from_secs(1);

/// How long the program may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// An entry, as far as it matters here. All of it is text, or an array of bytes where it is not.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    micros: Option<Value>,
    #[serde(rename = "_HOSTNAME")]
    host: Option<Value>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<Value>,
    #[serde(rename = "_COMM")]
    command: Option<Value>,
    #[serde(rename = "SYSLOG_PID")]
    syslog_pid: Option<Value>,
    #[serde(rename = "_PID")]
    pid: Option<Value>,
    #[serde(rename = "PRIORITY")]
    priority: Option<Value>,
    #[serde(rename = "SYSLOG_FACILITY")]
    facility: Option<Value>,
    #[serde(rename = "MESSAGE")]
    message: Option<Value>,
}

/// What stands for a field: a field that is there several times is a list of such.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes(Vec<u8>),
    Several(Vec<Option<Value>>),
}

impl Value {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Several(all) => all.iter().flatten().next().map_or(b"", Self::bytes),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

/// Reads until `end`.
pub(super) async fn read(dir: PathBuf, shelf: Shelf, inlet: Inlet, end: CancellationToken) -> anyhow::Result<()> {
    let after = shelf.with(|spool| Ok(spool.journal().map(str::to_owned))).await?;
    let (mut child, output) = program(&dir, after.as_deref()).start_reading()?;
    tracing::info!(after, "the journal is read");
    let mut output = BufReader::new(output);
    let ended = tokio::select! {
        () = end.cancelled() => Ok(()),
        failed = pass_on(&mut output, &shelf, &inlet) => failed.map_err(anyhow::Error::from),
        status = child.ends() => status.and_then(|status| Err(anyhow::anyhow!("{PROGRAM} has ended by itself ({status})"))),
    };
    child.stop(STOP_LIMIT).await;
    ended
}

fn program(dir: &Path, after: Option<&str>) -> Program {
    let fields = format!("--output-fields={}", FIELDS.join(","));
    let args = ["--follow", "--output=json", "--all", "--quiet", "--no-pager", &fields];
    let mut args: Vec<OsString> = args.map(OsString::from).into();
    match after {
        Some(cursor) => args.extend([format!("--after-cursor={cursor}").into(), "--no-tail".into()]),
        // What was written before anybody asked for it is not sent.
        None => args.push("--lines=0".into()),
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file());
    Program { name: PROGRAM, path: found.unwrap_or_else(|| PROGRAM.into()), args, dir: dir.to_owned(), take_line: None }
}

async fn pass_on(output: &mut (impl AsyncBufRead + Unpin), shelf: &Shelf, inlet: &Inlet) -> std::io::Result<()> {
    let mut text = Vec::new();
    loop {
        let mut lines = Vec::new();
        let mut cursor = None;
        while lines.len() < GROUP_MAX {
            // An entry that is here in part is gone on with: its beginning is in the text.
            let next = entry_text(output, &mut text);
            let more = match cursor {
                None => next.await?,
                Some(_) => match tokio::time::timeout(GATHER, next).await {
                    Ok(more) => more?,
                    Err(_) => break,
                },
            };
            if !more {
                break;
            }
            let entry = serde_json::from_slice::<Entry>(&text);
            text.clear();
            match entry {
                Ok(entry) => {
                    cursor = Some(entry.cursor.clone());
                    let (line, is_cut) = entry_line(entry, inlet.host());
                    inlet.tally().cut(u64::from(is_cut));
                    lines.push(line);
                }
                Err(error) => {
                    inlet.tally().dropped(1);
                    tracing::warn!(%error, "an entry of the journal is too long, or none, and is left out");
                }
            }
        }
        let Some(cursor) = cursor else { return Ok(()) };
        while !shelf.take_if_room(lines.clone(), cursor.clone()).await? {
            tokio::time::sleep(RETRY).await;
        }
        inlet.tally().received("journal", lines.len() as u64);
    }
}

/// Reads up to the end of an entry; false at the end of all. One that is too long loses its end, and so is none.
async fn entry_text(output: &mut (impl AsyncBufRead + Unpin), text: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let room = ENTRY_BYTES_MAX.saturating_sub(text.len()).max(1) as u64;
        if (&mut *output).take(room).read_until(b'\n', text).await? == 0 {
            return Ok(false);
        }
        if text.last() == Some(&b'\n') {
            return Ok(true);
        }
        text.truncate(ENTRY_BYTES_MAX);
    }
}

/// An entry as a line, and whether more of it came than is kept. An entry without a host is of this one.
fn entry_line(entry: Entry, host: &str) -> (Line, bool) {
    let number = |value: &Option<Value>| value.as_ref().and_then(|value| value.text().parse::<u64>().ok());
    let first = |values: [&Option<Value>; 2]| {
        let mut words = values.into_iter().flatten().map(|value| word(value.text()));
        words.find(|word| !word.is_empty()).unwrap_or_else(|| "-".to_owned())
    };
    let at = number(&entry.micros).map_or_else(clock::wall, |micros| Wall(micros / 1000));
    let host = entry.host.as_ref().and_then(|host| line::safe(host.text())).unwrap_or_else(|| host.to_owned());
    let severity = number(&entry.priority).unwrap_or(6).min(7);
    let facility = number(&entry.facility).unwrap_or(3).min(23);
    let app = first([&entry.identifier, &entry.command]);
    let pid = first([&entry.syslog_pid, &entry.pid]);
    let mut bytes =
        format!("<{}>1 {} {host} {app} {pid} - - ", facility * 8 + severity, clock::rfc3339(at)).into_bytes();
    bytes.extend_from_slice(entry.message.as_ref().map_or(b"", Value::bytes));
    let is_cut = bytes.len() > LINE_BYTES_MAX;
    bytes.truncate(LINE_BYTES_MAX);
    (Line { at, host, bytes }, is_cut)
}

/// Reads an entry and forgets it.
#[cfg(any(test, fuzzing))]
pub(super) fn understand(bytes: &[u8]) {
    if let Ok(entry) = serde_json::from_slice::<Entry>(bytes) {
        let (line, _) = entry_line(entry, "here");
        assert!(line.bytes.starts_with(b"<") && line.bytes.len() <= LINE_BYTES_MAX);
    }
}

/// A text as a word of RFC 5424: printable ASCII without blanks, at most 48 of them.
fn word(text: &str) -> String {
    text.chars().take(48).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Line {
        let shelf_host = line::safe("here").unwrap();
        entry_line(serde_json::from_str(json).unwrap(), &shelf_host).0
    }

    #[test]
    fn an_entry_becomes_a_line_with_its_time_and_its_host() {
        let line = read(
            r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795409999123456","_HOSTNAME":"ship1","SYSLOG_IDENTIFIER":"my app",
                "_COMM":"x","_PID":"12","PRIORITY":"3","SYSLOG_FACILITY":"4","MESSAGE":"two\nlines","__MONOTONIC_TIMESTAMP":"1"}"#,
        );
        assert_eq!((line.at, line.host.as_str()), (Wall(1_795_409_999_123), "ship1"));
        assert_eq!(line.bytes, b"<35>1 2026-11-23T04:59:59.123Z ship1 my_app 12 - - two\nlines");
    }

    #[test]
    fn bytes_that_are_no_text_stay_and_what_is_missing_is_a_dash() {
        let line = read(
            r#"{"__CURSOR":"s=1","MESSAGE":[60,255,10],"PRIORITY":"99","_COMM":["a","b"],"SYSLOG_IDENTIFIER":null}"#,
        );
        let text = line.bytes.split(|byte| *byte == b'Z').next_back().unwrap();
        assert_eq!(text, b" here a - - - <\xff\n");
        assert!(line.bytes.starts_with(b"<31>1 "));
        let long = format!(r#"{{"__CURSOR":"s=1","MESSAGE":"{}"}}"#, "x".repeat(2 * LINE_BYTES_MAX));
        let (line, is_cut) = entry_line(serde_json::from_str(&long).unwrap(), "here");
        assert!(is_cut && line.bytes.len() == LINE_BYTES_MAX);
    }

    #[tokio::test]
    async fn an_entry_without_an_end_loses_it_and_the_next_is_whole() {
        let all = format!("{}\n{{\"__CURSOR\":\"s=2\"}}\n", "x".repeat(2 * ENTRY_BYTES_MAX));
        let (mut input, mut text) = (all.as_bytes(), Vec::new());
        assert!(entry_text(&mut input, &mut text).await.unwrap());
        assert!(text.len() <= ENTRY_BYTES_MAX + 1 && serde_json::from_slice::<Entry>(&text).is_err());
        text.clear();
        assert!(entry_text(&mut input, &mut text).await.unwrap());
        assert_eq!(serde_json::from_slice::<Entry>(&text).unwrap().cursor, "s=2");
        text.clear();
        assert!(!entry_text(&mut input, &mut text).await.unwrap());
    }
}
