//! What can go wrong with the store, in the words of somebody who has to do something about it.

use std::path::PathBuf;

use protocol::message::MessageId;
use rusqlite::ErrorCode;

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The node's directory is not there or can't be written to.
    #[error("the directory {} can't be used: {source}; make it (`mkdir -p`) and give it to the user that steward runs as, or name another with --dir", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no store yet.
    #[error("there is no store at {}; no node has run in this directory yet (another one is named with --dir)", .0.display())]
    Missing(PathBuf),
    /// Something else stands where the file should be.
    #[error("the store can't be opened: {0}")]
    Link(std::io::Error),
    /// The file is there but may not be opened as needed.
    #[error("the store {} can't be opened: {why}; steward needs to read and write it and its directory", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// No room for a new store.
    #[error("the disk is full: there is no room for the store {}", .0.display())]
    Full(PathBuf),
    /// A newer steward has written it.
    #[error(
        "the store {} has version {found}, and this steward knows versions up to {known}: it was written by a newer steward; use that one, nothing was changed", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest that is known here.
        known: usize,
    },
    /// An older steward has written it, and this connection may only read.
    #[error(
        "the store {} has version {found}, this steward reads version {known}; a node of this version brings it up to date when it starts", path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The one that is read here.
        known: usize,
    },
    /// It belongs to another program.
    #[error("{} is a database of another program; it was left alone: name another directory with --dir", .0.display())]
    Foreign(PathBuf),
    /// It can't be read.
    #[error(
        "the store {} is damaged or no database ({why}); it was left as it is: keep a copy of it, then restore a backup, try `sqlite3 {} .recover`, or move it aside to start with an empty one (messages in it are then lost)", path.display(), path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// Anything else.
    #[error("the store {} can't be opened: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// What is in the file makes no sense.
    #[error(
        "the store is damaged ({0}); stop the node, keep a copy of steward.db, and restore a backup or try `sqlite3 steward.db .recover`"
    )]
    Damaged(String),
    /// Anything else.
    #[error("the store can't be read: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        if damaged(&error) { Self::Damaged(error.to_string()) } else { Self::Sqlite(error) }
    }
}

/// Why a batch was not written. Nothing of it is in the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// There is no room on the disk, or in the user's quota. The same batch works later, when there is.
    #[error("the disk is full: nothing new can be stored until there is room")]
    Full,
    /// What is in the file makes no sense.
    #[error(
        "the store is damaged ({0}); stop the node, keep a copy of steward.db, and restore a backup or try `sqlite3 steward.db .recover`"
    )]
    Damaged(String),
    /// A message with this id is in the outbox already.
    #[error("there is a message {0} already; ids are never used twice")]
    Duplicate(MessageId),
    /// A number is larger than the store can hold.
    #[error("the {what} {value} is beyond {}, the largest that can be stored", i64::MAX)]
    Range {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// Anything else.
    #[error("the store can't be written: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ if damaged(&error) => Self::Damaged(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

/// Whether an error says that the content of the file is not what we have written.
pub(super) fn damaged(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::QueryReturnedNoRows => true,
        other => matches!(other.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
    }
}
