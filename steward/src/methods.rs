//! What a node can do: one method a file, and one line for each in [`TABLE`]. `docs/methods.md` is generated from the
//! files' texts. What a node has beside these lies in a folder of it: [`own`], which is asked for every method by its name.
//!
//! In the order in which a message meets them: [`runner`] starts it, [`context`] lends its method what it may use,
//! [`program`] runs a command, by means of [`process`] and [`capture`], which look after its processes and its output,
//! [`live`] lets others look on, [`as_user`] gives it the user that a rule names, [`job_guard`] ends commands whose node was
//! killed, [`append`] writes log files. Nothing here decides about delivery, and nothing here decides who may run what: that is
//! `security::admission`, which is asked again before each run.

mod append;
pub(crate) mod as_user;
mod capture;
mod context;
pub(crate) mod copy_file;
mod error_log;
mod http_get;
pub(crate) mod job_guard;
pub(crate) mod live;
mod once;
mod op_keys_renew;
mod op_process_list;
mod op_process_start;
mod op_process_stop;
mod op_rules_apply;
mod op_schedule;
mod own;
mod port_forward;
mod process;
mod program;
mod ready;
mod runner;
mod say_hello;
pub(crate) mod schedule;
mod schedule_result;
mod script;
mod shell_command;
mod syslogforwarding;
mod tail_file;
mod text_logging;

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::{Kind, MessageId};
use protocol::outcome::Final;
use protocol::step::Run;

pub(crate) use context::MethodCtx;
pub(crate) use job_guard::Guard;
pub(crate) use own::{OwnMethods, Told};
pub(crate) use ready::Permit;
pub(crate) use runner::{Runner, Setup};
pub(crate) use tail_file::pattern::Pattern as PathPattern;

use context::{Batch, Host, StopSwitch};
use once::Ran;

/// Every method, one line each.
static TABLE: &[&dyn Entry] = &[
    &Row::<shell_command::ShellCommand>::NEW,
    &Row::<script::Script>::NEW,
    &Row::<text_logging::TextLogging>::NEW,
    &Row::<error_log::ErrorLog>::NEW,
    &Row::<syslogforwarding::Syslogforwarding>::NEW,
    &Row::<http_get::HttpGet>::NEW,
    &Row::<copy_file::CopyFile>::NEW,
    &Row::<tail_file::TailFile>::NEW,
    &Row::<port_forward::PortForward>::NEW,
    &Row::<say_hello::SayHello>::NEW,
    &Row::<op_process_list::OpProcessList>::NEW,
    &Row::<op_process_stop::OpProcessStop>::NEW,
    &Row::<op_process_start::OpProcessStart>::NEW,
    &Row::<op_rules_apply::OpRulesApply>::NEW,
    &Row::<op_keys_renew::OpKeysRenew>::NEW,
    &Row::<schedule::Schedule>::NEW,
    &Row::<schedule_result::ScheduleResult>::NEW,
    &Row::<op_schedule::OpSchedule>::NEW,
];

/// The method that runs a script which its message brings.
pub(crate) const SCRIPT: &str = <script::Script as Method>::NAME;

/// The method that copies files; the command line and the API send it.
pub(crate) const COPY_FILE: &str = <copy_file::CopyFile as Method>::NAME;

/// The method of an order with a schedule.
pub(crate) const SCHEDULE: &str = <schedule::Schedule as Method>::NAME;

/// The method that pauses orders on their node.
pub(crate) const OP_SCHEDULE: &str = <op_schedule::OpSchedule as Method>::NAME;

/// The method that forwards TCP connections. A rule has to name where, whoever sends it.
pub(crate) const PORT_FORWARD: &str = <port_forward::PortForward as Method>::NAME;

/// The method that brings rules; whom it is taken from is up to the node's own.
pub(crate) const RULES_APPLY: &str = <op_rules_apply::OpRulesApply as Method>::NAME;

/// The method that takes lines of syslog in.
pub(crate) const SYSLOG: &str = <syslogforwarding::Syslogforwarding as Method>::NAME;

/// The method that follows files.
pub(crate) const TAIL_FILE: &str = <tail_file::TailFile as Method>::NAME;

/// The method that has a node renew its keys.
pub(crate) const KEYS_RENEW: &str = <op_keys_renew::OpKeysRenew as Method>::NAME;

/// One thing that a node can do for a message.
pub(crate) trait Method: Send + Sync + 'static {
    /// Its name in messages and subjects, case sensitive.
    const NAME: &'static str;
    /// Whether it may run again after the node died in the middle. No default: its author has to decide.
    const AFTER_CRASH: AfterCrash;
    /// Whether it only takes something in, so that it may be sent as an event, which a node takes from everybody.
    const EVENT: bool;
    /// How many messages of a lane one run may take.
    const BATCH: usize = 1;
    /// Whether a command of it goes on until it is cancelled. Nothing waits for it to end: neither what follows it in its
    /// lane nor the node when it stops; it has no default time limit, and it goes on with the next start.
    const STANDING: bool = false;
    /// Its data, understood.
    type Args: Send;

    /// Understands `data`, or says in words why it makes no sense; the message is refused with them.
    fn parse(data: &[String]) -> Result<Self::Args, String>;

    /// The same for a message that is sent as an event, where that is something else than the command.
    fn parse_event(data: &[String]) -> Result<Self::Args, String> {
        Self::parse(data)
    }

    /// Adds the arguments of the next message of a batch. Called only where `BATCH` is more than 1.
    fn join(_batch: &mut Self::Args, _next: Self::Args) {}

    /// Does it. What it returns holds for every message of the batch.
    fn run(args: Self::Args, ctx: &mut MethodCtx<'_>) -> impl Future<Output = Result<Ending, MethodError>> + Send;
}

/// What a node does with a message that it was running when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterCrash {
    /// Runs it again: that is harmless.
    Rerun,
    /// Reports it as interrupted, unless the message itself says that a rerun is harmless.
    Interrupt,
}

/// How a method ended; times and output are added by the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The final state.
    pub(crate) state: Final,
    /// Why, where the state alone does not say it.
    pub(crate) reason: Option<Arc<str>>,
    /// The exit code of a command that ended by itself.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended a command.
    pub(crate) signal: Option<i32>,
}

impl Ending {
    /// It worked, and there is nothing else to say.
    pub(crate) const DONE: Self = Self { state: Final::Done, reason: None, exit_code: None, signal: None };

    /// A final state with its reason.
    pub(crate) fn because(state: Final, reason: impl Into<Arc<str>>) -> Self {
        Self { state, reason: Some(reason.into()), exit_code: None, signal: None }
    }
}

/// Why a method could not do it, in words for the operator; the message ends as `failed`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct MethodError(pub(crate) String);

/// A method without its types, for the table.
trait Entry: Send + Sync {
    fn name(&self) -> &'static str;
    fn rerun(&self) -> bool;
    fn event(&self) -> bool;
    fn batch(&self) -> usize;
    fn standing(&self) -> bool;
    fn check(&self, kind: Kind, data: &[String]) -> Result<(), String>;
    fn run<'a>(&self, host: &'a Arc<Host>, batch: Batch) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
    fn once<'a>(
        &self,
        host: &'a Arc<Host>,
        run: Run,
        stop: &'a StopSwitch,
        output_max: u64,
    ) -> Pin<Box<dyn Future<Output = Ran> + Send + 'a>>;
}

struct Row<M>(std::marker::PhantomData<M>);

impl<M> Row<M> {
    const NEW: Self = Self(std::marker::PhantomData);
}

impl<M: Method> Entry for Row<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn rerun(&self) -> bool {
        M::AFTER_CRASH == AfterCrash::Rerun
    }

    fn event(&self) -> bool {
        M::EVENT
    }

    fn batch(&self) -> usize {
        M::BATCH
    }

    fn standing(&self) -> bool {
        M::STANDING
    }

    fn check(&self, kind: Kind, data: &[String]) -> Result<(), String> {
        parse::<M>(kind, data).map(drop)
    }

    fn run<'a>(&self, host: &'a Arc<Host>, batch: Batch) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(runner::running::execute::<M>(host, batch))
    }

    fn once<'a>(
        &self,
        host: &'a Arc<Host>,
        run: Run,
        stop: &'a StopSwitch,
        output_max: u64,
    ) -> Pin<Box<dyn Future<Output = Ran> + Send + 'a>> {
        Box::pin(once::once::<M>(host, run, stop, output_max))
    }
}

/// A method's data, understood as what the message is.
fn parse<M: Method>(kind: Kind, data: &[String]) -> Result<M::Args, String> {
    if kind.is_command() { M::parse(data) } else { M::parse_event(data) }
}

fn entry(method: &str) -> Option<&'static dyn Entry> {
    TABLE.iter().find(|entry| entry.name() == method).copied()
}

/// Whether a message goes on until it is cancelled; see [`Method::STANDING`].
pub(crate) fn stands(kind: Kind, method: &str) -> bool {
    kind.is_command() && entry(method).is_some_and(Entry::standing)
}

/// Whether a method may run by a schedule, or why not.
fn may_be_scheduled(method: &str) -> Result<(), String> {
    match entry(method) {
        Some(entry) if entry.standing() => {
            Err(format!("{method} goes on until it is cancelled, so it can't run by a schedule"))
        }
        _ if method == COPY_FILE => {
            Err(format!("{method} can't run by a schedule: what it copies goes along with its message"))
        }
        _ => Ok(()),
    }
}

/// The names of steward's own methods, in the order of the table.
fn known() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name())
}

/// Checks the data of a message for one of steward's own methods as far as that can be done without running it. The error is
/// a reason in words.
pub(crate) fn check(kind: Kind, method: &str, data: &[String]) -> Result<(), String> {
    let entry = entry(method).ok_or_else(|| format!("steward has no method {method}"))?;
    entry.check(kind, data).map_err(|why| format!("{method}: {why}"))
}

/// The data of a message from the JSON text that carries it.
pub(crate) fn data(body: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(body).map_err(|error| format!("data is no array of strings: {error}"))
}

/// Puts in order what the last process of this node left behind when it was killed. Called once at start, before
/// anything runs, with the inbox messages that the store has as running. Blocks for up to a few seconds where leftovers
/// don't want to end. Returns how many processes were ended.
pub(crate) fn recover(dir: &Path, running: &[(Ticket, MessageId)]) -> usize {
    let tickets: BTreeSet<Ticket> = running.iter().map(|(ticket, _)| *ticket).collect();
    for log in [&text_logging::LOG, &error_log::LOG] {
        if let Err(error) = append::recover(dir, log, &tickets) {
            tracing::warn!(log = log.name, %error, "the log could not be compared with its journal; lines of messages \
                that run again may be in it twice");
        }
    }
    if let Err(error) = crate::tails::recover(dir) {
        tracing::warn!(%error, "what was appended last to a file below tails/ can't be looked at; lines may be in it twice");
    }
    if let Err(error) = http_get::recover(dir) {
        tracing::warn!(%error, "what is left of downloads that were not whole could not be removed");
    }
    if let Err(error) = script::recover(dir) {
        tracing::warn!(%error, "what is left of scripts that ran could not be removed");
    }
    if running.is_empty() {
        return 0;
    }
    let ids: BTreeSet<MessageId> = running.iter().flat_map(|(_, id)| schedule::ids_of_runs(*id)).collect();
    process::end(&HashSet::new(), &process::Marked { ids, by: None }, process::GRACE)
}

#[cfg(test)]
mod tests;
