//! How fast the store is on this machine, for `steward bench`: the same writes that the engine makes, without the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Kind, Message, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::{Final, Outcome, State};
use protocol::step::{Moment, OutLaneRow, Write};
use protocol::time::Wall;

use super::Store;
use crate::clock::{Clock, wall};

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Accepting all messages.
    pub(crate) submit: Duration,
    /// Opening the store again with all of them waiting, and reading what a start needs.
    pub(crate) open: Duration,
    /// Ending all of them.
    pub(crate) end: Duration,
}

/// Accepts `n` messages of 200 bytes in batches of `batch` in a new store in `dir`, opens it again, and ends them all.
pub(crate) fn measure_inserts(dir: &Path, n: usize, batch: usize) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut store = Store::open(dir)?;
    let lane = Lane { peer: NodeName::new("ship1")?, kind: Kind::EventAck, method: MethodName::new("TextLogging")? };
    let message = Message {
        id: MessageId(0),
        from: NodeName::new("central")?,
        to: lane.peer.clone(),
        kind: lane.kind,
        method: lane.method.clone(),
        body: Arc::from(format!("[\"{}\"]", "x".repeat(200))),
        options: Options::default(),
        created: wall(),
    };
    let mut ids = Vec::with_capacity(n);
    let begin = clock.elapsed();
    let mut writes = Vec::with_capacity(batch + 1);
    for seq in 1..=n as u64 {
        let id = MessageId(uuid::Uuid::now_v7().as_u128());
        ids.push(id);
        writes.push(Write::Submit { message: Message { id, ..message.clone() }, seq: Seq(seq) });
        if writes.len() >= batch || seq == n as u64 {
            let row = OutLaneRow { lane: lane.clone(), last: Seq(seq), sent: Seq(0), lost: Seq(0) };
            writes.push(Write::OutLane(row));
            store.commit(&writes)?;
            writes.clear();
        }
    }
    let submit = clock.elapsed() - begin;
    drop(store);
    let begin = clock.elapsed();
    let mut store = Store::open(dir)?;
    store.snapshot(&|_| protocol::event::Facts { rerun: false, batch: 1 })?;
    let open = clock.elapsed() - begin;
    let begin = clock.elapsed();
    let outcome = Arc::new(Outcome::bare(Final::Done, None, wall()));
    let history: Vec<_> = [State::Queued, State::Sent, State::Stored, State::Final(Final::Done)]
        .map(|state| Moment { at: Wall(outcome.finished.0), state, note: None })
        .into();
    for ids in ids.chunks(batch) {
        let end =
            |id: &MessageId| Write::End { id: *id, attempts: 1, history: history.clone(), outcome: outcome.clone() };
        store.commit(&ids.iter().map(end).collect::<Vec<_>>())?;
    }
    Ok(Measured { submit, open, end: clock.elapsed() - begin })
}
