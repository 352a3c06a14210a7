//! Showing outputs that are being written to those whose messages write them: only to who asks, for as long as that
//! holds, gathered where little comes at a time, and never far beyond what was said to have arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use protocol::outcome::Stream;

use super::audience::TELL_BYTES;
use super::{Results, Wish};
use crate::broker::wire::live::{Follow, Piece, index};
use crate::broker::wire::pack::Packer;
use crate::broker::{Sent, Window};
use crate::clock::Clock;
use crate::methods::live::{Kept, Key, LiveOutput};

/// Outputs that are followed at the same time by all others together, and by one; more are refused, and counted.
const FOLLOWERS_MAX: usize = 256;
/// See [`FOLLOWERS_MAX`].
const FOLLOWERS_EACH_MAX: usize = 64;

/// How long a wish to follow holds; it is repeated three times as often.
const LEASE: Duration = Duration::from_secs(30);

/// How long what is written is gathered after a piece, so that a piece has more than a few bytes.
const GATHER: Duration = Duration::from_millis(250);

/// Bytes of a stream that may be on their way, or lost, without a word that some have arrived.
const AHEAD_MAX: u64 = 2 * TELL_BYTES;

/// A word without `again` counts as one that something is lost if nothing was sent for so long.
const QUIET: Duration = Duration::from_secs(5);

/// How soon a run is asked again that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Somebody who follows an output.
#[derive(Debug)]
struct Follower {
    /// The run that is shown; 0 before any is.
    run: u64,
    /// Up to where each stream was sent.
    offset: [u64; 2],
    /// Up to where each stream has arrived.
    told: [u64; 2],
    until: Duration,
    /// When the next piece may go.
    next: Duration,
    /// When the last one went.
    last: Duration,
    /// Whether to say how much there is, even if that is nothing new.
    greet: bool,
    /// The link did not take the last piece: it waits for the next one, or for a word.
    is_stuck: bool,
}

/// All who follow something here.
struct Feed {
    clock: Clock,
    followers: BTreeMap<Key, Follower>,
    window: Window,
    packer: Packer,
}

impl Results {
    /// Shows outputs until the node stops.
    pub(crate) async fn feeding(self) -> anyhow::Result<()> {
        let mut wishes = self.0.wished.lock().await;
        let mut ups = self.0.broker.ups();
        let (clock, followers) = (Clock::start(), BTreeMap::new());
        let mut feed = Feed { clock, followers, window: Window::default(), packer: Packer::default() };
        loop {
            let pause = feed.pause(&self);
            tokio::select! {
                biased;
                wish = wishes.recv() => match wish {
                    Some(wish) => self.follow(wish, &mut feed),
                    None => return Ok(()),
                },
                up = ups.changed() => match up {
                    Ok(()) => feed.followers.values_mut().for_each(Follower::rewind),
                    Err(_) => return Ok(()),
                },
                () = self.0.live.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.feed(&mut feed).await?;
            self.0.live.follow(!feed.followers.is_empty());
        }
    }

    /// Takes a wish of the sender of a message; one for a message that does not run is kept until it does.
    fn follow(&self, Wish { from, follow }: Wish, feed: &mut Feed) {
        let Follow { id, run, have, again, stop } = follow;
        let (now, key) = (feed.clock.elapsed(), (from, id));
        if stop {
            feed.followers.remove(&key);
            return;
        }
        if self.0.live.is_of_another(&key) {
            self.0.broker.counters().refused.one();
            tracing::debug!(from = %key.0, %id, "wants to follow an output that is not its own");
        }
        if !feed.followers.contains_key(&key) {
            let same = feed.followers.keys().filter(|(from, _)| *from == key.0).count();
            if feed.followers.len() >= FOLLOWERS_MAX || same >= FOLLOWERS_EACH_MAX {
                self.0.broker.counters().bulk_dropped.one();
                return;
            }
        }
        // Told at once, so that nothing is missed that is written from now on.
        self.0.live.follow(true);
        let live = self.0.live.get(&key);
        let follower = feed.followers.entry(key).or_insert_with(|| Follower::new(now));
        follower.until = now + LEASE;
        if live.is_some_and(|live| live.run == run) {
            follower.turn_to(run);
            follower.told = have;
            follower.offset = [0, 1].map(|stream| follower.offset[stream].max(have[stream]));
        } else {
            follower.told = [0; 2];
        }
        if again || follower.is_stuck || follower.last + QUIET <= now {
            follower.rewind();
        }
        follower.greet |= again;
    }

    /// Sends to each what is due, one piece at a time.
    async fn feed(&self, feed: &mut Feed) -> anyhow::Result<()> {
        let now = feed.clock.elapsed();
        feed.followers.retain(|_, follower| follower.until > now);
        let is_due = |(key, follower): &(&Key, &Follower)| {
            follower.next <= now && self.0.live.get(key).is_some_and(|live| follower.wants(&live))
        };
        let due: Vec<Key> = feed.followers.iter().filter(is_due).map(|(key, _)| key.clone()).collect();
        for key in due {
            let (Some(live), Some(follower)) = (self.0.live.get(&key), feed.followers.get_mut(&key)) else { continue };
            follower.turn_to(live.run);
            let mut sent = Shown::Nothing;
            for stream in Stream::ALL {
                let piece_max = self.0.broker.chunk_bytes_max(&feed.window);
                let Some(piece) = self.next(&key, &live, follower, stream, piece_max).await? else { continue };
                let (end, is_full) = (piece.offset + piece.bytes.len() as u64, piece.bytes.len() >= piece_max);
                match self.0.broker.send_live(&key.0, live.sealed, &piece, &mut feed.packer, &mut feed.window).await {
                    Sent::Yes => follower.offset[index(stream)] = end,
                    Sent::LinkDown | Sent::NotSealed => {
                        follower.is_stuck = true;
                        break;
                    }
                }
                follower.greet = false;
                sent = if is_full || sent == Shown::Full { Shown::Full } else { Shown::Some };
            }
            let now = feed.clock.elapsed();
            match sent {
                // More of it may be there.
                Shown::Full => (follower.last, follower.next) = (now, now),
                Shown::Some => (follower.last, follower.next) = (now, now + GATHER),
                Shown::Nothing => follower.next = now + PAUSE,
            }
        }
        Ok(())
    }

    /// The next piece of a stream, if there is one that may go.
    async fn next(
        &self,
        key: &Key,
        live: &LiveOutput,
        follower: &Follower,
        stream: Stream,
        piece_max: usize,
    ) -> anyhow::Result<Option<Piece>> {
        let (lengths, offset) = (live.lengths(), follower.offset[index(stream)]);
        let greets = follower.greet && stream == Stream::Stdout;
        let room = (follower.told[index(stream)] + AHEAD_MAX).saturating_sub(offset);
        let len = lengths[index(stream)].saturating_sub(offset).min(room).min(piece_max as u64);
        let bytes = match usize::try_from(len) {
            Ok(len @ 1..) => match live.ask(stream, offset, len).await {
                Some(Kept::Here(bytes)) => bytes,
                Some(Kept::InFile(filed)) => {
                    let (blobs, ticket, end) = (self.0.blobs.clone(), live.ticket, filed.min(offset + len as u64));
                    let read = move || blobs.read_part(ticket, stream, offset, end);
                    match tokio::task::spawn_blocking(read).await? {
                        Ok(bytes) => bytes.into(),
                        Err(error) => {
                            // It has its name now, and its message has ended.
                            tracing::debug!(%error, id = %key.1, "an output that is followed can't be read");
                            return Ok(None);
                        }
                    }
                }
                None => return Ok(None),
            },
            Ok(0) | Err(_) if greets => Bytes::new(),
            Ok(0) | Err(_) => return Ok(None),
        };
        // A length that is older than the bytes would have them lie outside of it.
        let lengths = live.lengths();
        let end = offset + bytes.len() as u64;
        if (bytes.is_empty() && !greets) || end > lengths[index(stream)] {
            return Ok(None);
        }
        Ok(Some(Piece { id: key.1, run: live.run, stream, offset, lengths, bytes }))
    }
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Some,
    Full,
}

impl Feed {
    /// How long until something is due that nobody tells of.
    fn pause(&self, results: &Results) -> Duration {
        let now = self.clock.elapsed();
        let next = self.followers.iter().map(|(key, follower)| match results.0.live.get(key) {
            Some(live) if follower.wants(&live) => follower.next.min(follower.until),
            Some(_) | None => follower.until,
        });
        next.min().unwrap_or(now + LEASE).saturating_sub(now)
    }
}

impl Follower {
    fn new(now: Duration) -> Self {
        let zero = [0; 2];
        Self { run: 0, offset: zero, told: zero, until: now, next: now, last: now, greet: true, is_stuck: false }
    }

    /// Goes back to what has arrived.
    fn rewind(&mut self) {
        self.offset = self.told;
        self.is_stuck = false;
    }

    /// Shows this run from now on, from its beginning if it is another one.
    fn turn_to(&mut self, run: u64) {
        if self.run != run {
            (self.run, self.offset, self.told, self.greet) = (run, [0; 2], [0; 2], true);
        }
    }

    /// Whether there is anything that may go.
    fn wants(&self, live: &LiveOutput) -> bool {
        let lengths = live.lengths();
        let has = |stream: usize| {
            lengths[stream] > self.offset[stream] && self.offset[stream] < self.told[stream].saturating_add(AHEAD_MAX)
        };
        !self.is_stuck && (self.greet || self.run != live.run || has(0) || has(1))
    }
}
