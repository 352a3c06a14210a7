//! When a lane that has something to send may send it: at once, unless it is a stream. What a publish costs, here and at
//! the receiver (transactions, syncs, everybody's wake-up), is about what fifty messages in it cost; so a stream goes out in
//! groups. A message after a quiet moment, or one after the other, never waits.

use crate::limits::{STREAM_MESSAGES_MAX, STREAM_MESSAGES_MIN, STREAM_PAUSE};
use crate::time::Mono;

/// How the last messages of a lane went out.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When, and how many in that millisecond.
    last: Option<(Mono, usize)>,
}

impl Pace {
    /// So many messages go out now.
    pub(crate) fn sent(&mut self, messages: usize, now: Mono) {
        if messages > 0 {
            let before = self.last.filter(|(at, _)| *at == now).map_or(0, |(_, before)| before);
            self.last = Some((now, before + messages));
        }
    }

    /// Until when `queued` messages wait for more to go with them; none if they go now.
    pub(crate) fn hold(&self, queued: usize, now: Mono) -> Option<Mono> {
        let (at, messages) = self.last?;
        let until = at.after(STREAM_PAUSE);
        let few = (1..STREAM_MESSAGES_MAX).contains(&queued);
        (few && messages >= STREAM_MESSAGES_MIN && at < now && now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_out_in_groups() {
        let mut pace = Pace::default();
        assert_eq!(pace.hold(1, Mono(0)), None, "the first goes at once");
        (0..STREAM_MESSAGES_MIN).for_each(|_| pace.sent(1, Mono(0)));
        assert_eq!(pace.hold(1, Mono(0)), None, "so do those that come with it");
        assert_eq!(pace.hold(1, Mono(5)), Some(Mono(20)), "those behind a group gather");
        assert_eq!(pace.hold(STREAM_MESSAGES_MAX, Mono(5)), None, "a whole group goes");
        assert_eq!(pace.hold(1, Mono(20)), None, "and so does what has waited long enough");
    }

    #[test]
    fn one_after_the_other_never_waits() {
        let mut pace = Pace::default();
        for at in 0..50 {
            assert_eq!(pace.hold(1, Mono(at)), None);
            pace.sent(1, Mono(at));
        }
    }
}
