//! Ids for new messages: UUIDv7, rising within this process, and, for messages from a file, worked out from the file
//! and the place in it, so that reading a file a second time gives the same ids and the engine knows them again.
//!
//! ```text
//! 48 bits time in ms │ 4 version │ 12 counter │ 2 variant │ 34 random, or + node │ 28 random, or random + place in the file
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::message::MessageId;
use uuid::Uuid;

use crate::clock;

/// Bytes of a file that share one place. A message is longer than this, so that no two begin in the same one: the
/// shortest is `{"toNode":"a","commandOrEvent":"EventACK","method":"b"}`, 54 bytes.
const PLACE_BYTES: u64 = 32;

/// Bits of a place. An id has one more, so that it can begin anywhere: people know ids by their last digits.
const PLACE_BITS: u32 = 27;

/// The longest file that can be read, in bytes (4 GiB): one place for each message.
pub(crate) const FILE_BYTES_MAX: u64 = PLACE_BYTES << PLACE_BITS;

/// The bits of an id that are random, or tell a place.
const LOW: u128 = (1 << 62) - 1;

/// The most messages of a file that is read by their numbers.
pub(crate) const ITEMS_MAX: usize = 1 << PLACE_BITS;

/// Milliseconds (48 bits) and counter (12 bits) of the last id that was made here.
static LAST: AtomicU64 = AtomicU64::new(0);

/// An id that is higher than all that this process has made before, whatever the wall clock does.
pub(crate) fn next() -> MessageId {
    let now = (clock::wall().0 & 0xffff_ffff_ffff) << 12;
    let rise = |last: u64| Some(now.max(last + 1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rise).unwrap_or_else(|last| last);
    let stamp = u128::from(now.max(last + 1));
    let random = Uuid::now_v7().as_u128() & LOW;
    MessageId((stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xfff) << 64 | 0b10 << 62 | random)
}

/// The id of the message that follows from this one, always the same: as old, and other in what is random.
pub(crate) fn following(id: MessageId) -> MessageId {
    const RANDOM: u128 = (1 << 62) - 1;
    let hash = blake3::derive_key("steward 2026-11 the message that passes a result on", &id.0.to_be_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    MessageId(id.0 & !RANDOM | u128::from_be_bytes(half) & RANDOM)
}

/// The id that stands for a run of an order, always the same.
pub(crate) fn of_run(order: MessageId, run: u64) -> MessageId {
    let mut key = order.0.to_be_bytes().to_vec();
    key.extend_from_slice(&run.to_be_bytes());
    let hash = blake3::derive_key("steward 2026-11 a run of an order", &key);
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    MessageId(order.0 & !LOW | u128::from_be_bytes(half) & LOW)
}

/// What all ids of one file have in common. Stands in the file's name while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(MessageId);

impl FileId {
    /// A new one, higher than all before.
    pub(crate) fn next() -> Self {
        Self(MessageId(next().0 & !(1 << PLACE_BITS)))
    }

    /// The id of the message that begins at this byte, which must be below [`FILE_BYTES_MAX`], for the node that has so many
    /// before it there. The place is in the lower bits and the node in those above, so no two are the same.
    pub(crate) fn message(self, offset: u64, index: usize) -> MessageId {
        self.at(offset / PLACE_BYTES, index)
    }

    /// The id of the message that has so many before it, at most [`ITEMS_MAX`], for the node that has so many before it there.
    /// For a file that is read by the number of its messages, never by their places as well.
    pub(crate) fn item(self, number: usize, index: usize) -> MessageId {
        self.at(number as u64, index)
    }

    fn at(self, place: u64, index: usize) -> MessageId {
        let place = u128::from(place & ((1 << PLACE_BITS) - 1));
        let low = (self.0.0 & LOW) + place + ((index as u128) << (PLACE_BITS + 1));
        MessageId((self.0.0 & !LOW) | (low & LOW))
    }

    /// When it was made, in milliseconds since the Unix epoch.
    pub(crate) fn millis(self) -> u64 {
        u64::try_from(self.0.0 >> 80).unwrap_or(0)
    }

    /// A part of it that is another for each file of the same millisecond.
    pub(crate) fn tag(self) -> u32 {
        u32::try_from(self.0.0 & 0xff_ffff).unwrap_or(0)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for FileId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        MessageId::from_str(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_rise() {
        let ids: Vec<MessageId> = (0..10_000).map(|_| next()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        for id in ids {
            let id = Uuid::from_u128(id.0);
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
    }

    /// Also where the random bits of the file are all set.
    #[test]
    fn each_node_of_a_message_has_an_id_of_its_own() {
        for file in [FileId::next(), FileId(MessageId(FileId::next().0.0 | (LOW & !(1 << PLACE_BITS))))] {
            let offsets = [0, PLACE_BYTES, 77 * PLACE_BYTES, FILE_BYTES_MAX - 1];
            let ids = offsets.iter().flat_map(|offset| (0..4096).map(|index| file.message(*offset, index)));
            let ids: std::collections::HashSet<MessageId> = ids.collect();
            assert_eq!(ids.len(), 4 * 4096);
            for id in ids {
                let id = Uuid::from_u128(id.0);
                assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
                assert_eq!(id.as_u128() >> 64, file.0.0 >> 64);
            }
        }
    }

    #[test]
    fn a_file_gives_each_place_the_same_id_each_time() {
        let file = FileId::next();
        let again: FileId = file.to_string().parse().unwrap();
        assert_eq!(file, again);
        assert_eq!(file.message(64, 0), again.message(64, 0));
        assert_ne!(file.message(0, 0), file.message(PLACE_BYTES, 0));
        assert_ne!(file.message(0, 0), file.message(FILE_BYTES_MAX - 1, 0));
        assert!(file.message(FILE_BYTES_MAX - 1, 0) < FileId::next().message(0, 0));
        assert_eq!(Uuid::from_u128(file.message(FILE_BYTES_MAX - 1, 0).0).get_version_num(), 7);
    }
}
