//! Says hello to central (R16): now and then, and whenever a part of the node comes to rest or works again, or the
//! node has other methods of its own than before.

use std::time::Duration;

use protocol::event::Occasion;
use protocol::step::Effect;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::methods::OwnMethods;
use crate::supervise::Supervisor;

/// Says hello until the end; `interval` is none where the link alone does so, as it comes up and before it goes.
pub(super) async fn hellos(
    interval: Option<Duration>,
    broker: mpsc::Sender<Vec<Effect>>,
    supervisor: Supervisor,
    own: OwnMethods,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let (mut changes, mut methods) = (supervisor.changes(), own.changes());
    let mut ticks = interval.map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is due at once, and the link says hello by itself when it comes up.
        ticks.tick().await;
    }
    let resting = || -> Vec<_> { supervisor.resting().into_iter().map(|task| (task.name, task.state)).collect() };
    let mut told = resting();
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => ticks.tick().await,
                None => std::future::pending().await,
            }
        };
        let is_due = tokio::select! {
            () = end.cancelled() => return Ok(()),
            _ = tick => true,
            changed = methods.changed() => {
                changed?;
                true
            }
            changed = changes.changed() => {
                changed?;
                false
            }
        };
        let now = resting();
        if (is_due || now != told) && broker.send(vec![Effect::Announce(Occasion::Interval)]).await.is_err() {
            return Ok(());
        }
        told = now;
    }
}
