//! A node of a fleet: a process of this very program, in a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use protocol::name::NodeName;

use super::keeper::Keeper;
use super::process::{self, Process};
use super::{Fleet, eventually, folder};
use crate::api::InfoView;
use crate::api::client::Client;
use crate::clock::{self, Clock};
use crate::security::certificate::{Certificate, Draft, Role};
use crate::security::identity::{Identity, NodeKeys};
use crate::security::keys::KeyPair;

/// How long a node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The pause between two looks whether it is.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// A node, whether it runs or not. Its process is killed and its directory removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    dir: PathBuf,
    /// How it is started each time.
    command: Command,
    process: Option<Process>,
    is_left: bool,
}

impl Node {
    /// One that is not started yet, with an empty directory.
    pub(super) fn new(name: &str, dir: PathBuf, broker: &str, keeper: &Keeper) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program can't be found")?;
        let mut command = Command::new(program);
        keeper.mark(&mut command);
        command.current_dir(&dir).args(["run", "--node", name, "--broker-address", broker]);
        // Several nodes on one machine can't all have the default port; the system chooses one.
        command.args(["--prom-host-and-port", "127.0.0.1:0"]);
        Ok(Self { name: name.to_owned(), dir, command, process: None, is_left: false })
    }

    /// The same with further flags.
    pub(crate) fn with(mut self, flags: &[&str]) -> Self {
        self.command.args(flags);
        self
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The way to its socket.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.dir)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        Ok(self.running()?.id())
    }

    fn running(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().with_context(|| format!("{} does not run", self.name))
    }

    /// Starts it and waits until it answers and has its link to the broker. How long that took.
    pub(crate) async fn start(&mut self) -> anyhow::Result<Duration> {
        anyhow::ensure!(self.process.is_none(), "{} runs already", self.name);
        let (client, log, what) = (self.client(), self.log(), format!("{} is ready", self.name));
        let clock = Clock::start();
        let process = self.process.insert(Process::start(&self.name, &log, &mut self.command)?);
        eventually(&what, READY_LIMIT, LOOK_AGAIN, async || {
            process.check()?;
            match client.get::<InfoView>("/v1/info").await {
                Ok(info) => Ok((info.link == "up").then(|| clock.elapsed())),
                Err(error) if error.is_passing() => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Asks it to stop, and waits until it has; its exit code must be 0.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.running()?;
        let Some(process) = self.process.take() else { return Ok(()) };
        let status = process.stop().await?;
        anyhow::ensure!(status.success(), "{} stopped with {status}", self.name);
        Ok(())
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.running()?;
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Lets it go on without us, and leaves its directory to it.
    pub(super) fn leave(&mut self) {
        self.is_left = true;
        if let Some(process) = self.process.take() {
            process.leave();
        }
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        process::last_words(&self.log())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.process.take());
        if !self.is_left {
            // What stays behind goes with the fleet's folder.
            folder::remove(&self.dir).unwrap_or_default();
            fs::remove_file(self.log()).unwrap_or_default();
        }
    }
}

/// Who a node of this name is, if this key says so.
fn identity(name: &str, authority: &KeyPair) -> anyhow::Result<Identity> {
    let keys = NodeKeys::generate()?;
    let draft = Draft {
        name: NodeName::new(name)?,
        key: keys.node.public(),
        seal_key: keys.seal.public(),
        role: if name == "central" { Role::Central } else { Role::Node },
        labels: BTreeMap::new(),
        serial: 1,
        renews: None,
        expires: None,
    };
    let certificate = Certificate::issue(draft, authority, clock::wall())?;
    Ok(Identity { keys, certificate, fleet: authority.public(), user_jwt: None, ca: None })
}

impl Fleet {
    /// A new node that is not started yet. The directory has its name, with a number behind it if that is taken.
    pub(crate) fn absent(&self, name: &str) -> anyhow::Result<Node> {
        let dir = self.fresh(name)?;
        if let Some(authority) = &self.authority {
            identity(name, authority)?.save(&dir)?;
        }
        let node = Node::new(name, dir, &self.address, &self.keeper)?;
        Ok(if self.seals { node.with(&["--seal"]) } else { node })
    }

    /// A new node that is ready.
    pub(crate) async fn node(&self, name: &str) -> anyhow::Result<Node> {
        let mut node = self.absent(name)?;
        node.start().await?;
        Ok(node)
    }

    /// New nodes that are ready: `ship1` to `shipN`.
    pub(crate) async fn ships(&self, count: usize) -> anyhow::Result<Vec<Node>> {
        let mut ships = Vec::with_capacity(count);
        for number in 1..=count {
            ships.push(self.node(&format!("ship{number}")).await?);
        }
        Ok(ships)
    }
}
