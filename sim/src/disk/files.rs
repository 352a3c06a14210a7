//! The files of outputs, as lengths and the identity of their bytes: what a receiver keeps until it is confirmed, and
//! what a sender has fetched so far.

use std::collections::BTreeMap;

use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::outcome::Stream;

use crate::script::Content;

/// All files of one machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// Outputs that wait for their confirmation, with their length; written and synced before anybody hears of them.
    pub(crate) kept: BTreeMap<(Ticket, Stream), (Content, u64)>,
    /// Outputs that are fetched, or were.
    pub(crate) fetched: BTreeMap<(MessageId, Stream), Fetched>,
}

/// One output that is fetched, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fetched {
    /// Bytes in the file.
    pub(crate) have: u64,
    /// Bytes that survive a power loss.
    pub(crate) synced: u64,
    /// What they are; none where there are none.
    pub(crate) content: Option<Content>,
    /// Whether bytes of several origins are mixed in it.
    pub(crate) damaged: bool,
}

impl Fetched {
    /// Appends a piece of `content`.
    pub(crate) fn append(&mut self, content: Content, len: u64, damaged: bool) {
        self.damaged |= damaged || self.content.is_some_and(|known| known != content);
        self.content = Some(content);
        self.have += len;
    }

    /// Whether it is the first `len` bytes with this hash, and nothing else.
    pub(crate) fn is_whole(&self, hash: [u8; 32]) -> bool {
        !self.damaged && self.content.is_some_and(|content| content.hash(self.have) == hash)
    }
}

impl Files {
    /// The machine lost its power: what was not synced is gone.
    pub(crate) fn lose_unsynced(&mut self) {
        for file in self.fetched.values_mut() {
            file.have = file.have.min(file.synced);
        }
        self.fetched.retain(|_, file| file.have > 0);
    }
}
