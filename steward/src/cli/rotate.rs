//! `steward rotate`: renews the keys of the node here, has other nodes renew theirs, or renews the broker's certificate. The old
//! keys stay good until the new ones have been seen in use, so whatever is killed in between gets in, and goes on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use protocol::message::Kind;
use protocol::name::NodeName;
use serde::Serialize;

use super::exit::{Exit, UsageError};
use super::output::{self, Output};
use super::send::submit;
use super::{Context, Verb, remote, wait_for, when};
use crate::api::InfoView;
use crate::api::client::{Client, ClientError};
use crate::authority::Authority;
use crate::broker::Access;
use crate::clock::{self, rfc3339};
use crate::config::broker::BrokerConfig;
use crate::config::sources::Sources;
use crate::config::units;
use crate::enrol::registry::{Member, Registry};
use crate::enrol::renewal::CURRENT;
use crate::enrol::renewal::alone::Alone;
use crate::intake::MessageInput;
use crate::lock::DirLock;
use crate::methods::KEYS_RENEW;
use crate::security::certificate::Role;
use crate::security::identity::Identity;
use crate::security::private_memory;
use crate::view::KeysView;

/// How often it is looked how far the node is.
const LOOK: Duration = Duration::from_millis(200);

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// Have this node renew its keys, with a message that waits for it; may be repeated (on central)
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    node: Vec<NodeName>,
    /// Have every other member of the fleet renew its keys (on central)
    #[arg(long, conflicts_with = "node")]
    all: bool,
    /// Renew the broker's TLS certificate; the CA stays, so nodes need nothing (on central)
    #[arg(long, conflicts_with_all = ["node", "all"])]
    broker: bool,
    /// How long to wait for the end; what was begun goes on after that
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = units::duration)]
    timeout: Duration,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What was asked of a node.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    node: &'a str,
    /// The message that asks it.
    id: &'a str,
    /// The key that is to go.
    key: &'a str,
}

/// What became of the broker's certificate.
#[derive(Debug, Serialize)]
struct Certificate {
    /// Until when it holds.
    until: String,
}

impl Verb for Rotate {
    const NAME: &'static str = "rotate";
    const ABOUT: &'static str = "Renew the keys of the node here, or have other nodes of the fleet renew theirs";
    const MORE: &'static str = "\
The node makes new keys, which never leave it; central vouches for them; the node connects with them; and once central has seen that, \
the old ones are revoked. Until then the old ones are good: a node that is killed in the middle gets in, and goes on by itself. It is \
done in the process that runs here, and without one if none runs.
With --node and --all, on central, nodes are told by messages that wait for them. A node that is away for a month gets in with the \
keys that it has, and then renews them. `steward nodes` shows who was asked and who has done it; a repeated request does nothing more.
The fleet's own key is not renewed: whoever has it is the fleet (SECURITY.md).
Examples:
  steward rotate                      # the node here, central as well
  steward rotate --node ship1,ship2
  steward rotate --all
  steward rotate --broker             # `steward broker` does so by itself, four months before the certificate ends";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        private_memory::for_keys();
        let dir = context.dir()?;
        let mut output = Output::stdout();
        let exit = if self.broker {
            self.certificate(&dir, &mut output)?
        } else if self.all || !self.node.is_empty() {
            self.others(&dir, &mut output)?
        } else {
            let keys = self.own(&dir, context.sources)?;
            match self.json {
                true => output.json(&keys)?,
                false => {
                    output.line(&format!("this node has new keys since {}: {}", when::local(&keys.since), keys.key))?
                }
            }
            Exit::OK
        };
        output.flush()?;
        Ok(exit)
    }
}

impl Rotate {
    /// Renews the keys of the node here.
    fn own(&self, dir: &Path, sources: Sources) -> anyhow::Result<KeysView> {
        let renewed = wait_for(async {
            let client = Client::new(dir);
            match client.post::<KeysView>("/v1/keys/renew", String::new()).await {
                Ok(before) => self.followed(&client, &before).await.map(Some),
                Err(ClientError::NotRunning(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        match renewed {
            Some(keys) => Ok(keys),
            None => self.alone(dir, sources),
        }
    }

    /// Waits until the node that runs here has other keys.
    async fn followed(&self, client: &Client, before: &KeysView) -> anyhow::Result<KeysView> {
        let mut told = None;
        let followed = async {
            loop {
                let keys: KeysView = client.get("/v1/keys").await?;
                let is_renewed = keys.key != before.key || before.state != CURRENT;
                match keys.state.as_str() {
                    CURRENT if is_renewed => return Ok(keys),
                    "refused" | "fell-back" => {
                        let why = keys.note.unwrap_or_default();
                        bail!("{why}; `steward ps` shows how it goes on, and the keys that this node has stay good")
                    }
                    _ if keys.note != told => {
                        output::note(keys.note.as_deref().unwrap_or("the node begins"));
                        told = keys.note;
                    }
                    _ => {}
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let followed = tokio::time::timeout(self.timeout, followed).await;
        followed.unwrap_or_else(|_| {
            bail!(
                "not renewed within {} s; the node goes on by itself, and the keys that it has stay good until then: `steward ps` shows \
                 how far it is (is central there?)",
                self.timeout.as_secs()
            )
        })
    }

    /// Renews the keys without a process that runs.
    fn alone(&self, dir: &Path, sources: Sources) -> anyhow::Result<KeysView> {
        let dir = dir.canonicalize().with_context(|| format!("{} can't be found", dir.display()))?;
        let own = Identity::load(&dir)?.with_context(|| {
            format!("{} has no identity, so there are no keys to renew; `steward init` makes a fleet, `steward join` joins one", dir.display())
        })?;
        ensure!(
            dir.join(crate::authority::FOLDER).symlink_metadata().is_err(),
            "the node here vouches for the others, and does not run: start it (`steward up` or `steward run`), then run this again"
        );
        let _lock = DirLock::take(&dir, &own.certificate.name)?;
        let broker = BrokerConfig::read(&sources.with_own_file()?)?;
        let access = Access { tls: broker.tls, login: broker.login };
        let alone = Alone { dir: &dir, access: &access, servers: &broker.addresses, limit: self.timeout };
        let identity = wait_for(alone.renew(&mut |why| output::note(why)))?;
        let certificate = &identity.certificate;
        Ok(KeysView {
            state: CURRENT.to_owned(),
            key: certificate.key.to_string(),
            serial: certificate.serial,
            since: rfc3339(certificate.issued),
            note: None,
        })
    }

    /// Has other nodes renew theirs.
    fn others(&self, dir: &Path, output: &mut Output) -> anyhow::Result<Exit> {
        let authority = Authority::open(dir)?;
        let mut registry = Registry::open(authority.folder())?;
        let members = self.members(&registry)?;
        let client = Client::new(dir);
        wait_for(async { Ok(client.get::<InfoView>("/v1/info").await?) })?;
        for member in &members {
            registry.ask_renewal(&member.name, clock::wall())?;
        }
        if let ([member], false) = (members.as_slice(), self.all) {
            return self.one(&client, member, output);
        }
        let messages: Vec<MessageInput> = members.iter().map(message).collect();
        let ids = wait_for(submit(&client, &messages))?;
        for (member, id) in members.iter().zip(&ids) {
            match self.json {
                true => output.json(&Asked { node: member.name.as_str(), id, key: &member.key })?,
                false => output.line(&format!("{} {id}", member.name))?,
            }
        }
        output.flush()?;
        output::note(&format!(
            "{} nodes are asked to renew their keys, each as soon as it is there; `steward nodes` shows who has done it",
            ids.len()
        ));
        Ok(Exit::OK)
    }

    /// Asks one, and waits for its answer.
    fn one(&self, client: &Client, member: &Member, output: &mut Output) -> anyhow::Result<Exit> {
        let (name, data) = (&member.name, vec![member.key.clone()]);
        let asked = wait_for(async {
            let asked = remote::ask::<KeysView>(client, name, KEYS_RENEW, data);
            Ok(tokio::time::timeout(self.timeout, asked).await.ok())
        })?;
        let Some(answer) = asked else {
            bail!(
                "{name} has not renewed its keys within {} s; the request waits for it, and it gets in with the keys that it has until \
                 then: `steward nodes` shows when it has done it",
                self.timeout.as_secs()
            );
        };
        match answer? {
            Err(exit) => Ok(exit),
            Ok(mut answer) => {
                let keys = answer.pop().context("the node answers nothing")?;
                match self.json {
                    true => output.json(&keys)?,
                    false => {
                        output.line(&format!("{name} has new keys since {}: {}", when::local(&keys.since), keys.key))?
                    }
                }
                Ok(Exit::OK)
            }
        }
    }

    /// Whom to ask.
    fn members(&self, registry: &Registry) -> anyhow::Result<Vec<Member>> {
        if self.all {
            let mut members = registry.members()?;
            members.retain(|member| member.revoked.is_none() && member.role != Role::Central);
            ensure!(!members.is_empty(), "the fleet has no other member; `steward invite` lets one in");
            return Ok(members);
        }
        let member = |name: &NodeName| match registry.member(name.as_str())? {
            Some(member) if member.revoked.is_some() => {
                bail!("{name} was revoked; `steward invite {name}` lets it in anew")
            }
            Some(member) if member.role == Role::Central => {
                Err(UsageError(format!("{name} is the node here: `steward rotate` renews its keys")).into())
            }
            Some(member) => Ok(member),
            None => bail!("the fleet has no node {name}; `steward nodes` lists those that it has"),
        };
        self.node.iter().map(member).collect()
    }

    /// Renews the broker's certificate.
    fn certificate(&self, dir: &Path, output: &mut Output) -> anyhow::Result<Exit> {
        let mut authority = crate::nats_server::open_fleet(dir)?;
        let until = rfc3339(authority.renew_certificate_now(clock::wall())?);
        match self.json {
            true => output.json(&Certificate { until })?,
            false => {
                output.line(&format!("the broker has a new certificate, until {}", when::local(&until)))?;
                output::note(
                    "`steward broker` takes it within a second; a broker on another machine needs a copy of fleet/server.pem and \
                     fleet/server.key, and `nats-server --signal reload`",
                );
            }
        }
        Ok(Exit::OK)
    }
}

fn message(member: &Member) -> MessageInput {
    MessageInput {
        to_node: member.name.to_string(),
        data: vec![member.key.clone()],
        command_or_event: Kind::CommandAck.as_str().to_owned(),
        method: KEYS_RENEW.to_owned(),
        ..MessageInput::default()
    }
}
