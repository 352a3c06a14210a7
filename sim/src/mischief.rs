//! When faults strike that are not tied to a packet, a commit or a message, what they do, and how they end.

use crate::host::Host;
use crate::network::Link;
use crate::rng::Rng;
use crate::world::{Happening, World};

/// A fault that strikes a machine or the broker, or the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed.
    Crash(usize),
    /// The process is stopped in good order.
    Stop(usize),
    /// Machine and broker don't hear each other for so long.
    Cut(usize),
    /// They hear each other again.
    Mend(usize),
    /// The broker restarts.
    BrokerRestart,
    /// The store is gone.
    StoreGone(usize),
    /// The store is put aside.
    Copy(usize),
    /// The store is replaced by what was put aside.
    Restore(usize),
    /// The wall clock jumps.
    ClockJump(usize),
    /// The process stands still.
    Freeze(usize),
    /// The disk is full.
    DiskFull(usize),
}

impl World {
    /// Puts the faults that strike by themselves into the queue.
    pub(crate) fn plan_faults(&mut self) {
        let until = self.plan.faults_until;
        let faults = self.plan.faults.clone();
        let mut rng = Rng::new(self.rng.next(), 3);
        let mut planned = Vec::new();
        for host in 0..self.hosts.len() {
            for (rate, fault) in [
                (faults.crash, Fault::Crash(host)),
                (faults.stop, Fault::Stop(host)),
                (faults.partition, Fault::Cut(host)),
                (faults.store_gone, Fault::StoreGone(host)),
                (faults.store_restored, Fault::Restore(host)),
                (faults.clock_jump, Fault::ClockJump(host)),
                (faults.freeze, Fault::Freeze(host)),
                (faults.disk_full, Fault::DiskFull(host)),
            ] {
                for at in moments(&mut rng, rate, until) {
                    if fault == Fault::Restore(host) {
                        planned.push((rng.below(at + 1), Fault::Copy(host)));
                    }
                    planned.push((at, fault));
                }
            }
        }
        planned
            .extend(moments(&mut rng, faults.broker_restart, until).into_iter().map(|at| (at, Fault::BrokerRestart)));
        for (at, fault) in planned {
            self.schedule(at, Happening::Fault(fault));
        }
    }

    /// A fault strikes or ends.
    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::BrokerRestart => return self.restart_broker(),
            Fault::Mend(host) => return self.mend(host),
            _ => {}
        }
        let (Fault::Crash(host)
        | Fault::Stop(host)
        | Fault::Cut(host)
        | Fault::Mend(host)
        | Fault::StoreGone(host)
        | Fault::Copy(host)
        | Fault::Restore(host)
        | Fault::ClockJump(host)
        | Fault::Freeze(host)
        | Fault::DiskFull(host)) = fault
        else {
            return;
        };
        // A disk can be copied and replaced while no process has it.
        let needs_process = !matches!(fault, Fault::Copy(_) | Fault::Restore(_));
        if !self.strikes(host) || (needs_process && self.hosts[host].process.is_none()) {
            return;
        }
        match fault {
            Fault::Crash(_) => {
                self.crash(host, "killed");
                self.comes_back(host);
            }
            Fault::Stop(_) => {
                self.stop(host);
                self.comes_back(host);
            }
            Fault::Cut(_) => self.cut(host),
            Fault::StoreGone(_) => self.lose_store(host),
            Fault::Copy(_) => self.copy_store(host),
            Fault::Restore(_) => self.restore_store(host),
            Fault::ClockJump(_) => {
                let (by, back) = (self.rng.skewed(1, 3_600_000) as i64, self.rng.coin());
                self.model.clocks_go_back |= back;
                self.hosts[host].wall_offset += if back { -by } else { by };
                self.trace(host, format_args!("its clock jumps by {} ms", if back { -by } else { by }));
            }
            Fault::Freeze(_) => {
                let pause = self.rng.skewed(10, 40_000);
                self.hosts[host].frozen_until = self.now + pause;
                self.trace(host, format_args!("stands still for {pause} ms"));
            }
            Fault::DiskFull(_) => {
                let pause = self.rng.skewed(10, 30_000);
                self.hosts[host].disk_full_until = self.now + pause;
                self.trace(host, format_args!("its disk is full for {pause} ms"));
            }
            Fault::Mend(_) | Fault::BrokerRestart => {}
        }
    }

    fn cut(&mut self, host: usize) {
        let (up, down) = self.rng.pick(&[(true, true), (true, true), (true, false), (false, true)]);
        let pause = self.rng.skewed(50, 40_000);
        let noticed = self.rng.between(1_000, 20_000);
        let broker_notices = self.rng.between(1_000, 30_000);
        let link = &mut self.hosts[host].link;
        (link.cut_up, link.cut_down) = (up, down);
        let session = link.session;
        self.trace(host, format_args!("is cut off for {pause} ms, up {up}, down {down}"));
        self.schedule(self.now + pause, Happening::Fault(Fault::Mend(host)));
        // A connection that is open and dead is noticed after a while, by each end for itself, if it lasts.
        if noticed < pause {
            self.schedule(self.now + noticed, Happening::LinkLost(host, session));
        }
        if broker_notices < pause {
            self.schedule(self.now + broker_notices, Happening::BrokerNotices(host, session));
        }
    }

    fn mend(&mut self, host: usize) {
        let Link { up, seen, session, .. } = self.hosts[host].link;
        let link = &mut self.hosts[host].link;
        (link.cut_up, link.cut_down) = (false, false);
        self.trace(host, format_args!("is cut off no longer"));
        if up && !seen {
            self.notice_link_down(host, session);
        }
    }

    /// The broker gives a connection up.
    pub(crate) fn broker_notices(&mut self, host: usize, session: u32) {
        let link = &mut self.hosts[host].link;
        if link.session == session && (link.cut_up || link.cut_down) {
            link.seen = false;
        }
    }

    fn restart_broker(&mut self) {
        let pause = self.rng.skewed(10, 20_000);
        self.broker.session += 1;
        self.broker.down_until = self.now + pause;
        self.trace.borrow_mut().line(self.now, "nats", format_args!("restarts, away for {pause} ms"));
        for host in 0..self.hosts.len() {
            let session = self.hosts[host].link.session;
            self.hosts[host].link.seen = false;
            self.hosts[host].ghost_until = 0;
            let at = self.now + self.rng.below(3_000);
            self.schedule(at, Happening::LinkLost(host, session));
        }
    }

    /// Faults are over: everybody is there, connected, awake, and has room; of twins one is left.
    pub(crate) fn calm(&mut self) {
        self.trace.borrow_mut().line(self.now, "sim", format_args!("faults are over"));
        if let Some(twin) = self.plan.hosts.iter().position(|host| host.twin).filter(|twin| !self.hosts[*twin].retired)
        {
            let first = self.hosts.iter().position(|host| host.name == self.hosts[twin].name).unwrap_or(twin);
            let retires = if self.rng.coin() { twin } else { first };
            self.crash(retires, "retires");
            self.hosts[retires].retired = true;
            self.model.retired(self.hosts[retires].lineage);
        }
        self.broker.down_until = 0;
        for host in 0..self.hosts.len() {
            let Host { link, generation, process, frozen_until, .. } = &mut self.hosts[host];
            let (session, generation, away) = (link.session, *generation, process.is_none());
            let frozen = *frozen_until > self.now;
            *frozen_until = 0;
            self.hosts[host].disk_full_until = 0;
            self.hosts[host].ghost_until = 0;
            if self.hosts[host].link.cut_up || self.hosts[host].link.cut_down {
                self.mend(host);
            }
            if self.hosts[host].link.up && !self.hosts[host].link.seen {
                self.notice_link_down(host, session);
            }
            if away {
                self.schedule(self.now, Happening::Start(host, generation));
            }
            if frozen {
                self.wake(host);
            }
        }
        self.schedule(self.now + self.plan.bound(), Happening::Settled);
    }
}

/// The moments of a fault that strikes `rate` times in ten minutes, before `until`.
fn moments(rng: &mut Rng, rate: u32, until: u64) -> Vec<u64> {
    let expected = u64::from(rate) * until;
    let count = expected / 600_000 + u64::from(rng.below(600_000) < expected % 600_000);
    (0..count).map(|_| rng.below(until)).collect()
}
