//! Questions to the loop: what the store knows, with what only the loop knows laid over it.

use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::State;

use super::explain::{because, presence, waiting, word};
use super::{Engine, EngineError, Input, respond};
use crate::clock::rfc3339;
use crate::traffic::Bytes;
use crate::view::{MessageView, MomentView, NodeView, ProcessView};

/// Messages that one list has at most, so that no question holds up the loop.
pub(crate) const LIST_MAX: usize = 10_000;

/// Which messages to list, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Only to or from this node.
    pub(crate) node: Option<String>,
    /// Only in this state.
    pub(crate) state: Option<String>,
    /// Only accepted at or after this time, in milliseconds since the Unix epoch.
    pub(crate) since_ms: Option<u64>,
    /// At most so many.
    pub(crate) limit: usize,
}

impl Engine {
    /// Answers a question.
    pub(super) fn query(&mut self, query: Input) {
        match query {
            Input::Show(id, reply) => respond(reply, self.show(id)),
            Input::List(filter, reply) => respond(reply, self.list(filter)),
            Input::Nodes(reply) => respond(reply, Ok(self.nodes())),
            Input::Lanes(reply) => respond(reply, Ok(self.lanes())),
            Input::Waiting(lane, reply) => {
                let now = self.node.out_lane(&lane);
                respond(reply, Ok(now.map_or(0, |now| now.window as u64 + now.behind)));
            }
            Input::Event(_)
            | Input::Submit(..)
            | Input::Keep(..)
            | Input::Cancel(..)
            | Input::Identity(_)
            | Input::Note(..)
            | Input::Stop(_) => {}
            Input::Process(name, reply) => respond(reply, Ok(self.node.peer(&name).and_then(|peer| peer.live))),
        }
    }

    fn show(&mut self, id: MessageId) -> Result<MessageView, EngineError> {
        let found = self.reader.show(id).map_err(store)?;
        let mut view = found.ok_or(EngineError::Unknown(id))?;
        self.overlay(id, &mut view);
        self.count(id, &mut view);
        Ok(view)
    }

    fn list(&mut self, mut filter: Filter) -> Result<Vec<MessageView>, EngineError> {
        filter.limit = filter.limit.min(LIST_MAX);
        let mut views = self.reader.list(&filter).map_err(store)?;
        for view in &mut views {
            if let Ok(id) = view.id.parse() {
                self.overlay(id, view);
                self.count(id, view);
            }
            view.history.clear();
        }
        Ok(views)
    }

    /// Adds what went over the link and is not written down yet.
    fn count(&self, id: MessageId, view: &mut MessageView) {
        let Bytes { out, inward } = self.stats.traffic.message(id);
        if view.from_node == self.name.as_str() && (out > 0 || inward > 0) {
            view.wire_out_bytes = Some(view.wire_out_bytes.unwrap_or(0) + out);
            view.wire_in_bytes = Some(view.wire_in_bytes.unwrap_or(0) + inward);
        }
    }

    /// Lays over a view what only the loop knows: the state of the attempt, and why the message waits.
    fn overlay(&self, id: MessageId, view: &mut MessageView) {
        if view.finished_at.is_some() || view.from_node != self.name.as_str() {
            return;
        }
        let Some(peer) = NodeName::new(&view.to_node).ok().and_then(|name| self.node.peer(&name)) else { return };
        let Some(now) = self.node.message(id) else {
            // It waits on disk behind others of its lane.
            view.reason = Some(format!("{}; queued behind others of its lane", presence(&peer)));
            return;
        };
        view.state = now.state.as_str().to_owned();
        view.reason = Some(waiting(&peer, self.node.link(), &now));
        view.attempts = now.attempts;
        let pending = matches!(now.state, State::Queued | State::Sent);
        let next = now.due.filter(|_| pending && peer.live.is_some()).or(peer.probe_at.filter(|_| pending));
        view.next_attempt_at = next.map(|at| {
            let clock = self.clock.now();
            rfc3339(protocol::time::Wall(clock.wall.0.saturating_add(at.0.saturating_sub(clock.mono.0))))
        });
        let moments = now.history.iter().map(|moment| MomentView {
            at: rfc3339(moment.at),
            state: moment.state.as_str().to_owned(),
            note: moment.note.as_deref().map(str::to_owned),
        });
        view.history = moments.collect();
    }

    fn nodes(&self) -> Vec<NodeView> {
        let view = |peer: protocol::inspect::PeerNow| {
            let Bytes { out, inward } = self.stats.traffic.node(peer.row.name.as_str());
            NodeView {
                node: peer.row.name.to_string(),
                presence: word(peer.presence).to_owned(),
                because: because(&peer),
                last_seen_at: peer.row.seen.map(rfc3339),
                outstanding: peer.outstanding,
                standing: None,
                wire_out_bytes: Some(out),
                wire_in_bytes: Some(inward),
                info: serde_json::from_str(&peer.row.info).ok(),
            }
        };
        let mut views: Vec<NodeView> = self.node.peers().map(view).collect();
        views.sort_by(|a, b| a.node.cmp(&b.node));
        views
    }

    fn lanes(&self) -> Vec<ProcessView> {
        let out = self.node.out_lanes().map(|lane| {
            let open = lane.window as u64 + lane.behind;
            let state = match &lane.oldest {
                None if open == 0 => "idle",
                None => "waiting",
                Some((_, State::Queued)) => "waiting",
                Some((_, State::Sent)) => "sending",
                Some((_, state)) => state.as_str(),
            };
            let note = lane.oldest.map(|(id, _)| format!("oldest {id}"));
            process("out", lane.lane.to_string(), state, open, note)
        });
        let inward = self.node.in_lanes().map(|lane| {
            let state = match (lane.running, lane.waiting, lane.entries) {
                (0, 0, 0) => "idle",
                (0, 0, _) => "confirming",
                (0, _, _) => "waiting",
                _ => "running",
            };
            let note = (lane.entries > 0).then(|| format!("{} running, {} waiting", lane.running, lane.waiting));
            let name = format!("{}.{}.{} from {}", self.name, lane.lane.kind, lane.lane.method, lane.lane.peer);
            process("in", name, state, lane.entries as u64, note)
        });
        out.chain(inward).collect()
    }
}

fn process(kind: &str, name: String, state: &str, messages: u64, note: Option<String>) -> ProcessView {
    ProcessView { kind: kind.to_owned(), name, state: state.to_owned(), messages, restarts: 0, note }
}

fn store(error: crate::store::ReadError) -> EngineError {
    EngineError::Store(error.to_string().into())
}
