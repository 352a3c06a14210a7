//! Gives each new member the rules that were pushed to all before it joined: a task of central, which looks who was not sent them. A set
//! that is sent twice changes nothing, so it is written down after it was sent.

use std::path::Path;
use std::time::Duration;

use protocol::message::Kind;
use protocol::name::NodeName;
use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use crate::authority::Authority;
use crate::intake::{Intake, MessageInput};
use crate::security::keys::PublicKey;
use crate::security::rules::{APPLY, Pushed};

/// How often it is looked whether somebody lacks the rules.
const LOOK: Duration = Duration::from_secs(2);

/// Hands out rules until the end.
pub(crate) async fn follow(dir: &Path, intake: Intake, end: CancellationToken) -> anyhow::Result<()> {
    let authority = Authority::open(dir)?;
    let (folder, fleet) = (authority.folder().to_owned(), authority.fleet().public());
    let mut registry = Registry::open(&folder)?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            _ = look.tick() => {}
        }
        let Some((set, nodes)) = tokio::task::block_in_place(|| owed(&folder, &fleet, &registry))? else { continue };
        intake.submit(nodes.iter().map(|node| rules_for(node, &set)).collect()).await?;
        tokio::task::block_in_place(|| registry.rules_sent(&nodes, set.version))?;
        tracing::info!(
            version = set.version,
            nodes = nodes.len(),
            "the fleet's rules are on their way to who did not have them"
        );
    }
}

/// The rules that are for all, and who was not sent them.
fn owed(folder: &Path, fleet: &PublicKey, registry: &Registry) -> anyhow::Result<Option<(Pushed, Vec<NodeName>)>> {
    let Some(set) = Pushed::load_for_all(folder, fleet)? else { return Ok(None) };
    let nodes = registry.without_rules(set.version)?;
    Ok((!nodes.is_empty()).then_some((set, nodes)))
}

/// The message that brings a node a set of rules.
pub(crate) fn rules_for(node: &NodeName, set: &Pushed) -> MessageInput {
    MessageInput {
        to_node: node.to_string(),
        data: vec![set.token.to_string()],
        command_or_event: Kind::CommandAck.as_str().to_owned(),
        method: APPLY.to_owned(),
        ..MessageInput::default()
    }
}
