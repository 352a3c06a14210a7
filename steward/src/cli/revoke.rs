//! `steward revoke`: throws a node out of the fleet. Central, if it runs, tells the broker and the other nodes; if it does
//! not, the broker is told from here, and the others once central runs.

use std::time::Duration;

use anyhow::{Context as _, bail};
use protocol::name::NodeName;

use super::exit::Exit;
use super::output::Output;
use super::{Context, Verb, wait_for};
use crate::api::InfoView;
use crate::api::client::{Client, ClientError};
use crate::authority::Authority;
use crate::clock;
use crate::enrol::registry::Registry;
use crate::security::identity::Identity;
use crate::security::keys::{KeyKind, PublicKey};
use crate::security::private_memory;

/// How long central may take to tell the broker.
const TOLD_LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether central has done so.
const LOOK: Duration = Duration::from_millis(100);

/// The longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The node
    #[arg(value_name = "NAME")]
    name: NodeName,
    /// Why, for those who look at `steward nodes` later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// One JSON object that says where it has taken effect
    #[arg(long)]
    json: bool,
}

/// Where it has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
struct Told {
    /// Whether the broker keeps it out; not where that is none of ours.
    broker: bool,
    /// Whether the nodes that are there know it.
    nodes: bool,
}

/// What was done.
#[derive(Debug, serde::Serialize)]
struct Done<'a> {
    node: &'a str,
    #[serde(flatten)]
    told: Told,
}

impl Told {
    fn words(self) -> &'static str {
        match (self.broker, self.nodes) {
            (true, true) => "the broker keeps it out, and the nodes that are there were told",
            (false, true) => "the nodes that are there were told; its login at the broker has to be taken away there",
            (true, false) => "the broker keeps it out; the other nodes are told once central runs",
            (false, false) => "the nodes are told once central runs",
        }
    }
}

impl Verb for Revoke {
    const NAME: &'static str = "revoke";
    const ABOUT: &'static str = "Throw a node out of the fleet, now and for good (on central)";
    const MORE: &'static str = "\
The broker hangs up on it and keeps it out; no other node believes what it has signed, also those that are away now, once they are back. Its \
open invitations are taken back. What it has on its disk stays there, and what it was sent before has been sent. To let the \
machine in again: `steward invite NAME`, and `steward join` there after its folder identity/ was removed.
Example:
  steward revoke ship1 --reason 'stolen in the harbour'";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        private_memory::for_keys();
        let dir = context.dir()?;
        let authority = Authority::open(&dir)?;
        let mut registry = Registry::open(authority.folder())?;
        if Identity::load(&dir)?.is_some_and(|own| own.certificate.name == self.name) {
            bail!("{} is the node here, which holds the keys of the fleet: it can't be thrown out of it", self.name);
        }
        let reason: String = self.reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        registry.revoke(&self.name, &reason, clock::wall())?;
        let told = wait_for(async {
            let client = Client::new(&dir);
            match client.get::<InfoView>("/v1/info").await {
                Ok(_) => by_central(&registry, authority.has_broker()).await,
                Err(ClientError::NotRunning(_)) => from_here(&authority, &mut registry).await,
                Err(error) => Err(error.into()),
            }
        });
        let told = told.with_context(|| {
            format!("{} is revoked, which is written down, but that has not taken effect everywhere", self.name)
        })?;
        let mut output = Output::stdout();
        match self.json {
            true => output.json(&Done { node: self.name.as_str(), told })?,
            false => output.line(&format!("{} is revoked: {}", self.name, told.words()))?,
        }
        output.flush()?;
        Ok(Exit::OK)
    }
}

/// Waits until central has told the broker and the nodes.
async fn by_central(registry: &Registry, broker: bool) -> anyhow::Result<Told> {
    let told = async {
        loop {
            let (newest, applied) = registry.revoked_versions()?;
            if applied >= newest {
                return Ok(Told { broker, nodes: true });
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let told = tokio::time::timeout(TOLD_LIMIT, told).await;
    told.context("central has not told the broker yet, and goes on trying; its log and `steward ps` say why")?
}

/// Tells the broker, because nobody else does.
async fn from_here(authority: &Authority, registry: &mut Registry) -> anyhow::Result<Told> {
    if authority.has_broker() {
        let (_, revoked) = registry.revoked()?;
        let keys = revoked.iter().map(|revoked| PublicKey::parse(&revoked.key, KeyKind::User));
        let keys: Vec<PublicKey> = keys.collect::<Result<_, _>>()?;
        let now = clock::wall();
        authority.revoke(&keys, now)?;
        authority.push(now).await?;
        return Ok(Told { broker: true, nodes: false });
    }
    Ok(Told { broker: false, nodes: false })
}
