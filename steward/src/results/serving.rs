//! Serving what others ask for: piece by piece in turns, so that many transfers share the link fairly, and never more
//! on its way than the link has shown to take.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::name::NodeName;
use protocol::outcome::Stream;
use tokio::sync::mpsc::error::TryRecvError;

use super::{Ask, Entitled, Results, What};
use crate::blobs::Owner;
use crate::broker::wire::chunk::Chunk;
use crate::broker::wire::content::Part;
use crate::broker::wire::pack::Packer;
use crate::broker::{Sent, Window};
use crate::clock::Clock;
use crate::crash_points::{Point, reach};

/// Transfers that take turns; more are dropped and asked for again.
const TRANSFERS_MAX: usize = 256;

/// How long the pace of a transfer is remembered, which asks again for each piece.
const PACE_KEPT: Duration = Duration::from_secs(60);

/// The smallest piece of what has a rate of its own, in bytes.
const PACED_BYTES_MIN: usize = 1024;

/// A piece of what has a rate of its own is what may go in so many parts of a second.
const PACE_PARTS: u64 = 4;

/// An output on its way to the sender of its message, or a content to the receiver of its own.
#[derive(Debug)]
struct Transfer {
    ask: Ask,
    /// The end of what was asked for, in bytes; not beyond that of the whole.
    end: u64,
    total: u64,
    entitled: Entitled,
}

/// When what has a rate of its own may go on: by who gets it and what it is.
type Paces = BTreeMap<(NodeName, What), Duration>;

/// Everything that takes turns.
struct Turns {
    clock: Clock,
    waiting: VecDeque<Transfer>,
    paces: Paces,
    window: Window,
    packer: Packer,
}

impl Turns {
    fn due(&self, transfer: &Transfer) -> Duration {
        self.paces.get(&transfer.key()).copied().unwrap_or_default()
    }

    /// The next whose turn it is; or how long it is until there is one.
    fn next(&mut self) -> Result<Transfer, Duration> {
        let now = self.clock.elapsed();
        let due = self.waiting.iter().position(|transfer| self.due(transfer) <= now);
        due.and_then(|due| self.waiting.remove(due)).ok_or_else(|| {
            let soonest = self.waiting.iter().map(|transfer| self.due(transfer)).min();
            soonest.unwrap_or_default().saturating_sub(now)
        })
    }

    /// So many bytes of a transfer have gone.
    fn went(&mut self, transfer: &Transfer, bytes: u64) {
        let Some(rate) = transfer.entitled.rate else { return };
        let now = self.clock.elapsed();
        // What could have gone on long ago has ended, or begins anew.
        self.paces.retain(|_, next| *next + PACE_KEPT > now);
        let next = self.paces.entry(transfer.key()).or_insert(now);
        *next = now.max(*next) + Duration::from_secs_f64(bytes as f64 / rate as f64);
    }
}

impl Transfer {
    fn key(&self) -> (NodeName, What) {
        (self.ask.from.clone(), self.ask.what)
    }
}

impl Results {
    /// Serves until the broker ends.
    pub(crate) async fn serving(self) -> anyhow::Result<()> {
        let mut asked = self.0.asked.lock().await;
        let (window, packer, clock) = (Window::default(), Packer::default(), Clock::start());
        let mut turns = Turns { clock, waiting: VecDeque::new(), paces: Paces::new(), window, packer };
        loop {
            match asked.try_recv() {
                Ok(ask) => self.admit(ask, &mut turns.waiting).await?,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {}
            }
            let mut transfer = match turns.next() {
                Ok(transfer) => transfer,
                // Nothing may go now.
                Err(pause) => {
                    let is_idle = turns.waiting.is_empty();
                    tokio::select! {
                        ask = asked.recv() => match ask {
                            Some(ask) => self.admit(ask, &mut turns.waiting).await?,
                            None => return Ok(()),
                        },
                        () = tokio::time::sleep(pause), if !is_idle => {}
                    }
                    continue;
                }
            };
            match self.piece(&mut transfer, &mut turns).await? {
                Piece::More => turns.waiting.push_back(transfer),
                Piece::Last => {}
                // Whoever still wants something asks again once the link is back.
                Piece::LinkDown => turns.waiting.clear(),
            }
        }
    }

    /// Takes a request if it comes from whom it is for; a new one for the same thing replaces the one before.
    async fn admit(&self, ask: Ask, turns: &mut VecDeque<Transfer>) -> anyhow::Result<()> {
        let (inner, what) = (Arc::clone(&self.0), ask.what);
        let found = tokio::task::spawn_blocking(move || {
            let (owner, stream) = place(what);
            let entitled = match what {
                What::Output(ticket, _) => (inner.sender_of)(ticket),
                What::Content(id) => (inner.receiver_of)(id)?,
            };
            let total = inner.blobs.open_whole(owner, stream).and_then(|file| Ok(file.metadata()?.len()));
            anyhow::Ok((entitled, total))
        });
        let (entitled, total): (Option<Entitled>, _) = match found.await? {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, ?what, "it can't be read whose message this is");
                return Ok(());
            }
        };
        let (is_unknown, is_content) = (entitled.is_none(), matches!(what, What::Content(_)));
        let Some(entitled) = entitled.filter(|entitled| entitled.node == ask.from) else {
            if is_unknown && is_content {
                self.nothing(&ask).await;
            } else {
                self.0.broker.counters().refused.one();
                tracing::debug!(from = %ask.from, ?what, "asked for something that is not its own, or is gone");
            }
            return Ok(());
        };
        let total = match total {
            Ok(total) => total,
            Err(error) => {
                tracing::debug!(?what, %error, "asked for something that is not here");
                if is_content && error.kind() == std::io::ErrorKind::NotFound {
                    self.nothing(&ask).await;
                }
                return Ok(());
            }
        };
        if let What::Content(id) = what {
            self.0.contents.has(id, ask.offset.min(total));
        }
        let end = ask.offset.saturating_add(ask.len).min(total);
        let same = |transfer: &Transfer| (&transfer.ask.from, transfer.ask.what) == (&ask.from, ask.what);
        if let Some(transfer) = turns.iter_mut().find(|transfer| same(transfer)) {
            *transfer = Transfer { ask, end, total, entitled };
        } else if turns.len() < TRANSFERS_MAX {
            turns.push_back(Transfer { ask, end, total, entitled });
        } else {
            self.0.broker.counters().bulk_dropped.one();
        }
        Ok(())
    }

    /// Says that there is nothing (any more), so that nobody waits for it.
    async fn nothing(&self, ask: &Ask) {
        if let What::Content(id) = ask.what {
            let (mut packer, mut window) = (Packer::default(), Window::default());
            let sent = self.0.broker.send_part(&ask.from, false, &Part::none(id), &mut packer, &mut window).await;
            tracing::debug!(to = %ask.from, %id, ?sent, "nothing goes along with this message");
        }
    }

    async fn piece(&self, transfer: &mut Transfer, turns: &mut Turns) -> anyhow::Result<Piece> {
        let Ask { what, offset, .. } = transfer.ask;
        let left = transfer.end.saturating_sub(offset);
        if left == 0 {
            return Ok(Piece::Last);
        }
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.0.broker.chunk_bytes_max(&turns.window));
        let paced =
            transfer.entitled.rate.map_or(usize::MAX, |rate| usize::try_from(rate / PACE_PARTS).unwrap_or(usize::MAX));
        let len = len.min(paced.max(PACED_BYTES_MIN));
        let (blobs, (owner, stream)) = (self.0.blobs.clone(), place(what));
        let read = tokio::task::spawn_blocking(move || blobs.read(owner, stream, offset, len)).await?;
        let bytes = match read {
            Ok(bytes) if bytes.is_empty() => return Ok(Piece::Last),
            Ok(bytes) => bytes::Bytes::from(bytes),
            Err(error) => {
                // Its message may have ended in between; then the file is gone.
                tracing::debug!(%error, ?what, "what is asked for can't be read");
                return Ok(Piece::Last);
            }
        };
        transfer.ask.offset += bytes.len() as u64;
        turns.went(transfer, bytes.len() as u64);
        let (to, seal, total) = (&transfer.ask.from, transfer.entitled.seal, transfer.total);
        let (window, packer) = (&mut turns.window, &mut turns.packer);
        let sent = match what {
            What::Output(ticket, stream) => {
                let chunk = Chunk { ticket, stream, offset, total, bytes };
                self.0.broker.send_chunk((to, transfer.entitled.class), seal, &chunk, packer, window).await
            }
            What::Content(id) => {
                self.0.broker.send_part(to, seal, &Part { id, offset, total, bytes }, packer, window).await
            }
        };
        match sent {
            Sent::Yes => {}
            Sent::LinkDown => return Ok(Piece::LinkDown),
            // It is asked for again, and its key may be here then.
            Sent::NotSealed => return Ok(Piece::Last),
        }
        reach(Point::AfterChunk);
        Ok(if transfer.ask.offset < transfer.end { Piece::More } else { Piece::Last })
    }
}

/// Where something lies that is asked for.
fn place(what: What) -> (Owner, Stream) {
    match what {
        What::Output(ticket, stream) => (Owner::In(ticket), stream),
        What::Content(id) => (Owner::Content(id), Stream::Stdout),
    }
}

/// What came of a turn.
enum Piece {
    More,
    Last,
    LinkDown,
}
