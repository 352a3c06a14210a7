//! Who belongs to the fleet, who is invited, and who is thrown out: `registry.db` in the fleet's folder, beside the keys
//! that it goes with.
//!
//! It is a file of its own, not a part of a node's store, because it belongs to the fleet: it is copied and moved together
//! with the fleet's keys, and the command line writes into it whether central runs or not. Each call is one short
//! transaction that is on disk when it returns.

mod invitations;
mod journal;
mod members;
mod renewals;
mod revocations;
mod rules;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

pub(crate) use invitations::{Invitation, PENDING_MAX};
pub(crate) use members::{Admission, Member};
pub(crate) use renewals::{NotRenewed, Progress, Renewal, Wanted};
pub(crate) use revocations::Revoked;

use crate::security::revocations::REVOKED_MAX;

/// The file in the fleet's folder.
const FILE: &str = "registry.db";

/// Marks the file as ours: "stwr" in ASCII.
const APPLICATION_ID: i32 = 0x7374_7772;

/// The version of the tables.
const VERSION: i32 = 3;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
create table invitations (
    id text primary key,
    name text not null,
    role text not null,
    labels text not null,
    key text not null,
    replaces integer not null,
    created_ms integer not null,
    expires_ms integer not null,
    used_ms integer,
    used_by text,
    withdrawn_ms integer
) strict, without rowid;
create index invitations_by_expiry on invitations (expires_ms);
create table members (
    name text primary key,
    key text not null unique,
    role text not null,
    certificate text not null,
    user text,
    serial integer not null,
    joined_ms integer not null,
    revoked_ms integer,
    reason text
) strict, without rowid;
create table revoked (
    key text primary key,
    name text not null,
    at_ms integer not null,
    reason text not null
) strict, without rowid;
create table numbers (
    what text primary key,
    value integer not null
) strict, without rowid;
insert into numbers values ('revoked', 0), ('applied', 0);
";

/// Why the registry is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The file can't be made or opened.
    #[error("the fleet's registry {} can't be opened: {why}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another program's, or of a newer steward.
    #[error("{} is not a registry that this steward can read (version {version}); update steward, or put the right file back", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: i32,
    },
    /// SQLite.
    #[error("the fleet's registry can't be read or written: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Something in it makes no sense.
    #[error("the fleet's registry holds something that makes no sense: {0}")]
    Content(String),
    /// Too many invitations are pending.
    #[error(
        "{PENDING_MAX} invitations are pending, which is as many as may be; wait until some expire, or take some back \
         (steward invite NAME --withdraw)"
    )]
    Pending,
    /// Too many keys are revoked.
    #[error(
        "{REVOKED_MAX} keys are revoked, which is as many as one list can carry; begin a new fleet, whose nodes join anew"
    )]
    RevokedFull,
    /// There is no such node.
    #[error("the fleet has no node {0}; `steward nodes` lists those that it has")]
    Unknown(String),
}

/// The open registry.
#[derive(Debug)]
pub(crate) struct Registry(Connection);

impl Registry {
    /// Opens the registry in the fleet's folder, and makes it where there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, RegistryError> {
        let path = folder.join(FILE);
        let failed = |why: String| RegistryError::Open { path: path.clone(), why };
        // SQLite would make it as the umask says; nobody else is to read it, nor what SQLite puts beside it.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error.to_string())),
            Ok(_) | Err(_) => {}
        }
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(|error| failed(error.to_string()))?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "synchronous", "extra")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let number = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        match (number("application_id")?, number("user_version")?) {
            (0, 0) => {
                transaction.execute_batch(TABLES)?;
                transaction.execute_batch(journal::TABLE)?;
                transaction.execute_batch(renewals::TABLES)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            (APPLICATION_ID, found @ 1..VERSION) => {
                if found < 2 {
                    transaction.execute_batch(journal::TABLE)?;
                }
                transaction.execute_batch(renewals::TABLES)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            (APPLICATION_ID, VERSION) => {}
            (_, version) => return Err(RegistryError::Foreign { path, version }),
        }
        transaction.commit()?;
        Ok(Self(connection))
    }

    /// Whether there is one.
    pub(crate) fn exists(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }
}

/// A time or a count in a column.
fn to_column(what: &str, value: u64) -> Result<i64, RegistryError> {
    i64::try_from(value).map_err(|_| RegistryError::Content(format!("{what} is {value}")))
}

/// A time or a count from a column.
fn from_column(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
