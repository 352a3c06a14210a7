//! One `steward` process, and what a test does with it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::process::{self, Process, Ran};
use super::{Disk, DiskKind, Fleet, SOON, eventually, http};

/// A node of a fleet. It is killed when it is dropped.
pub struct Node<'f> {
    fleet: &'f Fleet,
    /// What its directory and its log are called.
    label: String,
    name: String,
    dir: PathBuf,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    /// A disk of its own.
    disk: Option<Disk>,
    process: Option<Process>,
}

impl<'f> Node<'f> {
    pub(crate) fn new(fleet: &'f Fleet, label: &str, name: &str, flags: &[&str]) -> Self {
        let dir = fleet.dir().join(label);
        fs::create_dir(&dir).unwrap();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (label, name, variables) = (label.to_owned(), name.to_owned(), Vec::new());
        Self { fleet, label, name, dir, flags, variables, disk: None, process: None }
    }

    /// The same node once more, on the same directory; not started yet. Its log goes to a file of its own.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            fleet: self.fleet,
            label: format!("{}-beside", self.label),
            name: self.name.clone(),
            dir: self.dir.clone(),
            flags: Vec::new(),
            variables: Vec::new(),
            disk: None,
            process: None,
        }
    }

    /// Has its directory be a disk of its own, which must be before it starts; an error says why that can't be done.
    pub fn put_on_disk(&mut self, kind: DiskKind, mebibytes: u32) -> Result<(), String> {
        let disk = Disk::mount(self.fleet.dir(), &self.label, &self.dir, kind, mebibytes)?;
        self.dir = disk.dir();
        self.disk = Some(disk);
        Ok(())
    }

    /// The disk of its own, if it has one.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.launch();
        let what = format!("{} answers", self.name);
        eventually(&what, || {
            if let Some(status) = self.process.as_mut().unwrap().ended() {
                panic!("{what}: it ended with {status}");
            }
            self.answers().then_some(())
        });
    }

    /// Starts it and doesn't wait for anything.
    pub fn launch(&mut self) {
        let mut command = self.start_command();
        self.process = Some(Process::start(&self.label, self.fleet.dir(), &mut command));
    }

    /// What starts it.
    pub fn start_command(&self) -> Command {
        let mut command = match &self.disk {
            Some(disk) => without_settings(disk.command(&self.fleet.program)),
            None => self.command(),
        };
        command.arg(format!("--node={}", self.name));
        for (flag, value) in
            [("--broker-address", self.fleet.broker.address()), ("--prom-host-and-port", "none".to_owned())]
        {
            if !self.flags.iter().any(|given| given.starts_with(flag)) {
                command.arg(format!("{flag}={value}"));
            }
        }
        command.args(&self.flags).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        let answer = http::socket(&self.dir.join("steward.sock"), "GET", "/v1/info", "");
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// The flags of the next start.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// A variable in its environment from its next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Asks it to stop, waits until it has, and returns its exit code.
    pub fn terminate(&mut self) -> i32 {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        process::code(process.wait(SOON))
    }

    /// Waits until it ends by itself; its exit code.
    pub fn ends(&mut self) -> i32 {
        process::code(self.process.take().unwrap().wait(SOON))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// Stops its clock, so to speak: SIGSTOP.
    pub fn freeze(&self) {
        self.process.as_ref().unwrap().signal(Signal::STOP);
    }

    /// It goes on: SIGCONT.
    pub fn thaw(&self) {
        self.process.as_ref().unwrap().signal(Signal::CONT);
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// The most memory that its process has had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Whether somebody has started it, and nobody has looked at its end so far.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it has logged, over all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.fleet.dir().join(format!("{}.log", self.label))).unwrap_or_default()
    }

    /// The lines that it has logged, as JSON.
    pub fn log_lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// A file in its directory, or nothing.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    /// Appends to its `inmsg.txt`, as `cat >>` does: one write.
    pub fn append(&self, text: &str) {
        let mut file = fs::File::options().create(true).append(true).open(self.dir.join("inmsg.txt")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until its `inmsg.txt` is empty: everything in it is accepted, or put aside.
    pub fn has_taken_input(&self) {
        eventually("inmsg.txt is erased", || self.read("inmsg.txt").trim().is_empty().then_some(()));
    }

    /// Everything that stands in its `rejected/`.
    pub fn rejected(&self) -> String {
        let entries = fs::read_dir(self.dir.join("rejected")).into_iter().flatten().flatten();
        entries.map(|entry| String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default()).into_owned()).collect()
    }

    /// Sends a message; its id.
    #[track_caller]
    pub fn send(&self, message: &Value) -> String {
        self.send_all(std::slice::from_ref(message)).remove(0)
    }

    /// Sends messages; their ids.
    #[track_caller]
    pub fn send_all(&self, messages: &[Value]) -> Vec<String> {
        let answer = self.ask("POST", "/v1/messages", &Value::from(messages).to_string());
        let ids = answer["ids"].as_array().unwrap_or_else(|| panic!("messages were not accepted: {answer}"));
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Asks its API.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = http::socket(&self.dir.join("steward.sock"), method, path, body)
            .unwrap_or_else(|error| panic!("{} doesn't answer {method} {path}: {error}", self.name));
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| {
            panic!("{} answers {method} {path} with {error}: {}", self.name, String::from_utf8_lossy(&answer.body));
        })
    }

    /// Asks its API for bytes.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        http::socket(&self.dir.join("steward.sock"), "GET", path, "").unwrap().body
    }

    /// All that is known of a message.
    #[track_caller]
    pub fn show(&self, id: &str) -> Value {
        self.ask("GET", &format!("/v1/messages/{id}"), "")
    }

    /// Waits until a message is in this state; all that is known of it then.
    #[track_caller]
    pub fn awaits(&self, id: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let what = format!("message {id} becomes {state}");
        super::until(SOON, &what, || {
            last = self.show(id);
            if last["state"] == state { Ok(last.clone()) } else { Err(format!("it is {last}")) }
        })
    }

    /// Waits until a message has ended; all that is known of it then.
    #[track_caller]
    pub fn ended(&self, id: &str) -> Value {
        let what = format!("message {id} ends");
        super::until(SOON, &what, || {
            let now = self.show(id);
            if now["finishedAt"].is_string() { Ok(now) } else { Err(format!("it is {now}")) }
        })
    }

    /// Sends a message and waits for its end.
    #[track_caller]
    pub fn send_and_wait(&self, message: &Value) -> Value {
        let id = self.send(message);
        self.ended(&id)
    }

    /// Waits until this is what it knows of another node.
    #[track_caller]
    pub fn sees(&self, name: &str, presence: &str) -> Value {
        super::until(SOON, &format!("{} sees that {name} is {presence}", self.name), || {
            let nodes = self.ask("GET", "/v1/nodes", "");
            let node = nodes.as_array().unwrap().iter().find(|node| node["node"] == name);
            match node {
                Some(node) if node["presence"] == presence => Ok(node.clone()),
                other => Err(format!("it sees {other:?}")),
            }
        })
    }

    /// When the process of another node was started, as far as it knows.
    #[track_caller]
    pub fn sees_start_of(&self, name: &str) -> Value {
        self.sees(name, "online")["info"]["startedAt"].clone()
    }

    /// Its messages, oldest first, without those in which nodes tell of their errors by themselves.
    pub fn messages(&self) -> Vec<Value> {
        let mut messages = self.all_messages();
        messages.retain(|message| message["method"] != "ErrorLog");
        messages
    }

    /// The messages in which it tells of errors, oldest first.
    pub fn told_errors(&self) -> Vec<Value> {
        let mut messages = self.all_messages();
        messages.retain(|message| message["method"] == "ErrorLog" && message["fromNode"] == self.name);
        messages
    }

    /// All of its messages, oldest first.
    pub fn all_messages(&self) -> Vec<Value> {
        let answer = self.ask("GET", "/v1/messages?limit=100000", "");
        let mut messages = answer.as_array().cloned().unwrap_or_else(|| panic!("no list of messages: {answer}"));
        messages.reverse();
        messages
    }

    /// The errors of a node that are kept here, in their order.
    pub fn errors_of(&self, name: &str) -> Vec<String> {
        let errors = self.json(&["errors", "--limit=100000", "--node", name]);
        errors.iter().map(|error| error["text"].as_str().unwrap().to_owned()).collect()
    }

    /// The task with this name, as `steward ps` shows it.
    #[track_caller]
    pub fn task(&self, name: &str) -> Value {
        let mut tasks = self.json(&["ps"]).into_iter().filter(|process| process["kind"] == "task");
        tasks.find(|task| task["name"] == name).unwrap_or_else(|| panic!("{} has no task {name}", self.name))
    }

    /// Waits until it has this many messages and each has ended; oldest first.
    #[track_caller]
    pub fn all_ended(&self, count: usize) -> Vec<Value> {
        super::until(SOON, &format!("{count} messages end"), || {
            let messages = self.messages();
            let open = messages.iter().filter(|message| !message["finishedAt"].is_string()).count();
            if messages.len() == count && open == 0 {
                Ok(messages)
            } else {
                Err(format!("there are {} messages, {open} have not ended", messages.len()))
            }
        })
    }

    /// Runs a verb of the command line in its directory.
    pub fn cli(&self, args: &[&str]) -> Ran {
        process::run(self.fleet.dir(), self.command().args(args))
    }

    /// Runs a verb of the command line in another directory.
    pub fn cli_in(&self, dir: &Path, args: &[&str]) -> Ran {
        process::run(self.fleet.dir(), without_settings(Command::new(&self.fleet.program)).current_dir(dir).args(args))
    }

    /// The same with `--json`; the objects that it prints, whatever its exit code.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.cli(&[&args[..1], &["--json"], &args[1..]].concat());
        let lines: Result<Vec<Value>, _> = ran.stdout.lines().map(serde_json::from_str).collect();
        lines.unwrap_or_else(|error| panic!("`steward {args:?} --json`: {error} in {ran:#?}"))
    }

    /// The program in this node's directory, with nothing of our own settings.
    pub fn command(&self) -> Command {
        let mut command = without_settings(Command::new(&self.fleet.program));
        command.current_dir(&self.dir);
        command
    }
}

/// A command that does not see what the machine's own steward is told by its environment.
fn without_settings(mut command: Command) -> Command {
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("STEWARD_") {
            command.env_remove(variable);
        }
    }
    command
}
