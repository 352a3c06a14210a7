//! A runner with a folder of its own, and an engine's place where the test sits.

use protocol::message::{Kind, MessageId, Options};
use protocol::name::MethodName;
use tokio::sync::broadcast;

pub(super) use super::super::*;
use crate::broker::LinkBoard;
pub(super) use crate::clock;
use crate::engine::Input;
use crate::intake::Defaults;
use crate::methods::live::LiveOutputs;
use crate::processes::Processes;
use crate::store::{ErrorRow, Note, Store};

/// Everything here happens within milliseconds, unless the machine is very busy.
pub(super) const SOON: Duration = Duration::from_secs(60);

pub(super) struct Rig {
    pub(super) dir: tempfile::TempDir,
    pub(super) supervisor: Supervisor,
    pub(super) runner: Runner,
    pub(super) effects: mpsc::Sender<Vec<Effect>>,
    inputs: mpsc::Receiver<Input>,
    ended: HashMap<Ticket, Outcome>,
    /// What was written into the table of errors.
    pub(super) noted: Vec<ErrorRow>,
    next: u64,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (inputs_tx, inputs) = mpsc::channel(64);
        let engine = EngineHandle { inputs: inputs_tx, reports: broadcast::Sender::new(1) };
        let rules = crate::security::rules::Rules::standard(
            NodeName::new("ship1").unwrap(),
            NodeName::new("central").unwrap(),
            Vec::new(),
        );
        let supervisor = Supervisor::new(crate::supervise::Rule::NODE);
        let (link, own_rules) = (LinkBoard::default(), rules.clone());
        let processes = Processes::new(engine.clone(), supervisor.clone(), link, own_rules, None, dir.path());
        let mut setup = Setup {
            node: NodeName::new("ship1").unwrap(),
            dir: dir.path().to_owned(),
            blobs: Blobs::open(dir.path()).unwrap(),
            max_output: 64 << 20,
            wants: crate::results::Wants::default(),
            live: LiveOutputs::default(),
            started: clock::wall(),
            guard: None,
            bodies: Arc::new(|_| None),
            processes,
            forwards: crate::forward::Forwards::new(NodeName::new("ship1").unwrap(), supervisor.clone()),
            audit: crate::audit::Audit::new(
                NodeName::new("ship1").unwrap(),
                crate::audit::Settings { scope: crate::audit::Scope::Nothing, data: crate::audit::DataForm::Full },
            )
            .0,
            permit: Arc::new(|_, _| Ok(crate::security::rules::Grant::default())),
            rules,
            renewal: None,
            syslog: crate::syslog::Desk::default(),
            intake: Intake::new(engine.clone(), Defaults::new(NodeName::new("ship1").unwrap())),
            reader: Arc::new(store(dir.path())),
            own: OwnMethods::open(dir.path()),
        };
        change(&mut setup);
        let (effects, receiver) = mpsc::channel(64);
        let runner = Runner::spawn(setup, &supervisor, receiver, engine);
        Self { dir, supervisor, runner, effects, inputs, ended: HashMap::new(), noted: Vec::new(), next: 0 }
    }

    pub(super) fn run(&mut self, method: &str, data: &[&str]) -> Run {
        self.next += 1;
        let ticket = Ticket(self.next);
        let message = message(ticket, method, data);
        Run { ticket, message, limit: None, facts: OwnMethods::none().facts(method), again: false, stored: false }
    }

    pub(super) async fn start(&mut self, method: &str, data: &[&str]) -> Ticket {
        let run = self.run(method, data);
        self.perform(run).await
    }

    pub(super) async fn perform(&mut self, run: Run) -> Ticket {
        let ticket = run.ticket;
        self.effects.send(vec![Effect::Start(vec![run])]).await.unwrap();
        ticket
    }

    /// Runs a script to its end.
    pub(super) async fn sh(&mut self, script: &str) -> Outcome {
        let ticket = self.start("ShellCommand", &["sh", "-c", script]).await;
        self.end(ticket).await
    }

    pub(super) async fn end(&mut self, ticket: Ticket) -> Outcome {
        loop {
            if let Some(outcome) = self.ended.remove(&ticket) {
                return outcome;
            }
            self.event().await;
        }
    }

    /// Takes in one event; returns which messages it ended.
    pub(super) async fn event(&mut self) -> Vec<Ticket> {
        let ends = loop {
            let input = tokio::time::timeout(SOON, self.inputs.recv()).await.expect("it should have ended by now");
            match input {
                Some(Input::Event(Event::Finished(ends))) => break ends,
                Some(Input::Note(rows, reply)) => {
                    self.noted.extend(rows.into_iter().filter_map(|note| match note {
                        Note::Error(row) => Some(row),
                        Note::Reply(_) | Note::Result(_) => None,
                    }));
                    reply.send(Ok(())).unwrap();
                }
                other => panic!("{other:?}"),
            }
        };
        let tickets = ends.iter().map(|(ticket, _)| *ticket).collect();
        for (ticket, outcome) in ends {
            assert!(self.ended.insert(ticket, outcome).is_none(), "{ticket:?} ended twice");
        }
        tickets
    }

    /// Whether nothing was told that was not taken in.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.inputs.try_recv().is_err()
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A number that a script writes into a file of the folder, with its line break.
    pub(super) async fn number(&self, name: &str) -> i32 {
        number(&self.dir.path().join(name)).await
    }

    /// A pipe with a name: who reads from it waits for ever.
    pub(super) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        path
    }
}

/// An empty store, to read in.
fn store(dir: &std::path::Path) -> Reader {
    drop(Store::open(dir).unwrap());
    Reader::open(dir).unwrap()
}

pub(super) fn message(ticket: Ticket, method: &str, data: &[&str]) -> Message {
    Message {
        id: MessageId(uuid::Uuid::now_v7().as_u128()),
        from: NodeName::new("central").unwrap(),
        to: NodeName::new("ship1").unwrap(),
        kind: Kind::CommandAck,
        method: MethodName::new(method).unwrap(),
        body: serde_json::to_string(data).unwrap().into(),
        options: Options::default(),
        created: Wall(1_700_000_000_000 + ticket.0 * 1000),
    }
}

/// Looks for a fact until it is there.
pub(super) async fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    let found = tokio::time::timeout(SOON, async {
        loop {
            if let Some(found) = fact() {
                return found;
            }
            look.tick().await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("not so, in all that time: {what}"))
}

pub(super) async fn number(path: &std::path::Path) -> i32 {
    let read = || std::fs::read_to_string(path).ok()?.strip_suffix('\n')?.trim().parse().ok();
    until(&format!("a number in {}", path.display()), read).await
}

/// Waits until a process has ended; one that only waits to be reaped has.
pub(super) async fn gone(pid: i32) {
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next()?.starts_with(['Z', 'X']).then_some(()),
        Err(_) => Some(()),
    };
    until(&format!("process {pid} is gone"), gone).await;
}

pub(super) fn text(output: &protocol::outcome::Output) -> &str {
    output.inline.as_deref().unwrap_or_default()
}
