//! What a node accepts, and within what limits it runs it (R13): the rules of its own directory, and what its fleet takes
//! away from them. [`Rules::judge`] decides for every message on every path.
//!
//! ```text
//! DIR/rules.toml ──file.rs──▶ floor ──┐
//! --allow FROM:METHOD ────────────────┤ judge: the floor AND the fleet's set
//! OpRulesApply ──pushed.rs──▶ set ────┘
//! ```
//! A file that can't be understood changes nothing: what held before holds on, also across a restart (`keeper.rs`). It
//! never looks at whether a sender is who it says: that is seen to where a message is verified.

mod file;
mod keeper;
mod pattern;
mod pushed;
mod set;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::Context as _;
use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};
use serde::{Deserialize, Serialize};

pub(crate) use keeper::Keeper;
pub(crate) use pushed::{Pushed, PushedError, TOKEN_BYTES_MAX};
pub(crate) use set::{Limits, smaller};

use crate::config::AllowRule;
use crate::security::sender::Sender;
use pushed::{OfFleet, Source};
use set::{Question, RuleSet, Ruling};

/// The file of a node's own rules, in its directory.
pub(crate) const FILE: &str = "rules.toml";

/// The method that brings the fleet's rules; see [`pushed`].
pub(crate) const APPLY: &str = crate::methods::RULES_APPLY;

/// The method for which a rule has to name where it leads.
const PORT_FORWARD: &str = crate::methods::PORT_FORWARD;

/// The rules of a node. Clones are the same rules.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: NodeName,
    central: NodeName,
    flags: Vec<AllowRule>,
    active: RwLock<Arc<Active>>,
    refused: AtomicU64,
    /// None for a node without a fleet. Held while a set is taken on.
    source: Mutex<Option<Source>>,
}

/// What holds at the moment.
#[derive(Debug, Clone)]
struct Active {
    /// The node's own rules. None: nobody knows them, so nothing is taken.
    floor: Option<RuleSet>,
    /// What the fleet takes away from them.
    of_fleet: OfFleet,
    /// What to tell about them.
    view: RulesView,
}

/// What there is to say of a node's rules, as `steward rules show` prints it. Field names are a public interface: add,
/// never rename.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RulesView {
    /// `standard`: there is no file. `good`: the file holds. `kept`: it can't be used, and what held before holds on.
    /// `closed`: it can't be used, and nothing else is known, so nothing is accepted.
    pub(crate) state: String,
    /// Since when what holds is in force here, in this process.
    pub(crate) since: String,
    /// Why the file is not what holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// How many rules there are in what holds, those of flags with them.
    pub(crate) rules: usize,
    /// What happens to what no rule fits: `standard`, `refuse` or `accept`.
    pub(crate) otherwise: String,
    /// What holds, as text.
    pub(crate) text: String,
    /// The rules of flags (`--allow`), which stand behind those of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) flags: Vec<String>,
    /// The version of the fleet's rules, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fleet_version: Option<u64>,
    /// They, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fleet_text: Option<String>,
    /// Why they can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fleet_why: Option<String>,
}

/// What the rules say of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It may run.
    Accept(Grant),
    /// It may not.
    Refuse(Refusal),
}

/// That a message may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// By which rule.
    pub(crate) rule: Arc<str>,
    /// Within which limits.
    pub(crate) limits: Limits,
}

/// That a message may not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// By which rule; none, if it is for the lack of one.
    pub(crate) rule: Option<Arc<str>>,
    /// In words for the sender. They say nothing of what rules look for.
    pub(crate) why: String,
}

impl Rules {
    /// The rules that hold without a file, for the node `me`, with those of flags.
    pub(crate) fn standard(me: NodeName, central: NodeName, flags: Vec<AllowRule>) -> Self {
        let active = Active { floor: None, of_fleet: OfFleet::None, view: RulesView::default() };
        let (active, refused, source) = (RwLock::new(Arc::new(active)), AtomicU64::new(0), Mutex::default());
        let rules = Self { shared: Arc::new(Shared { me, central, flags, active, refused, source }) };
        rules.hold(Some(RuleSet::standard()), RulesView { state: "standard".to_owned(), ..RulesView::default() });
        rules
    }

    /// Whether a message may run here. `data` is none where it is no list of words; such data fits no pattern.
    pub(crate) fn judge(&self, sender: &Sender, kind: Kind, method: &MethodName, data: Option<&[String]>) -> Decision {
        let decision = self.look_up(sender, kind, method, data);
        if matches!(decision, Decision::Refuse(_)) {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        decision
    }

    /// The same for whoever only wants to know; it counts nothing.
    pub(crate) fn look_up(
        &self,
        sender: &Sender,
        kind: Kind,
        method: &MethodName,
        data: Option<&[String]>,
    ) -> Decision {
        let must_name = method.as_str() == PORT_FORWARD;
        let question = Question { sender, kind, method, data, must_name };
        let active = self.active();
        let decision = match &active.floor {
            Some(floor) => self.told(floor.rule(&self.shared.me, question), question),
            None => self.closed(),
        };
        match decision {
            // Otherwise a set that refuses everything could never be replaced.
            Decision::Accept(grant) if method.as_str() != APPLY => {
                // The fleet's rules only take away, so they need not name anything.
                active.of_fleet.narrow(grant, Question { must_name: false, ..question }, &self.shared.me)
            }
            decision => decision,
        }
    }

    /// The node whose commands are taken without rules.
    pub(crate) fn central(&self) -> &NodeName {
        &self.shared.central
    }

    /// What there is to say of them.
    pub(crate) fn view(&self) -> RulesView {
        self.active().view.clone()
    }

    /// How often they have refused something since the start; a message that comes again counts again.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    fn active(&self) -> Arc<Active> {
        // What stands there is replaced as a whole, so it is whole even after a panic.
        Arc::clone(&self.shared.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this holds, with the rules of flags behind it, and the fleet's as they are.
    fn hold(&self, floor: Option<RuleSet>, view: RulesView) {
        let flags = &self.shared.flags;
        let floor = floor.map(|set| set.with_flags(flags));
        let view = RulesView {
            since: crate::clock::rfc3339(crate::clock::wall()),
            rules: floor.as_ref().map_or(0, |set| set.rules.len()),
            otherwise: floor.as_ref().map_or("refuse", |set| set.otherwise.as_str()).to_owned(),
            flags: flags.iter().map(ToString::to_string).collect(),
            ..view
        };
        self.change(|active| {
            let before = std::mem::replace(&mut active.view, view);
            active.view.fleet_version = before.fleet_version;
            (active.view.fleet_text, active.view.fleet_why) = (before.fleet_text, before.fleet_why);
            active.floor = floor;
        });
    }

    /// What holds goes on, but there is something else to tell.
    fn tell(&self, change: impl FnOnce(&mut RulesView)) {
        self.change(|active| change(&mut active.view));
    }

    /// Puts something else in the place of what holds, as a whole.
    fn change(&self, change: impl FnOnce(&mut Active)) {
        let mut active = self.shared.active.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Active::clone(&active);
        change(&mut next);
        *active = Arc::new(next);
    }

    fn source(&self) -> MutexGuard<'_, Option<Source>> {
        // It is set once, as a whole.
        self.shared.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, ruling: Ruling, question: Question<'_>) -> Decision {
        let Question { sender, kind, method, .. } = question;
        let (me, from) = (&self.shared.me, &sender.name);
        match ruling {
            Ruling::Accept(rule, limits) => Decision::Accept(Grant { rule, limits }),
            Ruling::Refuse(rule) => {
                let why = format!("the rule {rule:?} of {me} refuses this {kind} {method} from {from}");
                Decision::Refuse(Refusal { rule: Some(rule), why })
            }
            Ruling::NoRule { .. } if question.must_name => {
                let why = format!(
                    "no rule of {me} names this place for {from}; forwarding needs one that does, whoever asks: add \
                     forward = [\"HOST:PORT\"] (to connect) or listen = [\"ADDRESS:PORT\"] to one for {method} in {FILE} on {me}"
                );
                Decision::Refuse(Refusal { rule: None, why })
            }
            Ruling::NoRule { other_data: true } => {
                let why = format!("{me} takes {method} from {from}, but no rule there lets it in with this data");
                Decision::Refuse(Refusal { rule: None, why })
            }
            Ruling::NoRule { other_data: false } if kind.is_command() => {
                let central = &self.shared.central;
                let why = format!(
                    "no rule of {me} lets {from} run {method} there (without rules, only {central} may); to change that, \
                     add one to {FILE} on {me}, or start it with --allow {from}:{method}"
                );
                Decision::Refuse(Refusal { rule: None, why })
            }
            Ruling::NoRule { other_data: false } => {
                let why =
                    format!("no rule of {me} lets {from} send it {method} as an event; add one to {FILE} on {me}");
                Decision::Refuse(Refusal { rule: None, why })
            }
        }
    }

    fn closed(&self) -> Decision {
        let me = &self.shared.me;
        let why = format!(
            "the rules of {me} ({FILE}) can't be used, and no earlier ones are known there, so {me} accepts nothing until \
             they are mended; `steward rules check {FILE}` there says what is wrong"
        );
        Decision::Refuse(Refusal { rule: None, why })
    }
}

/// Whether a file of rules can be used, and then how many rules it has.
pub(crate) fn check(path: &Path) -> anyhow::Result<usize> {
    Ok(parsed(path)?.rules.len())
}

/// The rules of a file alone, as they would be for a node that nobody has named.
pub(crate) fn of_file(path: &Path, central: &NodeName) -> anyhow::Result<Rules> {
    Ok(alone(parsed(path)?, NodeName::new("here")?, central.clone()))
}

/// The rules of this text alone.
#[cfg(any(test, fuzzing))]
pub(crate) fn of_text(text: &str, me: NodeName, central: NodeName) -> Result<Rules, (usize, usize)> {
    let set = RuleSet::parse(text).map_err(|bad| (bad.line, bad.column))?;
    Ok(alone(set, me, central))
}

fn alone(set: RuleSet, me: NodeName, central: NodeName) -> Rules {
    let rules = Rules::standard(me, central, Vec::new());
    rules.hold(Some(set), RulesView::default());
    rules
}

fn parsed(path: &Path) -> anyhow::Result<RuleSet> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    RuleSet::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
