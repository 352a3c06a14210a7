//! Two ends of a connection, and a way between them that loses, repeats and holds back, in a time of our own.

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Both ends, and what is on its way to each.
struct Pair {
    ends: [Stream; 2],
    ways: [VecDeque<Frame>; 2],
    written: [Vec<u8>; 2],
    now: Duration,
}

impl Pair {
    fn new() -> Self {
        Self { ends: [Stream::new(), Stream::new()], ways: Default::default(), written: Default::default(), now: at(0) }
    }

    /// One end says what it has to say; so many of its words are lost.
    fn speak(&mut self, end: usize, lose: bool) {
        while let Some(frame) = self.ends[end].next(self.now, 1000) {
            if !lose {
                self.ways[end].push_back(frame);
            }
        }
    }

    fn hear(&mut self, end: usize) {
        while let Some(frame) = self.ways[1 - end].pop_front() {
            let heard = self.ends[end].hear(self.now, &frame);
            assert_eq!(heard, Ok(()), "{frame:?} {:?} {:?}", self.ends[end].near, self.ends[1 - end].away);
        }
    }

    fn write(&mut self, end: usize, bytes_max: usize) -> bool {
        match self.ends[end].take(bytes_max) {
            Taken::Bytes(bytes) => {
                self.ends[end].wrote(self.now, bytes.len());
                self.written[end].extend(bytes);
                true
            }
            Taken::End => {
                self.ends[end].passed_end();
                false
            }
            Taken::Nothing => false,
        }
    }

    /// Nothing is lost any more; until nothing moves.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.now += at(1000);
            for end in 0..2 {
                self.speak(end, false);
                self.hear(1 - end);
                while self.write(end, 100_000) {}
            }
        }
    }
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from((index * 31 + index / 251) % 256).unwrap() ^ seed).collect()
}

proptest! {
    /// Whatever is lost on the way, each end writes what the other one has read, to the end, and both know that it is over.
    #[test]
    fn everything_arrives_once_and_in_order(
        lengths in [0_usize..700_000, 0_usize..20_000],
        steps in proptest::collection::vec((0_usize..2, 0_u8..8, 1_usize..200_000), 0..60),
    ) {
        let mut pair = Pair::new();
        let all = [noise(1, lengths[0]), noise(2, lengths[1])];
        let (mut read, mut ended) = ([0, 0], [false, false]);
        let mut feed = |pair: &mut Pair, end: usize, most: usize| {
            let room = pair.ends[end].read_room().min(most).min(all[end].len() - read[end]);
            pair.ends[end].push(pair.now, &all[end][read[end]..read[end] + room]);
            read[end] += room;
            if read[end] == all[end].len() && !ended[end] {
                pair.ends[end].finish(pair.now);
                ended[end] = true;
            }
        };
        for (end, what, size) in steps {
            pair.now += at(size as u64 / 100);
            match what {
                0 | 1 => feed(&mut pair, end, size),
                2 => pair.speak(end, true),
                3 => pair.speak(end, false),
                4 => pair.hear(end),
                5 => drop(pair.write(end, size)),
                6 => {
                    // The link is cut and comes back.
                    pair.ways = Default::default();
                    pair.ends[end].link_up(pair.now);
                }
                _ => {
                    let again: Vec<Frame> = pair.ways[end].iter().cloned().collect();
                    pair.ways[end].extend(again);
                }
            }
            for end in &pair.ends {
                prop_assert!(end.away.ring.len() <= WINDOW_BYTES && end.near.ring.len() <= WINDOW_BYTES);
            }
        }
        for _ in 0..10 {
            feed(&mut pair, 0, usize::MAX);
            feed(&mut pair, 1, usize::MAX);
            pair.settle();
        }
        prop_assert!(pair.written[1] == all[0] && pair.written[0] == all[1]);
        prop_assert!(pair.ends[0].is_over() && pair.ends[1].is_over(), "{:?}", pair.ends);
        prop_assert!(pair.ends.iter().all(|end| !end.is_ready()));
    }
}

#[test]
fn a_reader_that_is_slow_stops_the_other_side() {
    let mut pair = Pair::new();
    for _ in 0..20 {
        let room = pair.ends[0].read_room();
        pair.ends[0].push(pair.now, &vec![7; room]);
        pair.now += at(5000);
        for end in 0..2 {
            pair.speak(end, false);
            pair.hear(1 - end);
        }
    }
    assert_eq!((pair.ends[0].read_room(), pair.ends[0].under_way()), (0, 0));
    assert_eq!((pair.ends[1].near.ring.len(), pair.ends[0].away.ring.len()), (WINDOW_BYTES, WINDOW_BYTES));
    // It is asked now and then whether there is room, and more seldom each time.
    let before = pair.ends[0].due().unwrap();
    assert!(before <= pair.now + ASK_LAST && pair.ends[0].away.pause == ASK_LAST, "{before:?}");
    assert!(pair.write(1, WINDOW_BYTES));
    pair.speak(1, false);
    pair.hear(0);
    assert!(pair.ends[0].is_ready(), "the room was told at once");
}

#[test]
fn one_direction_ends_and_the_other_goes_on() {
    let mut pair = Pair::new();
    pair.ends[0].push(pair.now, b"question");
    pair.ends[0].finish(pair.now);
    pair.settle();
    assert_eq!((&*pair.written[1], pair.ends[1].take(9)), (&b"question"[..], Taken::End));
    assert!(!pair.ends[0].is_over() && !pair.ends[1].is_over());
    pair.ends[1].push(pair.now, b"answer");
    pair.settle();
    assert_eq!(pair.written[0], b"answer");
    pair.ends[1].finish(pair.now);
    pair.settle();
    assert!(pair.ends[0].is_over() && pair.ends[1].is_over());
}

#[test]
fn what_can_not_be_is_nonsense() {
    let mut stream = Stream::new();
    let frame =
        |offset: u64, len: usize, have: u64| Frame { offset, bytes: vec![0; len].into(), have, ..Frame::default() };
    let window = WINDOW_BYTES as u64;
    assert_eq!(stream.hear(at(0), &frame(0, 0, 1)), Err(Nonsense::TooMuchHad));
    assert_eq!(stream.hear(at(0), &frame(1, WINDOW_BYTES, 0)), Err(Nonsense::NoRoom));
    assert_eq!(stream.hear(at(0), &frame(window + 1, 0, 0)), Ok(()), "it has no bytes");
    assert_eq!(stream.hear(at(0), &Frame { end: true, ..frame(0, 3, 0) }), Ok(()));
    assert_eq!(stream.hear(at(0), &Frame { end: true, ..frame(0, 3, 0) }), Ok(()), "it came again");
    assert_eq!(stream.hear(at(0), &frame(0, 5, 0)), Err(Nonsense::BehindEnd));
}

#[test]
fn nothing_is_sent_again_before_the_other_side_misses_it() {
    let mut stream = Stream::new();
    stream.push(at(0), b"lost");
    let first = stream.next(at(0), 1000).unwrap();
    assert_eq!((&first.bytes[..], first.open, first.sent), (&b"lost"[..], true, 0));
    assert_eq!(stream.next(at(1999), 1000), None);
    let asked = stream.next(at(2000), 1000).unwrap();
    assert_eq!((asked.bytes.len(), asked.open, asked.sent), (0, true, 4));
    let mut other = Stream::new();
    other.hear(at(2000), &asked).unwrap();
    let told = other.next(at(2000), 1000).unwrap();
    assert_eq!((told.again, told.have, told.open), (true, 0, false));
    stream.hear(at(2001), &told).unwrap();
    let again = stream.next(at(2001), 1000).unwrap();
    assert_eq!((&again.bytes[..], again.offset, again.open), (&b"lost"[..], 0, false));
}
