//! A fleet of our own, for verbs that show or measure steward: a nats-server and nodes, real processes on this machine, in
//! a temporary folder. It touches no other node, and all of it goes when it is dropped: every process and the folder. If
//! we are killed, a [`Keeper`] does the same.
//!
//! Nothing here knows what a fleet is for.

mod folder;
pub(crate) mod keeper;
mod nats;
mod node;
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{self, Exit};
use crate::security::keys::{KeyKind, KeyPair};
use keeper::Keeper;
use nats::Server;
pub(super) use node::Node;
pub(crate) use process::Process;

/// A broker and the folder of everything. Its nodes are to be dropped before it.
#[derive(Debug)]
pub(super) struct Fleet {
    server: Server,
    broker: Option<Process>,
    /// `127.0.0.1:PORT`; empty before the broker was started.
    address: String,
    folder: PathBuf,
    is_left: bool,
    keeper: Keeper,
    /// Certifies the nodes that are made, if they are to have an identity.
    authority: Option<KeyPair>,
    /// Whether they seal what they send.
    seals: bool,
}

impl Fleet {
    /// An empty folder in `parent`, with `verb` in its name. No process of the fleet runs yet.
    pub(super) fn new(verb: &str, parent: &Path) -> anyhow::Result<Self> {
        let server = Server::find()?;
        let folder = folder::make(parent, verb)?;
        let keeper = match Keeper::start(&folder) {
            Ok(keeper) => keeper,
            Err(error) => {
                folder::remove(&folder).unwrap_or_default();
                return Err(error);
            }
        };
        Ok(Self {
            server,
            broker: None,
            address: String::new(),
            folder,
            is_left: false,
            keeper,
            authority: None,
            seals: false,
        })
    }

    /// Starts the broker on a port of its own. Nodes that are made from now on connect to it.
    pub(super) async fn start_broker(&mut self) -> anyhow::Result<()> {
        let (process, address) = self.server.start(&self.folder, &self.keeper).await?;
        self.address = address;
        self.broker = Some(process);
        Ok(())
    }

    /// Nodes that are made from now on have an identity, so that they sign what they send and verify what they get; if
    /// `seals`, they seal it too.
    pub(super) fn certify(&mut self, seals: bool) -> anyhow::Result<()> {
        self.seals = seals;
        self.authority = Some(KeyPair::generate(KeyKind::Account)?);
        Ok(())
    }

    /// A verb of this very program in this directory. Whatever it leaves running ends with the fleet.
    pub(super) fn verb(&self, dir: &Path, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("this program can't be found")?);
        self.keeper.mark(&mut command);
        // Several nodes on one machine can't all have the default port.
        command.current_dir(&self.folder).arg("--dir").arg(dir).args(args).env("STEWARD_PROM_HOST_AND_PORT", "none");
        Ok(command)
    }

    /// Asks the broker to stop, and waits until it has.
    pub(super) async fn stop_broker(&mut self) -> anyhow::Result<()> {
        if let Some(broker) = self.broker.take() {
            broker.stop().await?;
        }
        Ok(())
    }

    /// What the broker is: `nats-server 2.15.1`.
    pub(super) fn broker(&self) -> String {
        format!("nats-server {}", self.server.0.version)
    }

    /// Where the broker listens: `127.0.0.1:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Where everything lies; an absolute path.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty folder in it of this name, with a number behind it if the name is taken.
    pub(super) fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        folder::fresh(&self.folder, name)
    }

    /// The end of the broker's log.
    pub(super) fn last_words(&self) -> String {
        process::last_words(&self.folder.join("nats-server.log"))
    }

    /// Lets the broker and these nodes go on without us; their processes' numbers.
    pub(super) fn leave<'a>(&mut self, nodes: impl Iterator<Item = &'a mut Node>) -> anyhow::Result<Vec<u32>> {
        self.keeper.leave()?;
        self.is_left = true;
        let mut ids = Vec::new();
        for node in nodes {
            ids.extend(node.id().ok());
            node.leave();
        }
        if let Some(broker) = self.broker.take() {
            ids.push(broker.id());
            broker.leave();
        }
        Ok(ids)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.broker.take());
        // First what may still write there: the keeper also ends what nodes have left running.
        self.keeper.end();
        if !self.is_left
            && let Err(error) = folder::remove(&self.folder)
        {
            super::output::note_as("error", &format!("{} stays behind: {error}", self.folder.display()));
        }
    }
}

/// Looks, with a pause between, until there is something to see.
pub(super) async fn eventually<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let looking = async {
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            tokio::time::sleep(pause).await;
        }
    };
    match tokio::time::timeout(limit, looking).await {
        Ok(seen) => seen,
        Err(_) => anyhow::bail!("waited {} s in vain until {what}", limit.as_secs()),
    }
}

/// The signals that end us, and the fleet with us. They are taken from the moment on in which this is made.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    /// From now on.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when one has come, with the exit code for it.
    pub(super) async fn comes(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit(exit::CTRL_C),
            _ = self.terminate.recv() => Exit(exit::TERMINATED),
            _ = self.hangup.recv() => Exit(exit::HUNG_UP),
        }
    }
}
