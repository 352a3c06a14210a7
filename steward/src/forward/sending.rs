//! Saying what there is to say: of all forwards in turns, never more at once than the link has shown to take, again when the
//! link is back, and to those whose forward is not known here that it is not.

use std::sync::Arc;
use std::time::Duration;

use super::{Forwards, Key, Session};
use crate::broker::wire::forward::{Bundle, Side};
use crate::broker::wire::pack::Packer;
use crate::broker::{Broker, Sent, Window};

/// How long to wait where the link, or the key of the other node, was not there.
const PAUSE: Duration = Duration::from_millis(500);

/// How long to wait at most before it is looked which forwards are over.
const LOOK: Duration = Duration::from_secs(60);

/// What is said to a node that runs a forward of which nobody here knows.
const UNKNOWN: &str =
    "no `steward forward` that runs there has asked for this: its node was started anew, or it has ended";

/// What a turn needs.
struct Voice {
    broker: Broker,
    window: Window,
    packer: Packer,
}

impl Forwards {
    /// Says what there is to say until the node stops.
    pub(crate) async fn sending(self, broker: Broker) -> anyhow::Result<()> {
        let mut ups = broker.ups();
        let mut voice = Voice { broker, window: Window::default(), packer: Packer::default() };
        loop {
            let pause = self.turns(&mut voice).await;
            tokio::select! {
                up = ups.changed() => match up {
                    Ok(()) => {
                        let now = self.0.clock.elapsed();
                        self.all().iter().for_each(|session| session.state().link_up(now));
                    }
                    Err(_) => return Ok(()),
                },
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Says all there is; how long until there is more, as far as is known.
    async fn turns(&self, voice: &mut Voice) -> Duration {
        loop {
            let now = self.0.clock.elapsed();
            let sessions = self.all();
            for session in sessions.iter().filter(|session| session.state().is_silent(now)) {
                session.end(format!("nothing was heard of {} for {:?}", session.key.peer, session.ask.hold));
            }
            if !voice.broker.is_up() {
                return LOOK.min(until_silent(&sessions, now));
            }
            self.tell_strays(voice).await;
            let mut has_said = false;
            for session in &sessions {
                match self.turn(session, voice).await {
                    Some(Sent::Yes) => has_said = true,
                    Some(Sent::LinkDown | Sent::NotSealed) => {
                        let now = self.0.clock.elapsed();
                        sessions.iter().for_each(|session| session.state().unsent(now));
                        return PAUSE;
                    }
                    None => {}
                }
            }
            if !has_said {
                let now = self.0.clock.elapsed();
                let due = sessions.iter().map(|session| session.state().due()).min().unwrap_or(Duration::MAX);
                return LOOK.min(due.saturating_sub(now)).min(until_silent(&sessions, now));
            }
        }
    }

    /// Says one thing of one forward; none: there is nothing.
    async fn turn(&self, session: &Arc<Session>, voice: &mut Voice) -> Option<Sent> {
        let bytes_max = voice.broker.chunk_bytes_max(&voice.window);
        let (run, greeting, frames) = session.state().next(self.0.clock.elapsed(), bytes_max)?;
        // Places may be free again.
        session.free.notify_one();
        let Key { peer, id, side } = &session.key;
        let bundle = Bundle { id: *id, side: *side, run, greeting, over: None, frames };
        Some(voice.broker.send_forward(peer, session.seal, &bundle, &mut voice.packer, &mut voice.window).await)
    }

    /// What can't be said now is said when its node speaks of it again.
    async fn tell_strays(&self, voice: &mut Voice) {
        let strays = std::mem::take(&mut *self.strays());
        for (Key { peer, id, .. }, run, seal) in strays {
            let over = Some(UNKNOWN.to_owned());
            let bundle = Bundle { id, side: Side::Sender, run, greeting: 0, over, frames: Vec::new() };
            let sent = voice.broker.send_forward(&peer, seal, &bundle, &mut voice.packer, &mut voice.window).await;
            tracing::info!(%id, node = %peer, ?sent, "a node forwards for a process of this node that is gone; it is told");
        }
    }
}

/// How long until one of them is over if nothing is heard.
fn until_silent(sessions: &[Arc<Session>], now: Duration) -> Duration {
    let until = sessions.iter().filter_map(|session| session.state().silent_at()).min();
    until.map_or(LOOK, |until| until.saturating_sub(now))
}
