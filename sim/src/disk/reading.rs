//! What the store answers: the snapshot for a process that starts, the next messages of a lane, deadlines that passed.

use std::sync::Arc;

use protocol::event::{Event, Facts, Queued};
use protocol::message::{Body, Incarnation, Message, Seq};
use protocol::name::Lane;
use protocol::snapshot::{Backlog, Snapshot};
use protocol::time::Wall;

use super::{OutRow, Tables};

impl Tables {
    /// Whether this process began on this store.
    pub(crate) fn has_begun(&self, process: Incarnation) -> bool {
        self.starts.iter().any(|start| start.incarnation == process)
    }

    /// Everything that a process has to know to go on. `facts` is what its methods are like; a body is left out where
    /// `bodies` says so.
    pub(crate) fn snapshot(&self, bodies: bool, facts: impl Fn(&Message) -> Facts) -> Snapshot {
        let nothing: Body = Arc::from("");
        Snapshot {
            out_lanes: self.out_lanes.values().map(|row| (row.clone(), self.backlog(&row.lane))).collect(),
            next_deadline: self.next_deadline(None),
            peers: self.peers.values().cloned().collect(),
            in_lanes: self.in_lanes.values().cloned().collect(),
            inbox: self
                .inbox
                .values()
                .map(|row| {
                    let mut row = row.clone();
                    let facts = facts(&row.message);
                    if !bodies {
                        row.message.body = nothing.clone();
                    }
                    (row, facts)
                })
                .collect(),
            last_ticket: self.last_ticket,
            starts: self.starts.clone(),
        }
    }

    /// Messages of a lane that are not final, above `after`.
    pub(crate) fn load(&self, lane: &Lane, after: Seq, messages: usize, bytes: usize) -> Event {
        let mut loaded = Vec::new();
        let mut size = 0;
        let mut rows = self.open_above(lane, after).peekable();
        while let Some(row) = rows.peek() {
            let next = size + row.message.body.len();
            if loaded.len() >= messages || (!loaded.is_empty() && next > bytes) {
                break;
            }
            size = next;
            loaded.push(Queued {
                message: row.message.clone(),
                seq: row.seq,
                attempts: row.attempts,
                cancel: row.cancel,
                history: row.history.clone(),
            });
            rows.next();
        }
        let more = rows.peek().is_some();
        drop(rows);
        Event::Loaded { lane: lane.clone(), messages: loaded, more }
    }

    /// Messages that are not final, were never sent and may not start after `until`, the most urgent first.
    pub(crate) fn sweep(&self, until: Wall, limit: usize) -> Event {
        let mut due: Vec<_> = self
            .unsent()
            .filter(|row| row.message.options.deadline.is_some_and(|deadline| deadline <= until))
            .collect();
        due.sort_by_key(|row| (row.message.options.deadline, row.message.id));
        let next = match due.get(limit) {
            Some(row) => row.message.options.deadline,
            None => self.next_deadline(Some(until)),
        };
        due.truncate(limit);
        Event::Swept { due: due.iter().map(|row| (row.message.id, row.message.lane(), row.seq)).collect(), next }
    }

    fn next_deadline(&self, above: Option<Wall>) -> Option<Wall> {
        self.unsent()
            .filter_map(|row| row.message.options.deadline)
            .filter(|deadline| above.is_none_or(|above| *deadline > above))
            .min()
    }

    fn backlog(&self, lane: &Lane) -> Backlog {
        let mut backlog = Backlog::default();
        for row in self.open_above(lane, Seq(0)) {
            backlog.messages += 1;
            backlog.limited += u64::from(row.message.options.retries > 0);
        }
        backlog
    }

    fn open_above(&self, lane: &Lane, after: Seq) -> impl Iterator<Item = &OutRow> {
        let ids = self.open.get(lane).into_iter().flat_map(move |open| open.range(after.next()..));
        ids.filter_map(|(_, id)| self.outbox.get(id))
    }

    fn unsent(&self) -> impl Iterator<Item = &OutRow> {
        let sent = |lane: &Lane| self.out_lanes.get(lane).map_or(Seq(0), |row| row.sent);
        let ids = self.open.iter().flat_map(move |(lane, open)| open.range(sent(lane).next()..));
        ids.filter_map(|(_, id)| self.outbox.get(id))
    }
}
