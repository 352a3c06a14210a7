//! How far readers of endless sources are: what follows a file, what runs by a schedule, what forwards lines. Each cursor is
//! written in the transaction that accepts what was read up to it, so that nothing is read twice or left out.

use std::collections::BTreeSet;
use std::fmt;

use protocol::event::Ticket;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::ReadError;

/// Bytes of a cursor at most.
pub(crate) const CURSOR_BYTES_MAX: usize = 256 * 1024;

/// Begins the names of cursors of runs; their ticket follows.
const RUN: &str = "run ";

/// Whose cursor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CursorName {
    /// The run of this message of the inbox; it goes with its end.
    Run(Ticket),
    /// A task of the node.
    Task(&'static str),
}

impl fmt::Display for CursorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(ticket) => write!(f, "{RUN}{}", ticket.0),
            Self::Task(name) => f.write_str(name),
        }
    }
}

/// How far somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Who.
    pub(crate) name: CursorName,
    /// How far, in words of its own; at most [`CURSOR_BYTES_MAX`].
    pub(crate) text: String,
}

/// The runs that may have a cursor, so that nobody looks for one at the end of those that have none.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeSet<Ticket>);

impl Runs {
    /// Those that have one.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare("SELECT name FROM cursors")?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut runs = Self::default();
        for name in names {
            runs.0.extend(name?.strip_prefix(RUN).and_then(|ticket| ticket.parse().ok()).map(Ticket));
        }
        Ok(runs)
    }

    /// Writes cursors down.
    pub(super) fn put(&mut self, connection: &Connection, cursors: &[Cursor]) -> rusqlite::Result<()> {
        for Cursor { name, text } in cursors {
            let sql = "INSERT INTO cursors (name, text) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET text = excluded.text";
            connection.prepare_cached(sql)?.execute(params![name.to_string(), text])?;
            if let CursorName::Run(ticket) = name {
                self.0.insert(*ticket);
            }
        }
        Ok(())
    }

    /// A run has ended.
    pub(super) fn ended(&self, connection: &Connection, ticket: Ticket) -> rusqlite::Result<()> {
        if !self.0.contains(&ticket) {
            return Ok(());
        }
        let sql = "DELETE FROM cursors WHERE name = ?1";
        connection.prepare_cached(sql)?.execute([CursorName::Run(ticket).to_string()]).map(drop)
    }

    /// It is durable that a run has ended.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.0.remove(&ticket);
    }
}

/// How far somebody is.
pub(super) fn get(connection: &Connection, name: &CursorName) -> Result<Option<String>, ReadError> {
    let sql = "SELECT text FROM cursors WHERE name = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([name.to_string()], |row| row.get(0)).optional()?)
}
