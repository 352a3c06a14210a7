//! What a seed decides before anything happens: the fleet, its methods, the messages and the limits of the shells.
//! The plan is the same whatever faults strike, so that a seed can be looked at with fewer of them.

use std::time::Duration;

use protocol::event::Facts;
use protocol::message::Kind;

use crate::faults::Faults;
use crate::rng::Rng;
use crate::script::Script;

/// Nodes of one fleet, beside one that never shows up.
const NODES_MAX: u64 = 8;

/// Everything that is decided beforehand.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The machines; several have the same node name where there are twins.
    pub(crate) hosts: Vec<HostPlan>,
    /// Node names, with one more at the end that never shows up.
    pub(crate) names: usize,
    /// The methods that every node has.
    pub(crate) methods: Vec<MethodPlan>,
    /// The messages, in the order of `at`.
    pub(crate) messages: Vec<MessagePlan>,
    /// What may go wrong.
    pub(crate) faults: Faults,
    /// Until when, in milliseconds.
    pub(crate) faults_until: u64,
    /// Inputs that a process takes in before it commits.
    pub(crate) inputs_per_batch: usize,
    /// Messages or receipts that a shell packs into one packet.
    pub(crate) items_per_packet: usize,
    /// Bytes in one piece of an output.
    pub(crate) chunk_bytes: u64,
    /// Whether a message that waits on disk is given back to its method without its body.
    pub(crate) bodies_on_disk: bool,
}

/// One machine.
#[derive(Debug, Clone)]
pub(crate) struct HostPlan {
    /// The index of its node's name.
    pub(crate) name: usize,
    /// Whether it is the second with this name.
    pub(crate) twin: bool,
    /// When its process starts, in milliseconds.
    pub(crate) starts_at: u64,
    /// Whether faults may strike it. Lanes between two nodes without trouble have to be as quick as if there were none.
    pub(crate) troubled: bool,
    /// Packets that wait for its process before others are lost.
    pub(crate) inputs_max: usize,
}

/// One method, the same on each node.
#[derive(Debug, Clone)]
pub(crate) struct MethodPlan {
    /// What delivery has to know of it.
    pub(crate) facts: Facts,
    /// The nodes from which no node takes it.
    pub(crate) refused_from: Vec<usize>,
}

/// One message that somebody wants to send.
#[derive(Debug, Clone)]
pub(crate) struct MessagePlan {
    /// When, in milliseconds.
    pub(crate) at: u64,
    /// The machine that sends it.
    pub(crate) host: usize,
    /// The name of the node that is to have it.
    pub(crate) to: usize,
    pub(crate) kind: Kind,
    pub(crate) method: usize,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) method_timeout: Option<Duration>,
    /// How long after its acceptance it may start, in milliseconds.
    pub(crate) deadline: Option<u64>,
    pub(crate) parallel: bool,
    pub(crate) rerun: bool,
    /// Bytes of its data.
    pub(crate) body: usize,
    /// How many others are submitted with it, all or none.
    pub(crate) together: bool,
    /// When somebody takes it back, in milliseconds.
    pub(crate) cancel_at: Option<u64>,
    /// What its method does.
    pub(crate) script: Script,
}

/// What a seed is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    /// A little of everything.
    Mixed,
    /// Some nodes have trouble, the others must not notice.
    Isolated,
    /// More messages than a window holds.
    Backlog,
}

/// One lane to send on, with what its messages have in common.
struct LanePlan {
    host: usize,
    to: usize,
    kind: Kind,
    method: usize,
    parallel: u32,
    rerun: u32,
    limited: u32,
    deadline: u32,
    cancel: u32,
    slow: u64,
}

impl Plan {
    /// The plan of a seed. `narrow` takes some of its faults away; everything else stays as it is.
    pub(crate) fn new(seed: u64, narrow: impl FnOnce(&mut Faults)) -> Self {
        let mut rng = Rng::new(seed, 1);
        let theme = match rng.below(100) {
            0..=1 => Theme::Backlog,
            2..=16 => Theme::Isolated,
            _ => Theme::Mixed,
        };
        let mut faults = Faults::chosen(&mut rng);
        let twins = rng.roll(faults.twins) && theme != Theme::Isolated;
        if theme == Theme::Isolated {
            faults.broker_restart = 0;
        }
        narrow(&mut faults);
        let faults_until = rng.between(5_000, 60_000);
        let names = 1 + rng.skewed(2, NODES_MAX) as usize;
        let mut hosts = hosts(&mut rng, names - 1, theme, &faults, faults_until);
        if twins {
            let twin =
                HostPlan { twin: true, starts_at: rng.below(faults_until), ..hosts[rng.index(names - 1)].clone() };
            hosts.push(twin);
        }
        let methods = (0..rng.between(1, 4)).map(|_| method(&mut rng, names - 1)).collect::<Vec<_>>();
        let messages = messages(&mut rng, theme, &hosts, names, methods.len(), &faults, faults_until);
        Self {
            names,
            methods,
            messages,
            faults,
            faults_until,
            inputs_per_batch: rng.pick(&[1, 2, 8, 64, 256]),
            items_per_packet: rng.pick(&[1, 3, 16, 128]),
            chunk_bytes: rng.pick(&[16 * 1024, 128 * 1024]),
            bodies_on_disk: rng.coin(),
            hosts,
        }
    }

    /// The time of the last message and the sum of what the slowest lane has to do, in milliseconds.
    pub(crate) fn longest_lane(&self) -> u64 {
        let mut lanes = std::collections::BTreeMap::new();
        for message in &self.messages {
            let key = (message.host, message.to, message.kind, message.method);
            *lanes.entry(key).or_insert(0) += message.script.longest(message.method_timeout);
        }
        lanes.into_values().max().unwrap_or(0)
    }
}

fn hosts(rng: &mut Rng, names: usize, theme: Theme, faults: &Faults, faults_until: u64) -> Vec<HostPlan> {
    let troubled = rng.index(names);
    (0..names)
        .map(|name| HostPlan {
            name,
            twin: false,
            starts_at: match rng.below(8) {
                0 => rng.below(faults_until),
                1..=3 => 0,
                _ => rng.below(1_000),
            },
            troubled: theme != Theme::Isolated || name == troubled,
            inputs_max: match (rng.roll(faults.slow_receiver), rng.between(4, 40) as usize) {
                (true, few) => few,
                (false, _) => 8192,
            },
        })
        .map(|host| HostPlan { starts_at: if host.troubled { host.starts_at } else { 0 }, ..host })
        .collect()
}

fn method(rng: &mut Rng, names: usize) -> MethodPlan {
    let mut refused_from = Vec::new();
    if rng.below(8) == 0 {
        refused_from.push(rng.index(names));
    }
    let batch = if rng.below(4) == 0 { rng.between(2, 16) as usize } else { 1 };
    MethodPlan { facts: Facts { rerun: rng.below(4) == 0, batch }, refused_from }
}

fn messages(
    rng: &mut Rng,
    theme: Theme,
    hosts: &[HostPlan],
    names: usize,
    methods: usize,
    faults: &Faults,
    faults_until: u64,
) -> Vec<MessagePlan> {
    let mut messages = Vec::new();
    let lanes = rng.between(1, 7);
    for lane_number in 0..lanes {
        let lane = lane(rng, hosts, names, methods);
        let backlog = theme == Theme::Backlog && lane_number == 0;
        let mut left = if backlog { rng.between(1_100, 2_500) } else { rng.skewed(1, 24) };
        while left > 0 {
            // Half of the bursts come at the very beginning or while faults strike, a few when they are over.
            let at = match rng.below(8) {
                0 => 0,
                1 => faults_until + rng.below(5_000),
                _ => rng.below(faults_until),
            };
            let burst = if backlog { rng.between(1, left) } else { rng.between(1, left.min(12)) };
            let together = rng.coin();
            for number in 0..burst {
                let at = at + if together { 0 } else { number * rng.below(20) };
                let mut message = message(rng, &lane, at, together && number > 0, faults, names);
                if backlog {
                    message.script.shorten();
                }
                messages.push(message);
            }
            left -= burst;
        }
    }
    messages.sort_by_key(|message| message.at);
    messages
}

fn lane(rng: &mut Rng, hosts: &[HostPlan], names: usize, methods: usize) -> LanePlan {
    let host = rng.index(hosts.len());
    let to = match rng.below(24) {
        0 => names - 1,
        1 => hosts[host].name,
        _ => (hosts[host].name + 1 + rng.index(names - 2)) % (names - 1),
    };
    LanePlan {
        host,
        to,
        kind: rng.pick(&[
            Kind::CommandAck,
            Kind::CommandAck,
            Kind::CommandAck,
            Kind::EventAck,
            Kind::EventAck,
            Kind::EventNack,
            Kind::CommandNack,
        ]),
        method: rng.index(methods),
        parallel: rng.pick(&[0, 0, 3_000, 10_000]),
        rerun: rng.pick(&[0, 0, 3_000, 10_000]),
        limited: rng.pick(&[0, 0, 2_000, 10_000]),
        deadline: rng.pick(&[0, 0, 2_000, 6_000]),
        cancel: rng.pick(&[0, 500, 500, 4_000]),
        slow: rng.pick(&[5, 50, 500, 5_000]),
    }
}

fn message(rng: &mut Rng, lane: &LanePlan, at: u64, together: bool, faults: &Faults, names: usize) -> MessagePlan {
    let timeout = Duration::from_millis(rng.pick(&[200, 1_000, 3_000, 10_000]));
    let mut retries = if rng.chance(lane.limited) { rng.between(1, 5) as u32 } else { 0 };
    let method_timeout = rng.chance(4_000).then(|| Duration::from_millis(rng.pick(&[100, 1_000, 10_000])));
    let script = Script::new(rng, lane.kind, lane.slow, faults);
    let mut cancel_at = rng.chance(lane.cancel).then(|| at + rng.skewed(0, 20_000));
    if lane.to == names - 1 && cancel_at.is_none() {
        // Nobody will ever take it, so it has to end some other way.
        retries = rng.between(1, 3) as u32;
    }
    let patience = rng.between(1_000, 30_000);
    if script.hangs() && method_timeout.is_none() {
        cancel_at = Some(cancel_at.unwrap_or(at + patience));
    }
    MessagePlan {
        at,
        host: lane.host,
        to: lane.to,
        kind: lane.kind,
        method: lane.method,
        timeout,
        retries,
        method_timeout,
        deadline: rng.chance(lane.deadline).then(|| rng.skewed(0, 40_000)),
        parallel: rng.chance(lane.parallel),
        rerun: rng.chance(lane.rerun),
        body: rng.skewed(2, 400) as usize,
        together,
        cancel_at,
        script,
    }
}
