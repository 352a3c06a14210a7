//! A file of rules: the fleet signs them, but a node's own is what somebody has typed, or half of what an editor wrote.

use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};

use crate::security::rules::{self, Decision};
use crate::security::sender::Sender;

/// The text of a file, whole. What can be used decides about everything without a word too much; what can't be used says
/// a place that is in the text.
pub(super) fn file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let rules = match rules::of_text(text, name("ship1"), name("central")) {
        Ok(rules) => rules,
        Err((line, column)) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&line) && column >= 1, "line {line}, column {column} of {lines} lines");
            return;
        }
    };
    let long = "x".repeat(10_000);
    for from in ["central", "ship1", "ship2"] {
        let sender = Sender::unsigned(name(from), &name("central"));
        for kind in Kind::ALL {
            for method in ["ShellCommand", "TextLogging"] {
                let Ok(method) = MethodName::new(method) else { continue };
                for data in [&[][..], &["df".to_owned(), "-h".to_owned()], std::slice::from_ref(&long)] {
                    if let Decision::Refuse(refusal) = rules.judge(&sender, kind, &method, Some(data)) {
                        assert!(refusal.why.len() < 1000, "a refusal is too long: {}", refusal.why);
                    }
                }
            }
        }
    }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap_or_else(|error| panic!("{error}"))
}
