//! `inmsg.txt`: what is cut out of the stream, and whether it is a message; and texts that are taken as a whole.

use std::time::Duration;

use protocol::name::NodeName;

use crate::intake::document::{self, Format};
use crate::intake::split::{Piece, Splitter, TEXT_BYTES_MAX};
use crate::intake::{Defaults, MessageInput, ids};
use crate::methods::OwnMethods;
use crate::security::sealing::Policy;

/// The stream, after a byte that says in how large blocks it is read. Blocks make no difference, nothing is given out
/// that does not stand there, and nothing twice.
pub(super) fn inmsg(bytes: &[u8]) {
    let Some((size, text)) = bytes.split_first() else { return };
    let whole = pieces(text, text.len().max(1));
    assert_eq!(whole, pieces(text, usize::from(*size) + 1), "what is found depends on the blocks that are read");
    let mut end = 0;
    for piece in whole {
        let (at, found) = match &piece {
            Piece::Object { at, text } | Piece::Broken { at, text, .. } => (at.offset, text),
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        assert!(at >= end && found.len() <= TEXT_BYTES_MAX, "a piece begins before the end of the last");
        end = at + found.len();
        assert_eq!(text.get(at..end), Some(&**found), "a piece is not what stands there");
        if let Piece::Object { text, .. } = &piece {
            read(text);
        }
    }
}

/// A text that is taken as a whole, in both of its forms.
pub(super) fn document(bytes: &[u8]) {
    for format in [Format::Json, Format::Yaml] {
        match document::read(bytes, format) {
            Ok(entries) => assert!((1..=document::MESSAGES_MAX).contains(&entries.len()), "{} messages", entries.len()),
            Err(flaws) => assert!(flaws.iter().all(|flaw| !flaw.to_string().is_empty()) && !flaws.is_empty()),
        }
    }
}

fn pieces(text: &[u8], block: usize) -> Vec<Piece> {
    let (mut splitter, mut looking, mut out) = (Splitter::new(), Splitter::looking(), Vec::new());
    for block in text.chunks(block) {
        splitter.push(block, &mut out);
        looking.push(block, &mut Vec::new());
        assert_eq!(splitter.is_incomplete(), looking.is_incomplete(), "a look sees something else than the reading");
    }
    assert_eq!(splitter.offset(), text.len() as u64);
    splitter.finish(&mut out);
    out
}

fn read(text: &[u8]) {
    let Ok(input) = serde_json::from_slice::<MessageInput>(text) else { return };
    let from = NodeName::new("central").unwrap_or_else(|error| panic!("{error}"));
    let timeout = Duration::from_secs(10);
    let (may, seal) = (true, Policy::default());
    let defaults = Defaults {
        from,
        timeout,
        retries: 0,
        method_timeout: None,
        may_command: may,
        may_seal: may,
        seal,
        own: OwnMethods::none(),
    };
    for message in input.check(&defaults, |_| ids::next()).unwrap_or_default() {
        assert!(serde_json::from_str::<Vec<String>>(&message.body).is_ok());
    }
}
