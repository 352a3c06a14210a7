//! Serving what others ask for: piece by piece in turns, so that many transfers share the link fairly, and never more
//! on its way than the link has shown to take.

use std::collections::VecDeque;

use protocol::name::NodeName;

use super::{Ask, Results};
use crate::blobs::Owner;
use crate::broker::wire::chunk::Chunk;
use crate::broker::wire::pack::Packer;
use crate::broker::{Sent, Window};
use crate::crash_points::{Point, reach};

/// Transfers that take turns; more are dropped and asked for again.
const TRANSFERS_MAX: usize = 256;

/// An output on its way to the sender of its message.
#[derive(Debug)]
struct Transfer {
    ask: Ask,
    /// The end of what was asked for, in bytes; not beyond the output's.
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

    /// Takes a request if it comes from the sender of the message; a new one for an output replaces the one before.
    async fn admit(&self, ask: Ask, turns: &mut VecDeque<Transfer>) -> anyhow::Result<()> {
        let (sender_of, blobs) = (self.0.sender_of.clone(), self.0.blobs.clone());
        let (ticket, stream) = (ask.ticket, ask.stream);
        let found = tokio::task::spawn_blocking(move || {
            let sender = sender_of(ticket);
            let total = blobs.open_whole(Owner::In(ticket), stream).and_then(|file| Ok(file.metadata()?.len()));
            (sender, total)
        });
        let (sender, total): (Option<(NodeName, bool)>, _) = found.await?;
        let Some((_, seal)) = sender.filter(|(sender, _)| *sender == ask.from) else {
            self.0.broker.counters().refused.one();
            tracing::debug!(from = %ask.from, ticket = ask.ticket.0, "asked for an output that is not its own, or is gone");
            return Ok(());
        };
        let Ok(total) = total else {
            tracing::debug!(
                ticket = ask.ticket.0,
                stream = ask.stream.as_str(),
                "asked for an output that is not here"
            );
            return Ok(());
        };
        let same = |transfer: &Transfer| {
            (&transfer.ask.from, transfer.ask.ticket, transfer.ask.stream) == (&ask.from, ask.ticket, ask.stream)
        };
        let end = ask.offset.saturating_add(ask.len).min(total);
        if let Some(transfer) = turns.iter_mut().find(|transfer| same(transfer)) {
            *transfer = Transfer { ask, end, total, seal };
        } else if turns.len() < TRANSFERS_MAX {
            turns.push_back(Transfer { ask, end, total, seal });
        } else {
            self.0.broker.counters().bulk_dropped.one();
        }
        Ok(())
    }

    async fn piece(&self, transfer: &mut Transfer, window: &mut Window, packer: &mut Packer) -> anyhow::Result<Piece> {
        let Ask { ticket, stream, offset, .. } = transfer.ask;
        let left = transfer.end.saturating_sub(offset);
        if left == 0 {
            return Ok(Piece::Last);
        }
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.0.broker.chunk_bytes_max(window));
        let blobs = self.0.blobs.clone();
        let read = tokio::task::spawn_blocking(move || blobs.read(Owner::In(ticket), stream, offset, len)).await?;
        let bytes = match read {
            Ok(bytes) if bytes.is_empty() => return Ok(Piece::Last),
            Ok(bytes) => bytes::Bytes::from(bytes),
            Err(error) => {
                // The sender may have confirmed it in between; then the file is gone.
                tracing::debug!(%error, ticket = ticket.0, "an output can't be read");
                return Ok(Piece::Last);
            }
        };
        transfer.ask.offset += bytes.len() as u64;
        let chunk = Chunk { ticket, stream, offset, total: transfer.total, bytes };
        match self.0.broker.send_chunk(&transfer.ask.from, transfer.seal, &chunk, packer, window).await {
            Sent::Yes => {}
            Sent::LinkDown => return Ok(Piece::LinkDown),
            // It is asked for again, and its key may be here then.
            Sent::NotSealed => return Ok(Piece::Last),
        }
        reach(Point::AfterChunk);
        Ok(if transfer.ask.offset < transfer.end { Piece::More } else { Piece::Last })
    }
}

/// What came of a turn.
enum Piece {
    More,
    Last,
    LinkDown,
}
