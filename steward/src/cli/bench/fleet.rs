//! What a benchmark stands on: a temporary folder, a nats-server, and nodes. All of it goes when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::broker::Broker;
use super::process::{Process, Usage};
use super::socket::Socket;
use crate::clock::Clock;

/// How long a node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The pause between two looks whether a node is ready.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// How often the folder is tried to be removed: a process that was killed may write until it is gone.
const REMOVE_TRIES: usize = 20;

/// A broker and the folder of everything.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The nats-server. It ends before its folder goes.
    pub(super) broker: Broker,
    folder: Folder,
}

impl Fleet {
    /// A broker that runs, and no node yet.
    pub(super) async fn start(parent: Option<&Path>) -> anyhow::Result<Self> {
        let folder = Folder::make(parent)?;
        let broker = Broker::start(&folder.0).await?;
        Ok(Self { broker, folder })
    }

    /// Where everything lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// An empty folder in it; each has a number of its own.
    pub(super) fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        for number in 1.. {
            let path = self.folder.0.join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        anyhow::bail!("no name is left for a folder")
    }

    /// A new node that is not started yet, with a directory of its own.
    pub(super) fn absent(&self, name: &str) -> anyhow::Result<Node> {
        let dir = self.fresh(name)?;
        Ok(Node { name: name.to_owned(), dir, broker: self.broker.address.clone(), process: None })
    }

    /// A new node that is ready.
    pub(super) async fn node(&self, name: &str) -> anyhow::Result<Node> {
        let mut node = self.absent(name)?;
        node.start().await?;
        Ok(node)
    }

    /// New nodes that are ready: `ship1` to `shipN`.
    pub(super) async fn ships(&self, count: usize) -> anyhow::Result<Vec<Node>> {
        let mut ships = Vec::with_capacity(count);
        for number in 1..=count {
            ships.push(self.node(&format!("ship{number}")).await?);
        }
        Ok(ships)
    }
}

/// A node; its process is killed and its directory removed when it is dropped.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    broker: String,
    process: Option<Process>,
}

impl Node {
    /// Starts it with the settings that it has by itself, and waits until it answers and has its link to the broker.
    /// How long that took.
    pub(super) async fn start(&mut self) -> anyhow::Result<Duration> {
        let mut command = Command::new(std::env::current_exe()?);
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STEWARD_")) {
            command.env_remove(variable);
        }
        command.arg("run").arg(format!("--node={}", self.name)).arg(format!("--broker-address={}", self.broker));
        // Twenty nodes on one machine can't all have the default port.
        command.arg("--prom-host-and-port=127.0.0.1:0").arg("--dir").arg(&self.dir);
        let clock = Clock::start();
        let log = self.dir.join("log");
        let process = self.process.insert(Process::start(&mut command, &log)?);
        let ready = async {
            loop {
                process.check()?;
                if let Ok(mut socket) = Socket::open(&self.dir).await
                    && let Ok(info) = socket.info().await
                    && info.link == "up"
                {
                    return anyhow::Ok(clock.elapsed());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let ready = tokio::time::timeout(READY_LIMIT, ready).await;
        ready.with_context(|| format!("{} is not ready within {} s", self.name, READY_LIMIT.as_secs()))?
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let status = process.stop().await?;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    /// What it takes now, with all of its processes.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        self.process.as_ref().context("the node does not run")?.usage()
    }

    /// A connection to its socket.
    pub(super) async fn socket(&self) -> anyhow::Result<Socket> {
        Socket::open(&self.dir).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.process.take());
        remove(&self.dir);
    }
}

/// A folder that is removed with all that is in it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(parent: Option<&Path>) -> anyhow::Result<Self> {
        // Not /tmp: where that is memory, a write that is synced costs nothing, and the figures would be too good.
        let parent = parent.map(Path::to_owned).or_else(|| std::env::var_os("TMPDIR").map(PathBuf::from));
        let parent = parent.unwrap_or_else(|| "/var/tmp".into());
        let path = parent.join(format!("steward-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{} can't be made; see --folder", path.display()))?;
        Ok(Self(std::path::absolute(path)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir_all(path) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return crate::cli::output::note_as("error", &format!("{}: {error}", path.display())),
        }
    }
}
