//! Processes that end with the test, and ports that stay ours.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::net::TcpSocket;

use super::until;

/// The variable by which we know our processes again, and theirs.
const MARK: &str = "FLEET_OF_A_TEST";

/// The pause between two looks for what is left, and how many there are at most.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// See [`LOOK_AGAIN`].
const LOOKS_MAX: u32 = 250;

/// The exit code of whoever was killed, as shells have it.
pub(crate) const KILLED: i32 = 137;

/// Whoever starts a process holds this for reading, and whoever ends all of them for writing, for ever.
static STARTING: RwLock<()> = RwLock::new(());

/// How long one run of the command line may take.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A port of the loopback interface that nobody else is given, also while nobody listens on it: a socket is bound to
/// it that shares it with whoever names it, and with nobody who asks for any.
pub struct Port {
    number: u16,
    _socket: TcpSocket,
}

impl Port {
    /// One that is free now.
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self { number: socket.local_addr().unwrap().port(), _socket: socket }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

/// A process that is killed when it is dropped.
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts it; what it prints goes to the log file `NAME.log` of its fleet.
    pub fn start(name: &str, fleet: &Path, command: &mut Command) -> Self {
        let log = fs::File::options().create(true).append(true).open(fleet.join(format!("{name}.log"))).unwrap();
        command.env(MARK, fleet).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = spawn(command).unwrap_or_else(|error| panic!("{name} can't be started: {error}"));
        Self { name: name.to_owned(), child }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(pid(self.child.id()), signal).unwrap();
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until(limit, &what, || self.ended().ok_or_else(String::new))
    }
}

/// A process that has not begun: it waits for a line on its standard input, so that somebody can look at it from its
/// first step on, and then runs its command. Whoever has it ends it.
#[cfg(target_arch = "x86_64")]
pub struct Held {
    /// The shell that waits, and becomes the command.
    pub child: Child,
}

/// Has a command wait; what it prints goes to the log file `NAME.log` of its fleet.
#[cfg(target_arch = "x86_64")]
pub fn hold(name: &str, fleet: &Path, command: &Command) -> Held {
    let log = fs::File::options().create(true).append(true).open(fleet.join(format!("{name}.log"))).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"read go && exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(variable, value),
            None => shell.env_remove(variable),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    let shell = shell.env(MARK, fleet).stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    Held { child: spawn(shell).unwrap_or_else(|error| panic!("{name} can't be started: {error}")) }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, and a test that fails must not fail again while it cleans up.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    let _open = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// From now on nothing is started any more: whoever tries waits for ever.
pub(super) fn start_no_more() {
    std::mem::forget(STARTING.write().unwrap_or_else(PoisonError::into_inner));
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; 128 and the signal's number if there is none.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Ran {
    /// The same, if it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "it should have ended well: {self:#?}");
        self
    }
}

/// Runs a command to its end, or kills it when that does not come.
pub fn run(fleet: &Path, command: &mut Command) -> Ran {
    command.env(MARK, fleet).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).unwrap();
    let reader = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(Box::new(child.stdout.take().unwrap()));
    let stderr = reader(Box::new(child.stderr.take().unwrap()));
    let mut process = Process { name: format!("{command:?}"), child };
    let ended = super::within(RUN_LIMIT, || process.ended());
    let late = if ended.is_none() {
        format!("killed, because it had not ended within {RUN_LIMIT:?}\n")
    } else {
        String::new()
    };
    let code = ended.map(code).unwrap_or_else(|| {
        process.kill();
        KILLED
    });
    Ran { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() + &late }
}

/// The exit code as a shell has it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Processes with the mark of this fleet, and their command lines. Those that have ended, and wait to be looked at by
/// whoever started them, do not count.
pub fn marked(fleet: &Path) -> Vec<(u32, String)> {
    let mark = format!("{MARK}={}", fleet.display()).into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if id != std::process::id() && environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((id, String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()));
        }
    }
    found
}

/// Who started a process.
pub fn parent(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Ends a process that a node has started.
pub fn kill(id: u32) {
    rustix::process::kill_process(pid(id), Signal::KILL).unwrap();
}

/// Ends every process with the mark of this fleet, and whatever they start meanwhile, until so many looks in a row have
/// found nothing; whether it came to that.
pub(crate) fn end_marked(fleet: &Path, looks_in_vain: u32) -> bool {
    let mut in_vain = 0;
    for _ in 0..LOOKS_MAX {
        let found = marked(fleet);
        for (id, _) in &found {
            // It may have ended since.
            rustix::process::kill_process(pid(*id), Signal::KILL).unwrap_or_default();
        }
        in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
        if in_vain == looks_in_vain {
            return true;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    false
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}
