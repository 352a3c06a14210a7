//! `steward rules push FILE`: signs a file of rules with the fleet key and sends it to nodes. The set that was pushed last
//! lies in the fleet's folder, so that its version is never given twice.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use protocol::name::NodeName;
use serde::Deserialize;

use crate::api::InfoView;
use crate::api::client::Client;
use crate::audit::{Act, By, Deed};
use crate::authority::Authority;
use crate::cli::exit::{Exit, UsageError};
use crate::cli::output::{self, Output};
use crate::cli::send::submit;
use crate::cli::{Context, remote, wait_for};
use crate::clock;
use crate::enrol::newcomers::rules_for;
use crate::enrol::registry::Registry;
use crate::intake::MessageInput;
use crate::security::rules::{APPLY, Pushed};
use crate::view::NodeView;

/// Nodes that are named in the audit log; of the others their number.
const NODES_SHOWN_MAX: usize = 100;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// The file; the format is that of rules.toml
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// To this node; may be repeated
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    node: Vec<NodeName>,
    /// To every node that is known here but this one, and to each that joins later
    #[arg(long, conflicts_with = "node")]
    all: bool,
}

/// What a node answers.
#[derive(Debug, Deserialize)]
struct Applied {
    version: u64,
    rules: usize,
}

impl Push {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        if self.node.is_empty() && !self.all {
            return Err(UsageError("say for which nodes: --node NAME, or --all".to_owned()).into());
        }
        let text = fs::read_to_string(&self.file).with_context(|| format!("{} can't be read", self.file.display()))?;
        let client = Client::new(&dir);
        let nodes = match self.all {
            true => wait_for(known(&client))?,
            false => self.node.clone(),
        };
        let set = sign(&dir, &text).with_context(|| self.file.display().to_string())?;
        let authority = Authority::open(&dir)?;
        note(&mut Registry::open(authority.folder())?, &set, &nodes)?;
        let mut output = Output::stdout();
        if nodes.is_empty() {
            self.keep(&authority, &set, &nodes)?;
            output::note("no other node is known here yet; each one gets these rules when it joins");
            return Ok(Exit::OK);
        }
        if let [node] = &nodes[..] {
            let data = vec![set.token.to_string()];
            let asked = wait_for(remote::ask::<Applied>(&client, node, APPLY, data))?;
            // Whoever does not wait for the answer has sent it all the same.
            self.keep(&authority, &set, &nodes)?;
            return match asked {
                Err(exit) => Ok(exit),
                Ok(mut answer) => {
                    let Applied { version, rules } = answer.pop().context("the node answers nothing")?;
                    output.line(&format!("{node} has version {version} of the fleet's rules: {rules} rules"))?;
                    output.flush()?;
                    Ok(Exit::OK)
                }
            };
        }
        let messages: Vec<MessageInput> = nodes.iter().map(|node| rules_for(node, &set)).collect();
        let ids = wait_for(submit(&client, &messages))?;
        self.keep(&authority, &set, &nodes)?;
        for (node, id) in nodes.iter().zip(&ids) {
            output.line(&format!("{node} {id}"))?;
        }
        output.flush()?;
        let (version, count) = (set.version, ids.len());
        output::note(&format!(
            "version {version} is on its way to {count} nodes; `steward nodes --json` shows which have it (info.fleetRules)"
        ));
        Ok(Exit::OK)
    }
}

impl Push {
    /// Notes who was sent it; if it is for all, central sends it to all others, now and later.
    fn keep(&self, authority: &Authority, set: &Pushed, nodes: &[NodeName]) -> anyhow::Result<()> {
        Registry::open(authority.folder())?.rules_sent(nodes, set.version)?;
        if self.all {
            set.save_for_all(authority.folder())?;
        }
        Ok(())
    }
}

async fn known(client: &Client) -> anyhow::Result<Vec<NodeName>> {
    let (info, nodes): (InfoView, Vec<NodeView>) = (client.get("/v1/info").await?, client.get("/v1/nodes").await?);
    let others = nodes.into_iter().filter(|node| node.node != info.node);
    others.map(|node| NodeName::new(&node.node).map_err(anyhow::Error::from)).collect()
}

/// The set for this text: the last one, if it has the same text, else a new one with a version of its own. The clock gives
/// it, so that a folder that was put back from a copy does not give one again.
fn sign(dir: &Path, text: &str) -> anyhow::Result<Pushed> {
    let authority = Authority::open(dir)?;
    let (folder, fleet, now) = (authority.folder(), authority.fleet(), clock::wall());
    let last = Pushed::load(folder, &fleet.public())?;
    if let Some(last) = &last
        && *last.text == *text
    {
        return Ok(last.clone());
    }
    let version = (now.0 / 1000).max(last.map_or(0, |last| last.version) + 1);
    let set = Pushed::issue(text, version, fleet, now)?;
    set.save(folder)?;
    Ok(set)
}

/// Has it stand in the audit log of central, before anything leaves.
fn note(registry: &mut Registry, set: &Pushed, nodes: &[NodeName]) -> anyhow::Result<()> {
    let shown: Vec<&str> = nodes.iter().take(NODES_SHOWN_MAX).map(NodeName::as_str).collect();
    let about = serde_json::json!({
        "version": set.version, "rules": set.rules(), "hash": blake3::hash(set.text.as_bytes()).to_hex().as_str(),
        "nodes": nodes.len(), "first": shown,
    });
    let (at, by) = (clock::wall(), Some(By::this_process()));
    let act = Act { at, deed: Deed::RulesPushed, node: None, reason: None, about, by };
    Ok(registry.note(&act)?)
}
