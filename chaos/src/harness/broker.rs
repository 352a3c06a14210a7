//! A real nats-server on a port of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rustix::process::Signal;

use super::eventually;
use super::process::{Port, Process};

/// A nats-server that can be started, stopped and frozen; always on the same port.
pub struct Broker {
    fleet: PathBuf,
    port: Port,
    process: Mutex<Option<Process>>,
}

impl Broker {
    pub(crate) fn new(fleet: &Path) -> Self {
        Self { fleet: fleet.to_owned(), port: Port::reserve(), process: Mutex::new(None) }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// What is to stand in its configuration file from the next start on.
    pub fn configure(&self, lines: &str) {
        fs::write(self.config(), lines).unwrap();
    }

    /// Starts it and waits until it takes connections.
    pub fn start(&self) {
        let mut command = Command::new(binary());
        command.args(["--addr", "127.0.0.1", "--port", &self.port.number().to_string()]);
        if self.config().exists() {
            command.arg("--config").arg(self.config());
        }
        let mut process = Process::start("nats-server", &self.fleet, &mut command);
        eventually("the nats-server takes connections", || {
            if let Some(status) = process.ended() {
                let log = fs::read_to_string(self.fleet.join("nats-server.log")).unwrap_or_default();
                panic!("the nats-server ended with {status}:\n{log}");
            }
            TcpStream::connect(self.address()).ok()
        });
        *self.process.lock().unwrap() = Some(process);
    }

    /// Kills it: connections break, nothing is said before.
    pub fn stop(&self) {
        self.process.lock().unwrap().take().unwrap().kill();
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if self.runs() {
            self.process.lock().unwrap().as_ref().unwrap().signal(signal);
        }
    }

    /// While it is stopped: waits until its nodes have tried so many times to connect, in vain.
    pub fn is_knocked_at(&self, times: usize) {
        let door = TcpListener::bind(self.address()).unwrap();
        door.set_nonblocking(true).unwrap();
        let mut count = 0;
        eventually("nodes try to connect", || {
            count += std::iter::from_fn(|| door.accept().ok()).count();
            (count >= times).then_some(())
        });
    }

    /// Connections stay open, and nothing comes through them.
    pub fn freeze(&self) {
        self.process.lock().unwrap().as_ref().unwrap().signal(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.process.lock().unwrap().as_ref().unwrap().signal(Signal::CONT);
    }

    fn config(&self) -> PathBuf {
        self.fleet.join("nats-server.conf")
    }
}

/// The nats-server of this machine, as `scripts/nats-server` finds it.
pub fn binary() -> PathBuf {
    if let Some(chosen) = std::env::var_os("NATS_SERVER_BIN") {
        return chosen.into();
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".tools/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join("nats-server")).collect();
    places.push("/usr/local/sbin/nats-server".into());
    places.push("/usr/sbin/nats-server".into());
    places.push(ours);
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("no nats-server here: run scripts/nats-server once, or set NATS_SERVER_BIN to one");
    })
}
