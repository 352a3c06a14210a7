//! Where a line ends in a stream of bytes (RFC 6587): after as many bytes as stand before it, or at a line feed. Each line
//! may have another form; some programs change it. Bytes of a line are never changed here, only counted.

/// The longest line that is kept, in bytes; what is beyond is cut off and counted. A line of escapes only still fits a
/// message, and every line fits a datagram.
pub(crate) const LINE_BYTES_MAX: usize = 32 * 1024;

/// Digits of a length; more of them are text.
const DIGITS_MAX: usize = 9;

/// A line, without what ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Framed {
    pub(super) bytes: Vec<u8>,
    /// Whether more of it came than is kept.
    pub(super) cut: bool,
}

/// One line as it came in a piece of its own. Line ends and zeros at its end belong to the transport.
pub(super) fn whole(bytes: &[u8]) -> Option<Framed> {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0))? + 1;
    let kept = end.min(LINE_BYTES_MAX);
    Some(Framed { bytes: bytes.get(..kept)?.to_vec(), cut: kept < end })
}

/// The lines of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What belongs to no line yet: at most one line and a length before it.
    buffer: Vec<u8>,
    skip: Skip,
}

/// What is passed over because it belongs to a line that was cut.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Skip {
    #[default]
    Nothing,
    Bytes(usize),
    Line,
}

/// What the buffer begins with.
enum Head {
    /// Too little to say.
    Unknown,
    /// So many bytes are a length, and so many follow.
    Counted(usize, usize),
    /// A line up to its end.
    Line,
}

impl Frames {
    /// Takes bytes as they come; gives the lines that are whole with them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Framed> {
        let mut lines = Vec::new();
        self.buffer.extend_from_slice(bytes);
        while let Some(line) = self.next() {
            lines.extend(line);
        }
        lines
    }

    /// What is left when the connection has ended: a line without an end.
    pub(super) fn rest(&mut self) -> Option<Framed> {
        let rest = std::mem::take(&mut self.buffer);
        let skip = std::mem::take(&mut self.skip);
        if skip == Skip::Nothing { whole(&rest) } else { None }
    }

    /// One step; none once more bytes are needed. A step may give no line.
    fn next(&mut self) -> Option<Option<Framed>> {
        match self.skip {
            Skip::Bytes(left) => {
                let passed = left.min(self.buffer.len());
                self.buffer.drain(..passed);
                self.skip = if passed == left { Skip::Nothing } else { Skip::Bytes(left - passed) };
                return (passed == left).then_some(None);
            }
            Skip::Line => {
                let end = self.line_feed();
                self.buffer.drain(..end.map_or(self.buffer.len(), |end| end + 1));
                self.skip = if end.is_some() { Skip::Nothing } else { Skip::Line };
                return end.map(|_| None);
            }
            Skip::Nothing => {}
        }
        match self.head() {
            Head::Unknown => None,
            Head::Counted(digits, length) => self.counted(digits, length),
            Head::Line => self.line(),
        }
    }

    fn head(&self) -> Head {
        let Some(first) = self.buffer.first() else { return Head::Unknown };
        if !matches!(first, b'1'..=b'9') {
            return Head::Line;
        }
        let digits = self.buffer.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if digits > DIGITS_MAX {
            return Head::Line;
        }
        // A counted line begins with its priority; a text that begins with a number does not.
        match (self.buffer.get(digits), self.buffer.get(digits + 1)) {
            (None | Some(b' '), None) => Head::Unknown,
            (Some(b' '), Some(b'<')) => {
                let text = self.buffer.get(..digits).and_then(|text| std::str::from_utf8(text).ok());
                text.and_then(|text| text.parse().ok()).map_or(Head::Line, |length| Head::Counted(digits + 1, length))
            }
            _ => Head::Line,
        }
    }

    fn counted(&mut self, head: usize, length: usize) -> Option<Option<Framed>> {
        let kept = length.min(LINE_BYTES_MAX);
        if self.buffer.len() < head + kept {
            return None;
        }
        let line = self.buffer.get(head..head + kept).and_then(whole);
        self.buffer.drain(..head + kept);
        if kept == length {
            return Some(line);
        }
        self.skip = Skip::Bytes(length - kept);
        Some(line.map(|line| Framed { cut: true, ..line }))
    }

    fn line(&mut self) -> Option<Option<Framed>> {
        match self.line_feed() {
            Some(end) => {
                let line = self.buffer.get(..end).and_then(whole);
                self.buffer.drain(..=end);
                Some(line)
            }
            None if self.buffer.len() > LINE_BYTES_MAX => {
                let line = whole(&self.buffer);
                self.buffer.clear();
                self.skip = Skip::Line;
                Some(line.map(|line| Framed { cut: true, ..line }))
            }
            None => None,
        }
    }

    fn line_feed(&self) -> Option<usize> {
        self.buffer.iter().position(|byte| *byte == b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, however the bytes are cut into pieces.
    fn lines(bytes: &[u8], piece: usize) -> Vec<(String, bool)> {
        let mut frames = Frames::default();
        let mut all: Vec<Framed> = bytes.chunks(piece).flat_map(|piece| frames.push(piece)).collect();
        all.extend(frames.rest());
        all.into_iter().map(|line| (String::from_utf8_lossy(&line.bytes).into_owned(), line.cut)).collect()
    }

    #[test]
    fn both_framings_are_told_apart_line_by_line_whatever_the_pieces_are() {
        let text = b"<13>one\n11 <13>t\nwo  x<13>three\r\n\n\n5 <1>a10 apples\n2026-11-23 no priority\n1234567890 <1>b\n<13>rest";
        let expected = [
            "<13>one",
            "<13>t\nwo  x",
            "<13>three",
            "<1>a1",
            "0 apples",
            "2026-11-23 no priority",
            "1234567890 <1>b",
            "<13>rest",
        ];
        for piece in [1, 2, 3, 7, text.len()] {
            let found = lines(text, piece);
            assert_eq!(found, expected.map(|line| (line.to_owned(), false)), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_is_whole() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let counted = format!("{} <1>{long}7 <1>next", long.len() + 3);
        let fed = format!("<1>{long}\n<1>next\n");
        for (text, piece) in [(&counted, 1000), (&counted, counted.len()), (&fed, 1000), (&fed, fed.len())] {
            let found = lines(text.as_bytes(), piece);
            assert_eq!(found.len(), 2);
            assert!(found[0].1 && found[0].0.len() == LINE_BYTES_MAX, "{}", found[0].0.len());
            assert_eq!(found[1], ("<1>next".to_owned(), false));
        }
    }

    #[test]
    fn what_ends_a_datagram_is_not_a_part_of_the_line() {
        assert_eq!(whole(b"<1>a\n\0").unwrap().bytes, b"<1>a");
        assert_eq!(whole(b"<1>a\nb\r\n").unwrap().bytes, b"<1>a\nb");
        assert_eq!(whole(b"\n\0"), None);
        assert!(whole(&vec![b'x'; LINE_BYTES_MAX + 1]).unwrap().cut);
    }
}
