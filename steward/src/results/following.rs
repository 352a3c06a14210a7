//! Asking for outputs that are followed from here, while they are written: once for each message that somebody looks on
//! at, again now and then, and at once when something was lost. What is left of messages that have ended goes.

use std::time::Duration;

use protocol::message::MessageId;

use super::Results;
use super::audience::Due;
use crate::broker::{Sent, Window};
use crate::clock::Clock;
use crate::engine::{EngineError, Input};

/// How often it is looked for what is left of messages that have ended.
const SWEEP: Duration = Duration::from_secs(60);

impl Results {
    /// Asks until the node stops.
    pub(crate) async fn following(self) -> anyhow::Result<()> {
        let mut ups = self.0.broker.ups();
        let (clock, mut window, mut swept) = (Clock::start(), Window::default(), Duration::ZERO);
        loop {
            let sweep = (swept + SWEEP).saturating_sub(clock.elapsed());
            let pause = self.0.audience.pause().map_or(sweep, |pause| pause.min(sweep));
            tokio::select! {
                up = ups.changed() => match up {
                    Ok(()) => self.0.audience.link_up(),
                    Err(_) => return Ok(()),
                },
                () = self.0.audience.woken() => {}
                () = tokio::time::sleep(pause) => {}
            }
            for due in self.0.audience.due() {
                self.ask(&due, &mut window).await;
            }
            if clock.elapsed() >= swept + SWEEP {
                swept = clock.elapsed();
                self.sweep().await;
            }
        }
    }

    /// What can't be asked now is asked when there is a link, or when its time comes again.
    async fn ask(&self, Due { peer, seal, follow }: &Due, window: &mut Window) {
        let process = self.0.engine.ask(|reply| Input::Process(peer.clone(), reply)).await;
        let Ok(Some(process)) = process else { return };
        let sent = self.0.broker.send_follow((peer, process), *seal, follow, window).await;
        if sent != Sent::Yes {
            tracing::debug!(id = %follow.id, ?sent, "an output that is followed could not be asked for");
        }
    }

    /// Removes what was followed of messages whose result is here or that are gone.
    async fn sweep(&self) {
        let ids: Vec<MessageId> = self.0.audience.lives().iter().copied().collect();
        for id in ids {
            let is_over = match self.0.engine.ask(|reply| Input::Show(id, reply)).await {
                Ok(view) => view.finished_at.is_some(),
                Err(error) => matches!(error, EngineError::Unknown(_)),
            };
            if is_over && !self.0.audience.has(id) {
                self.0.audience.forget(id);
            }
        }
    }
}
