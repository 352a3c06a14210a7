//! Where central answers those who want to join: a task beside the link to the broker. It only runs where the fleet's keys
//! are. What it can't answer at once is asked again.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use protocol::time::Wall;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::outcasts::{self, Herald};
use super::registrar::renewing::Renewed;
use super::registrar::{Answered, Outcome, Registrar, RegistrarError};
use super::registry::{Member, Registry};
use super::renewal::wire::Word;
use super::{renewal, wire};
use crate::audit::Audit;
use crate::authority::{self, Authority, TOLD_BEFORE};
use crate::broker::Broker;
use crate::clock::{self, Clock};
use crate::security::identity::Identity;

/// Requests that are looked at in a second; more are passed over, and asked again by those who mean it.
const REQUESTS_PER_SECOND_MAX: u32 = 200;

/// Lines about requests that nobody can answer, in a minute; more are only counted.
const LINES_PER_MINUTE_MAX: u32 = 10;

/// How often it is told that the broker's certificate ends soon.
const TELL_CERTIFICATE: Duration = Duration::from_secs(86_400);

/// How often it is looked whether somebody was thrown out.
const LOOK: Duration = Duration::from_secs(1);

/// The desk: what is decided with, and where.
#[derive(Clone)]
pub(crate) struct Desk {
    authority: Arc<Authority>,
    registrar: Arc<Registrar>,
    registry: Arc<Mutex<Registry>>,
    broker: Broker,
    clock: Clock,
    audit: Audit,
}

impl Desk {
    /// The desk of the fleet whose keys lie in `dir`.
    pub(crate) fn open(dir: &Path, broker: &Broker, clock: Clock, audit: Audit) -> anyhow::Result<Self> {
        let own = broker.trust().identity().context("this node has no identity, so it can't let others in")?;
        let authority = Arc::new(Authority::open(dir)?);
        let mut registry = Registry::open(authority.folder())?;
        registry.own(&member(&own))?;
        let registry = Arc::new(Mutex::new(registry));
        let trust = broker.trust().clone();
        let text = move || trust.identity().map_or_else(|| "".into(), |own| own.certificate.text.clone());
        let registrar = Arc::new(Registrar { authority: authority.clone(), own: Box::new(text) });
        Ok(Self { authority, registrar, registry, broker: broker.clone(), clock, audit })
    }

    /// Answers until the end.
    pub(crate) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        let mut requests = self.broker.aside(wire::JOIN_ALL);
        let mut asks = self.broker.aside(outcasts::ASK_ALL);
        let mut herald = Herald::new(self.broker.clone());
        let mut journal = Journal::new(self.audit.clone(), self.registry.clone());
        let mut look = tokio::time::interval(LOOK);
        let mut certificate = tokio::time::interval(TELL_CERTIFICATE);
        let mut pace = Allowance::new(REQUESTS_PER_SECOND_MAX, Duration::from_secs(1));
        let mut lines = Allowance::new(LINES_PER_MINUTE_MAX, Duration::from_secs(60));
        loop {
            let arrival = tokio::select! {
                () = end.cancelled() => return Ok(()),
                _ = look.tick() => {
                    let looked;
                    (journal, looked) = journal.look().await?;
                    if let Err(error) = looked
                        && lines.take(self.clock.elapsed())
                    {
                        tracing::error!(
                            %error,
                            "what was done to the fleet can't be brought into the audit log; it is kept, and tried again"
                        );
                    }
                    // A disk that is full for an hour must not take the desk down for good.
                    let looked = herald.look(&self.authority, &self.registry, clock::wall()).await;
                    if let Err(error) = looked
                        && lines.take(self.clock.elapsed())
                    {
                        let error = format!("{error:#}");
                        tracing::error!(error, "it can't be seen whether somebody was thrown out of the fleet; it is tried again");
                    }
                    continue;
                }
                _ = certificate.tick() => {
                    self.tell_certificate();
                    continue;
                }
                ask = asks.next() => match ask {
                    Some(ask) => {
                        if let Ok(word) = Word::parse(&ask.body) {
                            if pace.take(self.clock.elapsed()) {
                                self.renewed(&ask.subject, word, &mut lines).await?;
                            }
                        } else {
                            herald.asked(&ask.body);
                        }
                        continue;
                    }
                    None => return Ok(()),
                },
                arrival = requests.next() => arrival,
            };
            let Some(arrival) = arrival else { return Ok(()) };
            let Some(id) = wire::id_in(&arrival.subject).map(str::to_owned) else { continue };
            if !pace.take(self.clock.elapsed()) {
                continue;
            }
            if let Some(answer) = self.answered(&id, arrival.body.into(), &mut lines).await? {
                self.broker.publish_aside(wire::joined(&id), answer).await;
            }
        }
    }

    /// Says if the broker's certificate ends soon: nobody would get in any more.
    fn tell_certificate(&self) {
        let Some(dir) = self.authority.folder().parent() else { return };
        let soon = |until: &Wall| {
            until.0.saturating_sub(clock::wall().0) < TOLD_BEFORE.as_millis().try_into().unwrap_or(u64::MAX)
        };
        match authority::certificate_until(dir) {
            Ok(until) => {
                if let Some(until) = until.filter(soon) {
                    let until = clock::rfc3339(until);
                    tracing::error!(
                        until,
                        "the TLS certificate of the fleet's broker ends, and then no node gets in any more; `steward broker` renews it by \
                         itself; where the broker runs on another machine, run `steward rotate --broker` and copy the new files there"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "it can't be seen until when the broker's certificate holds"),
        }
    }

    /// The answer to a request, if there is one; what came of it is in the log.
    async fn answered(&self, id: &str, body: Vec<u8>, lines: &mut Allowance) -> anyhow::Result<Option<String>> {
        match self.answer(id.to_owned(), body).await? {
            Ok(answered) => {
                if let Outcome::Refused { name, why } = &answered.outcome {
                    self.audit.join_refused(id, name, why);
                }
                tell(&answered.outcome, id, lines, self.clock);
                return Ok(Some(answered.body));
            }
            // What central lacks is central's trouble, and somebody has to see to it.
            Err(RegistrarError::Request(error)) => {
                if lines.take(self.clock.elapsed()) {
                    tracing::warn!(invitation = id, why = %error, "a request to join was dropped");
                }
            }
            Err(error) => {
                if lines.take(self.clock.elapsed()) {
                    tracing::error!(invitation = id, %error, "a node that asks to join can't be answered; it asks again");
                }
            }
        }
        Ok(None)
    }

    /// Answers somebody who renews its keys; what came of it is in the log.
    async fn renewed(&self, subject: &str, word: Word, lines: &mut Allowance) -> anyhow::Result<()> {
        let Some(name) = outcasts::asker_in(subject) else { return Ok(()) };
        let (registrar, registry, asker) = (self.registrar.clone(), self.registry.clone(), name.clone());
        let decide = move || {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            registrar.renew(&mut registry, &asker, &word, clock::wall())
        };
        let heard = match tokio::task::spawn_blocking(decide).await? {
            Ok(heard) => heard,
            Err(error) => {
                let error = error.to_string();
                if lines.take(self.clock.elapsed()) {
                    tracing::error!(node = %name, error, "a node that renews its keys can't be answered; it asks again");
                }
                return Ok(());
            }
        };
        match &heard.outcome {
            Renewed::Settled => tracing::info!(node = %name, "a node has renewed its keys; the old one is revoked"),
            Renewed::Certified | Renewed::Again => {
                tracing::debug!(node = %name, "a node that renews its keys was answered")
            }
            Renewed::Refused(why) => {
                if lines.take(self.clock.elapsed()) {
                    tracing::warn!(node = %name, why, "a node that wants new keys was refused");
                }
            }
        }
        self.broker.publish_aside(renewal::wire::answers(&name), heard.body).await;
        Ok(())
    }

    /// Decides on one request, off the thread that everything else shares: the registry syncs its file.
    async fn answer(&self, id: String, body: Vec<u8>) -> anyhow::Result<Result<Answered, RegistrarError>> {
        let (registrar, registry) = (self.registrar.clone(), self.registry.clone());
        let decide = move || {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            registrar.join(&mut registry, &id, &body, clock::wall())
        };
        Ok(tokio::task::spawn_blocking(decide).await?)
    }
}

/// The node here as a member of its own fleet.
fn member(own: &Identity) -> Member {
    let certificate = &own.certificate;
    Member {
        name: certificate.name.clone(),
        key: certificate.key.to_string(),
        role: certificate.role,
        certificate: certificate.text.to_string(),
        user: own.user_jwt.clone(),
        serial: certificate.serial,
        joined: certificate.issued,
        renewed: None,
        revoked: None,
    }
}

fn tell(outcome: &Outcome, id: &str, lines: &mut Allowance, clock: Clock) {
    match outcome {
        Outcome::Joined(name) => tracing::info!(node = %name, invitation = id, "a node has joined the fleet"),
        Outcome::Again(name) => {
            tracing::debug!(node = %name, invitation = id, "a node that has joined asks once more; it gets the same answer");
        }
        Outcome::Refused { name, why } => {
            if lines.take(clock.elapsed()) {
                tracing::warn!(node = name, invitation = id, why, "a node that asks to join was refused");
            }
        }
    }
}

/// So many within a span of time, and no more.
struct Allowance {
    most: u32,
    span: Duration,
    since: Duration,
    left: u32,
}

impl Allowance {
    fn new(most: u32, span: Duration) -> Self {
        Self { most, span, since: Duration::ZERO, left: most }
    }

    fn take(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= self.span {
            (self.since, self.left) = (now, self.most);
        }
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_pass_within_a_span() {
        let mut allowance = Allowance::new(2, Duration::from_secs(1));
        let at = Duration::from_millis;
        let taken = [10, 20, 30, 999, 1010, 1020, 1030].map(|ms| allowance.take(at(ms)));
        assert_eq!(taken, [true, true, false, false, true, true, false]);
    }
}
