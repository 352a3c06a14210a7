//! Writing what arrives: a piece is taken only where the file ends, so a file never has a gap, whatever is lost,
//! repeated or out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use protocol::Event;
use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::Stream;
use protocol::step::Effect;

use super::audience::{Audience, Want};
use super::live_files::LiveFiles;
use super::{Ask, Results, What, Wish};
use crate::blobs::{Blobs, Fetching, Owner};
use crate::broker::Bulk;
use crate::broker::wire::chunk::Chunk;
use crate::broker::wire::live::Piece;
use crate::engine::little_room;
use crate::traffic::{Bytes, Traffic};

/// Files that are open at the same time; the one that was not used for longest is closed first. The core fetches fewer.
const OPEN_MAX: usize = 64;

/// What is done at once.
const WORK_MAX: usize = 64;

/// Something for the files.
enum Work {
    Effect(Effect),
    Chunk(NodeName, Chunk, usize),
    Live(NodeName, Piece),
    Want(Want),
}

impl Results {
    /// Writes until the engine or the broker ends.
    pub(crate) async fn receiving(self) -> anyhow::Result<()> {
        let mut inlet = self.0.inlet.lock().await;
        let super::Inlet { effects, bulk, wanted } = &mut *inlet;
        let traffic = self.0.broker.traffic().clone();
        let files = Files::new(self.0.blobs.clone(), self.0.audience.clone(), traffic);
        let mut files = tokio::task::spawn_blocking(move || files.live.look().map(|()| files)).await??;
        let (mut batches, mut arrived, mut wants) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            tokio::select! {
                biased;
                count = effects.recv_many(&mut batches, WORK_MAX) => if count == 0 { return Ok(()) },
                count = wanted.recv_many(&mut wants, WORK_MAX) => if count == 0 { return Ok(()) },
                count = bulk.recv_many(&mut arrived, WORK_MAX) => if count == 0 { return Ok(()) },
            }
            let mut work: Vec<Work> = batches.drain(..).flatten().filter(is_ours).map(Work::Effect).collect();
            work.extend(wants.drain(..).map(Work::Want));
            for bulk in arrived.drain(..) {
                match bulk {
                    Bulk::Chunk { from, chunk, wire_bytes } => work.push(Work::Chunk(from, chunk, wire_bytes)),
                    Bulk::Live { from, piece } => work.push(Work::Live(from, piece)),
                    Bulk::Follow { from, follow } => {
                        if self.0.wishes.try_send(Wish { from, follow }).is_err() {
                            self.0.broker.counters().bulk_dropped.one();
                        }
                    }
                    Bulk::Ask { from, ticket, stream, offset, len } => {
                        self.asked(Ask { from, what: What::Output(ticket, stream), offset, len });
                    }
                    Bulk::Want { from, want } => {
                        let (what, offset, len) = (What::Content(want.id), want.offset, want.len);
                        self.asked(Ask { from, what, offset, len });
                    }
                    Bulk::Part { from, part } => {
                        if !self.0.wants.give(from, part) {
                            self.0.broker.counters().bulk_dropped.one();
                        }
                    }
                }
            }
            if work.is_empty() {
                continue;
            }
            let (back, events) = tokio::task::spawn_blocking(move || {
                let events = files.perform(work);
                (files, events)
            })
            .await?;
            files = back;
            for event in events {
                self.0.engine.event(event).await;
            }
        }
    }
}

impl Results {
    /// Hands a request to whoever serves, unless too many wait.
    fn asked(&self, ask: Ask) {
        if self.0.asks.try_send(ask).is_err() {
            self.0.broker.counters().bulk_dropped.one();
        }
    }
}

fn is_ours(effect: &Effect) -> bool {
    matches!(effect, Effect::Receive { .. } | Effect::Seal { .. } | Effect::Discard(_))
}

/// The outputs that are being fetched. Everything here blocks.
struct Files {
    blobs: Blobs,
    live: LiveFiles,
    traffic: Traffic,
    open: BTreeMap<(MessageId, Stream), Open>,
    uses: u64,
    failing: bool,
}

struct Open {
    from: NodeName,
    ticket: Ticket,
    len: u64,
    file: Fetching,
    used: u64,
}

impl Files {
    fn new(blobs: Blobs, audience: Audience, traffic: Traffic) -> Self {
        let live = LiveFiles::new(blobs.clone(), audience);
        Self { blobs, live, traffic, open: BTreeMap::new(), uses: 0, failing: false }
    }

    fn perform(&mut self, work: Vec<Work>) -> Vec<Event> {
        let mut events = Vec::new();
        // One word for each output that has grown, not for each piece.
        let mut grown = BTreeSet::new();
        // How long an output is, only its receiver knows; it must not fill the disk on which we keep what has ended.
        let little = little_room(self.blobs.dir());
        for work in work {
            let result = match work {
                Work::Chunk(..) | Work::Live(..) if let Some(why) = &little => {
                    Err(io::Error::new(io::ErrorKind::StorageFull, why.as_str()))
                }
                Work::Chunk(from, chunk, bytes) => self.append(&from, &chunk, bytes).map(|key| grown.extend(key)),
                Work::Live(from, piece) => self.live.append(&from, &piece),
                Work::Want(want) => self.live.want(want),
                Work::Effect(Effect::Receive { id, stream, from, ticket, len }) => self
                    .receive(id, stream, from, ticket, len)
                    .map(|have| events.push(Event::Fetched { id, stream, have })),
                Work::Effect(Effect::Seal { id, stream, hash }) => {
                    self.seal(id, stream, &hash).map(|whole| events.push(Event::Sealed { id, stream, whole }))
                }
                Work::Effect(Effect::Discard(ticket)) => self.blobs.remove(Owner::In(ticket)),
                Work::Effect(_) => Ok(()),
            };
            self.note(result);
        }
        for (id, stream) in grown {
            if let Some(open) = self.open.get(&(id, stream)) {
                events.push(Event::Fetched { id, stream, have: open.file.have() });
            }
        }
        events
    }

    /// Logs the first failure and the recovery from it.
    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("outputs can be written again");
            }
            Ok(()) => {}
            Err(error) if self.failing => tracing::debug!(%error, "an output still can't be written"),
            Err(error) => {
                self.failing = true;
                tracing::error!(%error, "an output can't be written in blobs/; it stays with its node and is tried again");
            }
        }
    }

    fn receive(&mut self, id: MessageId, stream: Stream, from: NodeName, ticket: Ticket, len: u64) -> io::Result<u64> {
        self.uses += 1;
        if let Some(open) = self.open.get_mut(&(id, stream))
            && (&open.from, open.ticket, open.len) == (&from, ticket, len)
        {
            open.used = self.uses;
            return Ok(open.file.have());
        }
        // A store that is new gives the same tickets again: what they stood for before can't be had any more.
        self.open.retain(|(_, of), open| (*of, &open.from, open.ticket) != (stream, &from, ticket));
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(key, _)| *key);
            oldest.and_then(|key| self.open.remove(&key));
        }
        self.live.adopt(id, stream, len)?;
        let file = self.blobs.fetch(id, stream)?;
        let have = file.have();
        self.open.insert((id, stream), Open { from, ticket, len, file, used: self.uses });
        Ok(have)
    }

    /// Adds a piece if it was asked for and fits; says which output has grown.
    fn append(&mut self, from: &NodeName, chunk: &Chunk, wire_bytes: usize) -> io::Result<Option<(MessageId, Stream)>> {
        self.uses += 1;
        let found = self.open.iter_mut().find(|((_, stream), open)| {
            (&open.from, open.ticket, *stream, open.len) == (from, chunk.ticket, chunk.stream, chunk.total)
        });
        let Some((key, open)) = found else { return Ok(None) };
        open.used = self.uses;
        self.traffic.share(&[(key.0, 1)], Bytes::arrived(wire_bytes));
        let before = open.file.have();
        Ok((open.file.append(chunk.offset, &chunk.bytes)? > before).then_some(*key))
    }

    fn seal(&mut self, id: MessageId, stream: Stream, hash: &[u8; 32]) -> io::Result<bool> {
        let mut file = match self.open.remove(&(id, stream)) {
            Some(open) => open.file,
            None => self.blobs.fetch(id, stream)?,
        };
        file.seal(hash)
    }
}
