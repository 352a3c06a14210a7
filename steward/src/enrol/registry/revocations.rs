//! The table `revoked`: keys that nobody may believe any more, and the number of the list that they make.

use protocol::name::NodeName;
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{Registry, RegistryError, from_column, journal, renewals, to_column};
use crate::audit::{Act, By, Deed};
use crate::security::revocations::REVOKED_MAX;

/// A key that nobody may believe any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// The key.
    pub(crate) key: String,
    /// Whose it was.
    pub(crate) name: String,
    /// Since when.
    pub(crate) at: Wall,
    /// Why, in an operator's words.
    pub(crate) reason: String,
}

impl Registry {
    /// Throws a node out: its key is revoked, and its invitations are taken back. One that is out already stays as it is.
    pub(crate) fn revoke(&mut self, name: &NodeName, reason: &str, now: Wall) -> Result<(), RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let at = to_column("the time", now.0)?;
        let key: Option<String> = transaction
            .query_row("select key from members where name = ?", [name.as_str()], |row| row.get(0))
            .optional()?;
        let key = key.ok_or_else(|| RegistryError::Unknown(name.to_string()))?;
        let about = serde_json::json!({ "key": key });
        let (reason_told, by) = (Some(reason.to_owned()), Some(By::this_process()));
        let act = Act { at: now, deed: Deed::Revoked, node: Some(name.clone()), reason: reason_told, about, by };
        journal::add(&transaction, &act)?;
        add(&transaction, &Revoked { key, name: name.to_string(), at: now, reason: reason.to_owned() })?;
        transaction.execute(
            "update members set revoked_ms = ?1, reason = ?2 where name = ?3 and revoked_ms is null",
            params![at, reason, name.as_str()],
        )?;
        transaction.execute(
            "update invitations set withdrawn_ms = ?1 where name = ?2 and used_ms is null and withdrawn_ms is null",
            params![at, name.as_str()],
        )?;
        renewals::drop_of(&transaction, name.as_str(), now)?;
        Ok(transaction.commit()?)
    }

    /// The keys that are revoked, and the number of this list: the higher, the newer.
    pub(crate) fn revoked(&mut self) -> Result<(u64, Vec<Revoked>), RegistryError> {
        let transaction = self.0.transaction()?;
        let version = number(&transaction, "revoked")?;
        let revoked = {
            let mut find =
                transaction.prepare_cached("select key, name, at_ms, reason from revoked order by at_ms, key")?;
            let rows = find.query_map([], |row| {
                let at = Wall(from_column(row.get(2)?));
                Ok(Revoked { key: row.get(0)?, name: row.get(1)?, at, reason: row.get(3)? })
            })?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        Ok((version, revoked))
    }

    /// The number of the newest list, and of the one that the broker and the nodes have been told.
    pub(crate) fn revoked_versions(&self) -> Result<(u64, u64), RegistryError> {
        Ok((number(&self.0, "revoked")?, number(&self.0, "applied")?))
    }

    /// Notes that the broker and the nodes have been told this list.
    pub(crate) fn revoked_applied(&mut self, version: u64) -> Result<(), RegistryError> {
        let raise = "update numbers set value = max(value, ?) where what = 'applied'";
        self.0.execute(raise, [to_column("the number of the list", version)?])?;
        Ok(())
    }
}

/// Adds a key to the list within a transaction; one that is there already leaves the list as it is.
pub(super) fn add(connection: &Connection, revoked: &Revoked) -> Result<(), RegistryError> {
    let count: i64 = connection.query_row("select count(*) from revoked", [], |row| row.get(0))?;
    let insert = "insert or ignore into revoked (key, name, at_ms, reason) values (?, ?, ?, ?)";
    let at = to_column("the time", revoked.at.0)?;
    let added = connection.execute(insert, params![revoked.key, revoked.name, at, revoked.reason])?;
    if added == 0 {
        return Ok(());
    }
    if from_column(count) >= REVOKED_MAX as u64 {
        return Err(RegistryError::RevokedFull);
    }
    // The clock's time is higher than any number that a lost or older registry has given.
    connection.execute("update numbers set value = max(value + 1, ?) where what = 'revoked'", [at])?;
    Ok(())
}

fn number(connection: &Connection, what: &str) -> Result<u64, RegistryError> {
    let value: i64 = connection.query_row("select value from numbers where what = ?", [what], |row| row.get(0))?;
    Ok(from_column(value))
}
