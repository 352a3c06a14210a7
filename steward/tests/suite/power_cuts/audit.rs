//! Starts a node on what the power cut has left, and looks whether everything is true that it had said before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::disk::{self, Deaf, Rest};
use super::play::{self, Kind, NODES, REJECT, Recording};
use super::recorder::LIMIT;
use super::trace::{Moment, Trace, What};
use super::witness::{self, Bulk, Fact, Said, Taken};
use crate::harness::{Effects, Fleet, Node, until};

/// Cuts of one start on what a cut has left.
const CUTS_AGAIN: usize = 5;

/// A power cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) node: &'static str,
    pub(super) moment: Moment,
    pub(super) rest: Rest,
    pub(super) seed: u64,
}

/// What is to be true.
pub(super) struct Audit<'r> {
    recording: &'r Recording,
    said: Vec<Said>,
    taken: Vec<Taken>,
    /// Which message a receiver has given which ticket.
    tickets: BTreeMap<(&'static str, u64), String>,
    /// The ids of messages by their lanes and numbers.
    lanes: BTreeMap<String, BTreeMap<u64, String>>,
    deaf: Deaf,
    /// How long a node may take to read its input again. Only where something is lost, so long is waited.
    patience: Duration,
}

/// A node as it is seen after the cut.
struct Seen<'n> {
    node: &'n Node<'n>,
    /// Its messages by id.
    messages: BTreeMap<String, Value>,
    losses: Vec<String>,
}

impl<'r> Audit<'r> {
    /// Of this recording.
    pub(super) fn new(recording: &'r Recording) -> Self {
        let said = witness::said(&recording.trace);
        let mut tickets = BTreeMap::new();
        let mut lanes: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
        for said in &said {
            if let Fact::Published { id, lane, seq } = &said.fact {
                lanes.entry(lane.clone()).or_default().insert(*seq, id.clone());
            }
            let node = NODES.into_iter().find(|node| *node == said.node);
            if let (Some(node), Fact::Receipt { ticket, id, .. }) = (node, &said.fact) {
                tickets.insert((node, *ticket), id.clone());
            }
        }
        let taken = witness::taken(&recording.trace, "central", "inmsg.txt");
        Self { recording, said, taken, tickets, lanes, deaf: disk::to_nothing, patience: Duration::from_secs(10) }
    }

    /// The same on a disk that does not obey some syncs. Losses are expected, and not waited for.
    pub(super) fn deaf(self, deaf: Deaf) -> Self {
        Self { deaf, patience: Duration::from_secs(1), ..self }
    }

    /// How much there is to check, in words; something of each kind.
    pub(super) fn facts(&self) -> String {
        let count = |is: fn(&Fact) -> bool| self.said.iter().filter(|said| is(&said.fact)).count();
        let counted = [
            (count(|fact| matches!(fact, Fact::Accepted(_))), "accepted"),
            (self.taken.iter().map(|taken| play::numbers(&taken.text).len()).sum(), "taken out of inmsg.txt"),
            (count(|fact| matches!(fact, Fact::Shown { ended: true, .. })), "shown as ended"),
            (count(|fact| matches!(fact, Fact::Published { .. })), "published"),
            (count(|fact| matches!(fact, Fact::Receipt { .. })), "receipts"),
            (count(|fact| matches!(fact, Fact::Receipt { outputs, .. } if !outputs.is_empty())), "with long outputs"),
            (count(|fact| matches!(fact, Fact::Confirmed { .. })), "confirmed"),
        ];
        assert!(counted.iter().all(|(count, _)| *count > 0), "nothing to check of a kind: {counted:?}");
        counted.map(|(count, what)| format!("{count} {what}")).join(", ")
    }

    /// What the node's directory may hold after the cut, for whoever wants to look at it.
    pub(super) fn keep(&self, cut: &Cut, dir: &Path) {
        let trace = &self.recording.trace;
        disk::put(trace, &disk::rebuild(trace, cut.node, cut.moment, cut.rest, self.deaf, cut.seed), dir);
    }

    fn rebuild(&self, cut: &Cut, node: &Node<'_>, rest: Rest) {
        let trace = &self.recording.trace;
        let tree = disk::rebuild(trace, node.name(), cut.moment, rest, self.deaf, cut.seed);
        disk::put(trace, &tree, node.dir());
    }

    /// What is lost when the node starts alone.
    pub(super) fn alone(&self, cut: &Cut) -> Vec<String> {
        let fleet = Fleet::within(play::folder());
        let mut node = fleet.absent(cut.node, &[]);
        self.rebuild(cut, &node, cut.rest);
        self.start(cut, &mut node, self.begun(cut), &fleet.file("ran"))
    }

    /// What is lost when the power goes again while the node starts, and it starts once more.
    pub(super) fn again(&self, cut: &Cut) -> Vec<String> {
        let fleet = Fleet::within(play::folder());
        let node = fleet.absent(cut.node, &[]);
        self.rebuild(cut, &node, cut.rest);
        let mut losses = Vec::new();
        let started = play::record_start(&fleet, &node, || losses.extend(self.look(cut, &node)));
        for second in super::cuts(&started, cut.node, CUTS_AGAIN, cut.seed, super::weight) {
            let fleet = Fleet::within(play::folder());
            let mut node = fleet.absent(cut.node, &[]);
            let tree = disk::rebuild(&started, cut.node, second.moment, second.rest, self.deaf, second.seed);
            disk::put(&started, &tree, node.dir());
            let begun = &self.begun(cut) | &begun(&started, second.moment);
            let lost = self.start(cut, &mut node, begun, &fleet.file("ran"));
            losses.extend(lost.into_iter().map(|lost| format!("{lost}, after a second cut: {second:?}")));
        }
        losses
    }

    /// What is lost when the node starts on what lies in its directory. `begun` are the commands that may not run again.
    fn start(&self, cut: &Cut, node: &mut Node<'_>, begun: BTreeSet<usize>, ran: &Effects) -> Vec<String> {
        if let Err(why) = starts(node) {
            return vec![why];
        }
        let mut losses = self.look(cut, node);
        node.kill();
        losses.extend(damage(node));
        losses.extend(ran_again(begun, &ran.lines()));
        losses
    }

    /// What is lost when both nodes go on, and everything comes to its end. The other one was killed in the same moment,
    /// and its disk had power.
    pub(super) fn together(&self, cut: &Cut) -> Vec<String> {
        let fleet = Fleet::within(play::folder());
        let mut nodes = NODES.map(|name| fleet.absent(name, &[]));
        for node in &nodes {
            self.rebuild(cut, node, if node.name() == cut.node { cut.rest } else { Rest::Kept });
        }
        let running = nodes.each_ref().map(|node| &running(node) | &self.recording.interrupted);
        fleet.broker.start();
        let mut losses = Vec::new();
        let cut_one = NODES.iter().position(|name| *name == cut.node).unwrap();
        for at in [cut_one, 1 - cut_one] {
            if let Err(why) = starts(&mut nodes[at]) {
                return vec![why];
            }
            if at == cut_one {
                // Before the other one is there, and lets it forget what is done.
                losses.extend(self.look(cut, &nodes[at]));
            }
        }
        let ran = fleet.file("ran");
        for ((node, other), running) in nodes.iter().zip(nodes.iter().rev()).zip(running.iter().rev()) {
            let own = all_ended(node);
            losses.extend(doubled(own.values()));
            losses.extend(own.values().filter_map(|message| ended_badly(message, running)));
            losses.extend(own.values().filter_map(|message| torn(node, message)));
            let done = own.values().filter(|message| message["state"] == "done").filter_map(play::number);
            losses.extend(stand_once(other, done.filter(|number| play::kind(*number) == Kind::Line)));
            losses.extend(self.not_run(cut, own.values(), &ran.lines()));
        }
        losses.extend(ran_again(self.begun(cut), &ran.lines()));
        for node in &mut nodes {
            node.kill();
            losses.extend(damage(node));
        }
        losses
    }

    /// What the node has said and does not know any more.
    fn look(&self, cut: &Cut, node: &Node<'_>) -> Vec<String> {
        let taken: Vec<&Taken> =
            self.taken.iter().filter(|taken| node.name() == "central" && taken.moment < cut.moment).collect();
        let wanted: BTreeSet<usize> = taken.iter().flat_map(|taken| play::numbers(&taken.text)).collect();
        let mut seen = Seen { node, messages: listed(node), losses: Vec::new() };
        for said in self.said.iter().take_while(|said| said.moment < cut.moment).filter(|said| said.node == cut.node) {
            match &said.fact {
                Fact::Accepted(id) => seen.has(id, "it was accepted"),
                Fact::Published { id, .. } => seen.has(id, "it was published"),
                Fact::Closed { lane, after, before } => {
                    for id in self.between(lane, *after, *before) {
                        seen.has_ended(id, None, "its receiver was told that it is closed");
                    }
                }
                Fact::Shown { id, state, ended: true } => seen.has_ended(id, Some(state), "it was shown"),
                Fact::Shown { id, .. } => seen.has(id, "it was shown"),
                // Of a message that is not taken on, nothing is kept.
                Fact::Receipt { ticket: 0, .. } => {}
                Fact::Receipt { ticket, id, .. } if self.is_confirmed(cut, *ticket, id) => {}
                Fact::Receipt { ticket, id, state, outputs } => seen.has_got(*ticket, id, state, outputs),
                Fact::Confirmed { to, tickets } => {
                    let to = NODES.into_iter().find(|node| *node == to).unwrap();
                    for id in tickets.iter().filter_map(|ticket| self.tickets.get(&(to, *ticket))) {
                        seen.has_ended(id, None, "its result was confirmed");
                    }
                }
            }
        }
        if seen.losses.is_empty() {
            let rejects = taken.iter().any(|taken| taken.text.contains(REJECT));
            seen.has_input(&wanted, rejects, self.patience);
        }
        for message in seen.messages.values().filter(|message| message["fromNode"] == *node.name()) {
            seen.losses.extend(torn(node, message));
        }
        seen.losses.extend(self.lines(cut, node));
        seen.losses
    }

    /// Lines that do not stand in the log file of a node as it has said.
    fn lines(&self, cut: &Cut, node: &Node<'_>) -> Vec<String> {
        let said = self.said.iter().take_while(|said| said.moment < cut.moment).filter(|said| said.node == cut.node);
        let done = said.filter_map(|said| match &said.fact {
            Fact::Receipt { id, state, .. } if state == "done" => self.recording.numbers.get(id),
            _ => None,
        });
        let done: BTreeSet<usize> = done.filter(|number| play::kind(**number) == Kind::Line).copied().collect();
        stand_once(node, done)
    }

    /// Whether the sender has told the node before the cut that it can forget this result.
    fn is_confirmed(&self, cut: &Cut, ticket: u64, id: &String) -> bool {
        let said = self.said.iter().take_while(|said| said.moment < cut.moment);
        said.into_iter().any(|said| match &said.fact {
            Fact::Confirmed { to, tickets } => to == cut.node && tickets.contains(&ticket),
            Fact::Closed { lane, after, before } => self.between(lane, *after, *before).any(|closed| closed == id),
            _ => false,
        })
    }

    /// The messages of a lane with numbers between these two.
    fn between(&self, lane: &str, after: u64, before: u64) -> impl Iterator<Item = &String> {
        let numbers = self.lanes.get(lane).filter(|_| after + 1 < before);
        numbers.into_iter().flat_map(move |ids| ids.range(after + 1..before).map(|(_, id)| id))
    }

    /// The commands that had begun before the cut.
    fn begun(&self, cut: &Cut) -> BTreeSet<usize> {
        begun(&self.recording.trace, cut.moment)
    }

    /// Commands that are done and have not run.
    fn not_run<'m>(&self, cut: &Cut, messages: impl Iterator<Item = &'m Value>, ran: &[String]) -> Vec<String> {
        let begun = self.begun(cut);
        let done = messages.filter(|message| message["state"] == "done" && message["method"] == "ShellCommand");
        let missing = done
            .filter_map(play::number)
            .filter(|number| !begun.contains(number) && !ran.contains(&number.to_string()));
        missing.map(|number| format!("command {number} is done, but has not run")).collect()
    }
}

impl Seen<'_> {
    fn lost(&mut self, id: &str, instead: impl std::fmt::Display, because: &str) {
        self.losses.push(format!("message {id}: {because}, and now it {instead}"));
    }

    fn has(&mut self, id: &str, because: &str) {
        if !self.messages.contains_key(id) {
            self.lost(id, "is not known", because);
        }
    }

    /// It has ended, in this state if one is given.
    fn has_ended(&mut self, id: &str, state: Option<&str>, because: &str) {
        let because = format!("{because} as {}", state.unwrap_or("ended"));
        let Some(message) = self.messages.get(id) else { return self.lost(id, "is not known", &because) };
        let now = message["state"].to_string();
        let is_same = state.is_none_or(|state| message["state"] == state);
        if !message["finishedAt"].is_string() || !is_same {
            self.lost(id, format!("is {now}"), &because);
        }
    }

    /// It is here for another node, at least as far as this one has said.
    fn has_got(&mut self, ticket: u64, id: &str, state: &str, outputs: &[Bulk]) {
        match state {
            "stored" => self.has(id, "its sender was told that it is stored"),
            "running" => match self.messages.get(id).map(|message| message["state"].to_string()) {
                Some(now) if now != "\"stored\"" => {}
                Some(now) => self.lost(id, format!("is {now}"), "its sender was told that it runs"),
                None => self.lost(id, "is not known", "its sender was told that it runs"),
            },
            _ => {
                self.has_ended(id, Some(state), "its sender was told that it has ended");
                for output in outputs {
                    let path = self.node.dir().join(format!("blobs/in-{ticket}.{}", output.stream));
                    let bytes = fs::read(path).unwrap_or_default();
                    let hash = blake3::hash(&bytes).to_hex();
                    if bytes.len() as u64 != output.len || hash.as_str() != output.hash {
                        self.lost(id, format!("has other bytes in {}", output.stream), "its sender was told of them");
                    }
                }
            }
        }
    }

    /// What was taken out of `inmsg.txt` is here, and nothing is here twice. The node may still be about to read it again.
    fn has_input(&mut self, wanted: &BTreeSet<usize>, rejects: bool, patience: Duration) {
        let since = Instant::now();
        self.losses.extend(until(LIMIT, "inmsg.txt is taken in", || {
            self.messages = listed(self.node);
            let found: BTreeSet<usize> = self.messages.values().filter_map(play::number).collect();
            let missing = wanted.difference(&found).map(|number| format!("message {number}"));
            let reject = Some("what was to be rejected".to_owned());
            let missing = missing.chain(reject.filter(|_| rejects && !self.node.rejected().contains(REJECT)));
            let lost: Vec<String> =
                missing.map(|what| format!("{what} was taken out of inmsg.txt, and is lost")).collect();
            if lost.is_empty() || since.elapsed() > patience { Ok(lost) } else { Err(lost.join(", ")) }
        }));
        self.losses.extend(doubled(self.messages.values().filter(|message| message["fromNode"] == *self.node.name())));
    }
}

/// The commands that had begun before a moment.
fn begun(trace: &Trace, moment: Moment) -> BTreeSet<usize> {
    let ops = trace.ops.iter().filter(|op| op.begin < moment);
    let lines = ops.filter_map(|op| match &op.what {
        What::Command(line) => Some(play::numbers(line)),
        _ => None,
    });
    lines.flatten().collect()
}

/// Commands that ran although they had begun before, or that ran twice.
fn ran_again(mut begun: BTreeSet<usize>, ran: &[String]) -> Vec<String> {
    let numbers = ran.iter().map(|line| line.parse::<usize>().unwrap());
    let again = numbers.filter(|number| !begun.insert(*number) && play::kind(*number) != Kind::Rerun);
    again.map(|number| format!("command {number} has run twice")).collect()
}

/// Starts a node; why it does not.
fn starts(node: &mut Node<'_>) -> Result<(), String> {
    node.launch();
    until(LIMIT, &format!("{} answers, or ends", node.name()), || match node.answers() || !node.runs() {
        true => Ok(()),
        false => Err(String::new()),
    });
    if node.runs() { Ok(()) } else { Err(format!("{} does not start: {}", node.name(), node.log())) }
}

/// The messages of a node, by id.
fn listed(node: &Node<'_>) -> BTreeMap<String, Value> {
    node.all_messages().into_iter().map(|message| (text(&message["id"]), message)).collect()
}

/// The messages that a node runs, or would report as interrupted, before it starts.
fn running(node: &Node<'_>) -> BTreeSet<String> {
    let listed = node.cli(&["messages", "--json", "--state", "running", "--limit", "1000"]);
    let lines = listed.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|message| text(&message["id"])).collect()
}

/// The messages that `node` has sent, once all of them have ended.
fn all_ended(node: &Node<'_>) -> BTreeMap<String, Value> {
    until(LIMIT, &format!("everything from {} ends", node.name()), || {
        let own = listed(node).into_iter().filter(|(_, message)| message["fromNode"] == *node.name());
        let (ended, open): (BTreeMap<String, Value>, BTreeMap<String, Value>) =
            own.partition(|(_, message)| message["finishedAt"].is_string());
        if open.is_empty() { Ok(ended) } else { Err(format!("{open:#?}")) }
    })
}

/// Messages that a node has twice.
fn doubled<'m>(own: impl Iterator<Item = &'m Value>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let again = own.filter_map(play::number).filter(|number| !seen.insert(*number));
    again.map(|number| format!("message {number} is there twice")).collect()
}

/// Why a message should have ended in another way. `running` were being run when the power went.
fn ended_badly(message: &Value, running: &BTreeSet<String>) -> Option<String> {
    let may = match message["state"].as_str() {
        Some("done") => true,
        Some("interrupted") => running.contains(&text(&message["id"])),
        _ => false,
    };
    (!may).then(|| format!("it should have ended in another way: {message}"))
}

/// What is wrong with the output of a message that is done.
fn torn(node: &Node<'_>, message: &Value) -> Option<String> {
    let number = play::number(message).filter(|number| play::kind(*number) == Kind::Long)?;
    let id = message["id"].as_str().filter(|_| message["state"] == "done")?;
    let bytes = node.bytes(&format!("/v1/messages/{id}/stdout"));
    (bytes != play::long(number)).then(|| format!("the output of {number} is not whole: {} bytes", bytes.len()))
}

/// Lines that do not stand in the log file of a node exactly once.
fn stand_once(node: &Node<'_>, numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let log = node.read("textlogging.log");
    let count = |number| log.lines().filter(|line| *line == play::line(number)).count();
    let wrong = numbers.into_iter().map(|number| (number, count(number))).filter(|(_, count)| *count != 1);
    wrong.map(|(number, count)| format!("line {number} stands {count} times in the log of {}", node.name())).collect()
}

/// What is wrong in the directory of a node that was killed while it ran.
fn damage(node: &Node<'_>) -> Option<String> {
    if fs::read_dir(node.dir()).unwrap().any(|entry| entry.unwrap().file_name().as_encoded_bytes().starts_with(b".")) {
        return Some(format!("something that was only made for a moment stays in the directory of {}", node.name()));
    }
    let store = rusqlite::Connection::open(node.dir().join("steward.db")).unwrap();
    let said: String =
        store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap_or_else(|error| error.to_string());
    (said != "ok").then(|| format!("the store of {} is damaged: {said}", node.name()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
