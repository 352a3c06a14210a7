//! The world: one virtual clock, one queue of what is going to happen, and everything that lives by them. One thread,
//! one seed; nothing from outside gets in.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use protocol::event::{Envelope, Facts, Item, Ticket, Verdict};
use protocol::message::{Incarnation, Message, MessageId, Options};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::Receipt;
use protocol::step::{Run, Write};
use protocol::time::Wall;

use crate::bug::Bug;
use crate::host::Host;
use crate::model::{self, Model, Wrong};
use crate::network::{Address, Broker, Packet};
use crate::plan::Plan;
use crate::process::Input;
use crate::rng::Rng;
use crate::settling::CalmLanes;
use crate::trace::{Keep, Trace};

/// Things that happen before a simulation counts as one that never ends: in any, and more for each message.
const HAPPENINGS_MAX: u64 = 3_000_000;
/// See [`HAPPENINGS_MAX`].
const HAPPENINGS_A_MESSAGE_MAX: u64 = 100;

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A machine's process starts.
    Start(usize, u32),
    /// A process looks at what it has to do.
    Turn(usize, u32),
    /// A batch is on the disk.
    Commit(usize, u32),
    /// A process tries to connect.
    Connect(usize, u32),
    /// A process notices that its connection is gone.
    LinkLost(usize, u32),
    /// The broker notices that a connection is gone.
    BrokerNotices(usize, u32),
    /// A packet comes to the broker.
    AtBroker(u32, Rc<Packet>),
    /// A packet comes to a machine.
    Arrives(usize, u32, Rc<Packet>),
    /// A run comes to its end.
    RunEnds(usize, u32, u64),
    /// Somebody sends the messages from this one to that one.
    Offer(usize, usize),
    /// Somebody takes a message back.
    TakeBack(usize),
    /// A fault strikes, or ends.
    Fault(crate::mischief::Fault),
    /// A message on a lane without trouble has to be final by now.
    Due(usize),
    /// A message that somebody took back at this time has to be final by now.
    TakenBack(usize, u64),
    /// Somebody looks whether anything waits beyond its deadline.
    Look,
    /// Faults are over.
    Calm,
    /// Everything has to be final by now.
    Settled,
}

/// Counts of what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that were accepted.
    pub messages: u64,
    /// Batches that nodes took in.
    pub batches: u64,
    /// Packets that were published.
    pub packets: u64,
    /// Methods that were run.
    pub runs: u64,
    /// Processes that were started.
    pub starts: u64,
    /// Processes that died.
    pub crashes: u64,
    /// The longest that anything took to become final after the faults had ended, in virtual milliseconds.
    pub settled_after: u64,
    /// The most messages of one lane that a sender has had in memory, and on disk behind them.
    pub window_max: u64,
    /// See `window_max`.
    pub behind_max: u64,
    /// The most messages of one lane that a receiver has had.
    pub inbox_max: u64,
}

impl Stats {
    /// Adds what happened in another simulation.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.batches += other.batches;
        self.packets += other.packets;
        self.runs += other.runs;
        self.starts += other.starts;
        self.crashes += other.crashes;
        self.settled_after = self.settled_after.max(other.settled_after);
        self.window_max = self.window_max.max(other.window_max);
        self.behind_max = self.behind_max.max(other.behind_max);
        self.inbox_max = self.inbox_max.max(other.inbox_max);
    }
}

struct Entry {
    at: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A fleet, its broker, and what goes on between them.
pub(crate) struct World {
    pub(crate) now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) names: Vec<NodeName>,
    methods: Vec<MethodName>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) broker: Broker,
    pub(crate) model: Model,
    pub(crate) bug: Option<Bug>,
    pub(crate) stats: Stats,
    pub(crate) trace: RefCell<Trace>,
    pub(crate) wrong: Option<Wrong>,
    pub(crate) calm_lanes: CalmLanes,
    /// Whether a fault has struck that strikes everybody: nobody is without trouble from then on.
    pub(crate) shaken: bool,
    /// Messages that nobody has sent yet, in groups.
    pub(crate) offers_left: usize,
    /// When the simulation ends, once everything is final.
    pub(crate) ends_at: Option<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, bug: Option<Bug>, keep: Keep) -> Self {
        let mut rng = Rng::new(seed, 2);
        let name = |index: usize| NodeName::new(&format!("n{index}"));
        let names: Vec<_> = (0..plan.names).filter_map(|index| name(index).ok()).collect();
        let methods: Vec<_> = (0..plan.methods.len()).filter_map(|i| MethodName::new(&format!("m{i}")).ok()).collect();
        let messages = messages(&plan, &names, &methods, &mut rng);
        let mut model = Model::new(&plan, messages);
        let mut hosts = Vec::new();
        for host in &plan.hosts {
            let twins = plan.hosts.iter().filter(|other| other.name == host.name).count() > 1;
            let contested = twins && plan.faults.twins > 0;
            let lineage = model.new_life(host.name, contested);
            let label = format!("n{}{}", host.name, if host.twin { "'" } else { "" });
            let mut machine = Host::new(label, host.name, rng.next() >> 1, lineage, host.inputs_max);
            machine.retired = host.twin && !contested;
            hosts.push(machine);
        }
        let mut world = Self {
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            rng,
            names,
            methods,
            hosts,
            broker: Broker::default(),
            model,
            bug,
            stats: Stats::default(),
            trace: RefCell::new(Trace::new(keep)),
            wrong: None,
            calm_lanes: CalmLanes::default(),
            shaken: false,
            offers_left: 0,
            ends_at: None,
            plan,
        };
        world.trace.borrow_mut().line(0, "sim", format_args!("seed {seed}, faults {}", world.plan.faults));
        world.schedule_all();
        world
    }

    fn schedule_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.schedule(self.plan.hosts[host].starts_at, Happening::Start(host, 0));
        }
        let mut first = 0;
        while first < self.plan.messages.len() {
            let at = self.plan.messages[first].at;
            let behind = &self.plan.messages[first + 1..];
            let host = self.plan.messages[first].host;
            let together = behind.iter().take_while(|m| m.together && m.at == at && m.host == host).count();
            let last = first + together;
            self.schedule(at, Happening::Offer(first, last));
            self.offers_left += 1;
            for number in first..=last {
                if let Some(at) = self.plan.messages[number].cancel_at {
                    self.schedule(at, Happening::TakeBack(number));
                }
            }
            first = last + 1;
        }
        self.schedule(self.plan.faults_until, Happening::Calm);
        self.schedule(0, Happening::Look);
        self.plan_faults();
    }

    /// Lets time pass until everything has happened, or something is wrong.
    pub(crate) fn run(&mut self) {
        let mut happenings = 0_u64;
        let most = HAPPENINGS_MAX + HAPPENINGS_A_MESSAGE_MAX * self.plan.messages.len() as u64;
        while let Some(Reverse(entry)) = self.queue.pop() {
            if self.ends_at.is_some_and(|end| entry.at > end) {
                break;
            }
            self.now = entry.at;
            happenings += 1;
            if happenings > most {
                self.fail("livelock", format!("{most} things happened and it goes on"));
            }
            self.happens(entry.what);
            if self.wrong.is_some() {
                return;
            }
            self.check_quiet();
        }
        self.check_the_end();
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Start(host, generation) => self.start(host, generation),
            Happening::Turn(host, generation) => self.turn(host, generation),
            Happening::Commit(host, generation) => self.commit(host, generation),
            Happening::Connect(host, generation) => self.connect(host, generation),
            Happening::LinkLost(host, session) => self.notice_link_down(host, session),
            Happening::BrokerNotices(host, session) => self.broker_notices(host, session),
            Happening::AtBroker(session, packet) => self.at_broker(session, &packet),
            Happening::Arrives(host, session, packet) => self.arrives(host, session, &packet),
            Happening::RunEnds(host, generation, number) => self.run_ends(host, generation, number),
            Happening::Offer(first, last) => self.offer(first, last),
            Happening::TakeBack(number) => self.take_back(number),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Due(number) => self.check_due(number),
            Happening::TakenBack(number, at) => self.check_taken_back(number, at),
            Happening::Look => self.look_for_late(),
            Happening::Calm => self.calm(),
            Happening::Settled => self.check_settled(),
        }
    }

    /// Something is going to happen at this time.
    pub(crate) fn schedule(&mut self, at: u64, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), order: self.order, what }));
    }

    /// Whether faults may strike this machine now.
    pub(crate) fn strikes(&self, host: usize) -> bool {
        self.now < self.plan.faults_until && self.plan.hosts[host].troubled
    }

    /// A promise is broken; the simulation ends.
    pub(crate) fn fail(&mut self, rule: &'static str, text: String) {
        self.judge(Err(Wrong { rule, text }));
    }

    /// What the reference says of something that happened; if it is wrong, the simulation ends.
    pub(crate) fn judge(&mut self, verdict: model::Verdict) {
        if let Err(wrong) = verdict
            && self.wrong.is_none()
        {
            self.trace.borrow_mut().line(self.now, "sim", format_args!("WRONG   {}: {}", wrong.rule, wrong.text));
            self.wrong = Some(wrong);
        }
    }

    /// A line of the trace.
    pub(crate) fn trace(&self, host: usize, what: fmt::Arguments<'_>) {
        self.trace.borrow_mut().line(self.now, &self.hosts[host].label, what);
    }

    /// The index of a node's name.
    pub(crate) fn index(&self, name: &NodeName) -> usize {
        name.as_str()[1..].parse().unwrap_or(self.names.len() - 1)
    }

    /// Where packets for a node go.
    pub(crate) fn address(&self, name: &NodeName) -> Address {
        Address::Name(self.index(name))
    }

    /// The outgoing lane of an envelope.
    pub(crate) fn lane(&self, to: Address, envelope: &Envelope) -> Lane {
        let name = match to {
            Address::Name(name) | Address::Watchers(name) => name,
            Address::Self_ => self.names.len() - 1,
        };
        Lane { peer: self.names[name].clone(), kind: envelope.kind, method: envelope.method.clone() }
    }

    /// What delivery has to know of a method.
    pub(crate) fn facts(&self, method: &MethodName) -> Facts {
        let index = self.methods.iter().position(|known| known == method).unwrap_or(0);
        self.plan.methods[index].facts
    }

    /// What admission says of messages.
    pub(crate) fn verdicts(&self, envelope: &Envelope) -> Vec<Verdict> {
        let method = self.methods.iter().position(|known| *known == envelope.method).unwrap_or(0);
        let method = &self.plan.methods[method];
        let verdict = if method.refused_from.contains(&self.index(&envelope.from)) {
            Verdict::Refuse(Arc::from("not allowed from there"))
        } else {
            Verdict::Accept(method.facts)
        };
        vec![verdict; envelope.items.len()]
    }

    // What the reference hears of.

    pub(crate) fn note_durable(&mut self, host: usize, writes: &[Write]) {
        for write in writes {
            self.trace(host, format_args!("writes  {}", self.show_write(write)));
            let machine = &self.hosts[host];
            let verdict = self.model.durable(self.now, machine.lineage, &machine.disk, write);
            self.judge(verdict);
            match write {
                Write::Submit { message, .. } => {
                    self.stats.messages += 1;
                    self.watch(self.model.number(message.id));
                }
                Write::End { id, .. } => self.note_final(self.model.number(*id)),
                _ => {}
            }
        }
    }

    pub(crate) fn note_told(&mut self, host: usize, id: MessageId) {
        let verdict = self.model.told(id, &self.hosts[host].disk.tables);
        self.judge(verdict);
    }

    pub(crate) fn note_published(&mut self, host: usize, to: Option<Incarnation>, item: &Item) {
        let decided = self.hosts[host].process.as_ref().map_or(self.now, |process| process.batch_at);
        let verdict = self.model.published(decided, self.hosts[host].lineage, to, item);
        self.judge(verdict);
    }

    pub(crate) fn note_receipt(&mut self, host: usize, ticket: Ticket, receipt: &Receipt) {
        let verdict = self.model.receipt(self.hosts[host].lineage, ticket, receipt);
        self.judge(verdict);
    }

    pub(crate) fn note_started(&mut self, host: usize, run: &Run, batch: &[usize], number: u64) {
        self.trace(host, format_args!("runs    #{} t{} run {number}", self.model.number(run.message.id), run.ticket.0));
        let verdict = self.model.started(host, self.hosts[host].lineage, run, batch, number);
        self.judge(verdict);
    }

    pub(crate) fn note_unrecorded(&mut self, host: usize, run: &Run) {
        self.trace(host, format_args!("runs    #{} unrecorded", self.model.number(run.message.id)));
        let verdict = self.model.started_unrecorded(host, self.hosts[host].generation, run);
        self.judge(verdict);
    }

    pub(crate) fn note_report(&mut self, host: usize, report: &protocol::step::Report) {
        self.trace(host, format_args!("reports {}", self.show_report(report)));
        let verdict = self.model.reported(report);
        self.judge(verdict);
    }

    // What people do.

    /// Somebody sends messages: all of them or none. Where the node is away or takes nothing, they try again.
    fn offer(&mut self, first: usize, last: usize) {
        let host = self.plan.messages[first].host;
        let machine = &self.hosts[host];
        if machine.retired {
            self.offers_left -= 1;
            return;
        }
        if machine.process.is_none() || machine.disk_full_until > self.now || machine.frozen_until > self.now {
            let at = self.now + 300;
            return self.schedule(at, Happening::Offer(first, last));
        }
        self.trace(host, format_args!("is to send #{first} to #{last}"));
        self.offers_left -= 1;
        self.bring_input(host, Input::Submit((first..=last).collect()));
    }

    /// Somebody takes a message back.
    fn take_back(&mut self, number: usize) {
        let host = self.plan.messages[number].host;
        let machine = &self.hosts[host];
        let over = self.model.is_final(number) || self.model.stories[number].forfeited;
        if machine.retired || over {
            return;
        }
        if self.model.stories[number].taken_back.is_some() {
            return;
        }
        // Whoever takes a message back and gets no answer does it again.
        self.schedule(self.now + 1_000, Happening::TakeBack(number));
        let machine = &self.hosts[host];
        let there = machine.disk.tables.outbox.contains_key(&self.model.stories[number].message.id);
        if machine.process.is_none() || machine.disk_full_until > self.now || !there {
            return;
        }
        self.trace(host, format_args!("is to take back #{number}"));
        self.bring_input(host, Input::Cancel(number));
    }
}

/// The messages of a plan; their times are filled in when they are sent.
fn messages(plan: &Plan, names: &[NodeName], methods: &[MethodName], rng: &mut Rng) -> Vec<Message> {
    let message = |(number, message): (usize, &crate::plan::MessagePlan)| Message {
        // Unique by its lowest bits; otherwise in no order that anybody could rely on.
        id: MessageId(u128::from(rng.next()) << 64 | number as u128),
        from: names[plan.hosts[message.host].name].clone(),
        to: names[message.to].clone(),
        kind: message.kind,
        method: methods[message.method].clone(),
        body: "x".repeat(message.body).into(),
        options: Options {
            timeout: message.timeout,
            retries: message.retries,
            method_timeout: message.method_timeout,
            deadline: None,
            parallel: message.parallel,
            rerun: message.rerun,
            seal: false,
            reply: None,
        },
        created: Wall(0),
    };
    plan.messages.iter().enumerate().map(message).collect()
}
