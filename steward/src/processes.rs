//! The processes of a node, as people see and steer them: its lanes, the link to the broker, the tasks that it is made of,
//! and the engine. The same for whoever asks at the node itself (`api/`) and with a message (`methods/op_process_*.rs`).
//!
//! It never decides who may ask, only what can be done at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::time::Wall;

use crate::authority;
use crate::broker::{Action, Denied, LinkBoard};
use crate::clock;
use crate::engine::{EngineError, EngineHandle, Input};
use crate::enrol::renewal::Renewal;
use crate::forward::Forwards;
use crate::security::rules::{self, Rules, RulesView};
use crate::supervise::{ControlError, Supervisor, Whence};
use crate::syslog::Desk;
use crate::view::{KeysView, ProcessView};

/// What nothing works without. It has a thread of its own, which no supervisor owns.
const ENGINE: &str = "engine";

/// How a lane or a subject is that the broker does not permit.
const DENIED: &str = "denied";

/// The way to them. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Processes {
    engine: EngineHandle,
    supervisor: Supervisor,
    link: LinkBoard,
    rules: Rules,
    renewal: Option<Renewal>,
    syslog: Option<Desk>,
    forwards: Option<Forwards>,
    dir: PathBuf,
}

impl Processes {
    /// Those of the node that these belong to.
    pub(crate) fn new(
        engine: EngineHandle,
        supervisor: Supervisor,
        link: LinkBoard,
        rules: Rules,
        renewal: Option<Renewal>,
        dir: &Path,
    ) -> Self {
        Self { engine, supervisor, link, rules, renewal, syslog: None, forwards: None, dir: dir.to_owned() }
    }

    /// With what the node does with syslog.
    pub(crate) fn beside(self, syslog: &Desk) -> Self {
        Self { syslog: Some(syslog.clone()), ..self }
    }

    /// With what it forwards.
    pub(crate) fn forwarding(self, forwards: &Forwards) -> Self {
        Self { forwards: Some(forwards.clone()), ..self }
    }

    /// All of them: lanes first, then the link and what is denied on it, the keys and certificates, the rules, syslog, forwards, the engine, and tasks
    /// in the order of their start.
    pub(crate) async fn list(&self) -> Result<Vec<ProcessView>, EngineError> {
        let mut all = self.engine.ask(Input::Lanes).await?;
        all.push(self.link.process());
        for denied in self.link.denials().all() {
            show(&denied, &mut all);
        }
        all.extend(self.renewal.as_ref().map(|renewal| keys(renewal.view())));
        all.extend(certificate(&self.dir, clock::wall()));
        all.push(rules(self.rules.view(), self.rules.refused()));
        all.extend(self.syslog.as_ref().and_then(Desk::process));
        all.extend(self.forwards.iter().flat_map(Forwards::list));
        all.push(engine());
        all.extend(self.supervisor.list());
        Ok(all)
    }

    /// Stops a task until somebody starts it again, or the node; once it has stopped, this is how it is.
    pub(crate) async fn stop(&self, name: &str, whence: Whence) -> Result<ProcessView, ControlError> {
        if name == ENGINE {
            let why = "engine can't be stopped, because nothing works without it; stop the node itself instead";
            return Err(ControlError::Refused(why.to_owned()));
        }
        match self.supervisor.halt(name, whence).await {
            Err(unknown @ ControlError::Unknown { .. }) => Err(self.lane(name).await.unwrap_or(unknown)),
            told => told,
        }
    }

    /// Starts a task that does not run; this is how it is then. One that runs is left alone.
    pub(crate) async fn start(&self, name: &str) -> Result<ProcessView, ControlError> {
        if name == ENGINE {
            return Ok(engine());
        }
        match self.supervisor.start(name).await {
            Err(unknown @ ControlError::Unknown { .. }) => Err(self.lane(name).await.unwrap_or(unknown)),
            told => told,
        }
    }

    /// What there is to say of a lane, if this is one.
    async fn lane(&self, name: &str) -> Option<ControlError> {
        let lanes = self.engine.ask(Input::Lanes).await.ok()?;
        lanes.iter().any(|lane| lane.name == name).then(|| {
            let why = format!(
                "{name} is a lane: it is there for its messages and has nothing of its own to stop or start; \
                 `steward cancel` takes messages back"
            );
            ControlError::Refused(why)
        })
    }
}

/// What the broker does not permit: in the line of the lane that it keeps waiting, or in one of its own.
fn show(denied: &Denied, all: &mut Vec<ProcessView>) {
    let advice = format!("{}; so said {} times", denied.advice(), denied.times);
    let is_lane = |process: &&mut ProcessView| process.kind == "out" && process.name == denied.subject;
    if denied.action == Action::Publish
        && let Some(lane) = all.iter_mut().find(is_lane)
    {
        lane.state = DENIED.to_owned();
        lane.note = Some(lane.note.take().map_or(advice.clone(), |note| format!("{advice}; {note}")));
        return;
    }
    let (kind, name, state) = ("subject".to_owned(), denied.subject.clone(), DENIED.to_owned());
    all.push(ProcessView { kind, name, state, messages: 0, restarts: 0, note: Some(advice) });
}

/// What is accepted here. It does nothing by itself, but whoever looks how a node is wants to see that it follows its
/// file.
fn rules(view: RulesView, refused: u64) -> ProcessView {
    let state = if view.fleet_why.is_some() { "closed".to_owned() } else { view.state };
    let own = view.why.map(|why| format!("{}: {why}", rules::FILE));
    let of_fleet = match (view.fleet_why, view.fleet_version) {
        (Some(why), _) => Some(format!("of the fleet: {why}")),
        (None, version) => version.map(|version| format!("version {version} of the fleet")),
    };
    let notes: Vec<String> = [own, of_fleet].into_iter().flatten().collect();
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    let (kind, name) = ("rules".to_owned(), rules::FILE.to_owned());
    ProcessView { kind, name, state, messages: refused, restarts: 0, note }
}

/// Until when the broker's certificate holds, where that is the fleet's, whose keys are here.
fn certificate(dir: &Path, now: Wall) -> Option<ProcessView> {
    let told = |state: &str, note: String| ProcessView {
        kind: "tls".to_owned(),
        name: "broker certificate".to_owned(),
        state: state.to_owned(),
        messages: 0,
        restarts: 0,
        note: Some(note),
    };
    let until = match authority::certificate_until(dir) {
        Ok(until) => until?,
        Err(error) => return Some(told("unknown", error.to_string())),
    };
    let at = clock::rfc3339(until);
    let what_to_do = "`steward broker` renews it by itself; where the broker runs on another machine, `steward rotate --broker` \
                      does, and the new files have to be copied there";
    Some(if until <= now {
        told("ended", format!("ended at {at}, so that no node gets in any more: {what_to_do}"))
    } else if Duration::from_millis(until.0 - now.0) < authority::TOLD_BEFORE {
        told("ends-soon", format!("ends at {at}: {what_to_do}"))
    } else {
        told("good", format!("until {at}"))
    })
}

/// With which keys the node signs and logs in, and how far their renewal is.
fn keys(view: KeysView) -> ProcessView {
    let note = view.note.unwrap_or_else(|| format!("since {}, certificate {}", view.since, view.serial));
    let (kind, name) = ("keys".to_owned(), "identity".to_owned());
    ProcessView { kind, name, state: view.state, messages: 0, restarts: 0, note: Some(note) }
}

fn engine() -> ProcessView {
    let (kind, name, state) = ("task".to_owned(), ENGINE.to_owned(), "running".to_owned());
    ProcessView { kind, name, state, messages: 0, restarts: 0, note: None }
}
