//! The node's side of joining: makes its keys, asks central until it answers, checks the answer, and writes down who it is.
//!
//! The keys lie in `identity.joining` until the answer is there. So a join that was ended in the middle goes on with the
//! same keys, and central, which may have let the node in already, gives the same answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::ServerAddr;
use protocol::time::Wall;

use super::asking::{self, AskError, Question, Tell};
use super::token::{Token, TokenError};
use super::wire::{self, Answer, Request, Verdict, Welcome};
use crate::broker::Access;
use crate::clock;
use crate::config::broker::{Login, Secret, Tls};
use crate::security::certificate::{Certificate, Role};
use crate::security::identity::{FOLDER, Identity, IdentityError, NodeKeys};
use crate::security::keys::{KeyError, KeyPair, PublicKey};
use crate::security::secret_file::{self, SecretFileError};

/// Where the keys lie until central has answered.
const JOINING: &str = "identity.joining";

/// The invitation for which those keys were made.
const INVITATION: &str = "invitation";

/// The CA, while it is not the identity's yet.
const CA: &str = "ca.pem";

/// Why a node does not join. A refusal leaves the directory as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The token.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A key in the token.
    #[error("the invitation makes no sense ({0}); ask for another one (steward invite NAME on central)")]
    Key(#[from] KeyError),
    /// The directory has an identity.
    #[error(
        "{} says that this is the node {name} of a fleet already; choose another directory with --dir, or, if it is to join \
         anew, remove that folder first", folder.display()
    )]
    Known {
        /// The folder.
        folder: PathBuf,
        /// Who it is.
        name: String,
    },
    /// The directory's identity can't be read.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// A file.
    #[error("{0}")]
    File(#[from] SecretFileError),
    /// An address in the token.
    #[error("the invitation names a broker address that makes no sense: {0}")]
    Address(String),
    /// The request can't be written.
    #[error("the request can't be written: {0}")]
    Request(String),
    /// Asking.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// Nobody has answered.
    #[error(
        "not joined within {} s: {why}; what was begun is kept, so run the same command again", limit.as_secs()
    )]
    Late {
        /// How long it was tried.
        limit: Duration,
        /// What it waited for.
        why: String,
    },
    /// Central says no.
    #[error("central refuses: {0}")]
    Refused(String),
    /// The node's configuration can't be written.
    #[error("{0:#}")]
    Configure(anyhow::Error),
    /// What central has answered is not right.
    #[error("central's answer is not believed: {0}; nothing was changed here")]
    Answer(String),
}

/// A node that is about to join.
pub(crate) struct Joining {
    /// The node's directory.
    pub(crate) dir: PathBuf,
    /// The invitation.
    pub(crate) token: Token,
    /// How to get in at a broker that is not the fleet's own.
    pub(crate) access: Access,
    /// How long to try.
    pub(crate) limit: Duration,
}

impl Joining {
    /// Joins. What is told is for whoever waits. `configure` writes what the node is told of itself, before its identity is
    /// in place: a node that has an identity is whole.
    pub(crate) async fn run(
        &self,
        tell: Tell<'_>,
        configure: &dyn Fn(&Identity, &Certificate) -> anyhow::Result<()>,
    ) -> Result<(Identity, Certificate), JoinError> {
        if let Some(identity) = Identity::load(&self.dir)? {
            let name = identity.certificate.name.to_string();
            return Err(JoinError::Known { folder: self.dir.join(FOLDER), name });
        }
        self.token.check_time(clock::wall())?;
        let (fleet, invitation) = (self.token.fleet()?, self.token.key()?);
        let (folder, keys) = self.keys()?;
        let request = Request::new(&self.token.id, &self.token.name, &invitation, &keys.node, &keys.seal.public());
        let mut last = "no attempt to connect has ended yet".to_owned();
        let mut tell_new = |why: &str| {
            if why != last {
                why.clone_into(&mut last);
                tell(why);
            }
        };
        let asking = self.ask(&folder, &invitation, &request, &fleet, &mut tell_new);
        let answer = match tokio::time::timeout(self.limit, asking).await {
            Ok(answer) => answer?,
            Err(_) => return Err(JoinError::Late { limit: self.limit, why: last }),
        };
        let welcome = match answer.verdict {
            Verdict::Welcome(welcome) => welcome,
            Verdict::Refused(why) => {
                remove(&folder);
                return Err(JoinError::Refused(why));
            }
        };
        let (identity, central) = self.believe(welcome, keys, fleet, clock::wall())?;
        configure(&identity, &central).map_err(JoinError::Configure)?;
        identity.save(&self.dir)?;
        remove(&folder);
        Ok((identity, central))
    }

    /// The keys that were made for this invitation, or new ones; and the folder where they lie.
    fn keys(&self) -> Result<(PathBuf, NodeKeys), JoinError> {
        let folder = self.dir.join(JOINING);
        secret_file::make_folder(&folder)?;
        let marker = folder.join(INVITATION);
        let keys = match secret_file::read(&marker) {
            Ok(id) if *id == self.token.id => NodeKeys::load(&folder)?,
            Ok(_) | Err(SecretFileError::Missing { .. }) => {
                let keys = NodeKeys::generate()?;
                keys.save(&folder)?;
                // Last, so that keys whose writing was cut short are never taken for whole.
                secret_file::write(&marker, &self.token.id)?;
                keys
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(ca) = &self.token.ca {
            secret_file::write(&folder.join(CA), ca)?;
        }
        Ok((folder, keys))
    }

    /// Asks until central has answered this very request.
    async fn ask(
        &self,
        folder: &Path,
        invitation: &KeyPair,
        request: &Request,
        fleet: &PublicKey,
        tell: Tell<'_>,
    ) -> Result<Answer, JoinError> {
        let access = match &self.token.user {
            Some(user) => {
                let seed = Secret::Text(invitation.seed().as_str().into());
                let login = Login::Jwt { jwt: Secret::Text(user.as_str().into()), seed: Some(seed) };
                Access { tls: Tls { ca: self.token.ca.as_ref().map(|_| folder.join(CA)), ..Tls::default() }, login }
            }
            None => self.access.clone(),
        };
        let parse = |text: &String| text.parse().map_err(|_| JoinError::Address(text.clone()));
        let servers: Vec<ServerAddr> = self.token.brokers.iter().map(parse).collect::<Result<_, _>>()?;
        let question = Question {
            body: serde_json::to_string(request).map_err(|error| JoinError::Request(error.to_string()))?,
            subject: wire::join(&self.token.id),
            answers: wire::joined(&self.token.id),
            refused_max: None,
        };
        let line = asking::Line { access: &access, servers: &servers, name: "steward, joining" };
        let heard = |body: &[u8], tell: &mut dyn FnMut(&str)| {
            // What the fleet has not signed, or is for somebody else who has a copy of the token, is not for us.
            let answer = Answer::open(body, fleet)?;
            if answer.id == request.id && answer.node_key == request.node_key {
                return Some(answer);
            }
            tell("somebody else uses the same invitation at this moment");
            None
        };
        Ok(asking::ask(line, &question, tell, heard).await?)
    }

    /// The identity that the answer makes, if everything in it is what it has to be.
    fn believe(
        &self,
        welcome: Welcome,
        keys: NodeKeys,
        fleet: PublicKey,
        now: Wall,
    ) -> Result<(Identity, Certificate), JoinError> {
        let wrong = |why: String| JoinError::Answer(why);
        let verify = |text: &str| Certificate::verify(text, &fleet).map_err(|error| wrong(error.to_string()));
        let (certificate, central) = (verify(&welcome.certificate)?, verify(&welcome.central)?);
        if certificate.key != keys.node.public() || certificate.seal_key != keys.seal.public() {
            return Err(wrong("the certificate is for other keys than those that were made here".to_owned()));
        }
        if certificate.name != self.token.name {
            return Err(wrong(format!("the certificate is for {}, not for {}", certificate.name, self.token.name)));
        }
        if central.role != Role::Central {
            return Err(wrong(format!("{} is said to be central, and is not", central.name)));
        }
        if !certificate.holds(now) {
            return Err(wrong("the certificate has expired; is this machine's clock right?".to_owned()));
        }
        let (user_jwt, ca) = (welcome.user, self.token.ca.clone());
        Ok((Identity { keys, certificate, fleet, user_jwt, ca }, central))
    }
}

/// Whether a join has begun in this directory that has not come to its end.
pub(crate) fn is_begun(dir: &Path) -> bool {
    dir.join(JOINING).symlink_metadata().is_ok()
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::debug!(%error, "the folder in which the keys were made is left behind");
    }
}
