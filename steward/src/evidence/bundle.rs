//! A bundle: commands with the evidence of their ends in one file, which a machine can check that knows nothing but the
//! key of the fleet. `docs/evidence.md` has the form.
//!
//! ```text
//! steward-bundle-1
//! {"fleet":"A…","revoked":"…"}
//! {"id":"…", …}                 a command, its receipt, signature and certificate
//! (its standard output)         as many bytes as the receipt says, where it is not in the receipt
//! (its standard error)          the same
//! {"id":"…", …}                 and so on
//! end 90aa…                     BLAKE3 of everything before this line
//! ```
//! Nothing in it is a path or a length that is believed: an output is as long as a node has signed that it is. The hash at
//! its end is against accidents; what counts is the signature of each.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use data_encoding::BASE64URL_NOPAD;
use protocol::message::{Kind, MessageId};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Output, Stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::check::{self, Command};
use super::kept::{Case, hash_of};
use super::tree::{STEPS_MAX, Step};
use super::verdict::{Answer, Verdict};
use super::{Evidence, RECEIPT_BYTES_MAX};
use crate::broker::wire::{DATA_BYTES_MAX, is_array_of_strings};
use crate::security::certificate::CERTIFICATE_BYTES_MAX;
use crate::security::keys::PublicKey;
use crate::security::revocations::{LIST_BYTES_MAX, Revoked, read_list};

/// The first line.
const FIRST: &str = "steward-bundle-1\n";

/// What the first line of every version begins with.
const NAME: &str = "steward-bundle-";

/// The last line, up to the hash.
const END: &str = "end ";

/// The last line, in bytes.
const END_BYTES: u64 = 4 + 64 + 1;

/// The longest line, in bytes. Outputs are no lines.
const LINE_BYTES_MAX: usize = 1536 * 1024;

/// Commands in one bundle at most.
pub(crate) const COMMANDS_MAX: usize = 1000;

/// Why a bundle is not made or not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// The file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is no bundle of steward export")]
    NotOne,
    /// A later version.
    #[error("it is a bundle of version {0}, and this steward reads version 1; use a newer one")]
    Version(String),
    /// It is not whole.
    #[error("it is not whole, or was altered: its bytes do not fit the hash at its end")]
    Hash,
    /// A part makes no sense.
    #[error("its part {part} makes no sense: {why}")]
    Part {
        /// Which, from 1; 0 is its head.
        part: usize,
        /// Why.
        why: String,
    },
    /// Of somebody else.
    #[error("it is of the fleet {found}, and not of {wanted}")]
    Fleet {
        /// Its own.
        found: String,
        /// Whom the reader believes.
        wanted: PublicKey,
    },
    /// Too many.
    #[error("a bundle has at most {COMMANDS_MAX} commands; make several")]
    TooMany,
    /// The output has changed since it was checked.
    #[error("the {} of message {id} is not what was signed any more", stream.as_str())]
    Output {
        /// The message.
        id: MessageId,
        /// Which.
        stream: Stream,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    fleet: String,
    /// The fleet's list of revoked keys, as the one who made the bundle knew it; empty if there was none.
    revoked: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Part<'a> {
    id: String,
    from_node: String,
    to_node: String,
    command_or_event: String,
    method: String,
    #[serde(borrow)]
    data: &'a RawValue,
    receipt: String,
    signature: String,
    path: Vec<Step>,
    certificate: String,
}

/// Writes a bundle.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    to: W,
    hash: blake3::Hasher,
    commands: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a bundle of this fleet, with its list of revoked keys.
    pub(crate) fn new(to: W, fleet: &PublicKey, revoked: &str) -> Result<Self, BundleError> {
        let mut writer = Self { to, hash: blake3::Hasher::new(), commands: 0 };
        writer.bytes(FIRST.as_bytes())?;
        writer.line(&Head { fleet: fleet.to_string(), revoked: revoked.to_owned() })?;
        Ok(writer)
    }

    /// Adds a command. `output` is asked for those of its outputs that are not in the receipt.
    pub(crate) fn add<R: Read>(
        &mut self,
        case: &Case,
        mut output: impl FnMut(Stream) -> io::Result<R>,
    ) -> Result<(), BundleError> {
        let Case { command, evidence, proven } = case;
        if self.commands >= COMMANDS_MAX {
            return Err(BundleError::TooMany);
        }
        self.commands += 1;
        let data: &RawValue = serde_json::from_str(&command.data).map_err(io::Error::other)?;
        self.line(&Part {
            id: command.id.to_string(),
            from_node: command.from.to_string(),
            to_node: command.to.to_string(),
            command_or_event: command.kind.to_string(),
            method: command.method.to_string(),
            data,
            receipt: evidence.receipt.clone(),
            signature: BASE64URL_NOPAD.encode(&evidence.signature),
            path: evidence.path.clone(),
            certificate: evidence.certificate.to_string(),
        })?;
        for stream in Stream::ALL {
            let said = proven.outcome.stream(stream);
            if said.is_bulk() {
                let mut copy = Copy { from: output(stream)?.take(said.len.saturating_add(1)), to: self };
                let found = hash_of(&mut copy, u64::MAX)?;
                if found != (said.len, blake3::Hash::from_bytes(said.hash)) {
                    return Err(BundleError::Output { id: command.id, stream });
                }
            }
        }
        Ok(())
    }

    /// Ends it, and gives back what it was written to.
    pub(crate) fn finish(mut self) -> Result<W, BundleError> {
        let end = format!("{END}{}\n", self.hash.finalize().to_hex());
        self.to.write_all(end.as_bytes())?;
        Ok(self.to)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), BundleError> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        Ok(self.bytes(&text)?)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.to.write_all(bytes)
    }
}

/// Writes what is read through it.
struct Copy<'a, R, W> {
    from: R,
    to: &'a mut Writer<W>,
}

impl<R: Read, W: Write> Read for Copy<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.bytes(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

/// Checks a bundle for whoever believes `fleet`, and tells of each command in it, in their order. It ends at the first
/// whose evidence does not hold: what comes after it can't be told apart. Reads twice, and holds one line at a time.
pub(crate) fn read(
    mut from: impl Read + Seek,
    fleet: &PublicKey,
    newer: &[Revoked],
    mut tell: impl FnMut(Verdict) -> io::Result<()>,
) -> Result<(), BundleError> {
    let len = whole(&mut from)?;
    from.seek(SeekFrom::Start(0))?;
    let mut from = BufReader::new(from.take(len));
    let mut line = Vec::new();
    take_line(&mut from, &mut line, 0)?;
    let mut revoked = revoked_in(&next(&mut from, &mut line, 0)?.ok_or(BundleError::NotOne)?, fleet)?;
    revoked.extend_from_slice(newer);
    let mut part = 0;
    while let Some(text) = next(&mut from, &mut line, part + 1)? {
        part += 1;
        if part > COMMANDS_MAX {
            return Err(BundleError::TooMany);
        }
        let wrong = |why: String| BundleError::Part { part, why };
        let (command, evidence) = parse(&text).map_err(wrong)?;
        let proven = match check::check(&evidence, &command, fleet) {
            Ok(proven) => proven,
            Err(broken) => {
                tell(Verdict::new(&command, Answer::EvidenceBroken, Some(broken.to_string())))?;
                return Ok(());
            }
        };
        let revoked = check::revoked_at(&proven.key, &revoked);
        let (mut answer, mut why) = proven.standing(revoked);
        for stream in Stream::ALL {
            let said = proven.outcome.stream(stream);
            if said.is_bulk() && !is_next(&mut from, said)? {
                answer = Answer::Altered;
                why = Some(format!("its {} in the bundle is not what was signed", stream.as_str()));
                break;
            }
        }
        tell(Verdict::proven(&command, &proven, answer, why, revoked))?;
        if answer == Answer::Altered {
            return Ok(());
        }
    }
    if part == 0 {
        return Err(BundleError::Part { part: 0, why: "there is no command in it".to_owned() });
    }
    Ok(())
}

/// Whether the hash at the end is that of what comes before; how long that is.
fn whole(from: &mut (impl Read + Seek)) -> Result<u64, BundleError> {
    let mut first = Vec::new();
    from.by_ref().take(FIRST.len() as u64 + 16).read_to_end(&mut first)?;
    if !first.starts_with(FIRST.as_bytes()) {
        let text = String::from_utf8_lossy(&first);
        let version = text.strip_prefix(NAME).and_then(|rest| rest.lines().next());
        let digits = version.filter(|version| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()));
        return Err(digits.map_or(BundleError::NotOne, |digits| BundleError::Version(digits.to_owned())));
    }
    let len = from.seek(SeekFrom::End(0))?.checked_sub(END_BYTES).ok_or(BundleError::Hash)?;
    from.seek(SeekFrom::Start(len))?;
    let mut end = Vec::new();
    from.by_ref().take(END_BYTES).read_to_end(&mut end)?;
    from.seek(SeekFrom::Start(0))?;
    let (found, hash) = hash_of(from, len)?;
    let wanted = format!("{END}{}\n", hash.to_hex());
    if found == len && end == wanted.as_bytes() { Ok(len) } else { Err(BundleError::Hash) }
}

/// The next line, without its end; none at the end of all.
fn next(from: &mut impl BufRead, line: &mut Vec<u8>, part: usize) -> Result<Option<String>, BundleError> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    take_line(from, line, part)?;
    let wrong = || BundleError::Part { part, why: "it is no text".to_owned() };
    std::str::from_utf8(line).map(|text| Some(text.to_owned())).map_err(|_| wrong())
}

fn take_line(from: &mut impl BufRead, line: &mut Vec<u8>, part: usize) -> Result<(), BundleError> {
    line.clear();
    from.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', line)?;
    if line.pop() == Some(b'\n') {
        return Ok(());
    }
    let why = format!("a line has no end within {LINE_BYTES_MAX} bytes");
    Err(BundleError::Part { part, why })
}

/// The keys that the bundle's own list says are revoked.
fn revoked_in(text: &str, fleet: &PublicKey) -> Result<Vec<Revoked>, BundleError> {
    let wrong = |why: String| BundleError::Part { part: 0, why };
    let head: Head = serde_json::from_str(text).map_err(|error| wrong(shown(&error)))?;
    if head.fleet != fleet.to_string() {
        let found = head.fleet.chars().take(64).flat_map(char::escape_default).collect();
        return Err(BundleError::Fleet { found, wanted: *fleet });
    }
    if head.revoked.is_empty() {
        return Ok(Vec::new());
    }
    if head.revoked.len() > LIST_BYTES_MAX {
        return Err(wrong(format!("its list of revoked keys has more than {LIST_BYTES_MAX} bytes")));
    }
    read_list(&head.revoked, fleet).map_err(|error| wrong(error.to_string()))
}

fn parse(text: &str) -> Result<(Command, Evidence), String> {
    let part: Part<'_> = serde_json::from_str(text).map_err(|error| shown(&error))?;
    let id: MessageId = part.id.parse().map_err(|_| "the id is none".to_owned())?;
    let data = part.data.get();
    let signature = BASE64URL_NOPAD.decode(part.signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let limits = [
        ("id", part.id == id.to_string()),
        ("data", data.len() <= DATA_BYTES_MAX && is_array_of_strings(data)),
        ("receipt", part.receipt.len() <= RECEIPT_BYTES_MAX),
        ("path", part.path.len() <= STEPS_MAX),
        ("certificate", part.certificate.len() <= CERTIFICATE_BYTES_MAX),
    ];
    if let Some((what, _)) = limits.into_iter().find(|(_, fine)| !fine) {
        return Err(format!("the {what} is too long, or is none"));
    }
    let command = Command {
        id,
        from: NodeName::new(&part.from_node).map_err(|error| format!("fromNode: {error}"))?,
        to: NodeName::new(&part.to_node).map_err(|error| format!("toNode: {error}"))?,
        kind: Kind::parse(&part.command_or_event).ok_or("the type is none")?,
        method: MethodName::new(&part.method).map_err(|error| format!("the method: {error}"))?,
        data: data.to_owned(),
    };
    let evidence = Evidence {
        certificate: part.certificate.into(),
        signature: signature.ok_or("the signature is none")?,
        path: part.path,
        receipt: part.receipt,
    };
    Ok((command, evidence))
}

/// An error of the parser, which quotes what a stranger wrote.
fn shown(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).flat_map(char::escape_default).collect()
}

/// Whether the next bytes are this output.
fn is_next(from: &mut impl Read, said: &Output) -> Result<bool, BundleError> {
    Ok(hash_of(from, said.len)? == (said.len, blake3::Hash::from_bytes(said.hash)))
}

#[cfg(test)]
mod tests;
