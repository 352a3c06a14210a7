//! The message log (R11), `messages.jsonl` in the node's directory: a line when a message is accepted, with all that is
//! needed to send it again, and a line when it ends. For people, `grep`, and `steward replay`; steward itself never
//! depends on it.
//!
//! ```json
//! {"id":"0193…","fromNode":"central","toNode":"ship1","commandOrEvent":"CommandACK","method":"ShellCommand",
//!  "data":["bash","-c","ls"],"timeout":10.0,"retries":0,"parallel":false,"rerun":false,"createdAt":"2026-11-22T10:42:00.000Z"}
//! {"id":"0193…","state":"done","exitCode":0,"reason":null,"finishedAt":"2026-11-22T10:42:00.120Z","attempts":1}
//! ```
//! Each on one line. It is written before the store, so a line may tell of a message that was never accepted because the
//! disk was full or the process died in between, or tell twice of one that was tried twice. The other way round only where
//! the last lines were lost with a machine or a file system, because they are not synced. Lines that a full disk does not
//! take are kept, up to a limit, and written when there is room.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::message::{Message, MessageId};
use protocol::outcome::Outcome;
use protocol::step::{Report, Write};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::audit::Audit;
use crate::clock::rfc3339;
use crate::intake::MessageInput;
use crate::own_file;
use crate::replies::Spec;

/// The file that is written.
const FILE: &str = "messages.jsonl";

/// Bytes after which another file is begun.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Older files that are kept: `messages.jsonl.1` is the newest of them.
const FILES_KEPT: usize = 8;

/// The longest line that is read, in bytes. A message as it is accepted is shorter.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of lines that are kept while the disk does not take them; more are lost.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The file that is written.
#[derive(Debug)]
pub(crate) struct MessageLog {
    dir: PathBuf,
    file: File,
    len: u64,
    /// Whether the last write may have ended in the middle of a line.
    is_torn: bool,
    /// Lines that are not in the file.
    buffer: Vec<u8>,
    bytes_max: u64,
    /// Whether it could not be written the last time.
    is_failing: bool,
    /// Takes down the same, for others to check.
    audit: Option<Audit>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedLine<'a> {
    id: String,
    from_node: &'a str,
    to_node: &'a str,
    command_or_event: &'static str,
    method: &'a str,
    data: &'a RawValue,
    timeout: f64,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    method_timeout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    parallel: bool,
    rerun: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    seal: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    reply: Option<Spec>,
    created_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndedLine<'a> {
    id: String,
    state: &'static str,
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    reason: Option<&'a str>,
    finished_at: String,
    attempts: u32,
}

impl MessageLog {
    /// Opens the log in `dir` to write at its end. A line that was cut by a crash is closed, so that the next one stands
    /// alone.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let (file, len, is_torn) = open_end(dir)?;
        let (dir, buffer) = (dir.to_owned(), Vec::new());
        Ok(Self { dir, file, len, is_torn, buffer, bytes_max: FILE_BYTES_MAX, is_failing: false, audit: None })
    }

    /// With an audit log beside it.
    pub(crate) fn beside(self, audit: Audit) -> Self {
        Self { audit: Some(audit), ..self }
    }

    /// What was reported, for the audit log alone.
    pub(crate) fn report(&self, report: &Report) {
        if let Some(audit) = &self.audit {
            audit.report(report);
        }
    }

    /// The same as [`MessageLog::append`] for whoever goes on without it: that it can't be written is an error once, not
    /// with each message.
    pub(crate) fn add(&mut self, writes: &[Write]) {
        if let Some(audit) = &self.audit {
            audit.writes(writes);
        }
        let failed = self.append(writes).err();
        match &failed {
            Some(error) if !self.is_failing => {
                tracing::error!(%error, "the message log can't be written; its lines are kept, and messages go on");
            }
            None if self.is_failing => tracing::info!("the message log is written again"),
            Some(_) | None => {}
        }
        self.is_failing = failed.is_some();
    }

    /// Adds a line for each message that these writes accept or end, all with one write to the file. It is not synced. After
    /// an error the lines are kept for the next time.
    fn append(&mut self, writes: &[Write]) -> io::Result<()> {
        let kept = self.buffer.len();
        let written = self.put_lines(writes).and_then(|()| self.write());
        if written.is_err() && self.buffer.len() > KEPT_BYTES_MAX {
            self.buffer.truncate(kept);
        }
        written
    }

    fn put_lines(&mut self, writes: &[Write]) -> io::Result<()> {
        for write in writes {
            match write {
                Write::Submit { message, .. } => accepted(&mut self.buffer, message)?,
                Write::End { id, attempts, outcome, .. } => ended(&mut self.buffer, *id, *attempts, outcome)?,
                Write::Progress { .. }
                | Write::CancelWanted(_)
                | Write::OutLane(_)
                | Write::Peer(_)
                | Write::Accept(_)
                | Write::Started { .. }
                | Write::Ended { .. }
                | Write::Forget(_)
                | Write::InLane(_)
                | Write::DropInLane { .. } => {}
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.len > 0 && self.len + self.buffer.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        if self.is_torn {
            self.file.write_all(b"\n")?;
            (self.is_torn, self.len) = (false, self.len + 1);
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            // What is there of it goes, because all of it is written the next time.
            self.is_torn = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        // One batch with huge messages must not hold its memory for ever.
        self.buffer.shrink_to(1024 * 1024);
        Ok(())
    }

    /// Every file becomes one older; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (0..FILES_KEPT).rev() {
            match fs::rename(numbered(&self.dir, number), numbered(&self.dir, number + 1)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        (self.file, self.len, self.is_torn) = open_end(&self.dir)?;
        Ok(())
    }
}

fn numbered(dir: &Path, number: usize) -> PathBuf {
    if number == 0 { dir.join(FILE) } else { dir.join(format!("{FILE}.{number}")) }
}

/// The file, its length, and whether its last line is cut.
fn open_end(dir: &Path) -> io::Result<(File, u64, bool)> {
    let mut options = OpenOptions::new();
    let mut file = own_file::open(&numbered(dir, 0), options.read(true).append(true).create(true).mode(0o600))?;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
    }
    Ok((file, len, last != [b'\n']))
}

fn accepted(buffer: &mut Vec<u8>, message: &Message) -> io::Result<()> {
    let compact;
    let data: &RawValue = match serde_json::from_str(&message.body) {
        // White space between values may hold line ends, and a line of the log is one line.
        Ok(raw) if !message.body.contains(['\n', '\r']) => raw,
        _ => {
            let value = serde_json::from_str(&message.body);
            let value = value.unwrap_or_else(|_| serde_json::Value::from(vec![message.body.to_string()]));
            compact = serde_json::value::to_raw_value(&value)?;
            &compact
        }
    };
    let options = &message.options;
    let line = AcceptedLine {
        id: message.id.to_string(),
        from_node: message.from.as_str(),
        to_node: message.to.as_str(),
        command_or_event: message.kind.as_str(),
        method: message.method.as_str(),
        data,
        timeout: options.timeout.as_secs_f64(),
        retries: options.retries,
        // Without limit is written out: the node that sends it again may have another default.
        method_timeout: Some(options.method_timeout.map_or(0.0, |limit| limit.as_secs_f64())),
        deadline: options.deadline.map(rfc3339),
        parallel: options.parallel,
        rerun: options.rerun,
        seal: options.seal,
        reply: options.reply.as_deref().and_then(Spec::read),
        created_at: rfc3339(message.created),
    };
    put(buffer, &line)
}

fn ended(buffer: &mut Vec<u8>, id: MessageId, attempts: u32, outcome: &Outcome) -> io::Result<()> {
    let line = EndedLine {
        id: id.to_string(),
        state: outcome.state.as_str(),
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        reason: outcome.reason.as_deref(),
        finished_at: rfc3339(outcome.finished),
        attempts,
    };
    put(buffer, &line)
}

fn put(buffer: &mut Vec<u8>, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *buffer, line)?;
    buffer.push(b'\n');
    Ok(())
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    /// A message was accepted.
    Accepted(Box<Accepted>),
    /// A message has ended.
    Ended {
        /// Its id.
        id: MessageId,
        /// Its final state.
        state: String,
    },
}

/// A message as it was accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    /// Its id then.
    pub(crate) id: MessageId,
    /// Who sent it.
    pub(crate) from_node: String,
    /// When, in RFC 3339.
    pub(crate) created_at: String,
    /// All that is needed to send it again.
    pub(crate) input: MessageInput,
}

/// A line that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, line {line}: {why}", file.display())]
pub(crate) struct BadLine {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line, counted from 1.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) why: String,
}

/// All lines of the log, oldest first. Bad ones are told and skipped. Holds one line in memory.
#[derive(Debug)]
pub(crate) struct Entries {
    files: VecDeque<PathBuf>,
    /// Whether they are the node's own, and not those that somebody has named.
    is_own: bool,
    open: Option<(PathBuf, BufReader<File>, u64)>,
}

/// Reads the log in `dir`; one that is missing is empty.
pub(crate) fn read(dir: &Path) -> Entries {
    let files = (0..=FILES_KEPT).rev().map(|number| numbered(dir, number)).filter(|file| file.exists());
    Entries { is_own: true, ..read_files(files.collect()) }
}

/// Reads these files, one after the other.
pub(crate) fn read_files(files: Vec<PathBuf>) -> Entries {
    Entries { files: files.into(), is_own: false, open: None }
}

impl Iterator for Entries {
    type Item = Result<Entry, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (file, reader, line) = match &mut self.open {
                Some(open) => (&open.0, &mut open.1, &mut open.2),
                None => {
                    let file = self.files.pop_front()?;
                    let opened = if self.is_own { own_file::read(&file) } else { File::open(&file) };
                    match opened {
                        Ok(reader) => self.open = Some((file, BufReader::new(reader), 0)),
                        Err(error) => return Some(Err(BadLine { file, line: 0, why: error.to_string() })),
                    }
                    continue;
                }
            };
            let mut text = Vec::new();
            *line += 1;
            let bad = |why: String| Some(Err(BadLine { file: file.clone(), line: *line, why }));
            match next_line(reader, &mut text) {
                Ok(Some(true)) if text.trim_ascii().is_empty() => {}
                Ok(Some(true)) => return parse(&text).map_or_else(bad, |entry| Some(Ok(entry))),
                Ok(Some(false)) => return bad(format!("longer than {LINE_BYTES_MAX} bytes")),
                Ok(None) => self.open = None,
                Err(error) => {
                    let told = bad(error.to_string());
                    self.open = None;
                    return told;
                }
            }
        }
    }
}

/// Reads a line into `text`; false if it was too long and is skipped, none at the end of the file.
fn next_line(reader: &mut BufReader<File>, text: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', text)?;
    if read == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') || (read as u64) < LINE_BYTES_MAX {
        return Ok(Some(true));
    }
    loop {
        let part = reader.fill_buf()?;
        let (used, is_end) = match part.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (part.len(), part.is_empty()),
        };
        reader.consume(used);
        if is_end {
            return Ok(Some(false));
        }
    }
}

fn parse(line: &[u8]) -> Result<Entry, String> {
    #[derive(Deserialize)]
    struct EndLine {
        id: String,
        state: String,
    }
    let mut keys: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(line).map_err(|error| format!("no line of a message log: {error}"))?;
    let parse_id = |id: &str| id.parse::<MessageId>().map_err(|error| format!("\"id\": {error}"));
    if keys.contains_key("state") {
        let end: EndLine = serde_json::from_value(keys.into()).map_err(|error| error.to_string())?;
        return Ok(Entry::Ended { id: parse_id(&end.id)?, state: end.state });
    }
    let mut take = |key: &str| match keys.remove(key) {
        Some(serde_json::Value::String(text)) => Ok(text),
        _ => Err(format!("the key \"{key}\" is missing or no text")),
    };
    let (id, from_node, created_at) = (parse_id(&take("id")?)?, take("fromNode")?, take("createdAt")?);
    let input = serde_json::from_value(keys.into()).map_err(|error| error.to_string())?;
    Ok(Entry::Accepted(Box::new(Accepted { id, from_node, created_at, input })))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use protocol::message::{Kind, Options, Seq};
    use protocol::name::{MethodName, NodeName};
    use protocol::outcome::Final;
    use protocol::time::Wall;

    use super::*;
    use crate::intake::Defaults;

    fn message(id: u128, body: &str) -> Message {
        Message {
            id: MessageId(id),
            from: NodeName::new("central").unwrap(),
            to: NodeName::new("ship1").unwrap(),
            kind: Kind::CommandAck,
            method: MethodName::new("ShellCommand").unwrap(),
            body: Arc::from(body),
            options: Options {
                timeout: Duration::from_millis(2_500),
                retries: 3,
                method_timeout: None,
                deadline: Some(Wall(1_800_000_000_123)),
                parallel: true,
                rerun: false,
                seal: true,
                reply: Some(r#"{"replyMethod":"file","directory":"a","fileName":"b"}"#.into()),
            },
            created: Wall(1_700_000_000_000),
        }
    }

    fn submit(id: u128, body: &str) -> Write {
        Write::Submit { message: message(id, body), seq: Seq(1) }
    }

    fn end(id: u128) -> Write {
        let outcome = Arc::new(Outcome::bare(Final::Failed, Some("exit code 3"), Wall(1_700_000_000_500)));
        Write::End { id: MessageId(id), attempts: 2, history: Vec::new(), outcome }
    }

    #[test]
    fn a_message_can_be_made_again_from_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MessageLog::open(dir.path()).unwrap();
        log.append(&[submit(1, r#"["bash","-c","echo \"hi\nyou\" ä"]"#), end(1)]).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(r#""exitCode":null,"reason":"exit code 3""#), "{text}");
        let mut entries = read(dir.path());
        let Some(Ok(Entry::Accepted(accepted))) = entries.next() else { panic!("{text}") };
        assert_eq!((accepted.id, &*accepted.from_node), (MessageId(1), "central"));
        assert_eq!(accepted.created_at, "2023-11-14T22:13:20.000Z");
        let defaults = Defaults::new(NodeName::new("central").unwrap());
        let mut again = accepted.input.check(&defaults, |_| MessageId(1)).unwrap().remove(0);
        again.created = Wall(1_700_000_000_000);
        assert_eq!(again, message(1, r#"["bash","-c","echo \"hi\nyou\" ä"]"#));
        assert_eq!(entries.next(), Some(Ok(Entry::Ended { id: MessageId(1), state: "failed".into() })));
        assert_eq!(entries.next(), None);
    }

    #[test]
    fn a_body_never_breaks_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MessageLog::open(dir.path()).unwrap();
        log.append(&[submit(1, "[\"a\"\n, \"b\"]"), submit(2, "no JSON\n")]).unwrap();
        let data: Vec<_> = read(dir.path())
            .map(|entry| match entry.unwrap() {
                Entry::Accepted(accepted) => accepted.input.data,
                Entry::Ended { .. } => panic!("nothing has ended"),
            })
            .collect();
        assert_eq!(data, [vec!["a".to_owned(), "b".to_owned()], vec!["no JSON\n".to_owned()]]);
    }

    #[test]
    fn a_cut_line_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        MessageLog::open(dir.path()).unwrap().append(&[submit(1, "[]"), submit(2, "[]")]).unwrap();
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        MessageLog::open(dir.path()).unwrap().append(&[submit(3, "[]")]).unwrap();
        let entries: Vec<_> = read(dir.path()).collect();
        assert_eq!(entries.len(), 3);
        assert!(entries[0].is_ok() && entries[2].is_ok());
        let bad = entries[1].as_ref().unwrap_err();
        assert_eq!((bad.line, &bad.file), (2, &path));
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_written_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MessageLog::open(dir.path()).unwrap();
        log.add(&[submit(1, "[]")]);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut log.file, full);
        log.add(&[submit(2, "[]")]);
        log.add(&[end(1)]);
        assert!(log.is_failing);
        // What is too much is lost, and not what was kept before.
        log.add(&[submit(3, &format!("[\"{}\"]", "x".repeat(KEPT_BYTES_MAX)))]);
        log.file = file;
        log.add(&[]);
        assert!(!log.is_failing);
        let id = |entry: &Entry| match entry {
            Entry::Accepted(accepted) => accepted.id.0,
            Entry::Ended { id, .. } => 100 + id.0,
        };
        let ids: Vec<u128> = read(dir.path()).map(|entry| id(&entry.unwrap())).collect();
        assert_eq!(ids, [1, 2, 101]);
    }

    #[test]
    fn a_line_without_end_is_skipped_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        MessageLog::open(dir.path()).unwrap().append(&[submit(1, "[]")]).unwrap();
        let mut text = fs::read(&path).unwrap();
        text.extend(vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() + 5]);
        fs::write(&path, &text).unwrap();
        MessageLog::open(dir.path()).unwrap().append(&[submit(2, "[]")]).unwrap();
        let entries: Vec<_> = read(dir.path()).map(|entry| entry.map_err(|bad| bad.line)).collect();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[1], Err(2));
        assert!(entries[2].is_ok());
    }

    #[test]
    fn files_rotate_and_are_read_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MessageLog::open(dir.path()).unwrap();
        log.bytes_max = 400;
        for id in 1..=30 {
            log.append(&[submit(id, "[]")]).unwrap();
        }
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, FILES_KEPT + 1);
        let ids: Vec<_> = read(dir.path())
            .map(|entry| match entry.unwrap() {
                Entry::Accepted(accepted) => accepted.id.0,
                Entry::Ended { .. } => panic!("nothing has ended"),
            })
            .collect();
        assert!(ids.is_sorted() && ids.last() == Some(&30) && ids.len() < 30, "{ids:?}");
    }
}
