//! A look into a node, for people, metrics and proofs. Changes nothing.

use crate::event::Ticket;
use crate::message::{Incarnation, MessageId, Seq};
use crate::name::{Lane, NodeName};
use crate::node::Node;
use crate::outbox::OutLane;
use crate::outcome::State;
use crate::presence::Session;
use crate::step::{InState, Moment, PeerRow, Presence};
use crate::time::Mono;

/// What only the running node knows of a message that it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageNow {
    /// Its state.
    pub state: State,
    /// How often it was sent.
    pub attempts: u32,
    /// When the current attempt will have been in vain, if one is under way.
    pub due: Option<Mono>,
    /// Whether its cancellation was asked for.
    pub cancel: bool,
    /// Its history.
    pub history: Vec<Moment>,
}

/// What the running node knows of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNow {
    /// What is kept of it.
    pub row: PeerRow,
    /// Whether it is there.
    pub presence: Presence,
    /// The process that we speak with.
    pub live: Option<Incarnation>,
    /// When it is probed again, if it is waited for.
    pub probe_at: Option<Mono>,
    /// Messages to it that are not final.
    pub outstanding: u64,
}

/// An outgoing lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutLaneNow {
    /// The lane.
    pub lane: Lane,
    /// Messages in memory.
    pub window: usize,
    /// Messages behind them on disk.
    pub behind: u64,
    /// Messages that are published and have no receipt.
    pub unacked: usize,
    /// The oldest message that is not final, if it is in memory.
    pub oldest: Option<(MessageId, State)>,
}

/// An incoming lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InLaneNow {
    /// The lane; its peer is the sender.
    pub lane: Lane,
    /// Messages that are not confirmed.
    pub entries: usize,
    /// Messages that wait for their turn.
    pub waiting: usize,
    /// Messages that run.
    pub running: usize,
    /// Ranges of numbers that are remembered.
    pub ranges: usize,
}

impl Node {
    /// What is known of a message of the outbox that is in memory.
    pub fn message(&self, id: MessageId) -> Option<MessageNow> {
        let (lane, seq) = self.outbox.index.get(&id)?;
        let lane = &self.outbox.lanes[*lane];
        let outgoing = lane.window.get(seq)?;
        let under_way = outgoing.due > Mono(0) && matches!(outgoing.state, State::Queued | State::Sent);
        Some(MessageNow {
            state: outgoing.state.clone(),
            attempts: outgoing.attempts,
            due: under_way.then_some(outgoing.due),
            cancel: outgoing.cancel,
            history: outgoing.history.clone(),
        })
    }

    /// What is known of one other node.
    pub fn peer(&self, name: &NodeName) -> Option<PeerNow> {
        self.peers.find(name).map(|peer| self.peer_now(peer))
    }

    /// All nodes that are known.
    pub fn peers(&self) -> impl Iterator<Item = PeerNow> + '_ {
        (0..self.peers.list.len()).map(|peer| self.peer_now(peer))
    }

    fn peer_now(&self, index: usize) -> PeerNow {
        let peer = &self.peers.list[index];
        let live = match peer.session {
            Session::Live(incarnation) => Some(incarnation),
            Session::None | Session::Probing(_) | Session::Verifying { .. } => None,
        };
        let probe_at = match peer.session {
            Session::None => self.ctx.timers.at(crate::timers::Timer::Peer(index)),
            Session::Probing(_) | Session::Verifying { .. } | Session::Live(_) => None,
        };
        let outstanding = self.outbox.count(&peer.row.name);
        PeerNow { row: peer.row.clone(), presence: peer.presence, live, probe_at, outstanding }
    }

    /// All outgoing lanes.
    pub fn out_lanes(&self) -> impl Iterator<Item = OutLaneNow> + '_ {
        self.outbox.lanes.iter().map(out_lane)
    }

    /// All incoming lanes.
    pub fn in_lanes(&self) -> impl Iterator<Item = InLaneNow> + '_ {
        self.inbox.lanes.values().map(|lane| InLaneNow {
            lane: lane.lane.clone(),
            entries: lane.entries.len(),
            waiting: lane.waiting.len(),
            running: lane.running,
            ranges: lane.seen.len(),
        })
    }

    /// How far a message of the inbox is.
    pub fn ticket(&self, ticket: Ticket) -> Option<(MessageId, Seq, InState)> {
        let (key, seq) = self.inbox.tickets.get(&ticket)?;
        let incoming = self.inbox.lanes.get(key)?.entries.get(seq)?;
        Some((incoming.message.id, *seq, incoming.state.clone()))
    }

    /// One outgoing lane, if it is known.
    pub fn out_lane(&self, lane: &Lane) -> Option<OutLaneNow> {
        let index = self.outbox.by_lane.get(lane)?;
        self.outbox.lanes.get(*index).map(out_lane)
    }

    /// How many lanes there are, outgoing and incoming.
    pub fn lanes(&self) -> (usize, usize) {
        (self.outbox.lanes.len(), self.inbox.lanes.len())
    }

    /// Messages of the inbox that are not started.
    pub fn waiting(&self) -> usize {
        debug_assert_eq!(self.inbox.waiting, self.in_lanes().map(|lane| lane.waiting).sum::<usize>());
        self.inbox.waiting
    }

    /// Messages that run here.
    pub fn running(&self) -> usize {
        debug_assert_eq!(self.inbox.running, self.in_lanes().map(|lane| lane.running).sum::<usize>());
        self.inbox.running
    }

    /// Results that wait for their sender's confirmation.
    pub fn unconfirmed(&self) -> usize {
        let stuck = self.inbox.lanes.values().filter(|lane| lane.stuck.is_some()).count();
        self.inbox.owed.count().saturating_sub(stuck)
    }

    /// Whether the broker can be reached.
    pub fn link(&self) -> bool {
        self.ctx.link
    }
}

fn out_lane(lane: &OutLane) -> OutLaneNow {
    OutLaneNow {
        lane: lane.row.lane.clone(),
        window: lane.window.len(),
        behind: lane.behind.messages,
        unacked: lane.unacked,
        oldest: lane.window.first_key_value().map(|(_, first)| (first.message.id, first.state.clone())),
    }
}
