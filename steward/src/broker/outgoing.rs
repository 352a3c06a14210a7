//! The publishing task: takes what the engine wants told, puts neighbours together, and publishes it.
//! While the link is down it drops everything but what has to be remembered (whose announcements to listen to).

use std::sync::atomic::Ordering;

use protocol::Event;
use protocol::event::Occasion;
use protocol::step::Effect;
use tokio::sync::oneshot;

use super::backlog::Backlog;
use super::batch::{Batch, Batcher, Publish, Sizes};
use super::echo::Purpose;
use super::prover::Prover;
use super::window::Window;
use super::wire::receipts::Teller;
use super::{Broker, Sent};
use crate::crash_points::{Point, reach};

/// Batches of effects that are put together.
const BATCHES_MAX: usize = 64;

/// Effects that are put together: what is encoded and not yet sent lies in memory twice.
const EFFECTS_MAX: usize = 4096;

impl Broker {
    /// Publishes until the engine ends.
    pub(crate) async fn outgoing(self) -> anyhow::Result<()> {
        let mut effects = self.0.effects.lock().await;
        let mut finish = self.0.finish_asked.lock().await;
        let identity = &self.0.config.identity;
        let teller = Teller {
            from: identity.name.clone(),
            incarnation: identity.incarnation,
            epoch: identity.epoch,
            commits: 0,
        };
        let prover = Prover::new(self.trust(), self.0.message_of.clone());
        let batcher = Batcher::new(teller, self.0.config.central.clone()).proving(prover);
        let mut batcher = batcher.packing(self.0.dictionaries.clone());
        let mut window = Window::default();
        let mut batches = Vec::with_capacity(BATCHES_MAX);
        let mut backlog = Backlog::default();
        loop {
            // What is queued goes out before a goodbye, unless it has to wait for its turn.
            tokio::select! {
                biased;
                count = effects.recv_many(&mut batches, BATCHES_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                    let all = batches.drain(..).flatten();
                    if self.0.budget.is_limited() {
                        self.wait(all, &mut backlog);
                        continue;
                    }
                    let mut all = all.peekable();
                    while all.peek().is_some() {
                        self.perform(all.by_ref().take(EFFECTS_MAX), &mut batcher, &mut window).await;
                    }
                }
                () = self.0.budget.some(), if !backlog.is_empty() => {
                    let next = match self.is_up() {
                        // What is put together is as much as goes at once when it is compressed to half of its length.
                        true => backlog.next(self.publish_bytes(&window).saturating_mul(2)),
                        false => backlog.clear(),
                    };
                    self.perform(next.into_iter(), &mut batcher, &mut window).await;
                }
                Some(gone) = finish.recv() => self.leave(gone, &mut batcher, &mut window).await,
            }
        }
    }

    /// Has effects wait for their turn; whose announcements to listen to does not.
    fn wait(&self, effects: impl Iterator<Item = Effect>, backlog: &mut Backlog) {
        let mut wanted = Vec::new();
        let ours = effects.filter_map(|effect| match effect {
            Effect::Watch(name, on) => {
                wanted.push((name, on));
                None
            }
            other => Some(other),
        });
        self.0.counters.dropped.add(backlog.add(ours));
        self.watch(wanted);
    }

    async fn leave(&self, gone: oneshot::Sender<()>, batcher: &mut Batcher, window: &mut Window) {
        self.perform([Effect::Announce(Occasion::Goodbye)].into_iter(), batcher, window).await;
        if self.is_up() {
            // The echo tells whoever waits; it is behind everything else.
            self.echo(Purpose::Signal(gone)).await;
        }
    }

    async fn perform(&self, effects: impl Iterator<Item = Effect>, batcher: &mut Batcher, window: &mut Window) {
        let mut wanted = Vec::new();
        let ours = effects.filter_map(|effect| match effect {
            Effect::Watch(name, on) => {
                wanted.push((name, on));
                None
            }
            other => Some(other),
        });
        let client = self.client().filter(|_| self.is_up());
        let Some(client) = client else {
            self.0.counters.dropped.add(ours.count());
            self.watch(wanted);
            return;
        };
        let commits = self.0.commits.load(Ordering::Acquire);
        let payload_max = client.max_payload().saturating_sub(self.trust().overhead_bytes(true));
        let sizes = Sizes {
            payload_max,
            group_max: window.publish_bytes().min(self.0.budget.publish_bytes().saturating_mul(2)),
        };
        let batch = batcher.batch(ours, commits, sizes, &|occasion| self.hello(occasion));
        self.watch(wanted);
        self.publish_batch(batch, window).await;
    }

    async fn publish_batch(&self, batch: Batch, window: &mut Window) {
        let counters = &self.0.counters;
        for unsendable in batch.unsendable {
            counters.unsendable.one();
            match unsendable.id {
                Some(id) => self.0.engine.event(Event::Unsendable { id, why: unsendable.why.into() }).await,
                None if self.0.noise.worth_a_line("unsendable", unsendable.to.as_str()) => {
                    tracing::error!(to = %unsendable.to, why = unsendable.why, "what others wait for can't be sent over this broker");
                }
                None => {}
            }
        }
        let mut handed = Vec::new();
        let mut publishes = batch.publishes.into_iter();
        while let Some(Publish { outgoing, handed: lane, items }) = publishes.next() {
            let bytes = outgoing.body.len();
            reach(Point::BeforePublish);
            let sent = self.send(outgoing, window).await;
            if sent == Sent::NotSealed {
                // The core sends it again; its key may be here then.
                counters.dropped.add(items);
                continue;
            }
            if sent == Sent::LinkDown {
                let lost: usize = items + publishes.map(|publish| publish.items).sum::<usize>();
                counters.dropped.add(lost);
                tracing::debug!(lost, "the link is down or stuck: dropped what was to be published");
                break;
            }
            reach(Point::AfterPublish);
            counters.published.one();
            counters.published_items.add(items);
            counters.published_bytes.add(bytes);
            handed.extend(lane);
        }
        if !handed.is_empty() {
            self.echo(Purpose::HandedOver(handed)).await;
        }
    }

    fn watch(&self, wanted: Vec<(protocol::name::NodeName, bool)>) {
        if wanted.is_empty() {
            return;
        }
        self.0.watched.send_if_modified(|watched| {
            let mut modified = false;
            for (name, on) in wanted {
                modified |= if on { watched.insert(name) } else { watched.remove(&name) };
            }
            modified
        });
    }
}
