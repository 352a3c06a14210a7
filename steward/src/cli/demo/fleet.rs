//! The processes of the demo and the folder that they live in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::nats::Server;
use super::process::Process;
use super::stage::{self, Stage, millis};
use crate::api::client::{Client, ClientError};
use crate::view::{MessageView, NodeView};

/// Names of folders that are tried before giving up.
const FOLDERS_TRIED: u32 = 100;

/// A broker and nodes in a temporary folder, all of which goes when this is dropped.
pub(super) struct Fleet {
    dir: PathBuf,
    nats: Server,
    address: String,
    server: Option<Process>,
    nodes: BTreeMap<String, Process>,
    is_kept: bool,
}

impl Fleet {
    /// An empty folder.
    pub(super) fn new(nats: Server) -> anyhow::Result<Self> {
        let dir = folder()?;
        Ok(Self { dir, nats, address: String::new(), server: None, nodes: BTreeMap::new(), is_kept: false })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the broker; what it is and where.
    pub(super) async fn start_broker(&mut self) -> anyhow::Result<String> {
        let server = self.server.insert(self.nats.start(&self.dir)?);
        self.address = stage::eventually("nats-server has a port", async || {
            server.check()?;
            Ok(self.nats.address(&self.dir, server.id()))
        })
        .await?;
        Ok(format!("nats-server {} on {}", self.nats.version, self.address))
    }

    /// Starts a node and waits until it answers.
    pub(super) async fn start_node(&mut self, name: &str) -> anyhow::Result<()> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        let program = std::env::current_exe().context("this program can't be found")?;
        let mut command = Command::new(program);
        command.current_dir(&dir).args(["run", "--node", name, "--broker-address", &self.address, "--log-format=json"]);
        // The metrics of one are enough to look at; the system chooses the port.
        let metrics = if name == "central" { "127.0.0.1:0" } else { "none" };
        command.args(["--prom-host-and-port", metrics]);
        if name == "central" {
            command.arg("--central-error-logger");
        }
        let client = self.client(name);
        let process = Process::start(name, &self.dir, &mut command)?;
        let node = self.nodes.entry(name.to_owned()).insert_entry(process).into_mut();
        stage::eventually(&format!("{name} answers"), async || {
            node.check()?;
            passing(client.get::<serde_json::Value>("/v1/info").await.map(drop))
        })
        .await
    }

    /// Asks a node to stop, and waits until it has; its exit code must be 0.
    pub(super) async fn stop_node(&mut self, name: &str) -> anyhow::Result<()> {
        let status = self.take(name)?.stop().await?;
        anyhow::ensure!(status.success(), "{name} stopped with {status}");
        Ok(())
    }

    /// Ends a node as a power cut would.
    pub(super) fn kill_node(&mut self, name: &str) -> anyhow::Result<()> {
        self.take(name)?.kill()
    }

    fn take(&mut self, name: &str) -> anyhow::Result<Process> {
        self.nodes.remove(name).with_context(|| format!("{name} does not run"))
    }

    /// Appends to a node's `inmsg.txt`, as `cat >>` does.
    pub(super) fn append(&self, node: &str, text: &str) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.dir.join(node).join("inmsg.txt"))?;
        Ok(file.write_all(text.as_bytes())?)
    }

    /// A file in a node's directory; empty if it is not there.
    pub(super) fn read(&self, node: &str, file: &str) -> String {
        fs::read_to_string(self.dir.join(node).join(file)).unwrap_or_default()
    }

    /// A node's messages, oldest first.
    pub(super) async fn messages(&self, node: &str) -> anyhow::Result<Vec<MessageView>> {
        let mut messages: Vec<MessageView> = self.client(node).get("/v1/messages?limit=10000").await?;
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
        Client::new(&self.dir.join(node))
    }

    /// Stops everything in good order.
    pub(super) async fn stop(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        stage.scene("Stop")?;
        let started = stage.now();
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in &names {
            self.stop_node(name).await?;
        }
        if let Some(server) = self.server.take() {
            server.stop().await?;
        }
        let took = millis(stage.now().saturating_sub(started));
        stage.sees(&format!("{} and nats-server stopped when they were asked to, {took}", names.join(", ")))?;
        stage.promise("SIGTERM ends a node with exit code 0", format!("{} nodes, {took}", names.len()), true);
        Ok(())
    }

    /// Lets everything go on, and says how to play with it and how to end it.
    pub(super) fn leave(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.is_kept = true;
        let processes: Vec<Process> = std::mem::take(&mut self.nodes).into_values().chain(self.server.take()).collect();
        let ids: Vec<String> = processes.iter().map(|process| process.id().to_string()).collect();
        let names: Vec<&str> = processes.iter().map(Process::name).collect();
        let dir = self.dir.display();
        let stop = self.dir.join("stop");
        fs::write(&stop, format!("kill {}\nsleep 1\nrm -r {dir}\n", ids.join(" ")))?;
        let program = std::env::current_exe()?;
        stage.scene(&format!("{} go on running. Play on", names.join(", ")))?;
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
        processes.into_iter().for_each(Process::leave);
        Ok(())
    }

    /// The ends of all logs.
    pub(super) fn last_words(&self) -> String {
        let all = self.nodes.values().chain(&self.server);
        let logs = all.map(|process| format!("--- the end of {}.log\n{}\n", process.name(), process.last_words()));
        logs.collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The nodes first: they would log the loss of their broker.
        self.nodes.clear();
        self.server = None;
        if !self.is_kept {
            // A folder that stays behind in the place for temporary files is no reason to fail.
            fs::remove_dir_all(&self.dir).unwrap_or_default();
        }
    }
}

/// An answer, or nothing yet, where the node is on its way.
fn passing<T>(answer: Result<T, ClientError>) -> anyhow::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_passing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A new folder that nobody else can look into: what nodes send each other is nobody's business.
fn folder() -> anyhow::Result<PathBuf> {
    let place = std::env::temp_dir();
    for number in 0..FOLDERS_TRIED {
        let dir = place.join(format!("steward-demo-{}", std::process::id() + number * 100_000));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} can't be made", dir.display())),
        }
    }
    anyhow::bail!("{} is full of folders of earlier demos", place.display())
}

/// How long ago something began.
pub(super) fn since(stage: &Stage, began: Duration) -> Duration {
    stage.now().saturating_sub(began)
}
