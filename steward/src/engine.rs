//! The one loop: what has happened goes in, the protocol decides, the store makes it durable, and only then is anything
//! done about it. Nothing else in the program decides about delivery or writes to the store.
//!
//! The loop has a thread of its own. It never waits for a method, a socket or the broker: what it hands out goes into
//! bounded channels, and what does not fit there is dropped, because every effect may be lost and is tried again.

mod explain;
mod perform;
mod queries;
mod stats;
mod stuck;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Incarnation, Message, MessageId};
use protocol::name::{Lane, NodeName};
use protocol::step::{Effect, Report, Step, Write};
use protocol::{Event, Node};
use tokio::sync::{broadcast, mpsc, oneshot};

pub(crate) use self::perform::Outputs;
pub(crate) use self::queries::Filter;
pub(crate) use self::stats::{EngineStats, little_room};
use crate::blobs::{Blobs, Owner};
use crate::clock::Clock;
use crate::message_log::MessageLog;
use crate::store::{CommitError, Cursor, IdentityRow, Note, Reader, Retention, Store};
use crate::troubles::Troubles;
use crate::view::{MessageView, NodeView, ProcessView};

/// Inputs that may wait for the loop; whoever brings more waits (backpressure).
pub(crate) const INPUTS_MAX: usize = 8192;

/// Inputs that one transaction takes at most.
const BATCH_INPUTS_MAX: usize = 2048;

/// Batches of effects that may wait for a task; more are dropped and tried again by the protocol's timers.
pub(crate) const EFFECT_BATCHES_MAX: usize = 4096;

/// Reports that a slow listener may be behind before it misses some (it then looks at the state again).
pub(crate) const REPORTS_MAX: usize = 16_384;

/// How long a turn whose writes nobody waits for may be kept open, so that they go into the next transaction.
const HOLD_MAX: Duration = Duration::from_millis(20);

/// Writes that such a turn has at most.
const HOLD_WRITES_MAX: usize = 4096;

/// The longest sleep of the loop, so that a clock of the machine that was suspended is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// How soon runs that found no room are handed out again.
const START_RETRY: Duration = Duration::from_millis(5);

/// The pause between two steps of cleaning up, while there is something to clean up and when there is nothing.
const PRUNE_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60));

/// What the loop takes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// From the broker, the methods and the results.
    Event(Event),
    /// Messages that somebody here sends: all of them or none. Answered once they are durable.
    Submit(Vec<Message>, oneshot::Sender<Result<Vec<MessageId>, EngineError>>),
    /// The same, with how far whoever submits them is: both become durable together. There may be no messages.
    Keep(Vec<Message>, Cursor, oneshot::Sender<Result<Vec<MessageId>, EngineError>>),
    /// Somebody here takes a message back. Answered with the state that it has then.
    Cancel(MessageId, oneshot::Sender<Result<MessageView, EngineError>>),
    /// A look at one message, with what only the loop knows (attempts, next attempt, why it waits).
    Show(MessageId, oneshot::Sender<Result<MessageView, EngineError>>),
    /// A look at messages.
    List(Filter, oneshot::Sender<Result<Vec<MessageView>, EngineError>>),
    /// A look at the nodes.
    Nodes(oneshot::Sender<Result<Vec<NodeView>, EngineError>>),
    /// A look at the lanes.
    Lanes(oneshot::Sender<Result<Vec<ProcessView>, EngineError>>),
    /// How many messages of an outgoing lane are not final.
    Waiting(Lane, oneshot::Sender<Result<u64, EngineError>>),
    /// Whose key this is. Durable before anything that comes after it is.
    Identity(IdentityRow),
    /// Which process of a node we speak with, if we do.
    Process(NodeName, oneshot::Sender<Result<Option<Incarnation>, EngineError>>),
    /// What is to be kept beside the messages. Answered once it is durable.
    Note(Vec<Note>, oneshot::Sender<Result<(), EngineError>>),
    /// Stop: answer what is here, commit, end the loop.
    Stop(oneshot::Sender<()>),
}

/// Why the engine could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    /// The store refused; nothing was accepted.
    #[error("{0}")]
    Store(Arc<str>),
    /// The message was not taken.
    #[error("{0}")]
    Rejected(&'static str),
    /// As many are outstanding as may be.
    #[error(
        "{0} messages from here have not ended, and no more may be outstanding (--max-outstanding): send it again when \
         some have ended, or cancel some"
    )]
    Outstanding(u64),
    /// There is no such message.
    #[error("no message {0} is known here; `steward messages` lists those that are")]
    Unknown(MessageId),
    /// The node is stopping.
    #[error("the node is stopping; try again when it runs")]
    Stopping,
}

/// The way to the loop, for everybody.
#[derive(Debug, Clone)]
pub(crate) struct EngineHandle {
    /// Inputs.
    pub(crate) inputs: mpsc::Sender<Input>,
    /// Reports of what changed; `subscribe()` for a receiver of one's own.
    pub(crate) reports: broadcast::Sender<Arc<Report>>,
}

impl EngineHandle {
    /// Brings an event to the loop; waits while it is behind. An event for a loop that has ended is of no use to anybody.
    pub(crate) async fn event(&self, event: Event) {
        if self.inputs.send(Input::Event(event)).await.is_err() {
            tracing::trace!("the engine has ended; an event is dropped");
        }
    }

    /// Accepts messages, all or none; returns once they are durable.
    pub(crate) async fn submit(&self, messages: Vec<Message>) -> Result<Vec<MessageId>, EngineError> {
        self.ask(|reply| Input::Submit(messages, reply)).await
    }

    /// Accepts messages, all or none, and keeps how far whoever gives them is, in one transaction; returns once they are
    /// durable. After an error neither may be so; `EngineError::Store` with a disk that is stuck leaves that open.
    pub(crate) async fn keep(&self, messages: Vec<Message>, cursor: Cursor) -> Result<Vec<MessageId>, EngineError> {
        self.ask(|reply| Input::Keep(messages, cursor, reply)).await
    }

    /// Asks the loop something and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Input,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(input(reply)).await.map_err(|_| EngineError::Stopping)?;
        answer.await.map_err(|_| EngineError::Stopping)?
    }
}

/// What the loop owns.
pub(crate) struct Engine {
    pub(crate) name: NodeName,
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) reader: Reader,
    pub(crate) log: MessageLog,
    pub(crate) blobs: Blobs,
    pub(crate) retention: Retention,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) outputs: Outputs,
    pub(crate) reports: broadcast::Sender<Arc<Report>>,
    pub(crate) troubles: Troubles,
    pub(crate) stats: Arc<EngineStats>,
    /// What the loop has to tell itself.
    pub(crate) own: Own,
    /// Runs that found the runner's queue full.
    pub(crate) starting: VecDeque<Vec<Effect>>,
    /// The step that starting up brought.
    pub(crate) first: Step,
}

/// What goes into the next turn before anything else: answers of the store, and what came while it was stuck.
#[derive(Debug, Default)]
pub(crate) struct Own {
    events: VecDeque<Event>,
    identities: Vec<IdentityRow>,
}

impl Own {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.identities.is_empty()
    }
}

/// What one turn of the loop has gathered.
#[derive(Default)]
struct Turn {
    lasting: Lasting,
    effects: Vec<Effect>,
    /// What is to be kept beside the messages.
    notes: Vec<Note>,
    answers: Vec<Answer>,
    /// What was submitted in it, and so is not in the store yet.
    submitted: HashSet<MessageId>,
}

/// What of a turn has to be durable before any of it is done.
#[derive(Default)]
struct Lasting {
    writes: Vec<Write>,
    /// Whose keys they are that have signed what came.
    identities: Vec<IdentityRow>,
    /// How far those are who read endless sources.
    cursors: Vec<Cursor>,
}

impl Lasting {
    fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.identities.is_empty() && self.cursors.is_empty()
    }
}

/// Somebody who waits for the turn to be durable.
enum Answer {
    Submitted(Vec<MessageId>, oneshot::Sender<Result<Vec<MessageId>, EngineError>>),
    Noted(oneshot::Sender<Result<(), EngineError>>),
    Query(Input),
}

impl Turn {
    fn add(&mut self, step: Step) {
        self.lasting.writes.extend(step.writes);
        self.effects.extend(step.effects);
    }

    /// Whether nobody waits for its writes: what others have confirmed can be forgotten a little later as well, and a
    /// transaction of its own costs as much as one with a thousand messages. Its effects wait with it.
    fn can_wait(&self) -> bool {
        let idle_write = |write: &Write| {
            matches!(write, Write::Forget(_) | Write::InLane(_) | Write::DropInLane { .. } | Write::Peer(_))
        };
        let idle_effect = |effect: &Effect| matches!(effect, Effect::Report(_) | Effect::Discard(_));
        let Lasting { writes, identities, cursors } = &self.lasting;
        (1..=HOLD_WRITES_MAX).contains(&writes.len())
            && self.answers.is_empty()
            && identities.is_empty()
            && cursors.is_empty()
            && writes.iter().all(idle_write)
            && self.effects.iter().all(idle_effect)
    }
}

impl Engine {
    /// Runs the loop until it is told to stop, or nobody is left to bring it anything.
    pub(crate) async fn run(mut self) {
        let mut turn = Turn::default();
        turn.add(std::mem::take(&mut self.first));
        let mut stopped = self.finish(turn).await;
        self.stats.look(&self.node);
        let mut inputs = Vec::with_capacity(BATCH_INPUTS_MAX);
        let mut prune_at = Duration::ZERO;
        let mut held: Option<(Turn, Duration)> = None;
        while stopped.is_none() {
            inputs.clear();
            let look_at = held.as_ref().map_or(prune_at, |(_, until)| prune_at.min(*until));
            self.gather(&mut inputs, look_at).await;
            let (mut turn, until) = held.take().unwrap_or_else(|| (Turn::default(), self.clock.elapsed() + HOLD_MAX));
            turn.lasting.identities.append(&mut self.own.identities);
            while let Some(event) = self.own.events.pop_front() {
                turn.add(self.node.step(self.clock.now(), event));
            }
            let mut last_words = None;
            for input in inputs.drain(..) {
                match input {
                    Input::Stop(done) => last_words = Some(done),
                    input => self.take(input, &mut turn),
                }
            }
            if self.node.wake_at().is_some_and(|at| at <= self.clock.now().mono) {
                turn.add(self.node.step(self.clock.now(), Event::Tick));
            }
            if turn.can_wait() && last_words.is_none() && self.clock.elapsed() < until {
                held = Some((turn, until));
                continue;
            }
            stopped = self.finish(turn).await.or(last_words);
            self.stats.look(&self.node);
            if self.clock.elapsed() >= prune_at && self.own.is_empty() {
                prune_at = self.clock.elapsed() + self.prune();
            }
        }
        self.log.add(&[]);
        self.store.close();
        if let Some(done) = stopped
            && done.send(()).is_err()
        {
            tracing::debug!("nobody waits for the engine's end");
        }
    }

    /// Waits for inputs until something is due; takes all that are there, up to a limit.
    async fn gather(&mut self, inputs: &mut Vec<Input>, look_at: Duration) {
        if !self.own.is_empty() {
            while inputs.len() < BATCH_INPUTS_MAX
                && let Ok(input) = self.inputs.try_recv()
            {
                inputs.push(input);
            }
            return;
        }
        let now = self.clock.elapsed();
        let due = self.node.wake_at().map_or(SLEEP_MAX, |at| Duration::from_millis(at.0).saturating_sub(now));
        let most = if self.starting.is_empty() { SLEEP_MAX } else { START_RETRY };
        let sleep = due.min(look_at.saturating_sub(now)).min(most);
        let received = tokio::time::timeout(sleep, self.inputs.recv_many(inputs, BATCH_INPUTS_MAX)).await;
        if received == Ok(0) {
            // Nobody holds the other end any more: there is nothing left to do.
            inputs.push(Input::Stop(oneshot::channel().0));
        }
    }

    /// Takes one input into the turn.
    fn take(&mut self, input: Input, turn: &mut Turn) {
        match input {
            Input::Event(event) => turn.add(self.node.step(self.clock.now(), event)),
            Input::Submit(messages, reply) => self.submit((messages, None), reply, turn),
            Input::Keep(messages, cursor, reply) => self.submit((messages, Some(cursor)), reply, turn),
            Input::Cancel(id, reply) => match self.store.find(id) {
                Ok(Some(found)) => {
                    if found.ended.is_none() {
                        let event = Event::Cancel { id, lane: found.lane, seq: found.seq };
                        turn.add(self.node.step(self.clock.now(), event));
                    }
                    turn.answers.push(Answer::Query(Input::Show(id, reply)));
                }
                Ok(None) => respond(reply, Err(EngineError::Unknown(id))),
                Err(error) => respond(reply, Err(EngineError::Store(error.to_string().into()))),
            },
            Input::Identity(row) => turn.lasting.identities.push(row),
            Input::Note(rows, reply) => {
                turn.notes.extend(rows);
                turn.answers.push(Answer::Noted(reply));
            }
            query => turn.answers.push(Answer::Query(query)),
        }
    }

    /// Takes messages on, all or none. One that is here already counts as accepted: whoever was not sure submits again.
    /// Where one is for a node too many to know, those to known nodes stay accepted; the log says so.
    fn submit(
        &mut self,
        (messages, cursor): (Vec<Message>, Option<Cursor>),
        reply: oneshot::Sender<Result<Vec<MessageId>, EngineError>>,
        turn: &mut Turn,
    ) {
        if let Some(why) = self.stats.refusal(&self.dir, self.clock.elapsed()) {
            return respond(reply, Err(EngineError::Store(why.into())));
        }
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let known = match self.store.known(&ids) {
            Ok(known) => known,
            Err(error) => return respond(reply, Err(EngineError::Store(error.to_string().into()))),
        };
        if let Some(most) = self.stats.full(turn.submitted.len())
            && ids.iter().any(|id| !known.contains(id))
        {
            return respond(reply, Err(EngineError::Outstanding(most)));
        }
        let mut new = Vec::with_capacity(messages.len());
        for message in messages {
            if !known.contains(&message.id) && turn.submitted.insert(message.id) {
                new.push(message);
            } else {
                tracing::debug!(id = %message.id, "the message is here already");
            }
        }
        let mut rejected = None;
        for message in new {
            let step = self.node.step(self.clock.now(), Event::Submit(message));
            rejected = rejected.or_else(|| step.effects.iter().find_map(rejection));
            turn.add(step);
        }
        match rejected {
            Some(why) => {
                tracing::warn!(why, "messages of one request were refused; others of it may have been taken");
                respond(reply, Err(EngineError::Rejected(why)));
            }
            None => {
                turn.lasting.cursors.extend(cursor);
                turn.answers.push(Answer::Submitted(ids, reply));
            }
        }
    }

    /// Commits a turn, and then does what it brought. Answers with whoever asked for the end meanwhile.
    async fn finish(&mut self, turn: Turn) -> Option<oneshot::Sender<()>> {
        let Turn { lasting, effects, notes, mut answers, .. } = turn;
        if !lasting.is_empty() {
            self.log.add(&lasting.writes);
            let started = self.clock.elapsed();
            if let Err(error) = self.save(&lasting) {
                if let CommitError::Full | CommitError::Sqlite(_) = error {
                    let why = error.to_string();
                    if let Some(done) = self.until_saved(&lasting, why, &mut answers).await {
                        return Some(done);
                    }
                } else {
                    // Trying again can't help, and going on would tell others what is not on disk.
                    tracing::error!(%error, "the store can't take what has happened; the node ends");
                    return Some(oneshot::channel().0);
                }
            }
            self.stats.committed(self.store.commits(), &lasting.writes, self.clock.elapsed().saturating_sub(started));
        }
        // In a transaction of their own: no message depends on them.
        let noted = self.store.note(notes).map_err(|error| EngineError::Store(error.to_string().into()));
        if self.store.take_due() {
            self.stats.replies_due.notify_one();
        }
        self.perform(effects);
        for answer in answers {
            match answer {
                Answer::Submitted(ids, reply) => respond(reply, Ok(ids)),
                Answer::Noted(reply) => respond(reply, noted.clone()),
                Answer::Query(query) => self.query(query),
            }
        }
        None
    }

    /// Makes a turn durable: whose keys they are first, because what they have signed runs only for who they are.
    fn save(&mut self, lasting: &Lasting) -> Result<(), CommitError> {
        self.store.identify(&lasting.identities)?;
        self.store.commit_with(&lasting.writes, &lasting.cursors).map(drop)
    }

    /// Writes what the message log had no room for, and cleans up a little. Answers with the pause until the next time.
    fn prune(&mut self) -> Duration {
        self.log.add(&[]);
        let pruned = match self.store.prune(&self.retention, crate::clock::wall()) {
            Ok(pruned) => pruned,
            Err(error) => {
                tracing::warn!(%error, "old messages can't be removed; it is tried again in a minute");
                return PRUNE_PAUSE.1;
            }
        };
        for id in pruned.outputs {
            if let Err(error) = self.blobs.remove(Owner::Out(id)) {
                tracing::warn!(%id, %error, "the output of a message that was removed is left behind");
            }
        }
        if pruned.more { PRUNE_PAUSE.0 } else { PRUNE_PAUSE.1 }
    }
}

/// Why a message was not taken, if the effect says so.
fn rejection(effect: &Effect) -> Option<&'static str> {
    match effect {
        Effect::Rejected(_, why) => Some(why),
        _ => None,
    }
}

/// Answers somebody who may not be there any more.
fn respond<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::trace!("whoever asked has gone");
    }
}
