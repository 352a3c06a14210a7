//! The renewal of the keys of a node that does not run, over a connection of its own. The steps, and what lies on the disk after
//! each, are those of a node that runs, so either goes on where the other has stopped.

use std::path::Path;
use std::time::Duration;

use async_nats::ServerAddr;

use super::wire::{self, Answer, Certified, Verdict, Word};
use super::{NoRenewal, REFUSED_MAX, believe};
use crate::broker::Access;
use crate::clock;
use crate::enrol::asking::{self, AskError, Question, Tell};
use crate::enrol::outcasts;
use crate::security::identity::Identity;
use crate::security::identity::renewal::{self as folders, Stage};

/// A node that does not run, and wants new keys.
pub(crate) struct Alone<'a> {
    /// Its directory, in which nobody else works meanwhile.
    pub(crate) dir: &'a Path,
    /// How it gets in at its broker.
    pub(crate) access: &'a Access,
    /// Where that is.
    pub(crate) servers: &'a [ServerAddr],
    /// How long to try.
    pub(crate) limit: Duration,
}

impl Alone<'_> {
    /// Renews the keys, or brings to its end what was begun. Answers with the new identity.
    pub(crate) async fn renew(&self, tell: Tell<'_>) -> anyhow::Result<Identity> {
        let mut last = "no attempt to connect has ended yet".to_owned();
        let mut tell_new = |why: &str| {
            if why != last {
                why.clone_into(&mut last);
                tell(why);
            }
        };
        match tokio::time::timeout(self.limit, self.steps(&mut tell_new)).await {
            Ok(renewed) => renewed,
            Err(_) => anyhow::bail!(
                "not renewed within {} s: {last}; the keys that this node has stay good, and what was begun is kept: run the same \
                 command again, or start the node, which goes on by itself",
                self.limit.as_secs()
            ),
        }
    }

    async fn steps(&self, tell: Tell<'_>) -> anyhow::Result<Identity> {
        let mut is_begun = false;
        loop {
            let own = Identity::load(self.dir)?.ok_or(NoRenewal::NoIdentity)?;
            match folders::stage(self.dir, &own)? {
                Stage::Idle if is_begun => return Ok(own),
                Stage::Idle => folders::make(self.dir, &own)?,
                Stage::Made(keys) => {
                    let word = Word::renew(&own.certificate.name, &own.keys.node, &keys.node, &keys.seal.public());
                    let certified = self.ask(&own, &word, None, tell, |_| true).await??;
                    folders::keep(self.dir, &believe(certified, *keys, &own, clock::wall())?)?;
                }
                Stage::Certified => drop(folders::switch(self.dir)?),
                Stage::InUse => self.prove(&own, tell).await?,
            }
            is_begun = true;
        }
    }

    /// Tells central that the new keys are in use, until it has seen it.
    async fn prove(&self, own: &Identity, tell: Tell<'_>) -> anyhow::Result<()> {
        let word = Word::using(&own.certificate.name, &own.keys.node);
        match self.ask(own, &word, Some(REFUSED_MAX), tell, |certified| certified.settled).await {
            Ok(settled) => {
                settled?;
                Ok(folders::settle(self.dir)?)
            }
            Err(AskError::NotLetIn(why)) => {
                folders::fall_back(self.dir)?;
                anyhow::bail!(
                    "the broker does not let this node in with its new keys, so the old ones are in use again: {why}. The new ones \
                     are kept, and tried again by the next run"
                );
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says a word to central until it answers as wanted; the inner error is its refusal.
    async fn ask(
        &self,
        own: &Identity,
        word: &Word,
        refused_max: Option<Duration>,
        tell: Tell<'_>,
        is_wanted: impl Fn(&Certified) -> bool,
    ) -> Result<anyhow::Result<Certified>, AskError> {
        let question = Question {
            subject: outcasts::ask(&own.certificate.name),
            body: serde_json::to_string(word).map_err(|error| AskError::Connect(error.to_string()))?,
            answers: wire::answers(&own.certificate.name),
            refused_max: refused_max.filter(|_| own.user_jwt.is_some()),
        };
        let line = asking::Line { access: self.access, servers: self.servers, name: "steward, renewing its keys" };
        let heard = |body: &[u8], _: &mut dyn FnMut(&str)| match Answer::to(word, body, &own.fleet)? {
            Verdict::Certified(certified) => is_wanted(&certified).then_some(Ok(certified)),
            Verdict::Refused(why) => Some(Err(anyhow::anyhow!(
                "central does not renew the keys: {why}; the keys that this node has are kept"
            ))),
        };
        asking::ask(line, &question, tell, heard).await
    }
}
