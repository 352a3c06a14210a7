//! The node's side of joining: makes its keys, asks central until it answers, checks the answer, and writes down who it is.
//!
//! The keys lie in `identity.joining` until the answer is there. So a join that was ended in the middle goes on with the
//! same keys, and central, which may have let the node in already, gives the same answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr, StatusCode};
use futures_util::StreamExt as _;
use protocol::time::Wall;
use tokio::sync::mpsc;

use super::token::{Token, TokenError};
use super::wire::{self, Answer, Request, Verdict, Welcome};
use crate::broker::{Access, LinkState};
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

/// How often it is looked whether the broker is there and central is to be asked.
const LOOK: Duration = Duration::from_millis(100);

/// Looks from one question to the next.
const ASK_LOOKS: u32 = 20;

/// The pause between attempts to connect.
const RECONNECT: Duration = Duration::from_millis(500);

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Reasons of failed attempts that wait to be told; more are dropped, the next attempt has the same.
const REASONS_MAX: usize = 8;

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
    /// The client.
    #[error("the broker can't be connected to: {0}")]
    Connect(String),
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

/// How far it has come, in words.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(&str);

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
        let (failures, mut failed) = mpsc::channel(REASONS_MAX);
        let client = self.connect(folder, invitation, failures).await?;
        let (subject, reply) = (wire::join(&self.token.id), wire::joined(&self.token.id));
        let client_failed = |error: &dyn std::fmt::Display| JoinError::Connect(error.to_string());
        let mut answers = client.subscribe(reply.clone()).await.map_err(|error| client_failed(&error))?;
        let body = serde_json::to_string(request).map_err(|error| client_failed(&error))?;
        let (mut look, mut wait) = (tokio::time::interval(LOOK), 0);
        loop {
            tokio::select! {
                Some(why) = failed.recv() => tell(&why),
                _ = look.tick() => {
                    wait = u32::saturating_sub(wait, 1);
                    if wait == 0 && client.connection_state() == async_nats::connection::State::Connected {
                        wait = ASK_LOOKS;
                        let asked = client.publish_with_reply(subject.clone(), reply.clone(), body.clone().into()).await;
                        asked.map_err(|error| client_failed(&error))?;
                    }
                }
                answer = answers.next() => {
                    let Some(answer) = answer else { return Err(client_failed(&"the connection was ended")) };
                    if answer.status == Some(StatusCode::NO_RESPONDERS) {
                        tell("the broker is there, but central is not: waiting for it (steward run or steward up on central)");
                        continue;
                    }
                    // What the fleet has not signed, or is for somebody else who has a copy of the token, is not for us.
                    let Some(answer) = Answer::open(&answer.payload, fleet) else { continue };
                    if answer.id == request.id && answer.node_key == request.node_key {
                        return Ok(answer);
                    }
                    tell("somebody else uses the same invitation at this moment");
                }
            }
        }
    }

    /// A client that tries for ever, and says why it fails.
    async fn connect(
        &self,
        folder: &Path,
        invitation: &KeyPair,
        failures: mpsc::Sender<String>,
    ) -> Result<Client, JoinError> {
        let parse = |text: &String| text.parse().map_err(|_| JoinError::Address(text.clone()));
        let servers: Vec<ServerAddr> = self.token.brokers.iter().map(parse).collect::<Result<_, _>>()?;
        let access = match &self.token.user {
            Some(user) => {
                let seed = Secret::Text(invitation.seed().as_str().into());
                let login = Login::Jwt { jwt: Secret::Text(user.as_str().into()), seed: Some(seed) };
                Access { tls: Tls { ca: self.token.ca.as_ref().map(|_| folder.join(CA)), ..Tls::default() }, login }
            }
            None => self.access.clone(),
        };
        let options: ConnectOptions = access
            .options(&servers)
            .name("steward, joining")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(CONNECT)
            .reconnect_delay_callback(|_| RECONNECT)
            .reconnect_to_server_callback(move |servers, _| {
                let why = servers.iter().filter_map(|server| server.last_error.as_deref()).next();
                if let Some(why) = why.map(|why| LinkState::of_failure(why).advice(why)) {
                    drop(failures.try_send(why));
                }
                async { None }
            });
        options.connect(servers).await.map_err(|error| JoinError::Connect(error.to_string()))
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
