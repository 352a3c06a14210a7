//! The newest messages that match, without reading the others: each question is answered from the end of an index.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use protocol::message::Body;
use protocol::outcome::{Final, State};
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{OPEN, RUNNING, final_code, final_state, millis, state_code};
use super::error::ReadError;
use super::inbox;
use super::names::Interned;
use super::show::{Detail, OUT_COLUMNS, OUT_FROM, in_view, out_view};
use crate::engine::Filter;
use crate::view::MessageView;

/// The most messages of one list.
pub(crate) const LIST_MESSAGES_MAX: usize = 100_000;

/// Rows follow each other in time, but for a clock that was set back: so many that are too old, one after the other, and
/// there is nothing newer behind them.
const OLD_ROWS_MAX: usize = 1000;

/// Which states are looked for.
#[derive(Debug, Default)]
struct States {
    /// Codes of `outbox.state`.
    codes: Vec<i64>,
    /// Codes of `progress.state` of what is open; `queued` (1) is also what has no row there.
    open: Vec<i64>,
    /// Names, as they are shown.
    name: Option<String>,
}

impl States {
    /// None if there is no state with this name.
    fn new(name: Option<&str>) -> Option<Self> {
        let Some(name) = name else {
            let codes = std::iter::once(OPEN).chain(Final::ALL.map(final_code)).collect();
            return Some(Self { codes, ..Self::default() });
        };
        let open = [State::Queued, State::Sent, State::Stored, State::Running, State::Fetching];
        let open: Vec<_> = open.iter().filter(|state| state.as_str() == name).map(state_code).collect();
        let codes: Vec<_> = Final::parse(name).map(final_code).into_iter().collect();
        let known = !(open.is_empty() && codes.is_empty());
        known.then(|| Self { codes, open, name: Some(name.to_owned()) })
    }
}

/// The highest numbers of rows that were offered, at most `limit`.
struct Newest {
    rows: BinaryHeap<Reverse<i64>>,
    limit: usize,
}

impl Newest {
    /// Takes a row, unless there are enough that are newer. Says whether an older one could still be taken.
    fn offer(&mut self, row: i64) -> bool {
        if self.rows.len() < self.limit {
            self.rows.push(Reverse(row));
            return true;
        }
        match self.rows.peek() {
            Some(Reverse(oldest)) if *oldest < row => {
                self.rows.pop();
                self.rows.push(Reverse(row));
                true
            }
            _ => false,
        }
    }
}

/// The newest messages of the outbox and the inbox that match.
pub(super) fn list(connection: &Connection, filter: &Filter) -> Result<Vec<MessageView>, ReadError> {
    let Some(states) = States::new(filter.state.as_deref()) else { return Ok(Vec::new()) };
    let limit = filter.limit.min(LIST_MESSAGES_MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let since = filter.since_ms.map_or(i64::MIN, |since| millis(Wall(since)));
    let mut newest = Newest { rows: BinaryHeap::new(), limit };
    outbox_rows(connection, filter.node.as_deref(), &states, since, &mut newest)?;
    let mut views = Vec::with_capacity(newest.rows.len());
    let mut statement = connection.prepare_cached(&format!("SELECT {OUT_COLUMNS} {OUT_FROM} WHERE o.row = ?1"))?;
    for Reverse(row) in newest.rows.into_sorted_vec() {
        views.push(statement.query_row([row], |row| out_view(row, Detail::Line))?);
    }
    add_inbox(connection, filter, &states, (since, limit), &mut views)?;
    Ok(views)
}

fn outbox_rows(
    connection: &Connection,
    node: Option<&str>,
    states: &States,
    since: i64,
    newest: &mut Newest,
) -> Result<(), ReadError> {
    let lanes = match node {
        Some(node) if !is_sender(connection, node)? => Some(lanes_of(connection, node)?),
        _ => None,
    };
    if lanes.is_none() && states.name.is_none() {
        let mut statement = connection.prepare_cached("SELECT row, created FROM outbox ORDER BY row DESC")?;
        return take(&mut statement, [], since, newest);
    }
    let all = || -> rusqlite::Result<Vec<i64>> {
        connection.prepare_cached("SELECT id FROM out_lanes")?.query_map([], |row| row.get(0))?.collect()
    };
    let within = match &lanes {
        Some(lanes) => lanes.clone(),
        None => all()?,
    };
    for code in &states.codes {
        let sql = "SELECT row, created FROM outbox WHERE lane = ?1 AND state = ?2 ORDER BY seq DESC";
        let mut statement = connection.prepare_cached(sql)?;
        for lane in &within {
            take(&mut statement, params![lane, code], since, newest)?;
        }
    }
    for code in &states.open {
        if *code == state_code(&State::Queued) {
            let mut statement = connection.prepare_cached(
                "SELECT o.row, o.created FROM outbox o LEFT JOIN progress p ON p.row = o.row
                 WHERE o.lane = ?1 AND o.state = 10 AND coalesce(p.state, 1) = 1 ORDER BY o.seq DESC",
            )?;
            for lane in &within {
                take(&mut statement, params![lane], since, newest)?;
            }
            continue;
        }
        let known: HashSet<i64> = within.iter().copied().collect();
        let mut statement = connection.prepare_cached(
            "SELECT p.row, o.created, o.lane FROM progress p CROSS JOIN outbox o ON o.row = p.row
             WHERE p.state < 10 AND p.state = ?1 ORDER BY p.row DESC",
        )?;
        let mut rows = statement.query([code])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? >= since && known.contains(&row.get(2)?) && !newest.offer(row.get(0)?) {
                break;
            }
        }
    }
    Ok(())
}

/// Takes rows, newest first, until there are enough or they are too old.
fn take(
    statement: &mut rusqlite::Statement<'_>,
    key: impl rusqlite::Params,
    since: i64,
    newest: &mut Newest,
) -> Result<(), ReadError> {
    let mut rows = statement.query(key)?;
    let mut old = 0;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? < since {
            old += 1;
            if old > OLD_ROWS_MAX {
                break;
            }
        } else {
            old = 0;
            if !newest.offer(row.get(0)?) {
                break;
            }
        }
    }
    Ok(())
}

/// Whether this is the node that sends everything here. The newest message tells.
fn is_sender(connection: &Connection, node: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT n.name FROM outbox o CROSS JOIN names n ON n.id = o.sender ORDER BY o.row DESC LIMIT 1";
    let sender: Option<String> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(sender.as_deref() == Some(node))
}

fn lanes_of(connection: &Connection, node: &str) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT id FROM out_lanes WHERE peer = ?1")?
        .query_map([node], |row| row.get(0))?
        .collect()
}

/// Adds what waits in the inbox, and brings both into the order of their times.
fn add_inbox(
    connection: &Connection,
    filter: &Filter,
    states: &States,
    (since, limit): (i64, usize),
    views: &mut Vec<MessageView>,
) -> Result<(), ReadError> {
    let sql = format!("SELECT {}, i.body {} ORDER BY i.ticket DESC", inbox::COLUMNS, inbox::FROM);
    let mut statement = connection.prepare_cached(&sql)?;
    let (mut names, mut added) = (Interned::default(), Vec::new());
    let empty: Body = "".into();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()?
        && added.len() < limit
    {
        let mut found = inbox::inbox_row(row, &mut names, empty.clone())?;
        let message = &found.message;
        let is_of = |node: &String| *node == *message.from.as_str() || *node == *message.to.as_str();
        if millis(message.created) < since || !filter.node.as_ref().is_none_or(is_of) {
            continue;
        }
        let code: i64 = row.get(9)?;
        let name = final_state(code).map_or(if code == RUNNING { "running" } else { "stored" }, Final::as_str);
        if states.name.as_deref().is_none_or(|wanted| wanted == name) {
            found.message.body = row.get(inbox::BODY_AT)?;
            added.push(in_view(&found, Detail::Line));
        }
    }
    if added.is_empty() {
        return Ok(());
    }
    // What this node sends to itself is in both; the outbox knows more. The same id from another node is another message.
    let key = |view: &MessageView| (view.id.clone(), view.from_node.clone());
    let known: HashSet<_> = views.iter().map(key).collect();
    views.extend(added.into_iter().filter(|view| !known.contains(&key(view))));
    // Times in RFC 3339 and UUIDv7 sort as text.
    views.sort_by(|a, b| (&b.created_at, &b.id).cmp(&(&a.created_at, &a.id)));
    views.truncate(limit);
    Ok(())
}
