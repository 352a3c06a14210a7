//! The connection: made for ever, believed only when an echo has come back, and rebuilt when it is open and dead.

mod signs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use protocol::Event;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::echo::Purpose;
use super::name_check::{self, NameCheck};
use super::state::LinkState;
use super::{Broker, CALL, Line, LinkBoard};
use crate::security::keys::PublicKey;
use signs::{Sign, tell_failures};

/// How often the link is tried while nothing else is said about it.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long an echo may take before the link is rebuilt.
const ECHO: Duration = Duration::from_secs(10);

/// How long an echo may take while something else still arrives, or this node itself is too busy to look.
const ECHO_BUSY: Duration = Duration::from_secs(60);

/// How long the first echo on a new connection may take before another one is sent: the first may have been lost with
/// the connection before.
const ECHO_AGAIN: Duration = Duration::from_secs(1);

/// The client's own ping; at 10 s it notices a half-open link after 30 s, as a second net.
const PING: Duration = Duration::from_secs(10);

/// How long one attempt to connect may take: long enough for a satellite and TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest pause between attempts to connect, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The same while it takes somebody to mend what is wrong: a fleet that is not let in must not be a burden.
const PAUSE_MAX_REFUSED: Duration = Duration::from_secs(10);

/// A client that has lived for so long and then ends is replaced at once.
const STEADY: Duration = Duration::from_secs(60);

/// The longest pause before a connection that brings nothing back is rebuilt once more.
const REBUILD_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Arrived messages that may wait for the reading task; more are lost (and counted), and sent again by their senders.
const ARRIVED_MAX: usize = 32_768;

/// The client's own queue of publishes.
const QUEUED_MAX: usize = 2048;

/// Reasons of one outage that are logged; a new one beyond them is not.
const REASONS_MAX: usize = 8;

/// Why a connection is left.
enum Left {
    /// It is gone; the client makes a new one.
    Lost,
    /// It is open and dead.
    Dead,
    /// It works, and is made anew for the sake of what the broker denied on it.
    Denied,
    /// The login has changed, and the next one is to be made with it.
    Renewed,
}

/// What is known of the outage that goes on.
#[derive(Debug, Default)]
struct Outage {
    reasons: BTreeSet<(LinkState, String)>,
    told: bool,
}

impl Broker {
    /// Has the connection made anew, with the login as it is now.
    pub(crate) fn connect_anew(&self) {
        self.0.renewed.notify_one();
    }

    /// The key of the login with which the link is up; none where it is not up, or the login is of another kind.
    pub(crate) fn key_used(&self) -> Option<PublicKey> {
        self.0.key_used.key().filter(|_| self.is_up())
    }

    /// How the link is.
    pub(crate) fn board(&self) -> &LinkBoard {
        &self.0.board
    }

    /// Keeps the link until `end`, and takes it down then.
    pub(crate) async fn link_until(self, end: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = end.cancelled() => {}
            ended = self.clone().link() => return ended,
        }
        self.down().await;
        if let Some(Line { client, .. }) = self.0.line.send_replace(None) {
            // Without it the connection would end as soon as nobody holds the client any more.
            drop(tokio::time::timeout(CALL, client.drain()).await);
        }
        Ok(())
    }

    /// Keeps the link. Returns only when the name belongs to another process.
    pub(crate) async fn link(self) -> anyhow::Result<()> {
        // Numbers go on where they were, also over a link that was taken down.
        let before = self.0.line.borrow().as_ref().map(|line| line.number);
        let mut number = before.unwrap_or(0).max(*self.0.listening.borrow());
        let mut checked = before.is_some();
        self.down().await;
        let mut ends = 0;
        loop {
            let opened_at = self.0.clock.elapsed();
            let (signs, mut heard) = mpsc::channel(64);
            let client = self.open(signs).await?;
            let mut outage = Outage::default();
            if !checked {
                self.connected(&client, &mut heard, &mut outage, 0, None).await;
                let identity = &self.0.config.identity;
                let asker = name_check::Asker { client: &client, trust: self.trust(), me: &identity.name };
                let outcome = name_check::check(&asker, identity.incarnation, self.0.config.take_over).await;
                let taken = matches!(outcome, NameCheck::Taken(_));
                let is_first = self.told_name(outcome);
                anyhow::ensure!(!taken || is_first, "another process has taken the name while the link was down");
                if taken {
                    return Ok(());
                }
                checked = true;
            }
            number += 1;
            self.0.line.send_replace(Some(Line { number, client: client.clone() }));
            self.keep(&client, number, &mut heard, outage).await;
            if heard.is_closed() {
                // It has met something that it does not get over. Whoever sends that again and again is not to fill the log.
                let is_again = self.0.clock.elapsed().saturating_sub(opened_at) < STEADY;
                ends = if is_again { ends + 1 } else { 1 };
                tokio::time::sleep(pause(ends, self.0.config.identity.seed, PAUSE_MAX)).await;
            }
            tracing::debug!(number, "the client has ended, or does not get over a dead connection; making a new one");
        }
    }

    /// A client that tries for ever. Its events come as signs; counts are made at once, because signs may be dropped.
    async fn open(&self, signs: mpsc::Sender<Sign>) -> anyhow::Result<Client> {
        let (broker, board) = (self.clone(), self.0.board.clone());
        let name = self.me().clone();
        let seed = self.0.config.identity.incarnation.0;
        let failures = signs.clone();
        let access = &self.0.config.access;
        let options = access
            .options_telling(&self.0.servers, &self.0.key_used)
            .name(format!("steward {name}"))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING)
            .connection_timeout(CONNECT)
            .subscription_capacity(ARRIVED_MAX)
            .client_capacity(QUEUED_MAX)
            .custom_inbox_prefix(format!("{name}.INBOX"))
            .reconnect_delay_callback(move |attempts| {
                let needs_somebody = board.view().state.needs_somebody();
                pause(attempts, seed, if needs_somebody { PAUSE_MAX_REFUSED } else { PAUSE_MAX })
            })
            // Asked before each round of attempts. Only here the client says what was wrong with the last one.
            .reconnect_to_server_callback(move |servers, _| {
                tell_failures(&servers, &failures);
                async { None }
            })
            .event_callback(move |event| {
                let broker = broker.clone();
                let signs = signs.clone();
                async move { broker.sign(event, &signs) }
            });
        Ok(options.connect(self.0.servers.clone()).await?)
    }

    /// Notes why there is no link, and logs each reason of an outage once.
    fn tell(&self, outage: &mut Outage, state: LinkState, why: &str) {
        let (state, note) = self.0.board.fails(state, why);
        // Of what stays as it is, the words may differ from one attempt to the next, by a time for example.
        let words = if state.needs_somebody() { String::new() } else { why.to_owned() };
        if outage.reasons.len() >= REASONS_MAX || !outage.reasons.insert((state, words)) {
            return;
        }
        outage.told = true;
        let address = &self.0.address;
        if state.needs_somebody() {
            tracing::error!(address, %state, "{note}; messages are kept, and it is tried for ever");
        } else if state == LinkState::Mute {
            tracing::warn!(address, %state, "{note}; messages are kept, and it is tried for ever");
        } else {
            tracing::warn!(address, why, "the broker can't be reached; messages are kept, and it is tried for ever");
        }
    }

    /// The same with the words of a failed attempt to connect.
    fn tell_failure(&self, outage: &mut Outage, why: &str) {
        self.tell(outage, LinkState::of_failure(why), why);
    }

    /// Keeps one client until it does not get over a dead connection.
    async fn keep(&self, client: &Client, number: u64, heard: &mut mpsc::Receiver<Sign>, mut outage: Outage) {
        let mut listening = self.0.listening.subscribe();
        let mut pause = ECHO;
        // A connection that was found dead must not be believed again.
        let mut dead: Option<u64> = None;
        loop {
            let patience = dead.map(|_| ECHO);
            if !self.connected(client, heard, &mut outage, dead.unwrap_or(0), patience).await {
                return;
            }
            if listening.wait_for(|listening| *listening >= number).await.is_err() {
                return;
            }
            let connects = connects(client);
            let left = match self.first_echo(client, heard, pause, &mut outage).await {
                Ok(()) => {
                    pause = ECHO;
                    self.up(client, &mut outage).await;
                    let left = self.beat(client, connects, heard).await;
                    self.down().await;
                    left
                }
                Err(left) => left,
            };
            match left {
                // The server may have said why.
                Left::Denied => drop(tokio::time::timeout(CALL, client.force_reconnect()).await),
                Left::Lost if self.0.board.view().state.needs_somebody() => {}
                Left::Lost => self.tell(&mut outage, LinkState::Unreachable, "the connection was lost"),
                Left::Dead => {
                    self.0.counters.echoes_missed.one();
                    self.tell(&mut outage, LinkState::Silent, "it is connected, but nothing comes back");
                    pause = (pause * 2).min(REBUILD_PAUSE_MAX);
                    dead = Some(connects);
                    // The client may be stuck in a write; then it does not even hear this.
                    drop(tokio::time::timeout(CALL, client.force_reconnect()).await);
                }
                Left::Renewed => {
                    tracing::info!("the connection is made anew, with the new login");
                    dead = Some(connects);
                    drop(tokio::time::timeout(CALL, client.force_reconnect()).await);
                }
            }
        }
    }

    /// Waits until the client is connected for more than the `than`-th time. False: `patience` is over, and it still
    /// holds on to the old connection; or its task has ended, and with it all that it says, whatever state it left behind.
    async fn connected(
        &self,
        client: &Client,
        heard: &mut mpsc::Receiver<Sign>,
        outage: &mut Outage,
        than: u64,
        patience: Option<Duration>,
    ) -> bool {
        let mut waited = Duration::ZERO;
        const LOOK: Duration = Duration::from_secs(1);
        loop {
            if heard.is_closed() {
                return false;
            }
            let connected = client.connection_state() == State::Connected;
            if connected && connects(client) > than {
                return true;
            }
            if connected && patience.is_some_and(|patience| waited >= patience) {
                return false;
            }
            match tokio::time::timeout(LOOK, heard.recv()).await {
                Ok(Some(Sign::Failed(why))) => self.tell_failure(outage, &why),
                Ok(Some(Sign::Connected | Sign::Disconnected)) => {}
                // The client has ended, which it does only when it is told to.
                Ok(None) => return false,
                Err(_) => {
                    waited += LOOK;
                    if !connected && outage.reasons.is_empty() {
                        self.tell(outage, LinkState::Unreachable, "no connection");
                    }
                }
            }
        }
    }

    /// Sends echoes until one is back: only then do our subscriptions work on this connection.
    async fn first_echo(
        &self,
        client: &Client,
        heard: &mut mpsc::Receiver<Sign>,
        patience: Duration,
        outage: &mut Outage,
    ) -> Result<(), Left> {
        let connects_before = connects(client);
        let tries = patience.as_millis().div_ceil(ECHO_AGAIN.as_millis());
        for _ in 0..tries {
            let (signal, mut back) = oneshot::channel();
            self.echo(Purpose::Signal(signal)).await;
            let deadline = tokio::time::sleep(ECHO_AGAIN);
            tokio::pin!(deadline);
            loop {
                tokio::select! {
                    biased;
                    back = &mut back => match back {
                        Ok(()) => return Ok(()),
                        Err(_) => break,
                    },
                    () = &mut deadline => break,
                    sign = heard.recv() => match sign {
                        Some(Sign::Disconnected) | None => return Err(Left::Lost),
                        Some(Sign::Failed(why)) => self.tell_failure(outage, &why),
                        Some(Sign::Connected) => {}
                    },
                }
            }
            if client.connection_state() != State::Connected || connects(client) != connects_before {
                return Err(Left::Lost);
            }
        }
        Err(Left::Dead)
    }

    /// Sends an echo now and then, until the connection is lost or nothing comes back.
    async fn beat(&self, client: &Client, connects_before: u64, heard: &mut mpsc::Receiver<Sign>) -> Left {
        loop {
            tokio::select! {
                biased;
                sign = heard.recv() => match sign {
                    Some(Sign::Disconnected) | None => return Left::Lost,
                    Some(Sign::Connected) if connects(client) != connects_before => return Left::Lost,
                    Some(Sign::Connected | Sign::Failed(_)) => continue,
                },
                () = self.0.stuck.notified() => {}
                () = self.0.renewed.notified() => return Left::Renewed,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            if client.connection_state() != State::Connected || connects(client) != connects_before {
                return Left::Lost;
            }
            if self.0.board.denials().wants_new_connection() {
                tracing::debug!("the connection is made anew, so that subscriptions that were denied are tried again");
                return Left::Denied;
            }
            if !self.echo_in_time().await {
                return if client.connection_state() == State::Connected { Left::Dead } else { Left::Lost };
            }
        }
    }

    async fn echo_in_time(&self) -> bool {
        let (signal, mut back) = oneshot::channel();
        if !self.echo(Purpose::Signal(signal)).await {
            return false;
        }
        let mut waited = Duration::ZERO;
        while waited < ECHO_BUSY {
            let received = self.0.counters.received.get();
            match tokio::time::timeout(ECHO, &mut back).await {
                Ok(back) => return back.is_ok(),
                Err(_) => waited += ECHO,
            }
            // After a pause of the whole process, the echo may be there and only not read yet.
            if let Ok(back) = tokio::time::timeout(ECHO_AGAIN, &mut back).await {
                return back.is_ok();
            }
            let busy = self.0.reader_waits.load(Ordering::Acquire) || self.0.counters.received.get() != received;
            if !busy {
                return false;
            }
        }
        false
    }

    async fn up(&self, client: &Client, outage: &mut Outage) {
        let server = client.server_info();
        if std::mem::take(outage).told {
            tracing::info!(address = self.0.address, version = server.version, "the broker can be reached again");
        } else {
            tracing::info!(address = self.0.address, version = server.version, "connected to the broker");
        }
        self.0.board.up();
        // A stale word that the link is stuck is about an earlier connection.
        self.0.up.store(true, Ordering::Release);
        self.0.ups.send_modify(|ups| *ups += 1);
        self.0.engine.event(Event::LinkUp).await;
    }

    async fn down(&self) {
        let was_up = self.0.up.swap(false, Ordering::AcqRel);
        self.0.board.down();
        self.0.echoes.clear();
        if was_up {
            self.0.engine.event(Event::LinkDown).await;
        }
    }
}

fn connects(client: &Client) -> u64 {
    let statistics: Arc<async_nats::Statistics> = client.statistics();
    statistics.connects.load(Ordering::Acquire)
}

/// The pause before an attempt to connect. The jitter keeps a fleet from coming back all at once; it is worked out from
/// the process and the attempt, so that no two nodes have the same.
fn pause(attempts: usize, seed: u64, pause_max: Duration) -> Duration {
    let base = match attempts {
        0 | 1 => Duration::from_millis(10),
        _ => pause_max
            .min(Duration::from_millis(50) * 2_u32.saturating_pow(u32::try_from(attempts.min(16)).unwrap_or(16))),
    };
    let mixed = (seed ^ attempts as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    base / 2 + Duration::from_millis(mixed % u64::try_from(base.as_millis()).unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_between_attempts_is_capped_and_differs_between_nodes() {
        let mut different = BTreeSet::new();
        for seed in 0..100 {
            assert!(pause(1, seed, PAUSE_MAX) <= Duration::from_millis(15));
            for attempts in [2, 10, 1000, usize::MAX] {
                for pause_max in [PAUSE_MAX, PAUSE_MAX_REFUSED] {
                    assert!(pause(attempts, seed, pause_max) <= pause_max * 3 / 2);
                    assert!(pause(attempts, seed, pause_max) >= Duration::from_millis(5));
                }
            }
            different.insert(pause(100, seed, PAUSE_MAX));
        }
        assert!(different.len() > 50);
    }
}
