//! The rules that a fleet gives to its nodes: a file of rules with a version, signed by the fleet key. They only take away:
//! what a node accepts is what its own rules accept and these as well. The highest version is kept, durably.
//!
//! Whoever brings a set needs the right to send `OpRulesApply` by the node's own rules, and by nothing else: so a node that
//! does not want the fleet's rules says so, and a set that refuses everything can still be replaced by a better one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::file::BadRules;
use super::set::{RuleSet, Ruling};
use super::{Decision, Grant, Question, Refusal, Rules};
use crate::security::keys::{KeyPair, PublicKey};
use crate::security::secret_file::{self, SecretFileError};
use crate::security::statement::{Statement, StatementError};

/// The file in the fleet's folder with the set that was pushed to all, whoever joins later included.
const FOR_ALL: &str = "rules.all";

/// The file in the node's directory.
const FILE: &str = "rules.fleet";

/// The longest set as it is signed, in bytes; the text of the rules is about two thirds of it.
pub(crate) const TOKEN_BYTES_MAX: usize = 60 * 1024;

/// What the claims are about.
const SUBJECT: &str = "rules";

#[derive(Serialize, Deserialize)]
struct Part {
    /// The higher, the newer.
    version: u64,
    /// The text of the file.
    rules: String,
}

/// Why a set is not made or not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushedError {
    /// There is no key to check it with.
    #[error("{0} belongs to no fleet, so nobody can sign rules for it; write rules.toml there")]
    NoFleet(protocol::name::NodeName),
    /// The token.
    #[error("the set of rules is not believed: {0}")]
    Statement(#[from] StatementError),
    /// Signed by the fleet, and something else.
    #[error("that is signed by the fleet, but it is no set of rules")]
    Subject,
    /// The rules in it.
    #[error("the rules can't be used: {0}")]
    Rules(#[from] BadRules),
    /// Too long.
    #[error("the rules make a set of {0} bytes; one may have {TOKEN_BYTES_MAX}")]
    TooLong(usize),
    /// Not newer.
    #[error("version {known} of the fleet's rules is here already, and version {found} is not newer")]
    Old {
        /// What is here.
        known: u64,
        /// What came.
        found: u64,
    },
    /// The file.
    #[error("{0}")]
    File(#[from] SecretFileError),
}

/// A set that was believed.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    /// The higher, the newer.
    pub(crate) version: u64,
    /// The text of its rules.
    pub(crate) text: Arc<str>,
    /// As it is signed.
    pub(crate) token: Arc<str>,
    set: RuleSet,
}

impl Pushed {
    /// Signs the text of a file as this version, with the fleet key.
    pub(crate) fn issue(text: &str, version: u64, fleet: &KeyPair, now: Wall) -> Result<Self, PushedError> {
        RuleSet::parse(text)?;
        let (name, about) = (SUBJECT.to_owned(), SUBJECT.to_owned());
        let said = Part { version, rules: text.to_owned() };
        let token = Statement { name, about, expires: None, said }.sign(fleet, now)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(PushedError::TooLong(token.len()));
        }
        Self::verify(&token, &fleet.public())
    }

    /// What a token says, if `fleet` has signed it.
    pub(crate) fn verify(token: &str, fleet: &PublicKey) -> Result<Self, PushedError> {
        let (statement, _) = Statement::<Part>::verify(token, fleet, TOKEN_BYTES_MAX)?;
        if statement.about != SUBJECT {
            return Err(PushedError::Subject);
        }
        let part = statement.said;
        let set = RuleSet::parse(&part.rules)?;
        Ok(Self { version: part.version, text: part.rules.into(), token: Arc::from(token), set })
    }

    /// How many rules it has.
    pub(crate) fn rules(&self) -> usize {
        self.set.rules.len()
    }

    /// The last set that lies in this folder, if there is one.
    pub(crate) fn load(folder: &Path, fleet: &PublicKey) -> Result<Option<Self>, PushedError> {
        Self::read(&folder.join(FILE), fleet)
    }

    /// The last set in the fleet's folder that was pushed to all, if there is one.
    pub(crate) fn load_for_all(folder: &Path, fleet: &PublicKey) -> Result<Option<Self>, PushedError> {
        Self::read(&folder.join(FOR_ALL), fleet)
    }

    fn read(path: &Path, fleet: &PublicKey) -> Result<Option<Self>, PushedError> {
        match secret_file::read(path) {
            Err(SecretFileError::Missing { .. }) => Ok(None),
            read => Self::verify(&read?, fleet).map(Some),
        }
    }

    /// Puts it into the fleet's folder as the one for all, durably.
    pub(crate) fn save_for_all(&self, folder: &Path) -> Result<(), PushedError> {
        Ok(secret_file::write(&folder.join(FOR_ALL), &self.token)?)
    }

    /// Puts it into this folder, durably.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), PushedError> {
        Ok(secret_file::write(&folder.join(FILE), &self.token)?)
    }
}

/// The fleet's rules on a node.
#[derive(Debug, Clone, Default)]
pub(super) enum OfFleet {
    /// There are none.
    #[default]
    None,
    /// These.
    Good(Arc<Pushed>),
    /// There are some, and nobody knows which.
    Unusable,
}

/// The fleet that a node believes, and where its rules lie.
#[derive(Debug)]
pub(super) struct Source {
    fleet: PublicKey,
    dir: PathBuf,
}

impl Rules {
    /// The node belongs to this fleet: the last set that it was given holds from now on. One that can't be read any more
    /// lets nothing in until another one comes, because nobody knows what it took away.
    pub(crate) fn join(&self, fleet: PublicKey, dir: &Path) {
        let mut source = self.source();
        let (of_fleet, why) = match Pushed::load(dir, &fleet) {
            Ok(None) => (OfFleet::None, None),
            Ok(Some(pushed)) => (OfFleet::Good(Arc::new(pushed)), None),
            Err(error) => {
                tracing::error!(file = %dir.join(FILE).display(), %error,
                    "the fleet's rules can't be used; nothing is accepted until central pushes them again");
                (OfFleet::Unusable, Some(error.to_string()))
            }
        };
        self.change(|active| {
            active.view.fleet_why = why;
            active.take(of_fleet);
        });
        *source = Some(Source { fleet, dir: dir.to_owned() });
    }

    /// Takes a set on, if it is newer than what is here; the same once more changes nothing. Blocks.
    pub(crate) fn apply(&self, token: &str) -> Result<Arc<Pushed>, PushedError> {
        let source = self.source();
        let Some(source) = &*source else { return Err(PushedError::NoFleet(self.shared.me.clone())) };
        let pushed = Arc::new(Pushed::verify(token, &source.fleet)?);
        if let OfFleet::Good(known) = &self.active().of_fleet {
            if known.version == pushed.version && known.text == pushed.text {
                return Ok(Arc::clone(known));
            }
            if known.version >= pushed.version {
                return Err(PushedError::Old { known: known.version, found: pushed.version });
            }
        }
        // First on disk: what was told to hold has to hold after a restart as well.
        pushed.save(&source.dir)?;
        self.change(|active| {
            active.view.fleet_why = None;
            active.take(OfFleet::Good(Arc::clone(&pushed)));
        });
        tracing::info!(version = pushed.version, rules = pushed.set.rules.len(), "new rules of the fleet hold");
        Ok(pushed)
    }
}

impl super::Active {
    fn take(&mut self, of_fleet: OfFleet) {
        if let OfFleet::Good(pushed) = &of_fleet {
            (self.view.fleet_version, self.view.fleet_text) = (Some(pushed.version), Some(pushed.text.to_string()));
        }
        self.of_fleet = of_fleet;
    }
}

impl OfFleet {
    /// What is left of a grant of the node's own rules.
    pub(super) fn narrow(&self, grant: Grant, question: Question<'_>, me: &protocol::name::NodeName) -> Decision {
        let pushed = match self {
            Self::None => return Decision::Accept(grant),
            Self::Good(pushed) => pushed,
            Self::Unusable => {
                let why = format!(
                    "the fleet's rules on {me} can't be read, so {me} accepts nothing until they are pushed again \
                     (steward rules push, where the fleet was made)"
                );
                return Decision::Refuse(Refusal { rule: None, why });
            }
        };
        let (version, from, method) = (pushed.version, &question.sender.name, question.method);
        match pushed.set.rule(me, question) {
            Ruling::Accept(rule, limits) => Decision::Accept(Grant {
                rule: format!("{}, and of the fleet: {rule}", grant.rule).into(),
                limits: grant.limits.and(limits),
            }),
            Ruling::Refuse(rule) => {
                let why = format!(
                    "the rule {rule:?} of the fleet refuses this {method} from {from} on {me} (version {version})"
                );
                Decision::Refuse(Refusal { rule: Some(rule), why })
            }
            Ruling::NoRule { other_data } => {
                let data = if other_data { " with this data" } else { "" };
                let why = format!(
                    "{me} itself would take it, but no rule of the fleet lets {from} send it {method}{data} (version {version})"
                );
                Decision::Refuse(Refusal { rule: None, why })
            }
        }
    }
}

#[cfg(test)]
mod tests;
