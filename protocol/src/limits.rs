//! Every limit of the protocol, with its unit, and what happens when it is reached.

use std::time::Duration;

/// Messages of one lane that a sender holds in memory; what is behind them waits on disk.
pub const WINDOW_MESSAGES_MAX: usize = 1024;

/// Bytes of message bodies of one lane that a sender holds in memory; at least one message always fits.
pub const WINDOW_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Messages, and bytes of their bodies, of one lane that a sender keeps in memory as they are accepted while the receiver
/// is not there. So ten thousand absent nodes cost no more than their first few messages each.
pub const ABSENT_MESSAGES_MAX: usize = 2;
/// See [`ABSENT_MESSAGES_MAX`].
pub const ABSENT_BYTES_MAX: usize = 16 * 1024;

/// Messages of one lane that may be on their way without a receipt when a lane starts; grows by one with each receipt
/// up to [`WINDOW_MESSAGES_MAX`], halves when an attempt times out.
pub const UNACKED_MESSAGES_START: usize = 64;

/// Messages of a lane that went out together, from which on it counts as a stream: its next messages wait a little so
/// that they go out together, too.
pub const STREAM_MESSAGES_MIN: usize = 4;

/// How long the messages of a stream wait for more to go with them, from the last publish on.
pub const STREAM_PAUSE: Duration = Duration::from_millis(20);

/// So many messages of a stream wait for no more.
pub const STREAM_MESSAGES_MAX: usize = 32;

/// Messages of one lane that a receiver takes before the first of them is final; more are dropped without a receipt, so
/// that their sender tries again. A sender that keeps to [`WINDOW_MESSAGES_MAX`] never meets it.
pub const INBOX_LANE_MESSAGES_MAX: usize = 2 * WINDOW_MESSAGES_MAX;

/// Messages of one sender that a receiver keeps before they are confirmed, and the bytes of their bodies; more are dropped
/// without a receipt, so that their sender tries again. Thirty full lanes.
pub const INBOX_MESSAGES_PER_SENDER_MAX: usize = 65_536;
/// See [`INBOX_MESSAGES_PER_SENDER_MAX`].
pub const INBOX_BYTES_PER_SENDER_MAX: usize = 256 * 1024 * 1024;

/// The same for all senders together: about 150 MB of memory, and 2 GiB of disk.
pub const INBOX_MESSAGES_MAX: usize = 250_000;
/// See [`INBOX_MESSAGES_MAX`].
pub const INBOX_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Lanes that a receiver keeps for all senders together; messages on further lanes are dropped without a receipt.
pub const INBOX_LANES_MAX: usize = 400_000;

/// Lanes that a receiver keeps for one sender and store epoch; messages on further lanes are dropped without a receipt.
pub const INBOX_LANES_PER_SENDER_MAX: usize = 256;

/// Store epochs of one sender that a receiver remembers; the oldest goes first.
pub const EPOCHS_PER_SENDER_MAX: usize = 4;

/// Store epochs of one sender that are known to be forgotten, while the process lives; with more of them a new store of that
/// sender is not heard until this node starts again. Sixteen bytes and a name each.
pub const FORGOTTEN_EPOCHS_PER_SENDER_MAX: usize = 64;
/// The same for all senders together.
pub const FORGOTTEN_EPOCHS_MAX: usize = 100_000;

/// Starts of processes that a store remembers; the oldest is forgotten first. A sender that was away for more of them takes
/// the store for an older copy: what it had sent and has no end ends as `interrupted`.
pub const STARTS_MAX: usize = 4096;

/// Gaps in what a receiver has seen of one lane; a message that would make more is dropped without a receipt.
pub const SEEN_RANGES_MAX: usize = 4 * WINDOW_MESSAGES_MAX;

/// Messages of one lane that run at the same time (`parallel`).
pub const RUNNING_PER_LANE_MAX: usize = 64;

/// Messages of the node beyond each lane's first that run at the same time. A lane's first is never held back.
pub const RUNNING_PER_NODE_MAX: usize = 256;

/// Final receipts that are on their way to one sender before it has confirmed any.
pub const RECEIPTS_UNCONFIRMED_MAX: usize = 1024;

/// Outputs that are fetched at the same time; others wait.
pub const FETCHES_MAX: usize = 16;

/// The first piece of an output that is asked for, in bytes; doubles while answers are quick.
pub const FETCH_BYTES_START: u64 = 64 * 1024;

/// The largest piece of an output that is asked for at once, in bytes.
pub const FETCH_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Messages of a lane that wait for one that their sender does not know any more, and that it is asked about together.
pub const STUCK_TOLD_MAX: usize = 64;

/// How long a piece of an output may take before it is asked for again, half as large.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a probe of a node waits for its answer before it counts as unanswered.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node that has something of ours may be silent before it is asked whether it is still the same (plus or
/// minus a fifth).
pub const LOOK_AFTER: Duration = Duration::from_secs(30);

/// Looks ([`LOOK_AFTER`] each) after which a message that runs is asked for at the latest: it is after two of them, and then
/// each time after twice as many, up to this (32 minutes).
pub const RUNNING_LOOKS_MAX: u32 = 64;

/// The first and the longest pause between attempts without limit, before jitter (plus or minus a fifth).
pub const BACKOFF_START: Duration = Duration::from_secs(1);
/// See [`BACKOFF_START`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Probes a second that all nodes together cost that stay away: where [`BACKOFF_MAX`] would make more of them, the longest
/// pause is longer (ten thousand nodes: 200 s). It only matters where an announcement was lost, and the hello after it.
pub const PROBES_A_SECOND_MAX: u64 = 50;

/// How long a final receipt waits for its confirmation before it is repeated; doubles up to [`BACKOFF_MAX`].
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the process that is known may take to answer before another one with the same name and another store is
/// believed to be its successor.
pub const SUCCESSION_GRACE: Duration = Duration::from_secs(3);

/// How long, once the process that we speak with has shown that it lives, another one that uses its name is not asked about
/// again.
pub const CONTEST_PAUSE: Duration = Duration::from_secs(1);

/// How long after a change the state of a message that has not ended is written, for the time line only.
pub const PROGRESS_DELAY: Duration = Duration::from_millis(500);

/// Entries of a message's history; the oldest but the first go when there are more.
pub const HISTORY_MAX: usize = 24;

/// How often a deadline is compared with the wall clock at least, so that a clock that jumps is noticed.
pub const WALL_RECHECK: Duration = Duration::from_secs(30);

/// Other nodes that a node remembers; what comes from further ones is dropped and reported.
pub const PEERS_MAX: usize = 200_000;

/// Nodes beyond those that are known only because something is sent to them from here: a crowd of names that somebody has made
/// up leaves these places free.
pub const PEERS_ADDRESSED_MAX: usize = 10_000;

/// Bytes of what other nodes say of themselves that a node remembers, all together; what is beyond is not kept, and the
/// nodes are known without it.
pub const PEERS_INFO_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of bodies of messages that wait in the inbox and are held in memory for a quick start; others are read again
/// from the store when their turn comes.
pub const INBOX_BODIES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often an output whose hash does not match is fetched again before it is given up as lost.
pub const FETCH_TRIES_MAX: u32 = 3;

/// Lanes of NACK messages whose last number a receiver remembers (in memory); beyond, the memory starts anew.
pub const NACK_LANES_MAX: usize = 4096;

/// The pause between two sweeps while more deadlines have passed than one sweep brings; in the inbox, too.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// Messages that one sweep for passed deadlines brings at most; and those that end at once in the inbox.
pub const SWEEP_MESSAGES_MAX: usize = 1024;
