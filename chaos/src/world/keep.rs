//! The service manager of a world: whatever does not run and is not held down is started again after a pause.

use std::time::Duration;

use rustix::process::Signal;

use super::World;
use crate::dice::Dice;
use crate::harness::KILLED;

/// The pause before a machine is started again for which nobody has chosen one.
const PAUSE: Duration = Duration::from_millis(400);

impl World<'_> {
    /// Looks after all machines once.
    pub(crate) fn keep_machines(&mut self) {
        for index in 0..self.machines.len() {
            let now = self.timer.elapsed();
            let machine = &mut self.machines[index];
            if machine.runs() {
                continue;
            }
            if let Some(process) = machine.process.take() {
                machine.past.ends += 1;
                machine.restart_at.get_or_insert(now + PAUSE);
                self.ended(index, process);
            }
            let machine = &mut self.machines[index];
            if machine.held == 0 && machine.restart_at.is_some_and(|at| at <= now) {
                machine.launch();
                let (name, process) = (machine.name.clone(), machine.node.pid());
                self.tell(format_args!("{name}: process {process} starts"));
            }
        }
    }

    /// A process has ended: was that to be expected?
    fn ended(&mut self, index: usize, process: u32) {
        let machine = &mut self.machines[index];
        let name = machine.name.clone();
        // Whoever was killed by somebody else may still get to its point in its next life.
        if let Some(point) = machine.switches.armed().filter(|_| !machine.may_end) {
            machine.switches.set_crash(None);
            self.tell(format_args!("{name}: process {process} has died at {point}"));
            return self.count(point);
        }
        let machine = &mut self.machines[index];
        let expected = machine.may_end || machine.past.disk_trouble;
        let code = if machine.node.is_started() { machine.node.ends() } else { KILLED };
        // It may have been on its way to its point when that was taken back.
        let expected = expected || (code == KILLED && machine.switches.was_armed());
        self.tell(format_args!(
            "{name}: process {process} has ended with {code}{}",
            if expected { "" } else { ", by itself" }
        ));
        if !expected {
            let log = self.machines[index].node.log();
            let last = log.lines().last().unwrap_or_default();
            self.wrong.push(format!("{name} ended by itself with {code}: {last}"));
        }
    }

    /// Kills a machine's process; it is started again after a while.
    pub(crate) fn kill(&mut self, index: usize, dice: &mut Dice) -> Result<String, String> {
        let (now, pause) = (self.timer.elapsed(), dice.millis(20, 1500));
        let machine = &mut self.machines[index];
        if !machine.runs() {
            return Err(format!("{} does not run", machine.name));
        }
        machine.may_end = true;
        machine.node.kill();
        machine.restart_at = Some(now + pause);
        Ok(format!("{} for {} ms", machine.name, pause.as_millis()))
    }

    /// Asks a machine's process to end; it is started again when it has.
    pub(crate) fn stop(&mut self, index: usize) -> Result<String, String> {
        let machine = &mut self.machines[index];
        if !machine.runs() {
            return Err(format!("{} does not run", machine.name));
        }
        machine.may_end = true;
        machine.node.signal(Signal::TERM);
        Ok(machine.name.clone())
    }

    /// Kills or stops a machine, holds it down, and does something with it once it has ended; then it may start again.
    pub(crate) fn with_stopped(
        &mut self,
        index: usize,
        kill: bool,
        action: impl FnOnce(&mut World<'_>, usize) + 'static,
    ) -> Result<(), String> {
        let machine = &mut self.machines[index];
        if !machine.runs() || machine.held > 0 {
            return Err(format!("{} does not run", machine.name));
        }
        machine.may_end = true;
        machine.held += 1;
        machine.node.signal(if kill { Signal::KILL } else { Signal::TERM });
        self.once_ended(index, action);
        Ok(())
    }

    /// Does something with a machine that does not run, and holds it down meanwhile.
    pub(crate) fn hold_and(&mut self, index: usize, action: impl FnOnce(&mut World<'_>, usize) + 'static) {
        self.machines[index].held += 1;
        self.once_ended(index, action);
    }

    fn once_ended(&mut self, index: usize, action: impl FnOnce(&mut World<'_>, usize) + 'static) {
        self.later(Duration::from_millis(10), move |world| {
            if world.machines[index].runs() {
                return world.once_ended(index, action);
            }
            action(world, index);
            world.machines[index].held = world.machines[index].held.saturating_sub(1);
        });
    }

    /// Kills the broker, if it runs, and starts one again after a while.
    pub(crate) fn replace_broker(&mut self, signal: Signal, pause: Duration) -> Result<String, String> {
        if self.broker_away {
            return Err("the broker is away already".to_owned());
        }
        self.broker_away = true;
        self.fleet.broker.signal(signal);
        self.broker_back(pause);
        Ok(format!("for {} ms", pause.as_millis()))
    }

    /// Kills the broker and waits until it is gone.
    pub(crate) fn stop_broker(&mut self) {
        if self.fleet.broker.runs() {
            self.fleet.broker.stop();
        }
    }

    fn broker_back(&mut self, pause: Duration) {
        self.later(pause, |world| {
            // One that was asked to go may take a moment.
            if world.fleet.broker.runs() {
                return world.broker_back(Duration::from_millis(20));
            }
            world.fleet.broker.start();
            world.broker_away = false;
        });
    }
}
