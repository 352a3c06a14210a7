//! Single messages that get lost on a line. Knows of NATS only where a message begins and where it ends.

/// The longest line before a payload; whatever has a longer one is not NATS, and passes as it is.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What passes in one direction of a connection, from its first byte on.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// The beginning of a line.
    line: Vec<u8>,
    /// Bytes of it that have passed already.
    passed: usize,
    /// Bytes of a payload that are still to come, its end of line included.
    left: usize,
    /// Whether that payload is lost.
    is_lost: bool,
    /// Whether this is something else than NATS.
    is_foreign: bool,
}

impl Sieve {
    /// What comes out of what goes in. Where messages may be lost, `loses` is asked once for each, and a line waits until it
    /// is whole; elsewhere everything passes at once.
    pub(super) fn pass(&mut self, piece: &[u8], may_lose: bool, mut loses: impl FnMut() -> bool) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::with_capacity(piece.len()), piece);
        while !rest.is_empty() {
            if self.is_foreign {
                out.extend_from_slice(rest);
                break;
            }
            if self.left > 0 {
                let (payload, after) = rest.split_at(self.left.min(rest.len()));
                self.left -= payload.len();
                if !self.is_lost {
                    out.extend_from_slice(payload);
                }
                rest = after;
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.line.extend_from_slice(line);
            rest = after;
            if end.is_none() {
                self.is_foreign = self.line.len() > LINE_BYTES_MAX;
                if !self.is_foreign {
                    if !may_lose {
                        out.extend_from_slice(&self.line[self.passed..]);
                        self.passed = self.line.len();
                    }
                    break;
                }
            }
            let (line, passed) = (std::mem::take(&mut self.line), std::mem::take(&mut self.passed));
            let payload = payload_bytes(&line);
            self.left = payload.map_or(0, |bytes| bytes.saturating_add(2));
            // What has passed in part passes whole.
            self.is_lost = may_lose && payload.is_some() && passed == 0 && loses();
            if !self.is_lost {
                out.extend_from_slice(&line[passed..]);
            }
        }
        out
    }
}

/// The bytes of the payload that comes after this line, if it is that of a message.
fn payload_bytes(line: &[u8]) -> Option<usize> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let is_message = matches!(words.next()?, "MSG" | "HMSG" | "PUB" | "HPUB");
    words.next_back().filter(|_| is_message)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &[u8] =
        b"INFO {}\r\nPING\r\nMSG a 1 5\r\nhe\r\no\r\nHMSG b 1 _r 4 6\r\nh:\r\nxx\r\nPONG\r\nPUB c 0\r\n\r\nPING\r\n";

    fn sieved(piece_bytes: usize, lost: &[usize]) -> String {
        let (mut sieve, mut number) = (Sieve::default(), 0);
        let mut loses = || {
            number += 1;
            lost.contains(&number)
        };
        let out: Vec<u8> = SAID.chunks(piece_bytes).flat_map(|piece| sieve.pass(piece, true, &mut loses)).collect();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_passes_and_single_messages_are_lost_whole_however_it_is_cut_into_pieces() {
        for bytes in 1..=SAID.len() {
            assert_eq!(sieved(bytes, &[]).as_bytes(), SAID);
            assert_eq!(
                sieved(bytes, &[1]),
                "INFO {}\r\nPING\r\nHMSG b 1 _r 4 6\r\nh:\r\nxx\r\nPONG\r\nPUB c 0\r\n\r\nPING\r\n"
            );
            assert_eq!(sieved(bytes, &[1, 2, 3]), "INFO {}\r\nPING\r\nPONG\r\nPING\r\n");
        }
    }

    #[test]
    fn where_nothing_may_be_lost_everything_passes_at_once_and_what_has_begun_to_pass_is_not_lost() {
        let mut sieve = Sieve::default();
        assert_eq!(sieve.pass(b"MSG a 1 5\r\nhe\r\no\r\nMS", false, || true), b"MSG a 1 5\r\nhe\r\no\r\nMS");
        assert_eq!(sieve.pass(b"G b 1 1\r\nx\r\nMSG c 1 1\r\ny\r\n", true, || true), b"G b 1 1\r\nx\r\n");
    }

    #[test]
    fn what_is_no_nats_passes_as_it_is() {
        let (mut sieve, long) = (Sieve::default(), vec![b'x'; LINE_BYTES_MAX + 1]);
        assert_eq!(sieve.pass(&long, true, || true), long);
        assert_eq!(sieve.pass(b"PUB a 1\r\nx\r\n", true, || true), b"PUB a 1\r\nx\r\n");
    }
}
