//! A set of rules, and what it says of a message: the first rule that fits decides; where none fits, what the set says
//! of the rest. It never knows where a set comes from.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};

use super::pattern::{Data, From, Method, Types};
use crate::config::AllowRule;
use crate::security::certificate::Role;
use crate::security::sender::Sender;

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// What refusals, `steward rules try` and the audit log call it. Its sender may hear it.
    pub(super) name: Arc<str>,
    pub(super) from: Vec<From>,
    pub(super) types: Vec<Types>,
    pub(super) methods: Vec<Method>,
    pub(super) data: Data,
    /// Within what it lets a message run; none refuses it.
    pub(super) limits: Option<Limits>,
}

/// Within what a message may run. What is none is not limited by the rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// As which user programs run: a name, a number, or two with a colon between (user and group).
    pub(crate) user: Option<Arc<str>>,
    /// How long it may run at most.
    pub(crate) timeout: Option<Duration>,
    /// Bytes of its output that are kept at most, both streams together.
    pub(crate) max_output: Option<u64>,
}

impl Limits {
    /// The narrower of both; as the user of the first that names one.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            user: self.user.or(other.user),
            timeout: smaller(self.timeout, other.timeout),
            max_output: smaller(self.max_output, other.max_output),
        }
    }
}

/// The smaller of two limits, either of which may be none.
pub(crate) fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What holds for what no rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// Commands from central and from the node itself, events from everybody.
    Standard,
    /// Nothing.
    Refuse,
    /// Everything: for a set that only takes away from another one.
    Accept,
}

impl Otherwise {
    /// Its name in files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Refuse => "refuse",
            Self::Accept => "accept",
        }
    }
}

/// Rules in their order.
#[derive(Debug, Clone)]
pub(super) struct RuleSet {
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: Otherwise,
}

/// What a set says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It may run, by this rule, within these limits.
    Accept(Arc<str>, Limits),
    /// This rule refuses it.
    Refuse(Arc<str>),
    /// No rule lets it in.
    NoRule {
        /// Whether one would with other data.
        other_data: bool,
    },
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) sender: &'a Sender,
    pub(super) kind: Kind,
    pub(super) method: &'a MethodName,
    /// None where the data is no list of words.
    pub(super) data: Option<&'a [String]>,
    /// Whether it is for a rule alone to let it in, and one that names a place: what else is accepted does not count.
    pub(super) must_name: bool,
}

impl RuleSet {
    /// What holds where nobody has written rules.
    pub(super) fn standard() -> Self {
        Self { rules: Vec::new(), otherwise: Otherwise::Standard }
    }

    /// With the rules of flags behind its own.
    pub(super) fn with_flags(mut self, flags: &[AllowRule]) -> Self {
        self.rules.extend(flags.iter().map(of_flag));
        self
    }

    /// What it says of a message for the node `me`.
    pub(super) fn rule(&self, me: &NodeName, question: Question<'_>) -> Ruling {
        let Question { sender, kind, method, data, must_name } = question;
        let mut other_data = false;
        for rule in &self.rules {
            let about = rule.from.iter().any(|from| from.fits(sender))
                && rule.types.iter().any(|types| types.fits(kind))
                && rule.methods.iter().any(|name| name.fits(method));
            if !about {
                continue;
            }
            match &rule.limits {
                _ if !rule.data.fits(data) => other_data |= rule.limits.is_some(),
                Some(_) if must_name && !rule.data.names_place() => other_data = true,
                Some(limits) => return Ruling::Accept(Arc::clone(&rule.name), limits.clone()),
                None => return Ruling::Refuse(Arc::clone(&rule.name)),
            }
        }
        let accepted = match self.otherwise {
            _ if must_name => false,
            Otherwise::Standard => !kind.is_command() || sender.role == Role::Central || sender.name == *me,
            Otherwise::Refuse => false,
            Otherwise::Accept => true,
        };
        match accepted {
            true => Ruling::Accept(self.otherwise.as_str().into(), Limits::default()),
            false => Ruling::NoRule { other_data },
        }
    }
}

/// `--allow FROM:METHOD` as a rule.
fn of_flag(flag: &AllowRule) -> Rule {
    let from = flag.from.as_ref().map_or(From::Any, |name| From::Name(name.clone()));
    let method = flag.method.as_ref().map_or(Method::Any, |name| Method::Name(name.clone()));
    Rule {
        name: format!("--allow {flag}").into(),
        from: vec![from],
        types: vec![Types::Commands],
        methods: vec![method],
        data: Data::Any,
        limits: Some(Limits::default()),
    }
}
