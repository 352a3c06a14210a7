//! A node's own side of the renewal of its keys, while it runs: makes new ones, has central vouch for them, puts them to use, and
//! lets the old ones go once central has seen the new ones. Where it is, lies on the disk at each moment, so a process that is
//! killed is followed by one that goes on.
//!
//! ```text
//! made ── renew, signed by both ──▶ certified ──▶ in use, connected anew ── using ──▶ settled: the old key is revoked
//!                                       ▲                   │
//!                                       └── fall back ◀─────┘ the broker does not let the new one in
//! ```
//! Until the end the old keys are as good as before. It never decides who is let in.

pub(crate) mod alone;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use protocol::time::Wall;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::outcasts;
use crate::broker::{Aside, Broker};
use crate::clock::{self, Clock, rfc3339};
use crate::crash_points::{Point, reach};
use crate::security::certificate::Certificate;
use crate::security::identity::renewal::{self as folders, Stage};
use crate::security::identity::{Identity, IdentityError, NodeKeys};
use crate::view::KeysView;
use wire::{Answer, Certified, Verdict, Word};

/// The state of keys that nobody renews at the moment.
pub(crate) const CURRENT: &str = "current";

/// The first pause before central is asked again; each one is twice as long as the one before.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The longest pause before central is asked again, also where it has refused.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// How often it is looked how the link is.
const LOOK: Duration = Duration::from_millis(200);

/// So long the broker may refuse the new login before the node goes back to the old one.
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// The pause before the new login is tried again, where the old one works.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// The same where the old one is refused as well.
const TRY_AGAIN_OUT: Duration = Duration::from_secs(30);

/// So long it may take to connect with the new login while the link is up with the old one.
const CONNECT_AGAIN: Duration = Duration::from_secs(5);

/// The renewal of the keys of the node that runs here. Clones are the same.
#[derive(Clone)]
pub(crate) struct Renewal(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    broker: Broker,
    clock: Clock,
    wanted: Notify,
    /// The key that is to go, where none is on its way out yet.
    wanted_key: Mutex<Option<String>>,
    view: watch::Sender<KeysView>,
    /// Since when the old keys hold again, and why.
    fell_back: Mutex<Option<(Duration, String)>>,
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Renewal").field(&*self.0.view.borrow()).finish()
    }
}

/// Why keys are not renewed here at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRenewal {
    /// There is nothing to renew.
    #[error(
        "this node belongs to no fleet, so it has no keys to renew; `steward init` makes a fleet, `steward join` joins one"
    )]
    NoIdentity,
}

impl Renewal {
    /// The one of the node in `dir`; none where the node has no identity.
    pub(crate) fn new(dir: &Path, broker: &Broker, clock: Clock) -> Option<Self> {
        let own = broker.trust().identity()?;
        let inner = Inner {
            dir: dir.to_owned(),
            broker: broker.clone(),
            clock,
            wanted: Notify::new(),
            wanted_key: Mutex::default(),
            view: watch::Sender::new(view(&own, CURRENT, None)),
            fell_back: Mutex::default(),
        };
        Some(Self(Arc::new(inner)))
    }

    /// How the keys are.
    pub(crate) fn view(&self) -> KeysView {
        self.0.view.borrow().clone()
    }

    /// Changes whenever they are another way.
    pub(crate) fn changes(&self) -> watch::Receiver<KeysView> {
        self.0.view.subscribe()
    }

    /// Begins, if it has not begun, and if the key is still this one. Answers with how the keys are.
    pub(crate) fn want(&self, key: Option<&str>) -> KeysView {
        let view = self.view();
        if key.is_none_or(|key| key == view.key) {
            // While one is under way, whoever wants one wants that one.
            if view.state == CURRENT {
                *lock(&self.0.wanted_key) = Some(view.key.clone());
            }
            self.0.wanted.notify_one();
        }
        view
    }

    /// Renews whenever it is wanted, and brings to its end what was begun, until the node stops.
    pub(crate) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        let own = self.own()?;
        let mut answers = self.0.broker.aside(&wire::answers(&own.certificate.name));
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                step = self.step(&mut answers) => step?,
            }
        }
    }

    fn own(&self) -> anyhow::Result<Arc<Identity>> {
        self.0.broker.trust().identity().context("this node has no identity")
    }

    async fn step(&self, answers: &mut Aside) -> anyhow::Result<()> {
        // Where a step before has failed in the middle, the disk may be ahead.
        let lies = self.on_disk(Identity::load).await?.context("the folder identity is gone")?;
        if lies.keys.node.public() != self.own()?.keys.node.public() {
            self.take_on(lies);
        }
        let own = self.own()?;
        let stage_of = own.clone();
        match self.on_disk(move |dir| folders::stage(dir, &stage_of)).await? {
            Stage::Idle => self.wait(&own).await,
            Stage::Made(keys) => self.certify(&own, *keys, answers).await,
            Stage::Certified => self.switch(&own).await,
            Stage::InUse => self.prove(&own, answers).await,
        }
    }

    /// Waits until somebody wants new keys, and makes them.
    async fn wait(&self, own: &Arc<Identity>) -> anyhow::Result<()> {
        self.tell(own, CURRENT, None);
        let key = own.keys.node.public().to_string();
        while lock(&self.0.wanted_key).take_if(|wanted| *wanted == key).is_none() {
            self.0.wanted.notified().await;
        }
        tracing::info!("this node renews its keys");
        let own = own.clone();
        self.on_disk(move |dir| folders::make(dir, &own)).await
    }

    /// Asks central until it vouches for the new keys.
    async fn certify(&self, own: &Identity, keys: NodeKeys, answers: &mut Aside) -> anyhow::Result<()> {
        let name = &own.certificate.name;
        let word = Word::renew(name, &own.keys.node, &keys.node, &keys.seal.public());
        self.tell(own, "asking", Some("new keys are made; central is asked to vouch for them".to_owned()));
        let certified = self.ask(own, &word, answers, || true, |_| true).await?;
        let next = believe(certified, keys, own, clock::wall())?;
        self.on_disk(move |dir| folders::keep(dir, &next)).await
    }

    /// Puts the new keys to use.
    async fn switch(&self, own: &Identity) -> anyhow::Result<()> {
        self.rest(own).await;
        // The link is made anew with what lies on the disk, so everything before that goes out under the old name.
        let identity = self.on_disk(folders::switch).await?;
        tracing::info!(key = %identity.keys.node.public(), "the new keys are put to use");
        self.take_on(identity);
        Ok(())
    }

    /// After a fall back: waits before the new login is tried again.
    async fn rest(&self, own: &Identity) {
        let fell_back = lock(&self.0.fell_back).clone();
        let Some((since, why)) = fell_back else { return };
        let note = format!(
            "the broker did not let this node in with its new keys ({why}); the old ones are used again, and the new ones are \
             tried every {} minutes",
            TRY_AGAIN.as_secs() / 60
        );
        self.tell(own, "fell-back", Some(note));
        loop {
            let limit = if self.0.broker.board().view().state.is_refusal() { TRY_AGAIN_OUT } else { TRY_AGAIN };
            if self.0.clock.elapsed().saturating_sub(since) >= limit {
                return;
            }
            tokio::select! {
                () = self.0.wanted.notified() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Tells central that the new keys are in use, once that is so, until it has seen it.
    async fn prove(&self, own: &Identity, answers: &mut Aside) -> anyhow::Result<()> {
        self.tell(
            own,
            "connecting",
            Some("the new keys are in use; the old ones stay good until central has seen that".to_owned()),
        );
        let word = Word::using(&own.certificate.name, &own.keys.node);
        let is_in = || self.is_in(own);
        let settled = tokio::select! {
            settled = self.ask(own, &word, answers, is_in, |certified| certified.settled) => settled,
            why = self.refused(own) => return self.fall_back(why).await,
        };
        settled?;
        *lock(&self.0.fell_back) = None;
        self.on_disk(folders::settle).await?;
        tracing::info!(key = %own.keys.node.public(), serial = own.certificate.serial, "this node has new keys; the old ones are revoked");
        Ok(())
    }

    /// Whether the link is up by the login of this identity.
    fn is_in(&self, own: &Identity) -> bool {
        let broker = &self.0.broker;
        // Where the broker is not the fleet's own, its login has nothing to do with these keys.
        broker.is_up() && (own.user_jwt.is_none() || broker.key_used() == Some(own.keys.node.public()))
    }

    /// Ends, with the reason, when the broker has refused the new login for a while. Has the connection made anew while it is the old one.
    async fn refused(&self, own: &Identity) -> String {
        let (mut refused, mut old) = (Duration::ZERO, Duration::ZERO);
        loop {
            tokio::time::sleep(LOOK).await;
            let state = self.0.broker.board().view().state;
            refused = if own.user_jwt.is_some() && state.is_refusal() { refused + LOOK } else { Duration::ZERO };
            if refused >= REFUSED_MAX {
                return state.to_string();
            }
            old = if self.0.broker.is_up() && !self.is_in(own) { old + LOOK } else { Duration::ZERO };
            if old >= CONNECT_AGAIN {
                old = Duration::ZERO;
                self.0.broker.connect_anew();
            }
        }
    }

    async fn fall_back(&self, why: String) -> anyhow::Result<()> {
        tracing::error!(
            why,
            "the broker does not let this node in with its new keys; it goes back to the old ones, which are still good, and tries \
             again later; `steward ps` shows how it goes on"
        );
        *lock(&self.0.fell_back) = Some((self.0.clock.elapsed(), why));
        let identity = self.on_disk(folders::fall_back).await?;
        self.take_on(identity);
        Ok(())
    }

    /// This is who the node is from now on.
    fn take_on(&self, identity: Identity) {
        self.0.broker.trust().take_on(identity);
        self.0.broker.connect_anew();
    }

    /// Says a word to central, while `may_speak`, until it answers as wanted.
    async fn ask(
        &self,
        own: &Identity,
        word: &Word,
        answers: &mut Aside,
        may_speak: impl Fn() -> bool,
        is_wanted: impl Fn(&Certified) -> bool,
    ) -> anyhow::Result<Certified> {
        let (subject, body) = (outcasts::ask(&own.certificate.name), serde_json::to_string(word)?);
        let (mut ups, mut look) = (self.0.broker.ups(), tokio::time::interval(LOOK));
        let (mut due, mut pause) = (self.0.clock.elapsed(), ASK_AGAIN);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if self.0.clock.elapsed() >= due && self.0.broker.is_up() && may_speak() {
                        reach_using(word);
                        self.0.broker.publish_aside(subject.clone(), body.clone()).await;
                        (due, pause) = (self.0.clock.elapsed() + pause, (pause * 2).min(ASK_AGAIN_MAX));
                    }
                }
                // Whatever was said before may have been lost with the link.
                up = ups.changed() => {
                    up?;
                    (due, pause) = (self.0.clock.elapsed(), ASK_AGAIN);
                }
                // Whoever asks for it again wants it tried at once.
                () = self.0.wanted.notified() => (due, pause) = (self.0.clock.elapsed(), ASK_AGAIN),
                arrival = answers.next() => {
                    let Some(arrival) = arrival else { std::future::pending().await };
                    match Answer::to(word, &arrival.body, &own.fleet) {
                        Some(Verdict::Certified(certified)) if is_wanted(&certified) => return Ok(certified),
                        Some(Verdict::Refused(why)) => {
                            if self.tell(own, "refused", Some(format!("central does not renew the keys: {why}"))) {
                                tracing::error!(why, "central does not renew the keys of this node; the ones that it has stay good");
                            }
                            (due, pause) = (self.0.clock.elapsed() + ASK_AGAIN_MAX, ASK_AGAIN_MAX);
                        }
                        Some(Verdict::Certified(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Says how the keys are. False: it was so before.
    fn tell(&self, own: &Identity, state: &str, note: Option<String>) -> bool {
        let new = view(own, state, note);
        self.0.view.send_if_modified(|view| {
            let is_new = *view != new;
            *view = new;
            is_new
        })
    }

    /// Does something with the folders, off the thread that everything else shares: it syncs them.
    async fn on_disk<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Path) -> Result<T, IdentityError> + Send + 'static,
    ) -> Result<T, anyhow::Error> {
        let dir = self.0.dir.clone();
        Ok(tokio::task::spawn_blocking(move || what(&dir)).await??)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reach_using(word: &Word) {
    match word {
        Word::Renew(_) => {}
        Word::Using(_) => reach(Point::RenewalConnected),
    }
}

/// The identity that the answer makes, if everything in it is what it has to be.
pub(crate) fn believe(certified: Certified, keys: NodeKeys, own: &Identity, now: Wall) -> anyhow::Result<Identity> {
    let certificate = Certificate::verify(&certified.certificate, &own.fleet)?;
    let before = &own.certificate;
    anyhow::ensure!(
        certificate.key == keys.node.public()
            && certificate.seal_key == keys.seal.public()
            && certificate.name == before.name
            && certificate.renews == Some(before.key)
            && certificate.serial > before.serial
            && certificate.holds(now),
        "central's answer is not believed: the certificate is not one for the new keys of this node; nothing was changed"
    );
    let (fleet, user_jwt, ca) = (own.fleet, certified.user, own.ca.clone());
    Ok(Identity { keys, certificate, fleet, user_jwt, ca })
}

fn view(own: &Identity, state: &str, note: Option<String>) -> KeysView {
    KeysView {
        state: state.to_owned(),
        key: own.keys.node.public().to_string(),
        serial: own.certificate.serial,
        since: rfc3339(own.certificate.issued),
        note,
    }
}
