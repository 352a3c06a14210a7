//! Small integers for the names of nodes and methods, so that a million rows don't repeat them.

use std::collections::HashMap;

use protocol::name::{Lane, MethodName, NodeName};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::{bad, kind};

/// The names that this process has met. It remembers only what is durable: [`Names::forget`] after a batch that was not.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Box<str>, i64>,
    fresh: Vec<Box<str>>,
}

impl Names {
    /// The number of a name, a new one if it has none.
    pub(super) fn id(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let found = find(connection, name)?;
        let id = match found {
            Some(id) => id,
            None => {
                connection.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.execute([name])?;
                self.fresh.push(name.into());
                connection.last_insert_rowid()
            }
        };
        self.ids.insert(name.into(), id);
        Ok(id)
    }

    /// New numbers of this batch are durable.
    pub(super) fn keep(&mut self) {
        self.fresh.clear();
    }

    /// New numbers of this batch are not.
    pub(super) fn forget(&mut self) {
        for name in self.fresh.drain(..) {
            self.ids.remove(&name);
        }
    }
}

/// The number of a name, if it has one.
pub(super) fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

/// Names as they come out of a query: those that are equal share their text.
#[derive(Debug, Default)]
pub(super) struct Interned {
    nodes: HashMap<Box<str>, NodeName>,
    methods: HashMap<Box<str>, MethodName>,
}

impl Interned {
    /// A column with the name of a node.
    pub(super) fn node(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<NodeName> {
        let text = row.get_ref(at)?.as_str().map_err(|error| bad(at, Type::Text, error))?;
        if let Some(name) = self.nodes.get(text) {
            return Ok(name.clone());
        }
        let name = NodeName::new(text).map_err(|error| bad(at, Type::Text, error))?;
        self.nodes.insert(text.into(), name.clone());
        Ok(name)
    }

    /// A column with the name of a method.
    pub(super) fn method(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<MethodName> {
        let text = row.get_ref(at)?.as_str().map_err(|error| bad(at, Type::Text, error))?;
        if let Some(name) = self.methods.get(text) {
            return Ok(name.clone());
        }
        let name = MethodName::new(text).map_err(|error| bad(at, Type::Text, error))?;
        self.methods.insert(text.into(), name.clone());
        Ok(name)
    }

    /// Three columns with the peer, the type and the method of a lane.
    pub(super) fn lane(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<Lane> {
        Ok(Lane { peer: self.node(row, at)?, kind: kind(row, at + 1)?, method: self.method(row, at + 2)? })
    }
}
