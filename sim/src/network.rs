//! The broker and the links to it. A packet goes from its sender to the broker and from there to every process that
//! listens under the receiver's name; it may be lost, doubled, delayed or overtaken on the way. Nobody here looks inside.

use std::rc::Rc;

use protocol::Event;
use protocol::event::{Control, Envelope, Hello, Receipts, Ticket};
use protocol::message::{Incarnation, Seq};
use protocol::name::{Lane, NodeName};
use protocol::outcome::Stream;

use crate::script::Content;
use crate::world::{Happening, World};

/// Something that is published.
#[derive(Debug)]
pub(crate) struct Packet {
    /// The machine that publishes it, and its connection then.
    pub(crate) host: usize,
    pub(crate) session: u32,
    /// Who is to have it.
    pub(crate) to: Address,
    /// What it is.
    pub(crate) load: Load,
}

/// Who is to have a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// Whoever listens under the name with this index.
    Name(usize),
    /// Whoever watches the node with the name with this index.
    Watchers(usize),
    /// The connection that it comes from.
    Self_,
}

/// What a packet is.
#[derive(Debug)]
pub(crate) enum Load {
    Envelope(Envelope),
    Receipts(Receipts),
    Control {
        from: NodeName,
        to: Option<Incarnation>,
        control: Control,
    },
    Hello(Hello),
    Chunk(Chunk),
    /// What a shell sends to itself behind NACK messages: its return says that the broker has them.
    Echo {
        lane: Lane,
        seqs: Vec<Seq>,
    },
    /// The broker's word that nobody listens.
    NoResponders(NodeName),
}

/// A piece of an output.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Who sends it.
    pub(crate) from: usize,
    pub(crate) ticket: Ticket,
    pub(crate) stream: Stream,
    pub(crate) offset: u64,
    /// Bytes of the whole output.
    pub(crate) total: u64,
    pub(crate) len: u64,
    /// Whether it is the last of what was asked for.
    pub(crate) last: bool,
    pub(crate) content: Content,
}

/// A machine's connection to the broker, as both ends see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Whether the process believes to be connected.
    pub(crate) up: bool,
    /// Whether the broker believes that somebody listens.
    pub(crate) seen: bool,
    /// Whether nothing gets from the process to the broker.
    pub(crate) cut_up: bool,
    /// Whether nothing gets from the broker to the process.
    pub(crate) cut_down: bool,
    /// Counts connections; what belongs to an earlier one is lost.
    pub(crate) session: u32,
    /// When the last packet gets to the broker, and when the last one from there: the others queue behind it.
    last_up: u64,
    last_down: u64,
}

/// The broker.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    /// Counts its runs; what is in flight when it ends is lost.
    pub(crate) session: u32,
    /// It is away until then.
    pub(crate) down_until: u64,
}

impl World {
    /// A process publishes a packet. Nothing tells it whether it gets anywhere.
    pub(crate) fn publish(&mut self, host: usize, to: Address, load: Load) {
        let link = &self.hosts[host].link;
        if !link.up {
            return;
        }
        let packet = Rc::new(Packet { host, session: link.session, to, load });
        self.stats.packets += 1;
        let at = self.hop(host, true);
        self.schedule(at, Happening::AtBroker(self.broker.session, packet));
    }

    /// When a packet that leaves now is at the other end of a machine's link.
    fn hop(&mut self, host: usize, up: bool) -> u64 {
        let faults = &self.plan.faults;
        let mut delay = self.rng.below(3);
        let mut overtakes = false;
        if self.strikes(host) {
            if self.rng.chance(faults.slow_link) {
                delay += self.rng.skewed(1, 300);
            }
            if self.rng.chance(faults.reordering) {
                overtakes = true;
                delay += self.rng.skewed(1, 2_000);
            }
            if self.rng.chance(faults.delay) {
                overtakes = true;
                delay += self.rng.skewed(1_000, 90_000);
            }
        }
        let link = &mut self.hosts[host].link;
        let last = if up { &mut link.last_up } else { &mut link.last_down };
        let at = self.now + delay;
        if overtakes {
            return at;
        }
        *last = at.max(*last);
        *last
    }

    /// A packet has come to the broker.
    pub(crate) fn at_broker(&mut self, broker_session: u32, packet: &Rc<Packet>) {
        let link = &self.hosts[packet.host].link;
        if broker_session != self.broker.session || link.cut_up || link.session != packet.session {
            return;
        }
        match packet.to {
            Address::Self_ => self.forward(packet.host, packet),
            Address::Watchers(name) => {
                for host in 0..self.hosts.len() {
                    let watches = self.hosts[host].process.as_ref().is_some_and(|p| p.watches.contains(&name));
                    if watches && self.hosts[host].link.seen {
                        self.forward(host, packet);
                    }
                }
            }
            Address::Name(name) => {
                let mut heard = false;
                for host in 0..self.hosts.len() {
                    if self.hosts[host].name == name {
                        heard |= self.hosts[host].link.seen || self.hosts[host].ghost_until > self.now;
                        self.forward(host, packet);
                    }
                }
                if !heard && !matches!(packet.load, Load::Chunk(_)) && self.wants_answer(&packet.load) {
                    let load = Load::NoResponders(self.names[name].clone());
                    let answer = Packet { host: packet.host, session: packet.session, to: Address::Self_, load };
                    self.forward(packet.host, &Rc::new(answer));
                }
            }
        }
    }

    /// NACK messages ask nobody for anything.
    fn wants_answer(&self, load: &Load) -> bool {
        !matches!(load, Load::Envelope(envelope) if !envelope.kind.wants_ack())
    }

    /// The broker passes a packet on.
    fn forward(&mut self, host: usize, packet: &Rc<Packet>) {
        if !self.hosts[host].link.seen {
            return;
        }
        let session = self.hosts[host].link.session;
        let troubled = self.strikes(host) || self.strikes(packet.host);
        let own = packet.to == Address::Self_;
        if troubled && !own && self.rng.chance(self.plan.faults.loss) {
            self.trace(host, format_args!("lost    {}", self.show(&packet.load)));
            return;
        }
        let copies = if troubled && !own && self.rng.chance(self.plan.faults.duplication) { 2 } else { 1 };
        for copy in 0..copies {
            let late = if copy == 0 { 0 } else { self.rng.skewed(0, 20_000) };
            let at = self.hop(host, false) + late;
            self.schedule(at, Happening::Arrives(host, session, packet.clone()));
        }
    }

    /// A packet has come to a machine.
    pub(crate) fn arrives(&mut self, host: usize, session: u32, packet: &Packet) {
        let link = &self.hosts[host].link;
        // A delayed packet can outlive the connection only where several brokers lie between.
        let outlived = link.session != session && packet.to == Address::Self_;
        if !link.up || link.cut_down || outlived || self.hosts[host].process.is_none() {
            return;
        }
        if self.strikes(host) && self.plan.faults.slow_receiver > 0 && self.hosts[host].is_choked() {
            self.trace(host, format_args!("choked  {}", self.show(&packet.load)));
            return;
        }
        self.trace(host, format_args!("hears   {}", self.show(&packet.load)));
        let event = match &packet.load {
            Load::Envelope(envelope) => Event::Envelope(envelope.clone(), self.verdicts(envelope)),
            Load::Receipts(receipts) => Event::Receipts(receipts.clone()),
            Load::Control { from, to, control } => {
                if let Control::Ask { ticket, stream, offset, len } = control {
                    self.serve(host, from, *to, (*ticket, *stream), *offset, *len);
                }
                Event::Control { from: from.clone(), to: *to, control: control.clone(), sealed: false }
            }
            Load::Hello(hello) => Event::Hello(hello.clone()),
            Load::Echo { lane, seqs } => Event::HandedOver { lane: lane.clone(), seqs: seqs.clone() },
            Load::NoResponders(name) => Event::NoResponders(name.clone()),
            Load::Chunk(chunk) => {
                self.take_chunk(host, chunk);
                return;
            }
        };
        self.bring(host, event);
    }

    /// A process tries to connect.
    pub(crate) fn connect(&mut self, host: usize, generation: u32) {
        let machine = &mut self.hosts[host];
        if machine.generation != generation || machine.process.is_none() || machine.link.up {
            return;
        }
        if self.broker.down_until > self.now || machine.link.cut_up || machine.link.cut_down {
            let at = self.now + self.rng.between(200, 1_500);
            self.schedule(at, Happening::Connect(host, generation));
            return;
        }
        machine.link.session += 1;
        machine.link.up = true;
        machine.link.seen = true;
        (machine.link.last_up, machine.link.last_down) = (self.now, self.now);
        self.trace(host, format_args!("connected"));
        self.bring(host, Event::LinkUp);
    }

    /// A process notices that its connection is gone, and tries to get another.
    pub(crate) fn notice_link_down(&mut self, host: usize, session: u32) {
        let machine = &mut self.hosts[host];
        if machine.link.session != session || !machine.link.up {
            return;
        }
        machine.link.up = false;
        machine.link.seen = false;
        let generation = machine.generation;
        self.trace(host, format_args!("disconnected"));
        self.bring(host, Event::LinkDown);
        let at = self.now + self.rng.between(10, 1_000);
        self.schedule(at, Happening::Connect(host, generation));
    }
}
