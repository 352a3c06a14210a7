//! The list of revoked keys on its way: central tells the broker and everybody who is there, and each node asks for it
//! whenever it has come back, so that nobody who was away goes on believing a key that is revoked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::name::NodeName;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use crate::authority::Authority;
use crate::broker::Broker;
use crate::security::keys::{KeyKind, PublicKey};
use crate::security::revocations::{LIST_BYTES_MAX, Revocations, Revoked};

/// Where central publishes the list.
const REVOKED: &str = "$STEWARD.fleet.revoked";

/// Before the name of a node that says which list it has.
const ASK_PREFIX: &str = "$STEWARD.ask.";

/// What central listens to.
pub(super) const ASK_ALL: &str = "$STEWARD.ask.*";

/// The longest question, in bytes.
const ASK_BYTES_MAX: usize = 256;

/// How often a node asks, even if it was never away: a publish can be lost.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// Which list a node has.
#[derive(Serialize, Deserialize)]
struct Ask {
    version: u64,
}

/// Where a node of this name asks.
pub(super) fn ask(name: &NodeName) -> String {
    format!("{ASK_PREFIX}{name}")
}

/// The node that asks there, if the subject is one of those.
pub(super) fn asker_in(subject: &str) -> Option<NodeName> {
    NodeName::new(subject.strip_prefix(ASK_PREFIX)?).ok()
}

/// Whether a node that asks has an older list than this.
pub(crate) fn is_behind(body: &[u8], version: u64) -> bool {
    body.len() <= ASK_BYTES_MAX && serde_json::from_slice::<Ask>(body).is_ok_and(|ask| ask.version < version)
}

/// Keeps the list of this node up to date until the end.
pub(crate) async fn follow(broker: Broker, end: CancellationToken) -> anyhow::Result<()> {
    let Some(list) = broker.trust().revocations().cloned() else { return Ok(()) };
    let Some(name) = broker.trust().identity().map(|identity| identity.certificate.name.clone()) else { return Ok(()) };
    // The key that the node has at the moment: one that it has had before is revoked in good order.
    let is_out = || broker.trust().identity().is_some_and(|own| list.has(&own.certificate.key));
    let mut told = broker.aside(REVOKED);
    let (mut ups, mut again) = (broker.ups(), tokio::time::interval(ASK_AGAIN));
    loop {
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            up = ups.changed() => {
                up?;
                ask_for_list(&broker, &name, list.version()).await?;
            }
            _ = again.tick() => ask_for_list(&broker, &name, list.version()).await?,
            arrival = told.next() => {
                let Some(arrival) = arrival else { return Ok(()) };
                let was_out = is_out();
                take(&list, &arrival.body).await?;
                if is_out() && !was_out {
                    tracing::error!(
                        "this node was revoked: nobody in the fleet believes it any more, and the broker keeps it out; to let \
                         it in again, run `steward invite {}` on central, remove the folder identity here, and run `steward \
                         join`", name
                    );
                }
            }
        }
    }
}

/// Tells central which list this node has, if the link is up.
async fn ask_for_list(broker: &Broker, own: &NodeName, version: u64) -> anyhow::Result<()> {
    if broker.is_up() {
        broker.publish_aside(ask(own), serde_json::to_string(&Ask { version })?).await;
    }
    Ok(())
}

/// Takes a list that somebody has published, if it is the fleet's and newer.
async fn take(list: &Revocations, body: &[u8]) -> anyhow::Result<()> {
    if body.len() > LIST_BYTES_MAX {
        return Ok(());
    }
    let Ok(token) = std::str::from_utf8(body).map(str::to_owned) else { return Ok(()) };
    let taking = list.clone();
    match tokio::task::spawn_blocking(move || taking.apply(&token)).await? {
        Ok(true) => {
            tracing::info!(version = list.version(), keys = list.revoked().len(), "keys were revoked by the fleet")
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "a list of revoked keys was not taken"),
    }
    Ok(())
}

/// Central's side.
pub(super) struct Herald {
    broker: Broker,
    /// Whether somebody has an older list.
    is_owed: bool,
    /// Whether the list was published since this process has started.
    is_told: bool,
    /// Looks to wait before the broker is told again after it was not.
    pause: u32,
}

/// Looks between two attempts to tell the broker.
const PUSH_PAUSE: u32 = 5;

impl Herald {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, is_owed: false, is_told: false, pause: 0 }
    }

    /// Somebody says which list it has.
    pub(super) fn asked(&mut self, body: &[u8]) {
        let version = self.broker.trust().revocations().map_or(0, Revocations::version);
        self.is_owed |= is_behind(body, version);
    }

    /// Once a second: brings a change of the registry to the broker and to the nodes.
    pub(super) async fn look(
        &mut self,
        authority: &std::sync::Arc<Authority>,
        registry: &std::sync::Arc<Mutex<Registry>>,
        now: Wall,
    ) -> anyhow::Result<()> {
        let Some(list) = self.broker.trust().revocations().cloned() else { return Ok(()) };
        let (authority_, registry_, list_) = (authority.clone(), registry.clone(), list.clone());
        let renew = move || renew(&authority_, &registry_, &list_, now);
        let to_push = tokio::task::spawn_blocking(renew).await??;
        self.pause = self.pause.saturating_sub(1);
        if let Some(version) = to_push.filter(|_| self.pause == 0) {
            match authority.push(now).await {
                Ok(()) => {
                    self.is_owed = true;
                    // The nodes have to have it on its way before whoever has revoked is told that they do.
                    if self.tell(&list).await {
                        lock(registry).revoked_applied(version)?;
                        tracing::info!(version, "the broker and the nodes were told which keys are revoked");
                    }
                }
                Err(error) => {
                    self.pause = PUSH_PAUSE;
                    tracing::error!(
                        error = format!("{error:#}"),
                        "a revocation has not taken effect at the broker; it is tried again"
                    );
                }
            }
        }
        self.tell(&list).await;
        Ok(())
    }

    /// Publishes the list if somebody lacks it. False: the link is down.
    async fn tell(&mut self, list: &Revocations) -> bool {
        if list.version() == 0 || (self.is_told && !self.is_owed) {
            return self.broker.is_up();
        }
        if !self.broker.is_up()
            || !self.broker.publish_aside(REVOKED.to_owned(), list.token().as_bytes().to_vec()).await
        {
            return false;
        }
        (self.is_told, self.is_owed) = (true, false);
        true
    }
}

/// Brings the registry's list into the node's own and into the broker's configuration; the version that the broker and the
/// nodes have not been told, if there is one.
fn renew(
    authority: &Authority,
    registry: &Mutex<Registry>,
    list: &Revocations,
    now: Wall,
) -> anyhow::Result<Option<u64>> {
    let mut registry = lock(registry);
    let (newest, applied) = registry.revoked_versions()?;
    if newest <= applied && newest <= list.version() {
        return Ok(None);
    }
    let (version, revoked) = registry.revoked()?;
    if version > list.version() {
        let entry = |revoked: &super::registry::Revoked| Revoked {
            key: revoked.key.clone(),
            name: revoked.name.clone(),
            at_ms: revoked.at.0,
        };
        list.apply(&Revocations::issue(version, revoked.iter().map(entry).collect(), authority.fleet(), now)?)?;
    }
    if version > applied {
        let keys = revoked.iter().map(|revoked| PublicKey::parse(&revoked.key, KeyKind::User));
        authority.revoke(&keys.collect::<Result<Vec<_>, _>>()?, now)?;
        return Ok(Some(version));
    }
    Ok(None)
}

fn lock(registry: &Mutex<Registry>) -> std::sync::MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_with_an_older_version_is_answered() {
        assert!(is_behind(br#"{"version":4}"#, 5));
        assert!(!is_behind(br#"{"version":5}"#, 5));
        assert!(!is_behind(br#"{"version":-1}"#, 5));
        assert!(!is_behind(b"[]", 5));
        assert!(!is_behind(format!("{{\"version\":4{}}}", " ".repeat(ASK_BYTES_MAX)).as_bytes(), 5));
    }
}
