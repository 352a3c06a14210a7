//! `steward broker`: runs the fleet's nats-server, with the configuration that `steward init` has made, for as long as it is
//! wanted: started anew when it fails, its log lines in ours, its certificate renewed before it ends.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::exit::Exit;
use super::fleet::Stop;
use super::{Context, Verb, wait_for};
use crate::clock::Clock;
use crate::config;
use crate::config::sources::Sources;
use crate::lock::BrokerLock;
use crate::nats_server::{self, Binary, STOP_LIMIT};
use crate::supervise::{Rule, Spec, Stops, Supervisor};
use crate::troubles::Troubles;

/// A program that fails is started anew for ever, a few times a minute: without it there is nothing else to do here, and
/// what is in its way (a port that is taken, a full disk) often goes by itself. More failures than that do not fit into the
/// rule's window.
pub(super) const FOR_EVER: Rule = Rule { pause_max: Duration::from_secs(10), failures_max: 1000, ..Rule::NODE };

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Broker {}

impl Verb for Broker {
    const NAME: &'static str = "broker";
    const ABOUT: &'static str = "Run the fleet's nats-server, with the configuration that `steward init` has made";
    const MORE: &'static str = "\
It needs a nats-server ($NATS_SERVER_BIN, else from PATH), and the fleet/ of `steward init` in --dir. The server is started \
anew when it fails, stops with this program, and gets a new TLS certificate before the old one ends.
For other machines: copy fleet/nats-server.conf, accounts.conf, server.pem and server.key there and run nats-server in that \
folder; `steward revoke` reaches it through the network.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = super::init::make_dir(&context.dir()?)?;
        let (binary, _lock) = prepare(&dir)?;
        start_log(&context.sources.with_own_file()?)?;
        wait_for(async {
            let mut stop = Stop::listen()?;
            let (supervisor, _) = keep(binary, dir);
            crate::node::tell_systemd(&[sd_notify::NotifyState::Ready]);
            stop.comes().await;
            crate::node::tell_systemd(&[sd_notify::NotifyState::Stopping]);
            supervisor.stop(STOP_LIMIT * 2).await;
            Ok(Exit::OK)
        })
    }
}

/// Finds out what can't work before anything is started. Nobody else runs the broker of this fleet as long as the lock is held.
pub(super) fn prepare(dir: &std::path::Path) -> anyhow::Result<(Binary, BrokerLock)> {
    let authority = nats_server::open_fleet(dir)?;
    let binary = Binary::find()?;
    binary.check_version()?;
    let lock = BrokerLock::take(authority.folder())?;
    Ok((binary, lock))
}

/// Starts the log as a node here would have it.
pub(super) fn start_log(sources: &Sources) -> anyhow::Result<()> {
    crate::logging::start(&config::log(sources)?, Troubles::new(Clock::start()))
}

/// Keeps the server running; what is heard becomes true once it takes connections.
pub(super) fn keep(binary: Binary, dir: PathBuf) -> (Supervisor, watch::Receiver<bool>) {
    let supervisor = Supervisor::new(Rule { halt: STOP_LIMIT, ..FOR_EVER });
    tracing::info!(program = %binary.path.display(), version = binary.version, "the broker is started");
    let spec = Spec::new("nats-server").stops(Stops::Never("there would be no broker"));
    let (ready, is_ready) = watch::channel(false);
    supervisor.keep(spec, move |end| nats_server::serve(binary.clone(), dir.clone(), ready.clone(), end));
    (supervisor, is_ready)
}
