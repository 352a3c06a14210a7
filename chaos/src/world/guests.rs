//! Processes that should not be there: on somebody's directory, or with somebody's name.

use std::time::Duration;

use super::World;
use crate::harness::Node;

/// A process that should not be there.
pub(crate) struct Guest<'f> {
    node: Node<'f>,
    /// The machine whose directory or name it has.
    host: usize,
    /// Whether it is on that machine's directory.
    same_directory: bool,
    /// Whether it may find out nothing, because its host stands still.
    may_stay: bool,
    /// How long it is given.
    stay: Duration,
    /// The host's process when it came.
    process: u32,
    until: Duration,
}

impl<'f> Guest<'f> {
    pub(crate) fn new(node: Node<'f>, host: usize, same_directory: bool, stay: Duration) -> Self {
        Self { node, host, same_directory, may_stay: false, stay, process: 0, until: Duration::ZERO }
    }

    /// The same while its host stands still.
    pub(crate) fn unseen(self, may_stay: bool) -> Self {
        Self { may_stay, ..self }
    }
}

impl<'f> World<'f> {
    /// Starts a process that should not be there.
    pub(crate) fn invite(&mut self, mut guest: Guest<'f>) {
        guest.until = self.timer.elapsed() + guest.stay;
        guest.process = self.machines[guest.host].node.pid();
        guest.node.launch();
        self.guests.push(guest);
    }

    /// Looks after all guests once.
    pub(super) fn keep_guests(&mut self) {
        let now = self.timer.elapsed();
        for mut guest in std::mem::take(&mut self.guests) {
            let host = &mut self.machines[guest.host];
            // Where the host has died in between, the guest may well have taken its place, and the host is refused.
            let same = host.runs() && host.node.pid() == guest.process;
            host.may_end |= !same;
            if !guest.node.runs() {
                let code = guest.node.ends();
                self.left(&guest, code);
            } else if guest.until > now {
                self.guests.push(guest);
            } else {
                self.overstayed(guest, same);
            }
        }
    }

    /// Ends those that might stay; the others are given the time to find out that they are not wanted.
    pub(super) fn dismiss_guests(&mut self) {
        for guest in self.guests.iter_mut().filter(|guest| !guest.same_directory) {
            guest.until = Duration::ZERO;
            guest.may_stay = true;
        }
        self.keep_guests();
    }

    /// Whether somebody else is on a machine's directory.
    pub(crate) fn has_guest(&self, index: usize) -> bool {
        self.guests.iter().any(|guest| guest.same_directory && guest.host == index)
    }

    /// Whether nobody is there who should not be.
    pub(super) fn is_among_itself(&self) -> bool {
        self.guests.is_empty()
    }

    fn left(&mut self, guest: &Guest<'_>, code: i32) {
        let name = self.machines[guest.host].name.clone();
        self.tell(format_args!("the guest at {name} has gone with exit code {code}"));
        if code == 0 {
            self.wrong.push(format!("a second {name} ended as if all were well"));
        }
    }

    fn overstayed(&mut self, mut guest: Guest<'f>, same: bool) {
        guest.node.kill();
        let alone = self.faults == 1;
        let host = &mut self.machines[guest.host];
        let name = host.name.clone();
        if guest.same_directory {
            // It ran as this node, and was killed.
            host.past.starts += 1;
            host.past.ends += 1;
            if same {
                self.wrong.push(format!("two processes were on the directory of {name} at the same time"));
            }
            return self.tell(format_args!("the guest on the directory of {name} is killed"));
        }
        host.past.twins += 1;
        host.past.old_logs.push(guest.node.read("textlogging.log"));
        if same && alone && !guest.may_stay {
            self.wrong.push(format!("two nodes are called {name}, and both can be reached"));
        }
        self.tell(format_args!("the twin of {name} is killed"));
    }
}
