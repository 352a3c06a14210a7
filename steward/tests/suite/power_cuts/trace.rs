//! What was recorded: every change that the nodes made to files, every sync, and everything that left them through a
//! socket, in one order over all processes and threads.

use std::collections::BTreeMap;

/// A point in the order. Each beginning and each end of a system call is one.
pub(super) type Moment = u64;

/// Up to this moment, what was there before the recording is noted, as made and synced.
pub(super) const BEFORE: Moment = 4;

/// A file, a folder or a socket, whatever names it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub(super) usize);

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    File,
    Folder,
    Socket,
}

/// Something that a process asked the system for, and that was done.
#[derive(Debug)]
pub(super) struct Op {
    /// Before this it had no effect.
    pub(super) begin: Moment,
    /// From then on it is done. None if the process ended before it was told.
    pub(super) end: Option<Moment>,
    /// The name of the node whose process asked.
    pub(super) node: String,
    pub(super) what: What,
}

/// See [`Op`].
#[derive(Debug)]
pub(super) enum What {
    /// Bytes of a file. They make it longer where they go beyond its end.
    Write { inode: Inode, at: u64, bytes: Vec<u8> },
    /// A file gets this length.
    Length { inode: Inode, len: u64 },
    /// What was done to a file, or to the names in a folder, before this began is sure once it is done.
    Sync(Inode),
    /// A folder has a new name; an older inode of that name is gone.
    Link { folder: Inode, name: String, inode: Inode },
    /// A name goes.
    Unlink { folder: Inode, name: String },
    /// A name becomes another.
    Rename { folder: Inode, from: String, to: String },
    /// Two names change their inodes.
    Exchange { folder: Inode, one: String, other: String },
    /// A file was read up to here.
    Read { inode: Inode, to: u64 },
    /// Bytes went out through a connection.
    Sent { connection: usize, bytes: Vec<u8> },
    /// A command began, before its first instruction.
    Command(String),
}

/// The whole of it.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// In the order of their ends; those without an end come last.
    pub(super) ops: Vec<Op>,
    /// By [`Inode`]: what each is, and its number on the disk that was recorded.
    pub(super) inodes: Vec<(Form, u64)>,
    /// Each node's directory.
    pub(super) dirs: BTreeMap<String, Inode>,
}

impl Op {
    /// Whether it was done before `moment`.
    pub(super) fn is_done(&self, moment: Moment) -> bool {
        self.end.is_some_and(|end| end < moment)
    }

    /// The file whose content it changes.
    pub(super) fn content_of(&self) -> Option<Inode> {
        match self.what {
            What::Write { inode, .. } | What::Length { inode, .. } => Some(inode),
            _ => None,
        }
    }

    /// The folder whose names it changes.
    pub(super) fn names_of(&self) -> Option<Inode> {
        match self.what {
            What::Link { folder, .. }
            | What::Unlink { folder, .. }
            | What::Rename { folder, .. }
            | What::Exchange { folder, .. } => Some(folder),
            _ => None,
        }
    }
}
