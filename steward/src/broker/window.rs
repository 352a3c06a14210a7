//! How much may be on its way to the broker. Without a limit, everything that waits for a slow link would lie in the
//! client's queue and in the kernel's: hundreds of megabytes, with the heartbeat behind them.
//!
//! The window is measured, not configured: an echo follows each quarter of it; one that is back soon lets it grow,
//! one that takes seconds halves it. So a link of 64 kbit/s and one of 10 Gbit/s both work, each without a setting.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

/// Bytes that may be on their way at the start: eight seconds at 64 kbit/s.
const BYTES_START: usize = 64 * 1024;
/// The least and the most.
const BYTES_MIN: usize = 16 * 1024;
/// See [`BYTES_MIN`].
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// An echo that is back within this time lets the window grow: longer than a satellite takes.
const QUICK: Duration = Duration::from_millis(1500);
/// One that takes longer than this halves it.
const SLOW: Duration = Duration::from_secs(4);
/// How long to wait for room before the link counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

/// What is on its way.
#[derive(Debug)]
pub(crate) struct Window {
    bytes_max: usize,
    unmarked: usize,
    marked: usize,
    marks: VecDeque<Mark>,
    stuck: Duration,
}

#[derive(Debug)]
struct Mark {
    bytes: usize,
    at: Duration,
    back: oneshot::Receiver<()>,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes_max: BYTES_START, unmarked: 0, marked: 0, marks: VecDeque::new(), stuck: STUCK }
    }
}

impl Window {
    /// What one publish should not be longer than, in bytes.
    pub(crate) fn publish_bytes(&self) -> usize {
        self.bytes_max / 2
    }

    /// Waits until `bytes` more may go; `now` reads the clock. False: the link is stuck.
    pub(crate) async fn room(&mut self, bytes: usize, now: impl Fn() -> Duration) -> bool {
        while let Some(mark) = self.marks.front_mut() {
            match mark.back.try_recv() {
                Ok(()) => self.settle(true, now()),
                // The link went down in between: what was on its way is gone, and so is its weight.
                Err(oneshot::error::TryRecvError::Closed) => self.settle(false, now()),
                Err(oneshot::error::TryRecvError::Empty) if self.marked + self.unmarked + bytes <= self.bytes_max => {
                    return true;
                }
                Err(oneshot::error::TryRecvError::Empty) => {
                    match tokio::time::timeout(self.stuck, &mut mark.back).await {
                        Ok(back) => self.settle(back.is_ok(), now()),
                        Err(_) => return false,
                    }
                }
            }
        }
        true
    }

    fn settle(&mut self, back: bool, now: Duration) {
        let Some(mark) = self.marks.pop_front() else { return };
        self.marked = self.marked.saturating_sub(mark.bytes);
        let took = now.saturating_sub(mark.at);
        if !back {
            self.bytes_max = BYTES_START;
        } else if took <= QUICK {
            self.bytes_max = (self.bytes_max * 2).min(BYTES_MAX);
        } else if took >= SLOW {
            self.bytes_max = (self.bytes_max / 2).max(BYTES_MIN);
        }
    }

    /// Counts a publish. True: an echo is due, to be given to [`Self::mark`].
    pub(crate) fn sent(&mut self, bytes: usize) -> bool {
        self.unmarked += bytes;
        self.unmarked >= self.bytes_max / 4
    }

    /// Takes the echo that follows what was sent.
    pub(crate) fn mark(&mut self, back: oneshot::Receiver<()>, now: Duration) {
        self.marked += self.unmarked;
        self.marks.push_back(Mark { bytes: self.unmarked, at: now, back });
        self.unmarked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quick_link_widens_the_window_and_a_slow_one_narrows_it() {
        let mut window = Window::default();
        for _ in 0..20 {
            assert!(window.room(1000, || Duration::ZERO).await);
            assert!(window.sent(BYTES_MAX));
            let (back, echo) = oneshot::channel();
            window.mark(echo, Duration::ZERO);
            back.send(()).unwrap();
        }
        assert!(window.room(1000, || Duration::ZERO).await);
        assert_eq!(window.bytes_max, BYTES_MAX);
        for _ in 0..20 {
            window.sent(BYTES_MAX);
            let (back, echo) = oneshot::channel();
            window.mark(echo, Duration::ZERO);
            back.send(()).unwrap();
            assert!(window.room(1000, || Duration::from_secs(9)).await);
        }
        assert_eq!(window.bytes_max, BYTES_MIN);
    }

    #[tokio::test]
    async fn a_full_window_waits_and_a_dead_link_is_told() {
        let mut window = Window { stuck: Duration::from_millis(5), ..Window::default() };
        assert!(window.room(10 * BYTES_START, || Duration::ZERO).await, "the first always goes");
        window.sent(BYTES_START);
        let (back, echo) = oneshot::channel::<()>();
        window.mark(echo, Duration::ZERO);
        assert!(!window.room(1, || Duration::ZERO).await);
        drop(back);
        assert!(window.room(1, || Duration::ZERO).await, "what went down with the link weighs nothing");
    }
}
