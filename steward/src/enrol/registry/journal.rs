//! The table `journal`: what was done to the fleet and does not stand in central's audit log yet. A row is written in the
//! transaction that does it, and goes once the line in the log is on the disk.

use protocol::name::NodeName;
use protocol::time::Wall;
use rusqlite::{Connection, TransactionBehavior, params};

use super::{Registry, RegistryError, from_column, to_column};
use crate::audit::{Act, By, Deed};

/// Rows at most that wait for central; the oldest go then, and the audit log says how many.
pub(super) const JOURNAL_MAX: u64 = 100_000;

/// Rows that are taken at once.
const TAKEN_MAX: usize = 256;

/// What there is of it in version 2 of the registry.
pub(super) const TABLE: &str = "
create table journal (
    n integer primary key autoincrement,
    at_ms integer not null,
    deed text not null,
    node text,
    reason text,
    about text not null,
    by text
) strict;
insert into numbers values ('journal', 0);
";

/// Rows that wait.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    /// How many are gone that nobody has taken.
    pub(crate) lost: u64,
    /// The number of the last one.
    pub(crate) last: u64,
    /// The oldest ones, in order.
    pub(crate) acts: Vec<Act>,
}

impl Registry {
    /// Notes something that was done to the fleet elsewhere than in the registry.
    pub(crate) fn note(&mut self, act: &Act) -> Result<(), RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        add(&transaction, act)?;
        Ok(transaction.commit()?)
    }

    /// What waits to be written into the audit log; at most so many that one write takes them.
    pub(crate) fn journal(&self) -> Result<Option<Waiting>, RegistryError> {
        let written: i64 =
            self.0.query_row("select value from numbers where what = 'journal'", [], |row| row.get(0))?;
        let mut find = self.0.prepare_cached(
            "select n, at_ms, deed, node, reason, about, by from journal where n > ? order by n limit ?",
        )?;
        let mut rows = find.query(params![written, to_column("the limit", TAKEN_MAX as u64)?])?;
        let (mut numbers, mut acts) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            numbers.push(from_column(row.get(0)?));
            acts.push(read(row)?);
        }
        let (Some(first), Some(last)) = (numbers.first(), numbers.last().copied()) else { return Ok(None) };
        let lost = first.saturating_sub(from_column(written) + 1);
        Ok(Some(Waiting { lost, last, acts }))
    }

    /// Rows up to this one stand in the audit log, and go here.
    pub(crate) fn journal_written(&mut self, last: u64) -> Result<(), RegistryError> {
        let last = to_column("the number of a row", last)?;
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("update numbers set value = ? where what = 'journal'", [last])?;
        transaction.execute("delete from journal where n <= ?", [last])?;
        Ok(transaction.commit()?)
    }
}

/// Notes an act in the transaction that does it.
pub(super) fn add(connection: &Connection, act: &Act) -> Result<(), RegistryError> {
    let by = act.by.map(|by| serde_json::to_string(&by)).transpose();
    let by = by.map_err(|error| RegistryError::Content(error.to_string()))?;
    let insert = "insert into journal (at_ms, deed, node, reason, about, by) values (?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(insert)?.execute(params![
        to_column("the time", act.at.0)?,
        act.deed.as_str(),
        act.node.as_ref().map(NodeName::as_str),
        act.reason,
        act.about.to_string(),
        by,
    ])?;
    let surplus = connection.last_insert_rowid().saturating_sub(to_column("the limit", JOURNAL_MAX)?);
    connection.prepare_cached("delete from journal where n <= ?")?.execute([surplus])?;
    Ok(())
}

fn read(row: &rusqlite::Row<'_>) -> Result<Act, RegistryError> {
    let content = |why: String| RegistryError::Content(format!("the journal: {why}"));
    let (deed, node, about, by): (String, Option<String>, String, Option<String>) =
        (row.get(2)?, row.get(3)?, row.get(5)?, row.get(6)?);
    let node = node.map(|node| NodeName::new(&node)).transpose();
    let by: Option<By> =
        by.map(|by| serde_json::from_str(&by)).transpose().map_err(|error| content(error.to_string()))?;
    Ok(Act {
        at: Wall(from_column(row.get(1)?)),
        deed: Deed::parse(&deed).ok_or_else(|| content(format!("{deed:?} is nothing that is done to a fleet")))?,
        node: node.map_err(|error| content(error.to_string()))?,
        reason: row.get(4)?,
        about: serde_json::from_str(&about).map_err(|error| content(error.to_string()))?,
        by,
    })
}
