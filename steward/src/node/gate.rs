//! What messages have to pass: the rules of this node, kept as their file says, whoever asks them, and the audit log that
//! remembers what they said. It decides nothing itself.

use std::sync::Arc;

use protocol::message::Message;
use tokio::sync::Mutex;

use crate::audit::{Audit, Writer};
use crate::broker::Judge;
use crate::config::Config;
use crate::methods::{OwnMethods, Permit};
use crate::security::admission::Admission;
use crate::security::rules::{Keeper, Rules};
use crate::security::trust::Trust;
use crate::supervise::{Spec, Stops, Supervisor};

/// The rules of a node, and those who ask them.
pub(super) struct Gate {
    pub(super) rules: Rules,
    admission: Admission,
    keeper: Arc<Mutex<Keeper>>,
    trust: Trust,
    pub(super) audit: Audit,
    /// What the node can do beside what steward can.
    pub(super) own: OwnMethods,
    writer: Arc<Writer>,
}

impl Gate {
    /// With the rules that lie in the node's directory, before anything is judged by them.
    pub(super) fn open(config: &Config, trust: Trust, own: OwnMethods) -> Self {
        let (node, central) = (config.node.name.clone(), config.node.central.clone());
        let rules = Rules::standard(node, central, config.methods.allow.clone());
        if let Some(identity) = trust.identity() {
            rules.join(identity.fleet, &config.node.dir);
        }
        let keeper = Arc::new(Mutex::new(Keeper::open(&config.node.dir, rules.clone())));
        let (audit, waiting) = Audit::new(config.node.name.clone(), config.methods.audit);
        let writer = Writer::new(audit.clone(), config.node.dir.clone(), waiting);
        let admission = Admission::new(rules.clone(), own.clone());
        Self { admission, rules, keeper, trust, audit, own, writer }
    }

    /// Follows the file of the rules and the folder of the node's own methods, and writes the audit log until the node stops.
    pub(super) fn keep(&self, supervisor: &Supervisor) {
        let keeper = Arc::clone(&self.keeper);
        let spec =
            Spec::new("rules").stops(Stops::Here("nobody there would see that rules no longer follow their file"));
        supervisor.keep(spec, move |end| {
            let keeper = Arc::clone(&keeper);
            async move { keeper.lock().await.run(end).await }
        });
        let own = self.own.clone();
        let spec = Spec::new("own methods")
            .stops(Stops::Here("nobody there would see that they no longer follow their folder"));
        supervisor.keep(spec, move |end| own.clone().run(end));
        let writer = Arc::clone(&self.writer);
        let spec = Spec::new("audit log").stops(Stops::Never("nobody could tell afterwards who did what"));
        supervisor.keep(spec, move |end| Arc::clone(&writer).run(end));
    }

    /// Judges what arrives.
    pub(super) fn judge(&self) -> Judge {
        let (admission, audit) = (self.admission.clone(), self.audit.clone());
        Arc::new(move |sender, kind, method, body| {
            let verdict = admission.judge(sender, kind, method, body);
            audit.judged(&sender.name, kind, method, body, &verdict);
            verdict
        })
    }

    /// Says of what is about to run whether it still may.
    pub(super) fn permit(&self) -> Permit {
        permit(self.admission.clone(), self.trust.clone())
    }
}

fn permit(admission: Admission, trust: Trust) -> Permit {
    Arc::new(move |message: &Message, data: &[String]| {
        let sender = trust.who_is(&message.from);
        // Taken back while it waited: its key is believed no more, so nothing of it runs any more either.
        if let (Some(revocations), Some(key)) = (trust.revocations(), &sender.key)
            && revocations.has(key)
        {
            return Err(format!("the key of {} was revoked", sender.name));
        }
        admission.permit(&sender, message.kind, &message.method, Some(data))
    })
}

#[cfg(test)]
mod tests {
    use protocol::message::{Kind, MessageId, Options};
    use protocol::name::{MethodName, NodeName};
    use protocol::time::Wall;

    use super::*;
    use crate::security::trust::fleet_of_tests::{TestFleet, TestShelf};

    #[test]
    fn what_a_revoked_node_has_sent_before_does_not_run_any_more() {
        let (fleet, shelf) = (TestFleet::new(), TestShelf::default());
        let (central, name) = (fleet.identity("central", 1), |text: &str| NodeName::new(text).unwrap());
        let trust = fleet.trust(fleet.identity("ship1", 1), &shelf);
        trust.meets(&central.certificate);
        let rules = Rules::standard(name("ship1"), name("central"), Vec::new());
        let permit = permit(Admission::new(rules, OwnMethods::none()), trust.clone());
        let message = Message {
            id: MessageId(1),
            from: name("central"),
            to: name("ship1"),
            kind: Kind::CommandAck,
            method: MethodName::new("ShellCommand").unwrap(),
            body: "[\"true\"]".into(),
            options: Options::default(),
            created: Wall(0),
        };
        let data = ["true".to_owned()];
        assert!(permit(&message, &data).is_ok());
        // A name alone is nobody.
        assert!(permit(&Message { from: name("ship2"), ..message.clone() }, &data).is_err());
        let list = fleet.revoke(1, &central.certificate.key, "central");
        assert!(trust.revocations().unwrap().apply(&list).unwrap());
        assert!(permit(&message, &data).unwrap_err().contains("was revoked"));
    }
}
