//! A message's time line in one column. It is written with every message that ends, so it is small: a byte for the format,
//! then for each moment its time (the first since the Unix epoch, the others since the one before), its state, and its note.
//!
//! ```text
//! history = 1 moment*
//! moment  = zigzag-varint(milliseconds)  state-code  varint(note bytes + 1, or 0 for none)  note
//! ```

use std::sync::Arc;

use protocol::outcome::State;
use protocol::step::Moment;
use protocol::time::Wall;

use super::columns::{state, state_code};

/// The first byte.
const FORMAT: u8 = 1;

/// The time line as bytes.
pub(super) fn encode(history: &[Moment]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + history.len() * 8);
    bytes.push(FORMAT);
    let mut before = 0u64;
    for moment in history {
        let step = moment.at.0.wrapping_sub(before).cast_signed();
        put_varint(&mut bytes, ((step << 1) ^ (step >> 63)).cast_unsigned());
        before = moment.at.0;
        bytes.push(u8::try_from(state_code(&moment.state)).unwrap_or(0));
        match &moment.note {
            None => bytes.push(0),
            Some(note) => {
                put_varint(&mut bytes, note.len() as u64 + 1);
                bytes.extend_from_slice(note.as_bytes());
            }
        }
    }
    bytes
}

/// The time line of these bytes; none if they are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Moment>> {
    let mut rest = match bytes.split_first() {
        None => return Some(Vec::new()),
        Some((&FORMAT, rest)) => rest,
        Some(_) => return None,
    };
    let mut history = Vec::new();
    let mut before = 0u64;
    while !rest.is_empty() {
        let raw = take_varint(&mut rest)?;
        let step = (raw >> 1) ^ 0u64.wrapping_sub(raw & 1);
        before = before.wrapping_add(step);
        let state: State = state(i64::from(take(&mut rest, 1)?.first().copied()?))?;
        let note = match take_varint(&mut rest)? {
            0 => None,
            len => {
                let note = take(&mut rest, usize::try_from(len - 1).ok()?)?;
                Some(Arc::from(std::str::from_utf8(note).ok()?))
            }
        };
        history.push(Moment { at: Wall(before), state, note });
    }
    Some(history)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// See [`put_varint`].
pub(super) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?.first().copied()?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}
