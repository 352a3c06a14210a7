//! Runs processes under `ptrace` and writes down what they do to files, with all their threads, until they end.
//!
//! One thread owns it all, because the system ties what is traced to the thread that traces. A call of a process goes on
//! only after its beginning was seen, and its process only after its end was seen. So if a node does one thing because
//! another is done, they are in that order here as well.
//!
//! It never follows the commands that a node runs: it notes that they begin, and lets them go.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::process::ChildStdin;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::syscalls;
use super::trace::{BEFORE, Moment, Op, Trace, What};
use super::tracker::{Pending, Process, Tracker};
use crate::harness::{Held, until};

/// The signal that asks for a process to be killed. It means nothing to the process itself, which never gets it.
const END: (rustix::process::Signal, Signal) = (rustix::process::Signal::URG, Signal::SIGURG);

/// How long anything may take. The machine may pause these processes for a while, to have others measured.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Why there is no recording: the machine does not allow it.
#[derive(Debug)]
pub(super) struct NotAllowed(pub(super) String);

/// A process to be recorded.
pub(super) struct Part {
    pub(super) label: &'static str,
    /// Whose process it is.
    pub(super) node: &'static str,
    pub(super) start: Box<dyn FnOnce() -> Held + Send>,
    /// It is killed as soon as it has done this.
    pub(super) until: Option<fn(&What) -> bool>,
}

/// A recording that goes on.
pub(super) struct Recorder {
    thread: thread::JoinHandle<Trace>,
    parts: BTreeMap<&'static str, (i32, ChildStdin)>,
}

impl Recorder {
    /// Begins to record `parts`, which wait for [`Recorder::go`], in the directories of these nodes.
    pub(super) fn start(tracker: Tracker, parts: Vec<Part>) -> Result<Self, NotAllowed> {
        let (told, started) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let mut tracing = Tracing::new(tracker);
            match tracing.start(parts) {
                Ok(parts) => told.send(Ok(parts)).unwrap(),
                Err(why) => {
                    told.send(Err(why)).unwrap();
                    return Trace::default();
                }
            }
            // Said here, where it is seen at once: without its recorder, no process goes on.
            tracing.run().unwrap_or_else(|why| panic!("it could not be recorded: {why}"))
        });
        let parts = started.recv().unwrap().map_err(|errno| {
            NotAllowed(format!("ptrace is not permitted on this machine ({errno}), so nothing can be recorded"))
        })?;
        Ok(Self { thread, parts })
    }

    /// A part begins.
    pub(super) fn go(&mut self, label: &str) {
        self.say(label, "go\n");
    }

    /// Writes to the standard input of a part.
    pub(super) fn say(&mut self, label: &str, text: &str) {
        let (_, stdin) = self.parts.get_mut(label).unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    /// The process of a part.
    pub(super) fn process(&self, label: &str) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(self.parts[label].0).unwrap()
    }

    /// Ends a part as SIGKILL does, between two of its system calls.
    pub(super) fn kill(&self, label: &str) {
        // It may have ended.
        rustix::process::kill_process(self.process(label), END.0).unwrap_or_default();
    }

    /// Waits for something.
    #[track_caller]
    pub(super) fn eventually(&self, what: &str, mut look: impl FnMut() -> bool) {
        until(LIMIT, what, || {
            assert!(!self.thread.is_finished(), "the recording has ended; why stands above");
            if look() { Ok(()) } else { Err(String::new()) }
        });
    }

    /// Waits until a part has ended.
    pub(super) fn has_ended(&self, label: &str) {
        let process = self.process(label);
        self.eventually(&format!("{label} ends"), || rustix::process::test_kill_process(process).is_err());
    }

    /// Ends everything; what was recorded.
    pub(super) fn finish(self) -> Trace {
        for label in self.parts.keys() {
            self.kill(label);
        }
        drop(self.parts);
        self.thread.join().unwrap()
    }
}

/// Where a thread is.
enum At {
    /// In its own code, or stopped there.
    Outside,
    /// In a system call, since when, and what that is, if it is of interest.
    Inside(Moment, Option<Pending>),
}

struct Tracing {
    tracker: Tracker,
    processes: HashMap<Pid, Process>,
    /// Threads of the processes, with the process.
    threads: HashMap<Pid, (Pid, At)>,
    /// Processes that are to end.
    ending: Vec<Pid>,
    /// Processes that are to end when they have done this.
    until: HashMap<Pid, fn(&What) -> bool>,
    now: Moment,
}

impl Tracing {
    fn new(tracker: Tracker) -> Self {
        let (processes, threads, until) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { tracker, processes, threads, ending: Vec::new(), until, now: BEFORE }
    }

    fn start(&mut self, parts: Vec<Part>) -> Result<BTreeMap<&'static str, (i32, ChildStdin)>, Errno> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        let mut started = BTreeMap::new();
        for part in parts {
            let mut held = (part.start)();
            let pid = Pid::from_raw(i32::try_from(held.child.id()).unwrap());
            if let Err(errno) = ptrace::seize(pid, options).and_then(|()| ptrace::interrupt(pid)) {
                held.child.kill().unwrap();
                held.child.wait().unwrap();
                return Err(errno);
            }
            self.processes.insert(pid, Process::new(part.node.to_owned(), pid.as_raw()).unwrap());
            self.threads.insert(pid, (pid, At::Outside));
            self.until.extend(part.until.map(|until| (pid, until)));
            started.insert(part.label, (pid.as_raw(), held.child.stdin.take().unwrap()));
        }
        Ok(started)
    }

    fn run(mut self) -> Result<Trace, String> {
        // Only what this very thread has started or traces: other tests wait for theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(self.tracker.trace),
                Err(errno) => return Err(format!("waiting: {errno}")),
            };
            match self.step(status) {
                // Killed in between: its end is told next.
                Ok(()) | Err(Trouble::System(Errno::ESRCH)) => {}
                Err(Trouble::System(errno)) => return Err(format!("ptrace after {status:?}: {errno}")),
                Err(Trouble::Other(why)) => return Err(why),
            }
        }
    }

    fn step(&mut self, status: WaitStatus) -> Result<(), Trouble> {
        match status {
            WaitStatus::PtraceSyscall(thread) => {
                self.syscall(thread)?;
                self.go_on(thread, None)
            }
            WaitStatus::PtraceEvent(thread, _, event) => self.event(thread, event),
            WaitStatus::Stopped(thread, signal) if signal == END.1 && self.threads.contains_key(&thread) => {
                let process = self.threads[&thread].0;
                self.ending.push(process);
                self.go_on(thread, None)
            }
            WaitStatus::Stopped(thread, signal) => self.go_on(thread, Some(signal)),
            WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => {
                self.threads.remove(&thread);
                Ok(())
            }
            WaitStatus::Continued(_) | WaitStatus::StillAlive => Ok(()),
        }
    }

    /// Lets a thread go on to its next system call; or kills its process, if that is wanted and nothing is half done.
    fn go_on(&mut self, thread: Pid, signal: Option<Signal>) -> Result<(), Trouble> {
        let Some((process, _)) = self.threads.get(&thread) else {
            // It belongs to a command that a node runs.
            return Ok(ptrace::cont(thread, signal)?);
        };
        let of_process = self.threads.values().filter(|(of, _)| of == process);
        let is_changing = |at: &At| matches!(at, At::Inside(_, Some(pending)) if Tracker::changes(pending));
        if self.ending.contains(process) && !of_process.into_iter().any(|(_, at)| is_changing(at)) {
            return Ok(nix::sys::signal::kill(*process, Signal::SIGKILL)?);
        }
        Ok(ptrace::syscall(thread, signal)?)
    }

    fn event(&mut self, thread: Pid, event: i32) -> Result<(), Trouble> {
        let of = owner(thread)?;
        if self.processes.contains_key(&of) {
            self.threads.entry(thread).or_insert((of, At::Outside));
        }
        if event == libc::PTRACE_EVENT_EXEC {
            if let Some(process) = self.processes.get_mut(&of) {
                process.runs_another()?;
                // The end of the call that brought it here is still to come.
                self.threads.insert(thread, (of, At::Inside(self.now, None)));
                return self.go_on(thread, None);
            }
            self.command(thread)?;
            return Ok(ptrace::detach(thread, None)?);
        }
        self.go_on(thread, None)
    }

    /// A command of a node begins.
    fn command(&mut self, process: Pid) -> Result<(), Trouble> {
        let parent = Pid::from_raw(status(process, "PPid")?);
        let Some(node) = self.processes.get(&parent).map(|process| process.node.clone()) else { return Ok(()) };
        let line = std::fs::read(format!("/proc/{process}/cmdline")).map_err(|error| error.to_string())?;
        let what = What::Command(String::from_utf8_lossy(&line).replace('\0', " "));
        let (begin, end) = (self.moment(), Some(self.moment()));
        self.tracker.trace.ops.push(Op { begin, end, node, what });
        Ok(())
    }

    fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A thread begins a system call, or ends one: they come in turns.
    fn syscall(&mut self, thread: Pid) -> Result<(), Trouble> {
        let Some((of, at)) = self.threads.get_mut(&thread) else { return Ok(()) };
        let process = self.processes.get_mut(of).unwrap();
        match std::mem::replace(at, At::Outside) {
            At::Outside => {
                let registers = ptrace::getregs(thread)?;
                if registers.rax.cast_signed() != -i64::from(libc::ENOSYS) {
                    return Err(Trouble::Other(format!("a step of {} was missed", process.node)));
                }
                let args = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
                let pending = self.tracker.begin(process, syscalls::decode(registers.orig_rax, args))?;
                let begin = if pending.is_some() { self.moment() } else { self.now };
                self.threads.get_mut(&thread).unwrap().1 = At::Inside(begin, pending);
            }
            At::Inside(_, None) => {}
            At::Inside(begin, Some(pending)) => {
                let result = ptrace::getregs(thread)?.rax.cast_signed();
                self.now += 1;
                self.tracker.end(process, (begin, self.now), pending, result)?;
                let (until, last) = (self.until.get(of), self.tracker.trace.ops.last());
                if let (Some(until), Some(last)) = (until, last)
                    && last.end == Some(self.now)
                    && until(&last.what)
                {
                    self.ending.push(*of);
                }
            }
        }
        Ok(())
    }
}

/// Why there can be no recording any more.
enum Trouble {
    System(Errno),
    Other(String),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// The process that a thread belongs to.
fn owner(thread: Pid) -> Result<Pid, Errno> {
    status(thread, "Tgid").map(Pid::from_raw)
}

/// A number from what the system tells of a process.
fn status(process: Pid, key: &str) -> Result<i32, Errno> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|_| Errno::ESRCH)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).ok_or(Errno::ESRCH)
}
