//! What was done to the fleet: who was invited, let in, refused and thrown out, and which rules were given out.
//!
//! It is written down first where it takes effect, in the fleet's registry and in the same transaction
//! (`enrol/registry/journal.rs`), and comes from there into central's audit log once central runs. So nothing is done to
//! a fleet that the log will not have, whichever process did it and wherever it was ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::name::NodeName;
use protocol::time::Wall;
use tokio::sync::oneshot;

use super::{Audit, By, Record, Scope, Wait, cut};

/// A kind of act. To have another one in the log, add it here and call `journal::add` in the transaction that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// An invitation was made.
    Invited,
    /// Invitations were taken back.
    Withdrawn,
    /// A node was let in.
    Joined,
    /// A node was thrown out.
    Revoked,
    /// Rules were signed for nodes.
    RulesPushed,
    /// A node was asked to renew its keys.
    RenewalAsked,
    /// A node has renewed its keys, and the old one is revoked.
    Renewed,
}

impl Deed {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Invited,
        Self::Withdrawn,
        Self::Joined,
        Self::Revoked,
        Self::RulesPushed,
        Self::RenewalAsked,
        Self::Renewed,
    ];

    /// Its name in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Withdrawn => "withdrawn",
            Self::Joined => "joined",
            Self::Revoked => "revoked",
            Self::RulesPushed => "rules-pushed",
            Self::RenewalAsked => "renewal-asked",
            Self::Renewed => "renewed",
        }
    }

    /// The one with this name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.as_str() == text)
    }
}

/// Something that was done to the fleet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Act {
    /// When.
    pub(crate) at: Wall,
    /// What.
    pub(crate) deed: Deed,
    /// To which node, where it is about one.
    pub(crate) node: Option<NodeName>,
    /// Why, in an operator's words.
    pub(crate) reason: Option<String>,
    /// What else there is to say of it: an object, without secrets.
    pub(crate) about: serde_json::Value,
    /// Who did it; none where central did what a node had asked for.
    pub(crate) by: Option<By>,
}

impl Audit {
    /// Takes down what was done to the fleet, all of it or nothing. What comes back tells when it is on the disk; none
    /// means that there is no room or the log can't be written, so that it has to stay where it is meanwhile.
    pub(crate) fn acts(&self, acts: Vec<Act>) -> Option<oneshot::Receiver<()>> {
        let (synced, answer) = oneshot::channel();
        if self.settings.scope == Scope::Nothing {
            // Nothing is written on this node, and nothing is to be kept for it.
            synced.send(()).ok();
            return Some(answer);
        }
        let records = acts.into_iter().map(|act| self.of(act)).collect();
        let is_failing = self.shared.is_failing.load(Ordering::Relaxed);
        (!is_failing && self.hand_over_kept(records, Wait::Synced(synced))).then_some(answer)
    }

    /// Takes down that lines of the fleet's registry are gone that were never here.
    pub(crate) fn acts_lost(&self, count: u64) {
        self.shared.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes down that somebody who wanted to join was refused. Strangers can cause it as often as they like, so it comes
    /// straight here, and is summed up as other refusals are.
    pub(crate) fn join_refused(&self, invitation: &str, name: &str, why: &str) {
        let about = serde_json::json!({ "invitation": cut(invitation).as_ref() }).to_string();
        self.add(Record {
            at: crate::clock::wall(),
            event: "join-refused",
            from: Some(self.node.clone()),
            // Whoever asks may say any name; what is none stays out of the columns.
            to: NodeName::new(name).ok(),
            reason: Some(cut(why)),
            about: Some(about.into()),
            ..Record::default()
        });
    }

    fn of(&self, act: Act) -> Record {
        Record {
            at: act.at,
            event: act.deed.as_str(),
            from: Some(self.node.clone()),
            to: act.node,
            reason: act.reason.as_deref().filter(|reason| !reason.is_empty()).map(cut),
            about: Some(Arc::from(act.about.to_string())),
            by: act.by,
            ..Record::default()
        }
    }
}
