//! Cuts a stream of bytes into the texts of single messages, as they come, in bounded memory.
//!
//! The stream is any number of JSON arrays of messages and of single messages, in any white space. This is not a JSON
//! parser: it knows strings and braces, so it finds where a message begins and ends even if the inside makes no sense,
//! and one bad message doesn't spoil its neighbours. What can't be part of a message is given out as broken, with the
//! reason; every byte is either in one of the pieces or is what may stand between messages.
//!
//! After a broken part the reading goes on
//! * behind it, if its braces match;
//! * where a line begins with `{` or with `[` before a `{`, in the first column: there the message before it can't go on;
//! * at the next line that begins with `{` or `[`, if a string isn't closed in its line;
//! * at the next `{` or `[`, or at the end of the array, if it is no message at all.

/// The longest text of a message, in bytes. (Its data has at most 512 KiB as we write it, but may be written with six
/// bytes for each.)
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes before it.
    pub(crate) offset: u64,
    /// Its line, counted from 1.
    pub(crate) line: u64,
    /// Its column, counted in bytes from 1.
    pub(crate) column: u64,
}

impl Place {
    const START: Self = Self { offset: 0, line: 1, column: 1 };

    fn after(self, byte: u8) -> Self {
        match byte {
            b'\n' => Self { offset: self.offset + 1, line: self.line + 1, column: 1 },
            _ => Self { offset: self.offset + 1, line: self.line, column: self.column + 1 },
        }
    }
}

/// What was found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Something in matching braces, probably a message.
    Object {
        /// Where it begins.
        at: Place,
        /// Its bytes.
        text: Vec<u8>,
    },
    /// Something that is no message.
    Broken {
        /// Where it begins.
        at: Place,
        /// Where it is seen that it is none.
        seen: Place,
        /// Why it is none.
        reason: String,
        /// Its bytes; none if what is missing is all that is wrong.
        text: Vec<u8>,
    },
}

/// What the next byte belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// To what is between messages.
    Between,
    /// To an object, so many braces deep.
    Inside { depth: usize, string: Option<InString>, array: Option<(usize, Place)> },
    /// To a broken part.
    Broken { seen: Place, reason: String, until: Until },
}

/// A string inside of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InString {
    start: Place,
    escaped: bool,
}

/// Where a broken part ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// At a `{` or `[` that is not in a string, or at the `]` of the array.
    Opening { string: bool },
    /// At a `{` or `[` that is the first thing in a line.
    LineOpening { blank: bool },
}

/// The stream so far.
#[derive(Debug, Clone)]
pub(crate) struct Splitter {
    at: Place,
    mode: Mode,
    /// The piece that is not complete, and where it begins.
    text: Vec<u8>,
    start: Place,
    /// The array that is open, and how many objects it had.
    array: Option<(Place, u64)>,
    /// Something was broken: a closing bracket without an opening one is a part of it.
    forgiving: bool,
    keep: bool,
}

impl Splitter {
    /// For the beginning of a stream.
    pub(crate) fn new() -> Self {
        let (at, text) = (Place::START, Vec::new());
        Self { at, mode: Mode::Between, text, start: at, array: None, forgiving: false, keep: true }
    }

    /// One that only finds out whether the stream is complete, and keeps no text.
    pub(crate) fn looking() -> Self {
        Self { keep: false, ..Self::new() }
    }

    /// Bytes that were taken in.
    pub(crate) fn offset(&self) -> u64 {
        self.at.offset
    }

    /// Whether a message or an array has begun that has not ended.
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(self.mode, Mode::Inside { .. }) || self.array.is_some()
    }

    /// Whether everything so far is given out, and what follows can be read without it.
    pub(crate) fn is_between(&self) -> bool {
        self.mode == Mode::Between && self.array.is_none()
    }

    /// Takes in the next bytes of the stream; what has come to its end goes to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) {
        for &byte in bytes {
            self.byte(byte, out);
        }
    }

    /// The stream ends here: what is not complete is broken.
    pub(crate) fn finish(&mut self, out: &mut Vec<Piece>) {
        if let Mode::Inside { .. } = self.mode {
            let reason = format!(
                "the message that begins in line {} is not complete: the text ends in line {}",
                self.start.line, self.at.line
            );
            self.mode = Mode::Broken { seen: self.at, reason, until: Until::Opening { string: false } };
            self.array = None;
        }
        self.flush_broken(out);
        if let Some((at, objects)) = self.array.take() {
            let reason = format!(
                "the array that begins in line {} is not closed; the {objects} messages in it were complete and are read",
                at.line
            );
            out.push(Piece::Broken { at: self.at, seen: self.at, reason, text: Vec::new() });
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<Piece>) {
        match &mut self.mode {
            Mode::Between => self.between(byte, out),
            Mode::Inside { .. } => self.inside(byte, out),
            Mode::Broken { until, .. } => {
                let ends = match until {
                    Until::Opening { string } => {
                        let closes = byte == b']' && self.array.is_some();
                        let opens = !*string && (matches!(byte, b'{' | b'[') || closes);
                        *string = byte != b'\n' && (*string != (byte == b'"'));
                        opens
                    }
                    Until::LineOpening { blank } => {
                        let opens = *blank && matches!(byte, b'{' | b'[');
                        let fills = matches!(byte, b' ' | b'\t' | b'\r' | b',' | b']' | b'}');
                        *blank = byte == b'\n' || (*blank && fills);
                        opens
                    }
                };
                if ends {
                    self.flush_broken(out);
                    self.between(byte, out);
                } else {
                    self.put(byte);
                    self.limit_broken(out);
                }
            }
        }
    }

    fn between(&mut self, byte: u8, out: &mut Vec<Piece>) {
        let at = self.at;
        match byte {
            // A file system that lost its last write in a power cut gives zeros.
            b' ' | b'\t' | b'\r' | b'\n' | b',' | 0 => self.at = at.after(byte),
            b'{' => {
                self.start = at;
                self.mode = Mode::Inside { depth: 0, string: None, array: None };
                self.inside(byte, out);
            }
            b'[' if self.array.is_some() && !self.forgiving => {
                let open = self.array.take().map_or(at, |(place, _)| place);
                let reason = format!("an array begins before the one in line {} is closed", open.line);
                out.push(Piece::Broken { at, seen: at, reason, text: Vec::new() });
                self.forgiving = true;
                self.array = Some((at, 0));
                self.at = at.after(byte);
            }
            b'[' => {
                self.array = Some((at, 0));
                self.forgiving = false;
                self.at = at.after(byte);
            }
            b']' if self.array.is_some() || self.forgiving => {
                self.array = None;
                self.at = at.after(byte);
            }
            _ if is_bom(at, byte) => self.at = at.after(byte),
            _ => {
                self.start = at;
                let reason = match byte {
                    b']' => "a ] without a [".to_owned(),
                    b'}' => "a } without a {".to_owned(),
                    _ => "a message begins with {, an array of messages with [".to_owned(),
                };
                self.mode = Mode::Broken { seen: at, reason, until: Until::Opening { string: byte == b'"' } };
                self.put(byte);
            }
        }
    }

    fn inside(&mut self, byte: u8, out: &mut Vec<Piece>) {
        let at = self.at;
        let first = at.column == 1 && at.offset > self.start.offset;
        let Mode::Inside { depth, string, array } = &mut self.mode else {
            return;
        };
        if let Some(inside) = string {
            match byte {
                b'\n' => {
                    let reason = "a string is not closed in its line (a line break in a string is \\n)".to_owned();
                    let (seen, until) = (inside.start, Until::LineOpening { blank: true });
                    self.mode = Mode::Broken { seen, reason, until };
                    // Nobody knows whether the array goes on behind it.
                    self.array = None;
                    return self.put(byte);
                }
                _ if inside.escaped => inside.escaped = false,
                b'\\' => inside.escaped = true,
                b'"' => *string = None,
                _ => {}
            }
            self.put(byte);
            return self.limit_inside(out);
        }
        match byte {
            b'{' if array.is_some() || first => {
                let (length, place) = array.take().unwrap_or((self.text.len(), at));
                return self.begin_anew(length, place, byte, out);
            }
            b'[' => *array = first.then_some((self.text.len(), at)),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => *array = None,
        }
        match byte {
            b'"' => *string = Some(InString { start: at, escaped: false }),
            b'{' => *depth += 1,
            b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        let ended = *depth == 0;
        self.put(byte);
        if ended {
            self.mode = Mode::Between;
            if let Some((_, objects)) = &mut self.array {
                *objects += 1;
            }
            out.push(Piece::Object { at: self.start, text: std::mem::take(&mut self.text) });
        } else {
            self.limit_inside(out);
        }
    }

    /// The object ends, broken, after so many bytes of its text; at `place` something new begins.
    fn begin_anew(&mut self, length: usize, place: Place, byte: u8, out: &mut Vec<Piece>) {
        let rest = if self.keep { self.text.split_off(length) } else { b"[".to_vec() };
        let reason = format!(
            "the message that begins in line {} is not closed: another one begins in line {}",
            self.start.line, place.line
        );
        let here = self.at;
        self.mode = Mode::Broken { seen: place, reason, until: Until::Opening { string: false } };
        self.array = None;
        self.flush_broken(out);
        self.at = place;
        // White space between the bracket and the brace doesn't count; only the bracket does.
        if here != place
            && let Some(&bracket) = rest.first()
        {
            self.between(bracket, out);
        }
        self.at = here;
        self.between(byte, out);
    }

    fn put(&mut self, byte: u8) {
        if self.keep || self.text.is_empty() {
            self.text.push(byte);
        }
        self.at = self.at.after(byte);
    }

    fn limit_inside(&mut self, out: &mut Vec<Piece>) {
        if self.at.offset - self.start.offset >= TEXT_BYTES_MAX as u64 {
            let reason = format!("the message has more than {TEXT_BYTES_MAX} bytes: send several messages");
            let until = Until::LineOpening { blank: false };
            self.mode = Mode::Broken { seen: self.at, reason, until };
            self.array = None;
            self.limit_broken(out);
        }
    }

    /// A broken part that is too long for the memory is given out in parts.
    fn limit_broken(&mut self, out: &mut Vec<Piece>) {
        if self.text.len() >= TEXT_BYTES_MAX
            && let Mode::Broken { seen, reason, .. } = &mut self.mode
        {
            let text = std::mem::take(&mut self.text);
            let rest = format!("the rest of what begins in line {}", self.start.line);
            out.push(Piece::Broken { at: self.start, seen: *seen, reason: std::mem::replace(reason, rest), text });
            self.start = self.at;
        }
    }

    fn flush_broken(&mut self, out: &mut Vec<Piece>) {
        if let Mode::Broken { seen, reason, .. } = std::mem::replace(&mut self.mode, Mode::Between) {
            let text = std::mem::take(&mut self.text);
            if !text.is_empty() {
                out.push(Piece::Broken { at: self.start, seen, reason, text });
            }
            self.forgiving = true;
        }
    }
}

/// Whether this is a byte of the mark that some editors put in front of UTF-8.
fn is_bom(at: Place, byte: u8) -> bool {
    usize::try_from(at.offset).ok().and_then(|index| [0xef, 0xbb, 0xbf].get(index)).is_some_and(|mark| *mark == byte)
}

#[cfg(test)]
mod tests;
