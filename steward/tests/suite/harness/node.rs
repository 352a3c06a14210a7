//! One `steward` process, and what a test does with it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::process::{self, Process, Ran};
use super::{Fleet, SOON, eventually, http};

/// The program that is tested.
const STEWARD: &str = env!("CARGO_BIN_EXE_steward");

/// What mounts a small disk, in a world of its own that ends with it.
const UNSHARE: [&str; 2] = ["unshare", "-rm"];

/// A node of a fleet. It is killed when it is dropped.
pub(crate) struct Node<'f> {
    fleet: &'f Fleet,
    /// What its directory and its log are called.
    label: String,
    name: String,
    dir: PathBuf,
    flags: Vec<String>,
    /// The MiB of a disk of its own.
    disk: Option<u32>,
    process: Option<Process>,
}

impl<'f> Node<'f> {
    pub(super) fn new(fleet: &'f Fleet, label: &str, name: &str, flags: &[&str]) -> Self {
        let dir = fleet.dir().join(label);
        fs::create_dir(&dir).unwrap();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self { fleet, label: label.to_owned(), name: name.to_owned(), dir, flags, disk: None, process: None }
    }

    /// Has its directory be a small disk from its next start on; false where that is not allowed.
    pub(super) fn put_on_small_disk(&mut self, mebibytes: u32) -> bool {
        let mount = format!("mount -t tmpfs none {}", self.dir.display());
        let tried = Command::new(UNSHARE[0]).args([UNSHARE[1], "sh", "-c", &mount]).output();
        self.disk = Some(mebibytes);
        tried.is_ok_and(|tried| tried.status.success())
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.launch();
        let what = format!("{} answers", self.name);
        let pid = self.pid();
        if self.disk.is_some() {
            // Where its disk is seen from outside.
            self.dir = PathBuf::from(format!("/proc/{pid}/root")).join(self.fleet.dir().strip_prefix("/").unwrap());
            self.dir.push(&self.label);
        }
        eventually(&what, || {
            if let Some(status) = self.process.as_mut().unwrap().ended() {
                panic!("{what}: it ended with {status}");
            }
            self.answers().then_some(())
        });
    }

    /// Starts it and doesn't wait for anything.
    pub(crate) fn launch(&mut self) {
        let mut command = self.start_command();
        self.process = Some(Process::start(&self.label, self.fleet.dir(), &mut command));
    }

    /// What starts it.
    pub(crate) fn start_command(&self) -> Command {
        let mut command = self.command();
        if let Some(mebibytes) = self.disk {
            let dir = self.dir.display();
            let script = format!("mount -t tmpfs -o size={mebibytes}m none {dir} && cd {dir} && exec {STEWARD} \"$@\"");
            command = Command::new(UNSHARE[0]);
            command.args([UNSHARE[1], "sh", "-c", &script, "steward"]);
        }
        command.arg(format!("--node={}", self.name)).arg(format!("--broker-address={}", self.fleet.broker.address()));
        if !self.flags.iter().any(|flag| flag.starts_with("--prom-host-and-port")) {
            command.arg("--prom-host-and-port=none");
        }
        command.args(&self.flags);
        command
    }

    /// Whether it answers.
    pub(crate) fn answers(&self) -> bool {
        let answer = http::socket(&self.dir.join("steward.sock"), "GET", "/v1/info", "");
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// The flags of the next start.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Asks it to stop, waits until it has, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        process::code(process.wait(SOON))
    }

    /// Waits until it ends by itself; its exit code.
    pub(crate) fn ends(&mut self) -> i32 {
        process::code(self.process.take().unwrap().wait(SOON))
    }

    /// Stops its clock, so to speak: SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.process.as_ref().unwrap().signal(Signal::STOP);
    }

    /// It goes on: SIGCONT.
    pub(crate) fn thaw(&self) {
        self.process.as_ref().unwrap().signal(Signal::CONT);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// The most memory that its process has had, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it has logged, over all its runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.fleet.dir().join(format!("{}.log", self.label))).unwrap_or_default()
    }

    /// The lines that it has logged, as JSON.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// A file in its directory, or nothing.
    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    /// Appends to its `inmsg.txt`, as `cat >>` does: one write.
    pub(crate) fn append(&self, text: &str) {
        let mut file = fs::File::options().create(true).append(true).open(self.dir.join("inmsg.txt")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until its `inmsg.txt` is empty: everything in it is accepted, or put aside.
    pub(crate) fn has_taken_input(&self) {
        eventually("inmsg.txt is erased", || self.read("inmsg.txt").trim().is_empty().then_some(()));
    }

    /// Everything that stands in its `rejected/`.
    pub(crate) fn rejected(&self) -> String {
        let entries = fs::read_dir(self.dir.join("rejected")).into_iter().flatten().flatten();
        entries.map(|entry| String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default()).into_owned()).collect()
    }

    /// Sends a message; its id.
    #[track_caller]
    pub(crate) fn send(&self, message: &Value) -> String {
        self.send_all(std::slice::from_ref(message)).remove(0)
    }

    /// Sends messages; their ids.
    #[track_caller]
    pub(crate) fn send_all(&self, messages: &[Value]) -> Vec<String> {
        let answer = self.ask("POST", "/v1/messages", &Value::from(messages).to_string());
        let ids = answer["ids"].as_array().unwrap_or_else(|| panic!("messages were not accepted: {answer}"));
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Asks its API.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = http::socket(&self.dir.join("steward.sock"), method, path, body)
            .unwrap_or_else(|error| panic!("{} doesn't answer {method} {path}: {error}", self.name));
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| {
            panic!("{} answers {method} {path} with {error}: {}", self.name, String::from_utf8_lossy(&answer.body));
        })
    }

    /// Asks its API for bytes.
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        http::socket(&self.dir.join("steward.sock"), "GET", path, "").unwrap().body
    }

    /// All that is known of a message.
    #[track_caller]
    pub(crate) fn show(&self, id: &str) -> Value {
        self.ask("GET", &format!("/v1/messages/{id}"), "")
    }

    /// Waits until a message is in this state; all that is known of it then.
    #[track_caller]
    pub(crate) fn awaits(&self, id: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let what = format!("message {id} becomes {state}");
        super::until(SOON, &what, || {
            last = self.show(id);
            if last["state"] == state { Ok(last.clone()) } else { Err(format!("it is {last}")) }
        })
    }

    /// Waits until a message has ended; all that is known of it then.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        let what = format!("message {id} ends");
        super::until(SOON, &what, || {
            let now = self.show(id);
            if now["finishedAt"].is_string() { Ok(now) } else { Err(format!("it is {now}")) }
        })
    }

    /// Sends a message and waits for its end.
    #[track_caller]
    pub(crate) fn send_and_wait(&self, message: &Value) -> Value {
        let id = self.send(message);
        self.ended(&id)
    }

    /// Waits until this is what it knows of another node.
    #[track_caller]
    pub(crate) fn sees(&self, name: &str, presence: &str) -> Value {
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
    pub(crate) fn sees_start_of(&self, name: &str) -> Value {
        self.sees(name, "online")["info"]["startedAt"].clone()
    }

    /// Its messages, oldest first, without those in which nodes tell of their errors by themselves.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let mut messages = self.all_messages();
        messages.retain(|message| message["method"] != "ErrorLog");
        messages
    }

    /// The messages in which it tells of errors, oldest first.
    pub(crate) fn told_errors(&self) -> Vec<Value> {
        let mut messages = self.all_messages();
        messages.retain(|message| message["method"] == "ErrorLog" && message["fromNode"] == self.name);
        messages
    }

    /// All of its messages, oldest first.
    pub(crate) fn all_messages(&self) -> Vec<Value> {
        let answer = self.ask("GET", "/v1/messages?limit=100000", "");
        let mut messages = answer.as_array().cloned().unwrap_or_else(|| panic!("no list of messages: {answer}"));
        messages.reverse();
        messages
    }

    /// The errors of a node that are kept here, in their order.
    pub(crate) fn errors_of(&self, name: &str) -> Vec<String> {
        let errors = self.json(&["errors", "--limit=100000", "--node", name]);
        errors.iter().map(|error| error["text"].as_str().unwrap().to_owned()).collect()
    }

    /// The task with this name, as `steward ps` shows it.
    #[track_caller]
    pub(crate) fn task(&self, name: &str) -> Value {
        let mut tasks = self.json(&["ps"]).into_iter().filter(|process| process["kind"] == "task");
        tasks.find(|task| task["name"] == name).unwrap_or_else(|| panic!("{} has no task {name}", self.name))
    }

    /// Waits until it has this many messages and each has ended; oldest first.
    #[track_caller]
    pub(crate) fn all_ended(&self, count: usize) -> Vec<Value> {
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
    pub(crate) fn cli(&self, args: &[&str]) -> Ran {
        process::run(self.fleet.dir(), self.command().args(args))
    }

    /// The same with `--json`; the objects that it prints, whatever its exit code.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.cli(&[&args[..1], &["--json"], &args[1..]].concat());
        let lines: Result<Vec<Value>, _> = ran.stdout.lines().map(serde_json::from_str).collect();
        lines.unwrap_or_else(|error| panic!("`steward {args:?} --json`: {error} in {ran:#?}"))
    }

    /// The program in this node's directory, with nothing of our own settings.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(STEWARD);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("STEWARD_") {
                command.env_remove(variable);
            }
        }
        command.current_dir(&self.dir);
        command
    }
}
