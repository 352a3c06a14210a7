//! Who plays in the demo: a broker and nodes, and what the demo looks at of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::stage::{Stage, millis};
use crate::api::client::Client;
use crate::cli::fleet::{Fleet, Node, Process};
use crate::view::{MessageView, NodeView};

/// A broker and nodes, all of which go when this is dropped.
pub(super) struct Cast {
    /// The nodes first: they would log the loss of their broker.
    nodes: BTreeMap<String, Node>,
    fleet: Fleet,
}

impl Cast {
    /// Nobody yet, and an empty folder.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { nodes: BTreeMap::new(), fleet: Fleet::new("demo", &std::env::temp_dir())? })
    }

    pub(super) fn folder(&self) -> &Path {
        self.fleet.folder()
    }

    /// Starts the broker; what it is and where.
    pub(super) async fn start_broker(&mut self) -> anyhow::Result<String> {
        self.fleet.start_broker().await?;
        Ok(format!("{} on {}", self.fleet.broker(), self.fleet.address()))
    }

    /// Starts a node, for the first time or again, and waits until it is ready.
    pub(super) async fn start_node(&mut self, name: &str) -> anyhow::Result<()> {
        if !self.nodes.contains_key(name) {
            let node = self.fleet.absent(name)?;
            let node = if name == "central" { node.with(&["--central-error-logger"]) } else { node };
            self.nodes.insert(name.to_owned(), node);
        }
        self.node_mut(name)?.start().await?;
        Ok(())
    }

    /// Asks a node to stop, and waits until it has.
    pub(super) async fn stop_node(&mut self, name: &str) -> anyhow::Result<()> {
        self.node_mut(name)?.stop().await
    }

    /// Ends a node as a power cut would.
    pub(super) fn kill_node(&mut self, name: &str) -> anyhow::Result<()> {
        self.node_mut(name)?.kill()
    }

    /// Runs a verb of the command line in this directory, and answers with what it prints.
    pub(super) async fn runs(&self, dir: &Path, args: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::from(self.fleet.verb(dir, args)?);
        let ran = command.kill_on_drop(true).output().await?;
        let (said, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        anyhow::ensure!(ran.status.success(), "`steward {}` ended with {}: {told}", args.join(" "), ran.status);
        Ok(said.into_owned())
    }

    /// Begins a verb that goes on; its log lies in the demo's folder.
    pub(super) fn begins(&self, name: &str, dir: &Path, args: &[&str]) -> anyhow::Result<Process> {
        let log = self.folder().join(format!("{name}.log"));
        Process::start(name, &log, &mut self.fleet.verb(dir, args)?)
    }

    fn node_mut(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.nodes.get_mut(name).with_context(|| format!("there is no {name}"))
    }

    /// Appends to a node's `inmsg.txt`, as `cat >>` does.
    pub(super) fn append(&self, node: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder().join(node).join("inmsg.txt");
        let mut file = File::options().create(true).append(true).open(path)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    /// Writes a file in a node's directory.
    pub(super) fn write(&self, node: &str, file: &str, text: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.folder().join(node).join(file), text)?)
    }

    /// A file in a node's directory; empty if it is not there.
    pub(super) fn read(&self, node: &str, file: &str) -> String {
        fs::read_to_string(self.folder().join(node).join(file)).unwrap_or_default()
    }

    /// The messages that a node has sent, oldest first. (Those that it received go when their results are confirmed, so they
    /// can't be counted.)
    pub(super) async fn messages(&self, node: &str) -> anyhow::Result<Vec<MessageView>> {
        let mut messages: Vec<MessageView> = self.client(node).get("/v1/messages?limit=10000").await?;
        messages.retain(|message| message.from_node == node);
        messages.reverse();
        Ok(messages)
    }

    /// All that a node knows of a message.
    pub(super) async fn message(&self, node: &str, id: &str) -> anyhow::Result<MessageView> {
        Ok(self.client(node).get(&format!("/v1/messages/{id}")).await?)
    }

    /// What a node knows of another.
    pub(super) async fn peer(&self, node: &str, of: &str) -> anyhow::Result<Option<NodeView>> {
        let nodes: Vec<NodeView> = self.client(node).get("/v1/nodes").await?;
        Ok(nodes.into_iter().find(|known| known.node == of))
    }

    fn client(&self, node: &str) -> Client {
        Client::new(&self.folder().join(node))
    }

    /// Stops everything in good order.
    pub(super) async fn stop(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        stage.scene("Stop")?;
        let started = stage.now();
        for node in self.nodes.values_mut() {
            node.stop().await?;
        }
        self.fleet.stop_broker().await?;
        let took = millis(since(stage, started));
        stage.sees(&format!("{} and nats-server stopped when they were asked to, {took}", self.names()))?;
        stage.promise("SIGTERM ends a node with exit code 0", format!("{} nodes, {took}", self.nodes.len()), true);
        Ok(())
    }

    /// Lets everything go on, and says how to play with it and how to end it.
    pub(super) fn leave(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let names = self.names();
        let folder = self.fleet.folder().to_owned();
        let ids = self.fleet.leave(self.nodes.values_mut())?;
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let dir = folder.display();
        let stop = folder.join("stop");
        fs::write(&stop, format!("kill {}\nsleep 1\nrm -r {dir}\n", ids.join(" ")))?;
        let program = std::env::current_exe()?;
        stage.scene(&format!("{names}, nats-server go on running. Play on"))?;
        for line in [
            format!(
                "export PATH={}:$PATH STEWARD_DIR={dir}/central",
                program.parent().unwrap_or(Path::new(".")).display()
            ),
            "steward nodes".to_owned(),
            "steward send ship1 ship2 -- uname -a".to_owned(),
            "steward messages".to_owned(),
            format!("tail -f {dir}/central.log"),
            format!("sh {}          # stops all of it", stop.display()),
        ] {
            stage.does(&line)?;
        }
        Ok(())
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
        names.join(", ")
    }

    /// The ends of all logs.
    pub(super) fn last_words(&self) -> String {
        let nodes = self.nodes.values().map(|node| (node.name(), node.last_words()));
        let all = nodes.chain([("nats-server", self.fleet.last_words())]);
        all.map(|(name, words)| format!("--- the end of {name}.log\n{words}\n")).collect()
    }
}

/// How long ago something began.
pub(super) fn since(stage: &Stage, began: Duration) -> Duration {
    stage.now().saturating_sub(began)
}
