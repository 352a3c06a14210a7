//! Who may have what run here: the one place that decides, for every message on every path (R13). The rules come first
//! (`rules.rs`), then the method's own look at the data.
//!
//! A message is judged twice: as it arrives, so that its sender hears at once, and again as it is about to run, because
//! rules may have changed while it waited; what they say then is what it runs by. An event is only for methods that take
//! something in: who sends a method that does something as an event is told to send a command.

use std::sync::Arc;

use protocol::event::Verdict;
use protocol::message::Kind;
use protocol::name::MethodName;

use super::rules::{Decision, Grant, Limits, Rules};
use super::sender::Sender;
use crate::methods::{self, OwnMethods};

/// Bytes of a reason at most: it travels in the receipt, and may quote what the sender wrote.
const REASON_BYTES_MAX: usize = 1000;

/// What decides. Clones decide by the same rules.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    rules: Rules,
    methods: OwnMethods,
}

impl Admission {
    /// By these rules, for a node with these methods.
    pub(crate) fn new(rules: Rules, methods: OwnMethods) -> Self {
        Self { rules, methods }
    }

    /// Whether a message that has arrived may run here. `body` is the JSON text of its data.
    pub(crate) fn judge(&self, sender: &Sender, kind: Kind, method: &MethodName, body: &str) -> Verdict {
        let data = methods::data(body);
        let known = data.as_ref().ok().map(Vec::as_slice);
        // The sender's right comes first: who has none learns nothing about what runs here.
        let checked = self.permit(sender, kind, method, known);
        match checked.and_then(|_| data.and_then(|data| self.check(kind, method, &data))) {
            Ok(()) => Verdict::Accept(self.methods.facts(method.as_str())),
            Err(why) => Verdict::Refuse(Arc::from(shorten(&why))),
        }
    }

    /// Whether a method of that name takes such data here. Of an order with a schedule also what it is to run.
    fn check(&self, kind: Kind, method: &MethodName, data: &[String]) -> Result<(), String> {
        self.methods.check(kind, method.as_str(), data)?;
        match methods::schedule::inside(method.as_str(), data) {
            Some((inner, data)) => self.methods.check(Kind::CommandAck, inner.as_str(), data),
            None => Ok(()),
        }
    }

    /// Within which limits a message may run here, or why it may not. `data` is none where it is no list of words.
    pub(crate) fn permit(
        &self,
        sender: &Sender,
        kind: Kind,
        method: &MethodName,
        data: Option<&[String]>,
    ) -> Result<Grant, String> {
        let grant = match self.rules.judge(sender, kind, method, data) {
            Decision::Accept(grant) => grant,
            Decision::Refuse(refusal) => return Err(refusal.why),
        };
        if !kind.is_command() && self.methods.takes_events(method.as_str()) == Some(false) {
            let instead = if kind.wants_ack() { Kind::CommandAck } else { Kind::CommandNack };
            return Err(format!("{method} does something, so it can't be sent as an event; send it as {instead}"));
        }
        // What an order has run has to be let in as well, and its runs have limits of their own.
        match data.and_then(|data| methods::schedule::inside(method.as_str(), data)) {
            Some((inner, data)) if kind.is_command() => {
                self.permit(sender, kind, &inner, Some(data))?;
                Ok(Grant { limits: Limits { timeout: None, ..grant.limits }, ..grant })
            }
            _ => Ok(grant),
        }
    }
}

fn shorten(reason: &str) -> String {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.to_owned();
    }
    let end = (0..=REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    format!("{} …", &reason[..end])
}

#[cfg(test)]
mod tests {
    use protocol::name::NodeName;

    use super::*;
    use crate::config::AllowRule;

    fn judge(rules: &[(&str, &str)], from: &str, kind: Kind, method: &str, body: &str) -> Result<(), String> {
        let name = |text: &str| NodeName::new(text).unwrap();
        let rule = |(from, method): &(&str, &str)| AllowRule {
            from: (*from != "*").then(|| name(from)),
            method: (*method != "*").then(|| MethodName::new(method).unwrap()),
        };
        let rules = Rules::standard(name("ship1"), name("central"), rules.iter().map(rule).collect());
        let sender = Sender::unsigned(name(from), &name("central"));
        match Admission::new(rules, OwnMethods::none()).judge(&sender, kind, &MethodName::new(method).unwrap(), body) {
            Verdict::Accept(_) => Ok(()),
            Verdict::Refuse(why) => Err(why.to_string()),
        }
    }

    const SHELL: &str = "ShellCommand";
    const TRUE: &str = r#"["true"]"#;

    #[test]
    fn commands_are_taken_from_central_and_from_the_node_itself_and_by_rule() {
        for kind in [Kind::CommandAck, Kind::CommandNack] {
            assert_eq!(judge(&[], "central", kind, SHELL, TRUE), Ok(()));
            assert_eq!(judge(&[], "ship1", kind, SHELL, TRUE), Ok(()));
            assert!(judge(&[], "ship2", kind, SHELL, TRUE).is_err());
            for rule in [("ship2", SHELL), ("*", SHELL), ("ship2", "*"), ("*", "*")] {
                assert_eq!(judge(&[rule], "ship2", kind, SHELL, TRUE), Ok(()), "{rule:?}");
            }
            for rule in [("ship3", SHELL), ("*", "SayHello"), ("central", "*")] {
                assert!(judge(&[rule], "ship2", kind, SHELL, TRUE).is_err(), "{rule:?}");
            }
        }
    }

    /// Neither of the two lets the other in.
    #[test]
    fn an_order_and_what_it_runs_are_both_let_in_or_neither() {
        let order = r#"["{\"every\":\"5m\"}","ShellCommand","true"]"#;
        for (rules, missing) in [
            (&[("ship2", "Schedule"), ("ship2", SHELL)][..], None),
            (&[("ship2", "*")], None),
            (&[("ship2", "Schedule")], Some("--allow ship2:ShellCommand")),
            (&[("ship2", SHELL)], Some("--allow ship2:Schedule")),
        ] {
            let said = judge(rules, "ship2", Kind::CommandAck, "Schedule", order);
            match missing {
                None => assert_eq!(said, Ok(()), "{rules:?}"),
                Some(missing) => assert!(said.as_ref().unwrap_err().contains(missing), "{rules:?}: {said:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_names_the_rule_that_is_missing() {
        let why = judge(&[], "ship2", Kind::CommandAck, SHELL, TRUE).unwrap_err();
        assert!(why.contains("start it with --allow ship2:ShellCommand"), "{why}");
        // Who has no right learns nothing about what runs here.
        let why = judge(&[], "ship2", Kind::CommandAck, "NoSuchMethod", "{}").unwrap_err();
        assert!(why.contains("--allow ship2:NoSuchMethod"), "{why}");
    }

    #[test]
    fn events_are_taken_from_everybody_but_never_run_a_command() {
        for kind in [Kind::EventAck, Kind::EventNack] {
            assert_eq!(judge(&[], "ship2", kind, "TextLogging", r#"["a"]"#), Ok(()));
            for from in ["ship2", "central"] {
                let why = judge(&[("*", "*")], from, kind, SHELL, TRUE).unwrap_err();
                assert!(why.contains("send it as Command"), "{why}");
            }
        }
    }

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_refused_in_words() {
        let why = |method: &str, body: &str| judge(&[], "central", Kind::CommandAck, method, body).unwrap_err();
        let unknown = why("shellcommand", TRUE);
        assert!(
            unknown.contains("ShellCommand, Script, TextLogging") && unknown.contains(env!("CARGO_PKG_VERSION")),
            "{unknown}"
        );
        assert!(why(SHELL, "[]").contains("data is empty"));
        assert!(why(SHELL, r#"[""]"#).contains("is empty"));
        assert!(why(SHELL, r#"["a\u0000b"]"#).contains("NUL"));
        assert!(why(SHELL, r#"[1]"#).contains("no array of strings"));
        assert!(why(SHELL, "\u{0}\u{1}").contains("no array of strings"));
        assert!(why("TextLogging", "[]").contains("data is empty"));
        assert!(why("ErrorLog", "[]").contains("data is empty"));
        let order = |method: &str| why("Schedule", &format!(r#"["{{\"every\":\"5m\"}}","{method}"]"#));
        assert!(order("NoSuchMethod").contains("there is no method NoSuchMethod"));
        assert!(order(SHELL).contains("data is empty"));
    }

    #[test]
    fn a_reason_stays_short_whatever_it_quotes() {
        let long = shorten(&"ä".repeat(10_000));
        assert!(long.len() < REASON_BYTES_MAX + 10 && long.ends_with('…'), "{}", long.len());
    }
}
