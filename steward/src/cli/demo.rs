//! `steward demo`: a nats-server and three nodes as real processes on this machine, and what steward promises, seen with
//! one's own eyes: the seed's examples, a node that is away, a sender that is killed, work that goes on meanwhile, a fleet with keys and those whom it keeps
//! out. It is a test as well: it ends with
//! 0 only if everything that was promised was seen, and it leaves no process behind.
//!
//! Nothing here knows more than any user of the files and the socket does.

mod cast;
mod errands;
mod members;
mod play;
mod stage;

use anyhow::Context as _;

use super::exit::{self, Exit};
use super::fleet::Stop;
use super::{Context, Verb, wait_for};
use cast::Cast;
use stage::Stage;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Leave it all running, and print the commands to play on and to stop it
    #[arg(long)]
    keep: bool,
}

impl Verb for Demo {
    const NAME: &'static str = "demo";
    const ABOUT: &'static str = "Show steward at work on this machine: a broker, three nodes, and trouble";
    const MORE: &'static str = "\
It needs a nats-server ($NATS_SERVER_BIN, else from PATH; in a checkout scripts/demo gets one) and a few seconds.
Everything happens in a temporary folder and on free ports of the loopback interface.
Exit codes: 0 if all that was promised was seen, else 1; 130 after Ctrl-C.";

    fn run(self, _: Context) -> anyhow::Result<Exit> {
        wait_for(async {
            let mut stop = Stop::listen()?;
            let mut stage = Stage::new();
            // Whatever ends this, the fleet's processes end with it, because they belong to this future.
            tokio::select! {
                shown = show(self.keep, &mut stage) => shown,
                exit = stop.comes() => Ok(exit),
            }
        })
    }
}

/// The demo from its first line to its last.
async fn show(keep: bool, stage: &mut Stage) -> anyhow::Result<Exit> {
    let mut cast = Cast::new()?;
    let shown = play::all(&mut cast, stage).await;
    if let Err(error) = &shown {
        stage.failure(error, &cast.last_words())?;
    }
    if keep {
        cast.leave(stage)?;
    } else if shown.is_ok() {
        cast.stop(stage).await.context("the fleet could not be stopped")?;
    }
    let good = stage.summary()? && shown.is_ok();
    Ok(if good { Exit::OK } else { Exit(exit::FAILED) })
}
