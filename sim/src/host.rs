//! A machine: a disk, a link, a clock that may be wrong, and at most one process. Processes start, stop and die here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use protocol::event::{Hello, Occasion};
use protocol::message::{Epoch, Incarnation};
use protocol::snapshot::Identity;
use protocol::time::{Mono, Now, Wall};
use protocol::{Event, Node};

use crate::disk::Disk;
use crate::mischief::Fault;
use crate::model::Lineage;
use crate::network::{Address, Link, Load};
use crate::process::{Input, Phase, Process};
use crate::world::{Happening, World};

/// The wall clock of a node that is right, at the start: some day in 2026.
const WALL_START: u64 = 1_790_000_000_000;

/// A machine.
#[derive(Debug)]
pub(crate) struct Host {
    /// How the trace calls it.
    pub(crate) label: String,
    /// The index of its node's name.
    pub(crate) name: usize,
    /// Counts starts and deaths of its process; what was meant for an earlier one is of no use.
    pub(crate) generation: u32,
    pub(crate) process: Option<Process>,
    pub(crate) disk: Disk,
    /// Copies of the disk that were put aside.
    pub(crate) copies: Vec<Disk>,
    /// The disk as it was before its process began, where a fault may want it back.
    pub(crate) before_start: Option<Disk>,
    /// Which life of which store it has.
    pub(crate) lineage: Lineage,
    pub(crate) link: Link,
    /// The broker takes its dead connection for alive until then.
    pub(crate) ghost_until: u64,
    /// How wrong its wall clock is, in milliseconds.
    pub(crate) wall_offset: i64,
    /// The latest time at which a process started here, by its wall clock.
    pub(crate) latest_start: Wall,
    pub(crate) frozen_until: u64,
    pub(crate) disk_full_until: u64,
    /// Whether its store was never replaced by an older copy.
    pub(crate) first_life: bool,
    /// It is over with this machine; it does not come back.
    pub(crate) retired: bool,
    /// Packets that may wait for its process.
    pub(crate) inputs_max: usize,
}

impl Host {
    pub(crate) fn new(label: String, name: usize, epoch: u64, lineage: Lineage, inputs_max: usize) -> Self {
        Self {
            label,
            name,
            generation: 0,
            process: None,
            disk: Disk::new(Epoch(epoch)),
            copies: Vec::new(),
            before_start: None,
            lineage,
            link: Link::default(),
            ghost_until: 0,
            wall_offset: 0,
            latest_start: Wall(0),
            frozen_until: 0,
            disk_full_until: 0,
            first_life: true,
            retired: false,
            inputs_max,
        }
    }

    /// Whether its process has so much to do that packets are lost.
    pub(crate) fn is_choked(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.inputs.len() >= self.inputs_max)
    }

    /// The time by its wall clock.
    pub(crate) fn wall(&self, now: u64) -> Wall {
        Wall((WALL_START + now).saturating_add_signed(self.wall_offset))
    }
}

impl World {
    /// The clocks as a machine's process reads them.
    pub(crate) fn clocks(&self, host: usize) -> Now {
        let machine = &self.hosts[host];
        let base = machine.process.as_ref().map_or(0, |process| process.mono_base);
        Now { mono: Mono(base + self.now), wall: machine.wall(self.now) }
    }

    /// A machine's process starts and takes up what its store has.
    pub(crate) fn start(&mut self, host: usize, generation: u32) {
        let machine = &self.hosts[host];
        if machine.generation != generation || machine.process.is_some() || machine.retired {
            return;
        }
        let incarnation = Incarnation(self.rng.next());
        let keep = self.plan.faults.store_swapped > 0;
        self.hosts[host].before_start = keep.then(|| self.hosts[host].disk.copy());
        self.hosts[host].disk.begin_process(incarnation);
        let machine = &self.hosts[host];
        let identity = Identity {
            name: self.names[machine.name].clone(),
            epoch: machine.disk.tables.epoch,
            incarnation,
            commits_at_start: machine.disk.tables.commits,
            seed: self.rng.next(),
        };
        let bodies = !self.plan.bodies_on_disk;
        let snapshot = machine.disk.tables.snapshot(bodies, |message| self.facts(&message.method));
        let mono_base = self.rng.below(1 << 40);
        let now = Now { mono: Mono(mono_base + self.now), wall: machine.wall(self.now) };
        let (node, step) = Node::new(now, identity.clone(), snapshot);
        let verdict = self.model.starts(identity.incarnation, self.hosts[host].lineage, &self.hosts[host].disk.tables);
        self.judge(verdict);
        self.trace(
            host,
            format_args!("starts  incarnation {:x} commits {}", identity.incarnation.0, identity.commits_at_start),
        );
        if now.wall <= self.hosts[host].latest_start && !self.hosts[host].first_life {
            self.model.gives_twice(self.hosts[host].lineage);
        }
        let machine = &mut self.hosts[host];
        machine.latest_start = machine.latest_start.max(now.wall);
        machine.generation += 1;
        machine.process = Some(Process {
            node,
            identity,
            mono_base,
            inputs: VecDeque::new(),
            phase: Phase::Idle,
            batch_at: self.now,
            turn_at: None,
            spins: 0,
            takes_back: Vec::new(),
            watches: BTreeSet::new(),
            runs: BTreeMap::new(),
            downloads: Vec::new(),
        });
        let generation = machine.generation;
        self.stats.starts += 1;
        self.begin_commit(host, step.writes, step.effects);
        let at = self.now + self.rng.between(1, 50);
        self.schedule(at, Happening::Connect(host, generation));
    }

    /// A machine's process dies without a word, with everything that it runs.
    pub(crate) fn crash(&mut self, host: usize, why: &str) {
        let power_loss = self.rng.chance(self.plan.faults.power_loss);
        let lucky = self.rng.coin();
        let machine = &mut self.hosts[host];
        if machine.process.take().is_none() {
            return;
        }
        machine.generation += 1;
        if power_loss {
            machine.ghost_until = self.now + self.rng.between(500, 20_000);
        }
        machine.link.up = false;
        machine.link.seen = false;
        machine.frozen_until = 0;
        let made_it = machine.disk.crash(power_loss, lucky);
        self.trace(host, format_args!("dies    {why}{}", if power_loss { ", with the machine" } else { "" }));
        self.stats.crashes += 1;
        match made_it {
            Ok(Some(writes)) => self.note_durable(host, &writes),
            Ok(None) => {}
            Err(wrong) => self.fail("store", wrong),
        }
        self.model.crashes(host);
    }

    /// A process that died comes back, soon or later.
    pub(crate) fn comes_back(&mut self, host: usize) {
        let pause = if self.rng.below(6) == 0 { self.rng.between(10_000, 40_000) } else { self.rng.skewed(20, 5_000) };
        let generation = self.hosts[host].generation;
        self.schedule(self.now + pause, Happening::Start(host, generation));
    }

    /// A process stops in good order: says goodbye and ends what it runs.
    pub(crate) fn stop(&mut self, host: usize) {
        if self.hosts[host].process.is_none() {
            return;
        }
        self.announce(host, Occasion::Goodbye);
        // What was published just before is on its way: the shell waits for the connection to drain.
        self.crash(host, "stops");
    }

    /// A machine's store is gone, and another one in its place.
    pub(crate) fn lose_store(&mut self, host: usize) {
        self.crash(host, "its store is gone");
        let epoch = self.rng.next() >> 1;
        let lost = self.model.store_lost(self.hosts[host].lineage);
        self.hosts[host].disk = Disk::new(Epoch(epoch));
        self.hosts[host].copies.clear();
        self.hosts[host].before_start = None;
        self.hosts[host].lineage = lost;
        self.hosts[host].first_life = true;
        self.comes_back(host);
    }

    /// A machine's disk is put aside, for later.
    pub(crate) fn copy_store(&mut self, host: usize) {
        let disk = self.hosts[host].disk.copy();
        self.trace(host, format_args!("copy    of its store at commit {}", disk.tables.commits));
        self.hosts[host].copies.push(disk);
    }

    /// A machine's store is replaced by an older copy. Only where the protocol can notice: every node that has sent it
    /// something since then has heard of it since then too.
    pub(crate) fn restore_store(&mut self, host: usize) {
        let copies = std::mem::take(&mut self.hosts[host].copies);
        let Some(copy) = copies.into_iter().rev().find(|copy| self.is_noticeable(host, copy)) else {
            return;
        };
        self.crash(host, "its store is an old copy");
        self.put_in_place(host, copy);
        self.comes_back(host);
    }

    /// A process dies when it has begun something, everybody else before they hear of it, and the store as it was before that
    /// process began takes its place: once it has been started again and again, it has seen as much as the one that is
    /// gone. False: nothing of it can be, because somebody could not notice.
    pub(crate) fn swap_store(&mut self, host: usize) -> bool {
        let Some(copy) = self.hosts[host].before_start.take().filter(|copy| self.is_noticeable(host, copy)) else {
            return false;
        };
        // The model gives up what is not in this copy: no later one may bring it back.
        self.hosts[host].copies.retain(|other| other.tables.commits <= copy.tables.commits);
        self.crash(host, "its store is the one from before it began");
        self.put_in_place(host, copy);
        self.comes_back(host);
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            self.shaken = true;
            self.crash(other, "dies with another one");
            self.comes_back(other);
        }
        for _ in 0..self.rng.below(4) {
            let at = self.now + self.rng.skewed(20, 10_000);
            self.schedule(at, Happening::Fault(Fault::Crash(host)));
        }
        true
    }

    fn put_in_place(&mut self, host: usize, copy: Disk) {
        let restored = self.model.store_restored(self.hosts[host].lineage, &copy.tables);
        self.hosts[host].disk = copy;
        self.hosts[host].lineage = restored;
        self.hosts[host].first_life = false;
        // Whoever took a message back sees that it is there again.
        let taken_back =
            self.model.open_numbers().into_iter().filter(|number| self.model.stories[*number].cancel_asked);
        for number in taken_back.collect::<Vec<_>>() {
            self.schedule(self.now + 1_000, Happening::TakeBack(number));
        }
    }

    /// Whether everybody who has to know has written down something of the store that is later than the copy: a process
    /// that the copy does not know, or a higher count of commits.
    fn is_noticeable(&self, host: usize, copy: &Disk) -> bool {
        let (name, epoch) = (&self.names[self.hosts[host].name], copy.tables.epoch);
        if epoch != self.hosts[host].disk.tables.epoch {
            return false;
        }
        self.hosts.iter().enumerate().filter(|(other, _)| *other != host).all(|(_, other)| {
            // Whoever has never spoken with it has sent it nothing.
            let Some(peer) = other.disk.tables.peers.get(name).filter(|peer| peer.epoch.is_some()) else { return true };
            let later = peer.incarnation.is_some_and(|known| !copy.tables.has_begun(known));
            peer.epoch == Some(epoch) && (later || peer.commits > copy.tables.commits)
        })
    }

    /// A process tells whoever watches it how it is.
    pub(crate) fn announce(&mut self, host: usize, occasion: Occasion) {
        let Some(process) = &self.hosts[host].process else { return };
        let hello = Hello {
            from: process.identity.name.clone(),
            epoch: process.identity.epoch,
            incarnation: process.identity.incarnation,
            commits_at_start: process.identity.commits_at_start,
            occasion,
            info: Arc::from("{}"),
        };
        let name = self.hosts[host].name;
        self.publish(host, Address::Watchers(name), Load::Hello(hello));
    }

    /// Something has happened that a process has to hear of.
    pub(crate) fn bring(&mut self, host: usize, event: Event) {
        self.bring_input(host, Input::Event(event));
    }
}
