//! An order that stands on this node: waits until something is due, runs it, and keeps what came of it. What it does is decided
//! in [`state`](super::state); that it is durable before it is done is seen to here.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use protocol::message::{Kind, Message, MessageId, Options};
use protocol::outcome::Final;
use protocol::step::Run;

use super::board::{Ask, OrderView, Place};
use super::state::{Begun, Next, State};
use super::told::{NO_SUCH_ORDER, OUTPUT_BYTES_MAX, Told};
use super::{OVERLAP_MAX, Order};
use crate::clock;
use crate::intake::MessageInput;
use crate::methods::context::{Host, MethodCtx, Stop, StopSwitch};
use crate::methods::once::{Ran, once};
use crate::methods::own::OwnMethod;
use crate::methods::schedule_result::ScheduleResult;
use crate::methods::{Ending, Method as _, MethodError, entry};
use crate::security::rules::smaller;

/// The longest sleep: a machine that was suspended, or whose clock was set, is noticed so soon.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The first and the longest pause before something is kept again that could not be.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A run that goes on, and how it ended.
type Going<'a> = Pin<Box<dyn Future<Output = (Begun, Ran)> + Send + 'a>>;

/// Why an order does not stand any longer.
enum Over {
    /// It is told to stop.
    Stop(Stop),
    /// Its sender does not know it.
    Unwanted(String),
}

impl From<Stop> for Over {
    fn from(why: Stop) -> Self {
        Self::Stop(why)
    }
}

/// An order with all that it needs.
pub(super) struct Standing<'a, 'b> {
    order: Order,
    run: Run,
    ctx: &'a MethodCtx<'b>,
    /// Whether nothing of it is written down yet.
    is_new: bool,
    state: State,
    /// The event that told the sender of it last, until it is known how that has ended.
    last_told: Option<MessageId>,
    /// How many missed runs the sender knows of.
    told_missed: u64,
    going: FuturesUnordered<Going<'a>>,
    /// Stops every run that goes on.
    switches: Vec<(u64, Arc<StopSwitch>)>,
}

impl<'a, 'b> Standing<'a, 'b> {
    /// Takes an order up where it was left; a new one is written down.
    pub(super) async fn take_up(mut order: Order, run: Run, ctx: &'a MethodCtx<'b>) -> Result<Self, MethodError> {
        order.plan.later_ms = later(&run.message, order.plan.later_ms);
        let kept = ctx.cursor().await?;
        let state = match &kept {
            None => State::new(clock::wall()),
            Some(text) => State::read(text).ok_or_else(|| {
                MethodError(
                    "how far the order is can't be read: a newer steward has written it; send it again".to_owned(),
                )
            })?,
        };
        let (told_missed, going, switches) = (state.missed, FuturesUnordered::new(), Vec::new());
        Ok(Self { order, run, ctx, is_new: kept.is_none(), state, last_told: None, told_missed, going, switches })
    }

    /// Stands until it is cancelled, or the node stops.
    pub(super) async fn stand(mut self, mut place: Place) -> Result<Ending, MethodError> {
        let why = match self.work(&mut place).await {
            Err(why) => why,
            Ok(never) => match never {},
        };
        drop(place);
        match why {
            Over::Stop(why) => Ok(self.stop(why).await),
            Over::Unwanted(why) => {
                for (_, switch) in &self.switches {
                    switch.stop(Stop::Cancelled);
                }
                // There is nobody to tell of them.
                while self.going.next().await.is_some() {}
                let from = &self.run.message.from;
                Ok(Ending::because(
                    Final::Failed,
                    format!("{from} does not know the order any more, so it has ended: {why}"),
                ))
            }
        }
    }

    /// Works until it has to stop. Only where nothing is between memory and disk it looks whether it has to.
    async fn work(&mut self, place: &mut Place) -> Result<Infallible, Over> {
        if self.is_new {
            self.tell(self.state.clone()).await?;
        }
        for begun in self.state.begun.clone() {
            if self.order.spec.rerun {
                self.begin(begun, true);
            } else {
                let why = "the node died while it ran; how far it came is unknown, so it is not run again";
                self.end(begun, Ran::not(Final::Interrupted, why)).await?;
            }
        }
        loop {
            let now = clock::wall();
            let until = match self.order.plan.decide(&self.state, now) {
                Next::Run(next) => {
                    self.keep(next, None).await?;
                    self.begin_last();
                    continue;
                }
                Next::Decided(next) => {
                    self.state = next;
                    // There may be years of it to look through.
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Wait(until) => until,
            };
            if self.going.is_empty() && self.state.missed != self.told_missed {
                self.tell(self.state.clone()).await?;
            }
            self.is_wanted().await?;
            let sleep =
                until.map_or(SLEEP_MAX, |until| Duration::from_millis(until.0.saturating_sub(now.0)).min(SLEEP_MAX));
            tokio::select! {
                biased;
                why = self.ctx.stopped() => return Err(why.into()),
                Some((begun, ran)) = self.going.next() => self.end(begun, ran).await?,
                Some(ask) = place.asks.recv() => self.answer(ask).await?,
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Looks whether the sender has taken what it was told last. An order that it does not know (its store is gone, or an
    /// older copy) would stand for ever, because nobody could take it back.
    async fn is_wanted(&mut self) -> Result<(), Over> {
        let Some(id) = self.last_told else { return Ok(()) };
        let Some((state, why)) = self.ctx.ended(id).await else { return Ok(()) };
        self.last_told = None;
        let unwanted = state == Final::Refused.as_str() && why.starts_with(NO_SUCH_ORDER);
        if unwanted { Err(Over::Unwanted(why)) } else { Ok(()) }
    }

    /// Stops what goes on, and says how the order ends.
    async fn stop(mut self, why: Stop) -> Ending {
        for (_, switch) in &self.switches {
            switch.stop(why);
        }
        while let Some((begun, ran)) = self.going.next().await {
            // What may run again does so with the next start, as if the node had been killed.
            let again = why == Stop::NodeStops && self.order.spec.rerun && ran.outcome.state == Final::Interrupted;
            if !again && self.end(begun, ran).await.is_err() {
                // It can't be kept and there is no time: what is written down says that it has begun.
                break;
            }
        }
        match why {
            Stop::Cancelled => {
                let runs = self.state.runs;
                Ending::because(Final::Cancelled, format!("taken back; it has begun {runs} runs"))
            }
            Stop::TimedOut(_) | Stop::NodeStops => why.ending(),
        }
    }

    fn begin_last(&mut self) {
        if let Some(begun) = self.state.begun.last().cloned() {
            self.begin(begun, false);
        }
    }

    /// Begins a run that is written down; `again` if a node that died may have begun it before.
    fn begin(&mut self, begun: Begun, again: bool) {
        let (host, switch) = (Arc::clone(self.ctx.host()), Arc::new(StopSwitch::default()));
        self.switches.push((begun.run, Arc::clone(&switch)));
        let run = Run { again, ..self.inner(&begun) };
        self.going.push(Box::pin(async move {
            let ran = perform(&host, run, &switch).await;
            (begun, ran)
        }));
    }

    /// A run of the order as a message of its own. Its id marks its processes, so each of those that go on at the same time has another.
    fn inner(&self, begun: &Begun) -> Run {
        let Message { id, from, to, options, .. } = &self.run.message;
        let body = serde_json::to_string(&self.order.data).unwrap_or_default();
        let message = Message {
            id: of_slot(*id, begun.slot),
            from: from.clone(),
            to: to.clone(),
            kind: Kind::CommandAck,
            method: self.order.method.clone(),
            body: body.into(),
            options: Options { method_timeout: self.order.timeout, seal: options.seal, ..Options::default() },
            created: self.run.message.created,
        };
        Run { message, limit: self.order.timeout, stored: false, ..self.run.clone() }
    }

    /// A run has ended: keeps its result, and takes it off in the same transaction.
    async fn end(&mut self, begun: Begun, ran: Ran) -> Result<(), Stop> {
        self.switches.retain(|(run, _)| *run != begun.run);
        let next = self.state.clone().without(begun.run);
        self.keep(next, Some((begun, ran))).await
    }

    /// Answers whoever looks at the order, or pauses it.
    async fn answer(&mut self, Ask { pause, reply }: Ask) -> Result<(), Stop> {
        if let Some(pause) = pause.filter(|pause| *pause != self.state.paused) {
            self.tell(self.state.clone().paused(pause, clock::wall())).await?;
        }
        let State { paused, runs, missed, .. } = self.state;
        let view = OrderView {
            id: self.run.message.id.to_string(),
            from_node: self.run.message.from.to_string(),
            schedule: self.order.spec.words(),
            method: self.order.method.to_string(),
            paused,
            next_at: self.order.plan.upcoming(&self.state).map(clock::rfc3339),
            runs,
            running: self.going.len(),
            missed,
        };
        // Whoever does not wait any more misses nothing.
        drop(reply.send(view));
        Ok(())
    }

    /// Keeps this state, and tells the sender of it.
    async fn tell(&mut self, next: State) -> Result<(), Stop> {
        let next = State { serial: next.serial + 1, ..next };
        let data = self.told(&next).data();
        self.write(next, data).await
    }

    /// Keeps this state, and the result of a run with it.
    async fn keep(&mut self, next: State, ended: Option<(Begun, Ran)>) -> Result<(), Stop> {
        let Some((begun, ran)) = ended else { return self.write(next, Ok(Vec::new())).await };
        let next = State { serial: next.serial + 1, ..next };
        let data = self.told(&next).with(&begun, ran);
        self.write(next, data).await
    }

    fn told(&self, next: &State) -> Told {
        let upcoming = self.order.plan.upcoming(next).map(|next| next.0);
        Told::of(self.run.message.id, next, upcoming, clock::wall().0)
    }

    /// Makes a state durable, with an event for the sender in the same transaction. Tries until it is done: what can't be told
    /// has not happened, and nothing else is begun before.
    async fn write(&mut self, next: State, data: Result<Vec<String>, String>) -> Result<(), Stop> {
        let Message { from, options, .. } = &self.run.message;
        let event = |data: &Vec<String>| MessageInput {
            to_node: from.to_string(),
            data: data.clone(),
            command_or_event: Kind::EventAck.as_str().to_owned(),
            method: ScheduleResult::NAME.to_owned(),
            // However long its sender is away.
            retries: Some(0),
            seal: options.seal.then_some(true),
            ..MessageInput::default()
        };
        let (mut pause, mut said) = (AGAIN.0, false);
        let (order, id) = (&self.order, self.run.message.id);
        // Made once: what is tried again has the same id, and is accepted once.
        let prepared = data.as_ref().map_err(|why| MethodError(why.clone())).and_then(|data| {
            self.ctx.prepare(Some(data).filter(|data| !data.is_empty()).map(event).into_iter().collect())
        });
        loop {
            let kept = match (&prepared, serde_json::to_string(&next)) {
                (Ok(events), Ok(cursor)) => self.ctx.keep(events.clone(), cursor).await,
                (Err(why), _) => Err(why.clone()),
                (_, Err(error)) => Err(MethodError(error.to_string())),
            };
            let why = match kept {
                Ok(ids) => {
                    self.last_told = ids.first().copied().or(self.last_told);
                    break;
                }
                Err(why) => why,
            };
            if !said {
                tracing::warn!(%id, method = %order.method, %why, "what an order with a schedule did can't be written down; it waits");
                said = true;
            }
            tokio::select! {
                why = self.ctx.stopped() => return Err(why),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(AGAIN.1);
        }
        if data.is_ok_and(|data| !data.is_empty()) {
            self.told_missed = next.missed;
        }
        self.state = next;
        Ok(())
    }
}

/// Runs it once there is room.
async fn perform(host: &Arc<Host>, run: Run, switch: &Arc<StopSwitch>) -> Ran {
    let method = run.message.method.clone();
    let entry = entry(method.as_str());
    let own = if entry.is_none() { host.own.get(method.as_str()) } else { None };
    if entry.is_none() && own.is_none() {
        let why = format!("there is no method {method} here any more; there was one when the order was accepted");
        return Ran::not(Final::Refused, &why);
    }
    let room = tokio::select! {
        biased;
        room = host.orders.room().acquire_owned() => room,
        why = switch.stopped() => {
            let ending = why.ending();
            return Ran::not(ending.state, "it was stopped before it began; it did not run");
        }
    };
    let run = Run { limit: smaller(run.limit, own.and_then(|own| own.timeout)), ..run };
    let ran = match entry {
        Some(entry) => entry.once(host, run, switch, OUTPUT_BYTES_MAX).await,
        None => once::<OwnMethod>(host, run, switch, OUTPUT_BYTES_MAX).await,
    };
    drop(room);
    ran
}

/// The part of the spread that an order has on its node, always the same.
fn later(message: &Message, spread_ms: u64) -> u64 {
    let mut key = message.id.0.to_be_bytes().to_vec();
    key.extend_from_slice(message.to.as_str().as_bytes());
    let hash = blake3::derive_key("steward 2026-11 how much later a node begins", &key);
    let mut eight = [0; 8];
    eight.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(eight) % spread_ms.max(1)
}

/// The id by which the processes of a run are known. The first place has that of the order.
fn of_slot(order: MessageId, slot: u8) -> MessageId {
    const RANDOM: u128 = (1 << 62) - 1;
    if slot == 0 {
        return order;
    }
    let mut key = order.0.to_be_bytes().to_vec();
    key.push(slot);
    let hash = blake3::derive_key("steward 2026-11 a run beside others", &key);
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    MessageId(order.0 & !RANDOM | u128::from_be_bytes(half) & RANDOM)
}

/// The ids of all processes that an order may have started; that of any other message is its own.
pub(crate) fn ids_of_runs(order: MessageId) -> impl Iterator<Item = MessageId> {
    (0..OVERLAP_MAX).filter_map(|slot| u8::try_from(slot).ok()).map(move |slot| of_slot(order, slot))
}
