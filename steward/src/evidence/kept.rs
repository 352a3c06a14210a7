//! Evidence as it is kept in a node's directory, checked anew with everything that belongs to it: the message, its end,
//! and its output on the disk. It only looks, and needs no node to run.

use std::io::{self, ErrorKind};
use std::path::Path;

use protocol::message::{Message, MessageId};
use protocol::outcome::{Final, Outcome, Stream};

use super::Evidence;
use super::check::{self, Command, Proven};
use super::verdict::{Answer, Verdict};
use crate::own_file;
use crate::security::identity::{Identity, IdentityError};
use crate::security::keys::PublicKey;
use crate::security::revocations::{RevocationError, Revocations};
use crate::store::{self, OpenError, Place, ReadError, Reader, Signed};

/// Bytes of an output that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Why nothing can be said about a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// The store.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The store.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The identity.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The list of revoked keys.
    #[error("{0}")]
    Revocations(#[from] RevocationError),
    /// An output.
    #[error("the {} of message {id} can't be read: {error}", stream.as_str())]
    Output {
        /// The message.
        id: MessageId,
        /// Which.
        stream: Stream,
        /// Why.
        error: io::Error,
    },
    /// No such message.
    #[error("no message with the id {0} is known here; `steward messages` lists the latest")]
    Unknown(MessageId),
    /// Not ours to show.
    #[error(
        "message {id} was sent by node {from} to this one: its end is signed by this node, and node {from} keeps the \
         evidence; run steward verify there"
    )]
    Received {
        /// The message.
        id: MessageId,
        /// Its sender.
        from: String,
    },
}

/// What is kept in a directory.
#[derive(Debug)]
pub(crate) struct Kept {
    reader: Reader,
    fleet: Option<(PublicKey, Revocations)>,
}

/// A command with evidence that holds.
#[derive(Debug)]
pub(crate) struct Case {
    /// The command.
    pub(crate) command: Command,
    /// What was signed of its end.
    pub(crate) evidence: Evidence,
    /// What that proves.
    pub(crate) proven: Proven,
}

/// The command that a message is.
fn command(message: &Message) -> Command {
    Command {
        id: message.id,
        from: message.from.clone(),
        to: message.to.clone(),
        kind: message.kind,
        method: message.method.clone(),
        // On the wire it stands without white space around it.
        data: message.body.trim_matches([' ', '\t', '\n', '\r']).to_owned(),
    }
}

impl Kept {
    /// What is kept in the node's directory `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, KeptError> {
        let reader = Reader::open(dir)?;
        let fleet = match Identity::load(dir)? {
            Some(identity) => Some((identity.fleet, Revocations::load(dir, identity.fleet)?)),
            None => None,
        };
        Ok(Self { reader, fleet })
    }

    /// The fleet of this node, and its list of revoked keys as a token.
    pub(crate) fn fleet(&self) -> Option<(PublicKey, std::sync::Arc<str>)> {
        self.fleet.as_ref().map(|(fleet, revocations)| (*fleet, revocations.token()))
    }

    /// What is to be said of a message, and what there is to show to others where everything holds.
    pub(crate) fn look(&self, id: MessageId) -> Result<(Verdict, Option<Case>), KeptError> {
        let Some(kept) = self.reader.evidence(id)? else {
            return Err(match self.reader.show(id)? {
                Some(view) => KeptError::Received { id, from: view.from_node },
                None => KeptError::Unknown(id),
            });
        };
        let store::Kept { message, outcome, evidence } = kept;
        let command = command(&message);
        let say = |answer, why: String| Ok((Verdict::new(&command, answer, Some(why)), None));
        let Some(outcome) = outcome else {
            return say(Answer::NotEnded, "it has not ended; `steward show` says where it is".to_owned());
        };
        let evidence = match evidence {
            Signed::Nothing => return say(Answer::NoEvidence, self.why_nothing(&message, &outcome)),
            Signed::Damaged => {
                return say(Answer::EvidenceBroken, "what was kept of its signature can't be read any more".to_owned());
            }
            Signed::Evidence(evidence) => evidence,
        };
        let Some((fleet, revocations)) = &self.fleet else {
            let why = "this directory has no identity any more, so it is not known which fleet to believe";
            return say(Answer::EvidenceBroken, why.to_owned());
        };
        let proven = match check::check(&evidence, &command, fleet) {
            Ok(proven) => proven,
            Err(broken) => return say(Answer::EvidenceBroken, broken.to_string()),
        };
        let revoked = check::revoked_at(&proven.key, &revocations.revoked());
        let (answer, why) = match self.compare(&proven.outcome, &outcome, id)? {
            Some((answer, why)) => (answer, Some(why)),
            None => proven.standing(revoked),
        };
        let verdict = Verdict::proven(&command, &proven, answer, why, revoked);
        let holds = answer == Answer::Holds;
        Ok((verdict, holds.then_some(Case { command, evidence, proven })))
    }

    /// Why there is no evidence of a message that has ended.
    fn why_nothing(&self, message: &Message, outcome: &Outcome) -> String {
        if self.fleet.is_none() {
            return "this node is in no fleet, so nobody signs anything: steward init on central, and steward invite and join \
                    for each node, make one"
                .to_owned();
        }
        if !message.kind.is_command() || !message.kind.wants_ack() {
            return format!("it is no CommandACK, and ends of {} messages are not signed for others", message.kind);
        }
        match outcome.state {
            Final::Undeliverable | Final::Sent => format!("node {} has never said how it ended", message.to),
            Final::Cancelled | Final::Expired | Final::Interrupted => {
                format!(
                    "this node itself has decided how it ended, or node {} did not know it, or not any more",
                    message.to
                )
            }
            Final::Done | Final::Failed | Final::TimedOut | Final::Refused => format!(
                "node {} did not sign it for others: its steward is older than this, or was when it ended, or this one was",
                message.to
            ),
        }
    }

    /// What is here that is not what was signed.
    fn compare(&self, signed: &Outcome, here: &Outcome, id: MessageId) -> Result<Option<(Answer, String)>, KeptError> {
        for stream in Stream::ALL {
            let (name, said, kept) = (stream.as_str(), signed.stream(stream), here.stream(stream));
            if said.len > 0 && kept.len == 0 {
                let why = here.reason.as_deref().unwrap_or("it was not fetched");
                return Ok(Some((Answer::OutputMissing, format!("its {name} is not here: {why}"))));
            }
            if said != kept {
                return Ok(Some((Answer::Altered, format!("its {name} in the store is not what was signed"))));
            }
            if said.is_bulk()
                && let Some(found) = self.differs(id, stream, said.len, &said.hash)?
            {
                return Ok(Some(found));
            }
        }
        let ends = |outcome: &Outcome| {
            let Outcome { state, reason, exit_code, signal, started, finished, .. } = outcome.clone();
            (state, reason, exit_code, signal, started, finished)
        };
        let altered = ends(signed) != ends(here);
        Ok(altered.then(|| (Answer::Altered, "how it ended, in the store, is not what was signed".to_owned())))
    }

    /// What is wrong with an output in a file.
    fn differs(
        &self,
        id: MessageId,
        stream: Stream,
        len: u64,
        hash: &[u8; 32],
    ) -> Result<Option<(Answer, String)>, KeptError> {
        let name = stream.as_str();
        let mut file = match self.output(id, stream) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some((Answer::OutputMissing, format!("the file with its {name} is gone"))));
            }
            opened => opened.map_err(|error| KeptError::Output { id, stream, error })?,
        };
        let (found, found_hash) =
            hash_of(&mut file, u64::MAX).map_err(|error| KeptError::Output { id, stream, error })?;
        let altered = found != len || found_hash != *hash;
        Ok(altered
            .then(|| (Answer::Altered, format!("the file with its {name} is not what was signed: it was altered"))))
    }

    /// An output that lies in a file.
    pub(crate) fn output(&self, id: MessageId, stream: Stream) -> io::Result<std::fs::File> {
        let found = self.reader.output(id, stream).map_err(io::Error::other)?;
        match found.map(|output| output.place) {
            Some(Place::File(path)) => own_file::read(&path),
            Some(Place::Inline(_)) | None => Err(ErrorKind::NotFound.into()),
        }
    }
}

/// Length and hash of what comes, up to `bytes_max`.
pub(crate) fn hash_of(from: &mut impl io::Read, bytes_max: u64) -> io::Result<(u64, blake3::Hash)> {
    let (mut hasher, mut buffer, mut len) = (blake3::Hasher::new(), vec![0; BLOCK_BYTES], 0_u64);
    while len < bytes_max {
        let room = usize::try_from(bytes_max - len).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        match from.read(buffer.get_mut(..room).unwrap_or_default())? {
            0 => break,
            read => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                len += read as u64;
            }
        }
    }
    Ok((len, hasher.finalize()))
}
