//! What people and programs are shown: the JSON of messages, nodes, processes and errors, the same on the command line
//! (`--json`), in the HTTP API and in files. Field names are a public interface: add, never rename.

use serde::{Deserialize, Serialize};

/// A message, as `send`, `messages` and `show` print it. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageView {
    /// UUIDv7.
    pub(crate) id: String,
    /// The sender.
    pub(crate) from_node: String,
    /// The receiver.
    pub(crate) to_node: String,
    /// `CommandACK`, `CommandNACK`, `EventACK` or `EventNACK`.
    pub(crate) command_or_event: String,
    /// The method.
    pub(crate) method: String,
    /// Its data.
    pub(crate) data: Vec<String>,
    /// `queued`, `sent`, `stored`, `running`, `fetching`, or one of the nine final states.
    pub(crate) state: String,
    /// Why it is in this state, in words.
    pub(crate) reason: Option<String>,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// When it is tried again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<String>,
    /// When it was accepted.
    pub(crate) created_at: String,
    /// When the method started, by the receiver's clock, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<String>,
    /// When it ended; absent while it has not.
    pub(crate) finished_at: Option<String>,
    /// How long the method ran, in milliseconds, by the receiver's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run_ms: Option<u64>,
    /// The exit code of a command that ended by itself.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended a command.
    pub(crate) signal: Option<i32>,
    /// Standard output as text (bytes that are not UTF-8 are replaced); absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stdout: Option<String>,
    /// Standard error, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stderr: Option<String>,
    /// Bytes of standard output and standard error that were kept.
    pub(crate) stdout_bytes: u64,
    /// See `stdout_bytes`.
    pub(crate) stderr_bytes: u64,
    /// While it is under way: bytes of its output that are here, or of what goes along with it that are there; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved_bytes: Option<u64>,
    /// Whether output beyond the limit was dropped.
    pub(crate) truncated: bool,
    /// Whether all that travels for it is for its sender and its receiver alone to read.
    #[serde(default)]
    pub(crate) sealed: bool,
    /// Bytes that went over the link for it from here, and to here: its envelopes, its receipts, its output, each with all that
    /// is around it, and its part of what it has shared with others. Absent where nothing was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wire_out_bytes: Option<u64>,
    /// See `wire_out_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wire_in_bytes: Option<u64>,
    /// What is done with its result here, where its sender has said so; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply: Option<ReplyView>,
    /// Every transition with its time; absent in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) history: Vec<MomentView>,
}

/// What its sender does with the result of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplyView {
    /// `file`, `fileAppend`, `none`, or a method.
    pub(crate) method: String,
    /// The file, from the node's directory on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// `waiting` for the end, `due`, `done`, or `given-up`.
    pub(crate) state: String,
    /// Why it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A line of what an output that is followed brings: a piece of it, or that a run begins anew, or its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputView {
    /// `stdout` or `stderr`, of a piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    /// The run that wrote it: its start in milliseconds since 1970, by its node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<u64>,
    /// Where the piece begins, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    /// The piece, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// The piece, where it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
    /// What came so far is of an earlier run: the message runs again, and its output begins anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) again: bool,
    /// The last line: nothing more comes, and this is the message's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
}

/// A line of a message's time line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MomentView {
    /// When.
    pub(crate) at: String,
    /// The state that was reached.
    pub(crate) state: String,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A node, as `nodes` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeView {
    /// Its name.
    pub(crate) node: String,
    /// `online`, `away`, `stopped`, `silent` or `unknown`.
    pub(crate) presence: String,
    /// From what that is known, in words ("last proof 4 s ago", "away since 10:42, nobody listens").
    pub(crate) because: String,
    /// The last proof of life.
    pub(crate) last_seen_at: Option<String>,
    /// Messages to it that are not final.
    pub(crate) outstanding: u64,
    /// At central: `member`, `invited` or `revoked`, and what else there is to say of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) standing: Option<StandingView>,
    /// Bytes that went over the link to it since this node started, of all that is for it; absent where no node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wire_out_bytes: Option<u64>,
    /// Bytes that came from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wire_in_bytes: Option<u64>,
    /// What it last said of itself (version, start time, operating system, load, disk …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<serde_json::Value>,
}

/// What a node is in the fleet, as central has it in its registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StandingView {
    /// `member`, `invited` or `revoked`.
    pub(crate) state: String,
    /// `node`, `operator` or `central`.
    pub(crate) role: String,
    /// Since when.
    pub(crate) since: String,
    /// Until when an invitation can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    /// The public key of a member, or the one that was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Since when a member has its key, if it has renewed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renewed: Option<String>,
    /// How far the renewal of its keys is: `asked`, or `certified` for new ones that it has not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renewal: Option<String>,
    /// Since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renewal_since: Option<String>,
}

/// The keys of a node of a fleet, as the node itself has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysView {
    /// `current`; or how far their renewal is: `asking`, `connecting`, `refused`, `fell-back`.
    pub(crate) state: String,
    /// The public key with which the node signs.
    pub(crate) key: String,
    /// The serial of its certificate.
    pub(crate) serial: u64,
    /// When the fleet has vouched for it.
    pub(crate) since: String,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A lane, the link to the broker, or a supervised task, as `ps` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessView {
    /// `out` or `in` for a lane, `link` for the way to the broker, `subject` for one that the broker does not permit, `task` for a supervised task.
    pub(crate) kind: String,
    /// The lane (`ship1.CommandACK.ShellCommand`) or the task's name.
    pub(crate) name: String,
    /// `idle`, `sending`, `waiting`, `running`, `restarting`, `down`, `stopped` …; of the link `up`, or what is wrong.
    pub(crate) state: String,
    /// Messages that are not final.
    pub(crate) messages: u64,
    /// How often it was restarted.
    pub(crate) restarts: u64,
    /// What else there is to say: the last error, the oldest message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A method of the node here, as `methods` prints it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MethodView {
    /// Its name; of what can't be used, that of the file.
    pub(crate) method: String,
    /// Whether it lies in the node's folder `methods.d/`; the others are steward's own.
    pub(crate) own: bool,
    /// Whether it may be sent as an event.
    pub(crate) event: bool,
    /// Whether it runs again after a crash of the node in the middle.
    pub(crate) rerun: bool,
    /// How long it may run at most, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds: Option<f64>,
    /// What it does, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// Why the file can't be used as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// An error of a node, as `errors` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorView {
    /// When the node told it, by its own clock.
    pub(crate) at: String,
    /// When it came in here.
    pub(crate) received_at: String,
    /// The node that it is about.
    pub(crate) node: String,
    /// What went wrong.
    pub(crate) text: String,
    /// The message that brought it.
    pub(crate) id: String,
}

/// An order with a schedule that this node has given, as `schedules` prints it. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleView {
    /// The message that is the order.
    pub(crate) id: String,
    /// The node that runs it.
    pub(crate) node: String,
    /// The state of the message: `running` once its node has taken the order up.
    pub(crate) state: String,
    /// When it runs.
    pub(crate) schedule: String,
    /// What it runs.
    pub(crate) method: String,
    /// With this data.
    pub(crate) data: Vec<String>,
    /// When it was given.
    pub(crate) created_at: String,
    /// When its node has last told of it; absent before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told_at: Option<String>,
    /// When it is due next, as its node has told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_at: Option<String>,
    /// Runs that have begun.
    pub(crate) runs: u64,
    /// Runs that were left out.
    pub(crate) missed: u64,
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// How the last run ended of which there is a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_state: Option<String>,
    /// When it did, by its node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_at: Option<String>,
}

/// How a run of such an order ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleResultView {
    /// Its number, from 1.
    pub(crate) run: u64,
    /// When it was due, by its node's clock.
    pub(crate) due_at: String,
    /// When it began.
    pub(crate) started_at: String,
    /// When it ended.
    pub(crate) finished_at: String,
    /// When its result came in here.
    pub(crate) received_at: String,
    /// Its final state.
    pub(crate) state: String,
    /// Why, where the state does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The exit code of a command that ended by itself.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended a command.
    pub(crate) signal: Option<i32>,
    /// Whether it wrote more than is kept of a run.
    pub(crate) truncated: bool,
    /// The beginning of its standard output as text.
    pub(crate) stdout: String,
    /// The beginning of its standard error as text.
    pub(crate) stderr: String,
    /// Bytes of standard output and standard error that were kept.
    pub(crate) stdout_bytes: u64,
    /// See `stdout_bytes`.
    pub(crate) stderr_bytes: u64,
    /// How far it is with what becomes of it here: `due`, `done`, or `given-up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply: Option<String>,
    /// Why that is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_note: Option<String>,
}
