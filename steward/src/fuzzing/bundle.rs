//! A bundle that somebody hands to whoever is to believe it: as it came, and once more with the right hash at its end,
//! which whoever alters one makes anew.

use std::io::Cursor;

use crate::evidence::bundle;
use crate::evidence::verdict::{Answer, Verdict};

/// Bytes of the last line.
const END_BYTES: usize = 69;

/// What reads it. Nothing holds but what the node of the corpus has signed.
pub(super) fn bundle(bytes: &[u8]) {
    look(bytes);
    let body = bytes.get(..bytes.len().saturating_sub(END_BYTES)).unwrap_or_default();
    let end = format!("end {}\n", blake3::hash(body).to_hex());
    look(&[body, end.as_bytes()].concat());
}

fn look(bytes: &[u8]) {
    let fleet = super::trust::fleet().public();
    let read = bundle::read(Cursor::new(bytes), &fleet, &[], |verdict| {
        is_true(&verdict);
        Ok(())
    });
    if let Err(error) = read {
        let shown = error.to_string();
        assert!(shown.len() < 2000 && !shown.contains('\u{1b}'), "an error shows what a stranger wrote: {shown}");
    }
}

fn is_true(verdict: &Verdict) {
    if verdict.answer == Answer::Holds {
        let number = verdict.id.trim_start_matches("01930000-0000-7000-8000-00000000000");
        let data = ["echo".to_owned(), number.to_owned()];
        assert_eq!((verdict.from_node.as_str(), verdict.to_node.as_str()), ("central", "ship1"));
        assert_eq!((verdict.method.as_str(), &verdict.data[..]), ("ShellCommand", &data[..]));
    }
}

/// Whether something in it holds.
#[cfg(test)]
pub(super) fn holds(bytes: &[u8]) -> bool {
    let mut holds = false;
    let read = bundle::read(Cursor::new(bytes), &super::trust::fleet().public(), &[], |verdict| {
        holds |= verdict.answer == Answer::Holds;
        Ok(())
    });
    read.is_ok() && holds
}
