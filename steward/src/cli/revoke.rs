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
                Ok(_) => by_central(&registry).await,
                Err(ClientError::NotRunning(_)) => from_here(&authority, &mut registry).await,
                Err(error) => Err(error.into()),
            }
        });
        let told = told.with_context(|| {
            format!("{} is revoked, which is written down, but that has not taken effect everywhere", self.name)
        })?;
        let mut output = Output::stdout();
        output.line(&format!("{} is revoked: {told}", self.name))?;
        output.flush()?;
        Ok(Exit::OK)
    }
}

/// Waits until central has told the broker and the nodes.
async fn by_central(registry: &Registry) -> anyhow::Result<&'static str> {
    let told = async {
        loop {
            let (newest, applied) = registry.revoked_versions()?;
            if applied >= newest {
                return Ok("the broker keeps it out, and the nodes that are there were told");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let told = tokio::time::timeout(TOLD_LIMIT, told).await;
    told.context("central has not told the broker yet, and goes on trying; its log and `steward ps` say why")?
}

/// Tells the broker, because nobody else does.
async fn from_here(authority: &Authority, registry: &mut Registry) -> anyhow::Result<&'static str> {
    if authority.has_broker() {
        let (_, revoked) = registry.revoked()?;
        let keys = revoked.iter().map(|revoked| PublicKey::parse(&revoked.key, KeyKind::User));
        let keys: Vec<PublicKey> = keys.collect::<Result<_, _>>()?;
        let now = clock::wall();
        authority.revoke(&keys, now)?;
        authority.push(now).await?;
        return Ok("the broker keeps it out; the other nodes are told once central runs");
    }
    Ok("the nodes are told once central runs")
}
