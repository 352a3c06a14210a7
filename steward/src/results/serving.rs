//! Serving what others ask for: piece by piece in turns, so that many transfers share the link fairly, and never more
//! on its way than the link has shown to take.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::name::NodeName;
use protocol::outcome::Stream;

use super::{Ask, Results, What};
use crate::blobs::Owner;
use crate::broker::wire::chunk::Chunk;
use crate::broker::wire::content::Part;
use crate::broker::wire::pack::Packer;
use crate::broker::{Sent, Window};
use crate::crash_points::{Point, reach};

/// Transfers that take turns; more are dropped and asked for again.
const TRANSFERS_MAX: usize = 256;

/// An output on its way to the sender of its message, or a content to the receiver of its own.
#[derive(Debug)]
struct Transfer {
    ask: Ask,
    /// The end of what was asked for, in bytes; not beyond that of the whole.
    end: u64,
    total: u64,
    /// Whether its message came sealed.
    seal: bool,
}

impl Results {
    /// Serves until the broker ends.
    pub(crate) async fn serving(self) -> anyhow::Result<()> {
        let mut asked = self.0.asked.lock().await;
        let mut turns: VecDeque<Transfer> = VecDeque::new();
        let mut window = Window::default();
        let mut packer = Packer::default();
        loop {
            // Wait only when there is nothing to do.
            let ask = if turns.is_empty() { asked.recv().await } else { asked.try_recv().ok() };
            match ask {
                Some(ask) => self.admit(ask, &mut turns).await?,
                None if turns.is_empty() => return Ok(()),
                None => {}
            }
            let Some(mut transfer) = turns.pop_front() else { continue };
            match self.piece(&mut transfer, &mut window, &mut packer).await? {
                Piece::More => turns.push_back(transfer),
                Piece::Last => {}
                // Whoever still wants something asks again once the link is back.
                Piece::LinkDown => turns.clear(),
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
        let (entitled, total): (Option<(NodeName, bool)>, _) = match found.await? {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, ?what, "it can't be read whose message this is");
                return Ok(());
            }
        };
        let is_content = matches!(what, What::Content(_));
        let Some((_, seal)) = entitled.as_ref().filter(|(entitled, _)| *entitled == ask.from) else {
            if entitled.is_none() && is_content {
                self.nothing(&ask).await;
            } else {
                self.0.broker.counters().refused.one();
                tracing::debug!(from = %ask.from, ?what, "asked for something that is not its own, or is gone");
            }
            return Ok(());
        };
        let seal = *seal;
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
            *transfer = Transfer { ask, end, total, seal };
        } else if turns.len() < TRANSFERS_MAX {
            turns.push_back(Transfer { ask, end, total, seal });
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

    async fn piece(&self, transfer: &mut Transfer, window: &mut Window, packer: &mut Packer) -> anyhow::Result<Piece> {
        let Ask { what, offset, .. } = transfer.ask;
        let left = transfer.end.saturating_sub(offset);
        if left == 0 {
            return Ok(Piece::Last);
        }
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.0.broker.chunk_bytes_max(window));
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
        let (to, seal, total) = (&transfer.ask.from, transfer.seal, transfer.total);
        let sent = match what {
            What::Output(ticket, stream) => {
                let chunk = Chunk { ticket, stream, offset, total, bytes };
                self.0.broker.send_chunk(to, seal, &chunk, packer, window).await
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
