//! Which key belongs to which name: the certificates that other nodes of the fleet have shown, of each name the newest.

use protocol::name::NodeName;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::columns::bits;
use super::error::{CommitError, ReadError};

/// A certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityRow {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its public key.
    pub(crate) key: String,
    /// Its serial.
    pub(crate) serial: u64,
    /// The certificate itself.
    pub(crate) certificate: String,
}

/// Keeps certificates, in one transaction; an older one never replaces a newer one. How many names there may be is
/// whoever brings them's business.
pub(super) fn put(connection: &mut Connection, rows: &[IdentityRow]) -> Result<(), CommitError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO identities (name, key, serial, certificate) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET key = excluded.key, serial = excluded.serial,
                 certificate = excluded.certificate
             WHERE excluded.serial > serial",
        )?;
        for row in rows {
            insert.execute(params![row.name.as_str(), row.key, bits(row.serial), row.certificate])?;
        }
    }
    Ok(transaction.commit()?)
}

/// The certificate with this key.
pub(super) fn by_key(connection: &Connection, key: &str) -> Result<Option<String>, ReadError> {
    let sql = "SELECT certificate FROM identities WHERE key = ?1 ORDER BY serial DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
}

/// The certificate with this name.
pub(super) fn by_name(connection: &Connection, name: &str) -> Result<Option<String>, ReadError> {
    let sql = "SELECT certificate FROM identities WHERE name = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?)
}

/// How many names there are.
pub(super) fn count(connection: &Connection) -> Result<usize, ReadError> {
    let count: i64 = connection.prepare_cached("SELECT count(*) FROM identities")?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}
