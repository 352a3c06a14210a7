//! What is in a spool after everything that can happen to it: nothing is there twice, and what is missing is counted.

use proptest::prelude::*;
use protocol::time::Wall;

use super::*;

fn line(text: &str) -> Line {
    Line { at: Wall(1_700_000_000_000), host: "ship1".to_owned(), bytes: text.as_bytes().to_vec() }
}

fn lines(from: u64, to: u64) -> Vec<Line> {
    (from..to).map(|number| line(&format!("<13>line {number} {}", "x".repeat(1000)))).collect()
}

/// Numbers of the lines that a reader gets up to the end, and of how many it is told that they are missing.
fn read_all(spool: &mut Spool, mut from: u64) -> (Vec<u64>, u64) {
    let (mut numbers, mut lost) = (Vec::new(), 0);
    loop {
        let portion = spool.read(from, 7, 5000).unwrap();
        if portion.next == from {
            return (numbers, lost);
        }
        lost += portion.lost;
        let text = |line: &Line| String::from_utf8(line.bytes.clone()).unwrap();
        numbers.extend(portion.lines.iter().map(|line| text(line).split(' ').nth(1).unwrap().parse::<u64>().unwrap()));
        assert_eq!(portion.next - from, portion.lost + portion.lines.len() as u64);
        from = portion.next;
    }
}

#[test]
fn lines_come_out_as_they_went_in_after_they_are_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 0).unwrap();
    assert_eq!(spool.append(&lines(0, 20), None).0, 0);
    assert_eq!(read_all(&mut spool, 0), (vec![], 0), "they are not durable");
    spool.sync().unwrap();
    assert_eq!(spool.append(&lines(20, 30), Some("s=1".to_owned())).0, 0);
    assert_eq!(read_all(&mut spool, 0), ((0..20).collect(), 0));
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool, 13), ((13..30).collect(), 0));
    drop(spool);
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 5).unwrap();
    assert_eq!((spool.journal(), spool.waiting()), (Some("s=1"), 25));
    assert_eq!(read_all(&mut spool, 5), ((5..30).collect(), 0));
}

#[test]
fn what_a_power_cut_leaves_half_is_cut_off_and_the_rest_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 0).unwrap();
    for from in [0, 10, 20] {
        assert_eq!(spool.append(&lines(from, from + 10), None).0, 0);
    }
    let path = spool.folder.join(name(0));
    drop(spool);
    let all = fs::read(&path).unwrap();
    for cut in [all.len() - 1, all.len() / 3 * 2 + 100] {
        fs::write(&path, &all[..cut]).unwrap();
        let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 0).unwrap();
        assert_eq!(read_all(&mut spool, 0), ((0..20).collect(), 0));
        assert_eq!(spool.append(&lines(20, 21), None).0, 0);
        spool.sync().unwrap();
        assert_eq!(read_all(&mut spool, 0), ((0..21).collect(), 0));
    }
    // Its reader has got further than what is left: numbers never come twice.
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 40).unwrap();
    assert_eq!(spool.append(&lines(40, 42), None).0, 0);
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool, 40), ((40..42).collect(), 0));
}

#[test]
fn when_it_is_full_the_oldest_go_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 0).unwrap();
    let mut dropped = 0;
    for from in (0..3000).step_by(10) {
        dropped += spool.append(&lines(from, from + 10), None).0;
    }
    spool.sync().unwrap();
    assert!(spool.bytes() <= SPOOL_BYTES_MIN && dropped > 1900 && dropped < 2200, "{dropped}");
    let (numbers, lost) = read_all(&mut spool, 0);
    assert_eq!((lost, numbers), (dropped, (dropped..3000).collect()));
    // What is with the reader is not lost when it goes.
    assert_eq!((3000..3800).map(|n| spool.append(&lines(n, n + 1), None).0).sum::<u64>(), 0);
    spool.release(3700).unwrap();
    assert!(spool.bytes() < SPOOL_BYTES_MIN / 4 && spool.waiting() == 100);
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool, 3700), ((3700..3800).collect(), 0));
}

#[test]
fn when_it_is_full_the_newest_go_and_are_counted_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |floor| Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Newest, floor).unwrap();
    let mut spool = open(0);
    let mut dropped = 0;
    for from in (0..3000).step_by(10) {
        dropped += spool.append(&lines(from, from + 10), None).0;
        spool.sync().unwrap();
    }
    let kept = 3000 - dropped;
    assert!(
        spool.bytes() <= SPOOL_BYTES_MIN + 64 && spool.is_full() && kept > 900,
        "{kept} of {} bytes",
        spool.bytes()
    );
    drop(spool);
    let mut spool = open(0);
    assert_eq!(read_all(&mut spool, 0), ((0..kept).collect(), dropped));
    spool.release(kept).unwrap();
    assert_eq!(spool.append(&lines(3000, 3010), None).0, 0);
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool, kept - 1), ((kept - 1..kept).chain(3000..3010).collect(), dropped));
    drop(spool);
    assert_eq!(read_all(&mut open(kept), kept), ((3000..3010).collect(), dropped));
}

#[test]
fn what_comes_after_lines_were_dropped_is_read_by_whoever_has_read_that_they_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Newest, 0).unwrap();
    let mut next = 0;
    for _ in 0..3 {
        while spool.append(&lines(next, next + 10), None).0 == 0 {
            next += 10;
        }
        next += 10;
        spool.sync().unwrap();
        let (_, lost) = read_all(&mut spool, next - 20);
        assert_eq!(lost, 10);
        spool.release(next).unwrap();
        assert_eq!(spool.append(&lines(next, next + 5), None).0, 0);
        spool.sync().unwrap();
        assert_eq!(read_all(&mut spool, next), ((next..next + 5).collect(), 0));
        next += 5;
    }
}

#[test]
fn a_segment_that_is_gone_or_can_not_be_read_is_a_number_of_lost_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 0).unwrap();
    for number in 0..500 {
        assert_eq!(spool.append(&lines(number, number + 1), None).0, 0);
    }
    spool.sync().unwrap();
    let (second, third) = (spool.segments[1], spool.segments[2]);
    fs::remove_file(spool.folder.join(name(second.first))).unwrap();
    let file = File::options().write(true).open(spool.folder.join(name(third.first))).unwrap();
    file.write_all_at(b"garbage", 5000).unwrap();
    let (numbers, lost) = read_all(&mut spool, 0);
    assert_eq!(numbers.len() as u64 + lost, 500);
    assert!(lost >= second.next - second.first && numbers.is_sorted(), "{lost}");
    assert_eq!(numbers.iter().filter(|number| **number >= third.next).count() as u64, 500 - third.next);
}

#[test]
fn a_portion_is_of_one_day_and_has_limits() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), SPOOL_BYTES_MIN, Overflow::Oldest, 0).unwrap();
    let day = 24 * 3600 * 1000;
    let all: Vec<Line> = [1, 2, day - 1, day, day + 1].map(|at| Line { at: Wall(at), ..line("<13>x") }).into();
    assert_eq!(spool.append(&all, None).0, 0);
    spool.sync().unwrap();
    let numbers = |portion: Portion| (portion.next, portion.lines.len());
    assert_eq!(numbers(spool.read(0, 100, 1000).unwrap()), (3, 3));
    assert_eq!(numbers(spool.read(3, 100, 1000).unwrap()), (5, 2));
    assert_eq!(numbers(spool.read(0, 2, 1000).unwrap()), (2, 2));
    assert_eq!(numbers(spool.read(0, 100, 6).unwrap()), (1, 1), "one line always fits");
    assert_eq!(numbers(spool.read(5, 100, 1000).unwrap()), (5, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is done to it, a reader gets each line once or is told that it is missing.
    #[test]
    fn every_number_is_read_once_or_counted(
        newest in any::<bool>(),
        steps in proptest::collection::vec((0..6_u8, 1..120_u64), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let overflow = if newest { Overflow::Newest } else { Overflow::Oldest };
        let open = |floor| Spool::open(dir.path(), SPOOL_BYTES_MIN, overflow, floor).unwrap();
        let (mut spool, mut next, mut reader, mut seen, mut lost) = (open(0), 0, 0, Vec::new(), 0);
        for (step, many) in steps {
            match step {
                0..=2 => {
                    assert!(spool.append(&lines(next, next + many), None).1.is_ok());
                    next += many;
                }
                3 => spool.sync().unwrap(),
                4 => {
                    let (numbers, missing) = read_all(&mut spool, reader);
                    reader += numbers.len() as u64 + missing;
                    seen.extend(numbers);
                    lost += missing;
                    spool.release(reader).unwrap();
                }
                _ => {
                    spool.sync().unwrap();
                    std::mem::drop(spool);
                    spool = open(reader);
                }
            }
        }
        spool.sync().unwrap();
        let (numbers, missing) = read_all(&mut spool, reader);
        seen.extend(numbers);
        prop_assert_eq!(seen.len() as u64 + lost + missing, next);
        prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
