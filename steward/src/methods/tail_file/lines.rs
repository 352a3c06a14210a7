//! Lines out of the bytes of a file: whole ones only, those that are wanted, not more than are wanted, and a word about each
//! that is left out. It reads nothing itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::Ask;

/// Bytes of lines that travel together; as base64 they still fit into a message.
pub(super) const PIECE_BYTES: usize = 128 * 1024;

/// Bytes that a mark may have.
const MARK_BYTES_MAX: usize = 512;

/// The time for which lines are counted that may come in it.
const WINDOW: Duration = Duration::from_secs(1);

/// How far a file was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes.
    pub(super) offset: u64,
    /// Where this is in the middle of a line that is too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
    /// Lines before this that were too many, and of which nothing was said yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    left_out: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The rest of a line of which the beginning was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    /// So many bytes of it are left out.
    bytes: u64,
    /// Whether its beginning is shown.
    shown: bool,
}

/// What was done since the message began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Lines that were sent.
    pub(super) lines: u64,
    /// Lines that were wanted, and were too many.
    pub(super) left_out: u64,
    /// Bytes that are known to be lost: their file was gone or emptied before they were read.
    pub(super) lost_bytes: u64,
}

/// How many lines may come.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: Option<u32>,
    begun: Duration,
    room: u64,
    earned: u64,
}

impl Rate {
    /// So many lines a second, and at once as many as in `away`, in which nothing could be read.
    pub(super) fn new(per_second: Option<u32>, away: Duration) -> Self {
        let mut rate = Self { per_second, begun: Duration::ZERO, room: u64::from(per_second.unwrap_or(0)), earned: 0 };
        rate.held(away);
        rate.room += std::mem::take(&mut rate.earned);
        rate
    }

    /// Nothing could be read for so long: what would have come in that time still may.
    pub(super) fn held(&mut self, time: Duration) {
        let lines =
            u64::from(self.per_second.unwrap_or(0)).saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.earned = self.earned.saturating_add(lines / 1000);
    }

    fn allows(&mut self, now: Duration) -> bool {
        let Some(per_second) = self.per_second else { return true };
        if self.is_over(now) {
            (self.begun, self.room) = (now, u64::from(per_second) + std::mem::take(&mut self.earned));
        }
        let allowed = self.room > 0;
        self.room = self.room.saturating_sub(1);
        allowed
    }

    fn is_over(&self, now: Duration) -> bool {
        now >= self.begun + WINDOW
    }

    fn mark(&self, left_out: u64) -> String {
        format!("{left_out} lines left out: more than {} a second", self.per_second.unwrap_or(0))
    }
}

/// A line that steward itself has written, in place of what is not there.
pub(super) fn mark(text: &str) -> String {
    format!("[steward: {text}]\n")
}

/// Takes lines.
pub(super) struct Taker<'a> {
    pub(super) ask: &'a Ask,
    pub(super) rate: &'a mut Rate,
    pub(super) totals: &'a mut Totals,
    /// The time, from some point on.
    pub(super) now: Duration,
}

impl Taker<'_> {
    /// Whether another line fits.
    pub(super) fn has_room(&self, piece: &[u8]) -> bool {
        piece.len() + self.ask.line_max + 2 * MARK_BYTES_MAX <= PIECE_BYTES
    }

    /// Takes the lines of a block that begins where the file was read up to. With `ended` nothing will ever be written behind
    /// it, so that a last line without its end is whole. Returns how many bytes are done with; none where half a line is all that is there.
    pub(super) fn take(&mut self, block: &[u8], ended: bool, place: &mut Place, piece: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while self.has_room(piece) {
            let Some(rest) = block.get(at..).filter(|rest| !rest.is_empty()) else { break };
            let end = rest.iter().position(|byte| *byte == b'\n');
            if let Some(cut) = &mut place.cut {
                cut.bytes += end.unwrap_or(rest.len()) as u64;
                at += end.map_or(rest.len(), |end| end + 1);
                if end.is_some() || (ended && at >= block.len()) {
                    self.end_cut(place, piece);
                }
                continue;
            }
            let len = match end {
                Some(end) => end,
                None if rest.len() > self.ask.line_max || ended => rest.len(),
                None => break,
            };
            let line = rest.get(..len).unwrap_or_default();
            let taken = line.get(..self.fitting(line)).unwrap_or_default();
            let shown = self.line(taken, place, piece);
            match taken.len() < len {
                // The end of a line that is too long is looked for from here on.
                true => place.cut = Some(Cut { bytes: 0, shown }),
                false => at += usize::from(end.is_some()),
            }
            at += taken.len();
        }
        place.offset += at as u64;
        at
    }

    /// How much of a line is taken: no character is cut in the middle.
    fn fitting(&self, line: &[u8]) -> usize {
        let max = self.ask.line_max;
        if line.len() <= max {
            return line.len();
        }
        let is_inside = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        // What is no UTF-8 is cut where it is too long.
        (max - 3..=max).rev().find(|at| !is_inside(at)).unwrap_or(max)
    }

    /// Takes a line if it is wanted, and if it is not one too many. Says whether it was taken.
    fn line(&mut self, line: &[u8], place: &mut Place, piece: &mut Vec<u8>) -> bool {
        if !self.ask.wants(line) {
            return false;
        }
        if !self.rate.allows(self.now) {
            place.left_out += 1;
            self.totals.left_out += 1;
            return false;
        }
        self.say_left_out(place, piece);
        piece.extend_from_slice(line);
        piece.push(b'\n');
        self.totals.lines += 1;
        true
    }

    fn end_cut(&mut self, place: &mut Place, piece: &mut Vec<u8>) {
        if let Some(Cut { bytes, shown: true }) = place.cut.take().filter(|cut| cut.bytes > 0) {
            piece.extend_from_slice(mark(&format!("{bytes} bytes of this line left out: it is too long")).as_bytes());
        }
    }

    /// Says how many lines were left out, if they were, now that their time is over.
    pub(super) fn settle(&mut self, place: &mut Place, piece: &mut Vec<u8>) {
        if self.has_room(piece) && self.rate.is_over(self.now) {
            self.say_left_out(place, piece);
        }
    }

    fn say_left_out(&mut self, place: &mut Place, piece: &mut Vec<u8>) {
        if place.left_out > 0 {
            piece.extend_from_slice(mark(&self.rate.mark(place.left_out)).as_bytes());
            place.left_out = 0;
        }
    }
}

impl Place {
    /// From this byte on.
    pub(super) fn at(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }

    /// Whether lines were left out of which nothing was said yet.
    pub(super) fn owes_a_mark(&self) -> bool {
        self.left_out > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all of a text in blocks of so many bytes, as somebody does who reads a file; the time goes on by `step` a block.
    fn all(text: &str, options: &[&str], block: usize, step: Duration) -> (String, Totals) {
        let data: Vec<String> = ["/x"].iter().chain(options).map(|&item| item.to_owned()).collect();
        let ask = Ask::parse(&data).unwrap();
        let (mut rate, mut totals) = (Rate::new(ask.rate, Duration::ZERO), Totals::default());
        let (mut place, mut taken, mut now, mut end) = (Place::default(), String::new(), Duration::ZERO, 0);
        loop {
            let begin = usize::try_from(place.offset).unwrap();
            end = (end + block).min(text.len());
            let (mut taker, mut piece) = (Taker { ask: &ask, rate: &mut rate, totals: &mut totals, now }, Vec::new());
            let ended = end == text.len();
            taker.take(&text.as_bytes()[begin..end], ended, &mut place, &mut piece);
            taken.push_str(std::str::from_utf8(&piece).unwrap());
            if ended && usize::try_from(place.offset).unwrap() == text.len() {
                let (mut taker, mut piece) =
                    (Taker { ask: &ask, rate: &mut rate, totals: &mut totals, now: now + WINDOW }, Vec::new());
                taker.settle(&mut place, &mut piece);
                return (taken + std::str::from_utf8(&piece).unwrap(), totals);
            }
            now += step;
        }
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let text = "one\ntwo\n\nfour with \u{fc}ml\u{e4}uts\nlast without its end";
        for block in 1..text.len() + 1 {
            let (taken, totals) = all(text, &[], block, Duration::ZERO);
            assert_eq!((taken.as_str(), totals.lines), (format!("{text}\n").as_str(), 5), "{block}");
        }
        let (taken, _) = all(text, &["match=o", "not=t"], 5, Duration::ZERO);
        assert_eq!(taken, "one\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_says_so() {
        let (long, exact) = ("\u{20ac}".repeat(20), "x".repeat(32));
        let text = format!("short\n{long}\n{exact}\nend\n");
        for block in 1..text.len() + 1 {
            let (taken, totals) = all(&text, &["lineMax=32"], block, Duration::ZERO);
            let cut = "\u{20ac}".repeat(10);
            let expected =
                format!("short\n{cut}\n[steward: 30 bytes of this line left out: it is too long]\n{exact}\nend\n");
            assert_eq!((taken.as_str(), totals.lines), (expected.as_str(), 4), "{block}");
            assert_eq!(
                all(&text, &["lineMax=32", "not=\u{20ac}"], block, Duration::ZERO).0,
                format!("short\n{exact}\nend\n")
            );
        }
        assert_eq!(all(&long, &["lineMax=32"], 7, Duration::ZERO).0.lines().count(), 2, "nor is its end waited for");
    }

    #[test]
    fn lines_that_are_too_many_are_left_out_and_counted() {
        let text: String = (0..100).map(|number| format!("{number:03}\n")).collect();
        // Four bytes are a line: ten blocks of ten lines, each half a second behind the one before it.
        let (taken, totals) = all(&text, &["rate=5"], 40, Duration::from_millis(500));
        assert_eq!((totals.lines, totals.left_out), (25, 75));
        let mark = "[steward: 15 lines left out: more than 5 a second]";
        let lines: Vec<&str> = taken.lines().collect();
        assert_eq!(lines[..7], ["000", "001", "002", "003", "004", mark, "020"]);
        assert_eq!(lines.iter().filter(|line| **line == mark).count(), 5, "the last one when its time is over");
        let mut rate = Rate::new(Some(5), Duration::from_secs(10));
        assert_eq!(
            (0..100).filter(|_| rate.allows(Duration::ZERO)).count(),
            55,
            "what could not be read is not too much"
        );
        rate.held(Duration::from_secs(2));
        assert_eq!((0..100).filter(|_| rate.allows(WINDOW)).count(), 15);
        assert_eq!((0..100).filter(|_| rate.allows(3 * WINDOW)).count(), 5);
    }

    #[test]
    fn a_piece_has_an_end() {
        let text = "x".repeat(999) + "\n";
        let text = text.repeat(1000);
        let ask = Ask::parse(&["/x".to_owned()]).unwrap();
        let (mut rate, mut totals, mut place, mut piece) =
            (Rate::new(None, Duration::ZERO), Totals::default(), Place::default(), Vec::new());
        let mut taker = Taker { ask: &ask, rate: &mut rate, totals: &mut totals, now: Duration::ZERO };
        let taken = taker.take(text.as_bytes(), false, &mut place, &mut piece);
        assert!(piece.len() <= PIECE_BYTES && piece.len() > PIECE_BYTES / 3, "{}", piece.len());
        assert_eq!((taken, place.offset), (piece.len(), piece.len() as u64));
        assert!(!taker.has_room(&piece));
    }
}
