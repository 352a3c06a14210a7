//! `steward stop-process` and `steward start-process`: a task of the node that runs here, or of another one.

use anyhow::Context as _;
use protocol::name::NodeName;

use super::exit::Exit;
use super::output::{self, Output};
use super::{Context, Verb, remote, wait_for};
use crate::api::client::Client;
use crate::api::processes::Named;
use crate::view::ProcessView;

/// The arguments of `stop-process`.
#[derive(Debug, clap::Args)]
pub(super) struct StopProcess {
    #[command(flatten)]
    which: Which,
}

/// The arguments of `start-process`.
#[derive(Debug, clap::Args)]
pub(super) struct StartProcess {
    #[command(flatten)]
    which: Which,
}

/// Which process.
#[derive(Debug, clap::Args)]
struct Which {
    /// The name of a task, as `steward ps` shows it; a name of several words needs no quotes
    #[arg(required = true, value_name = "NAME")]
    name: Vec<String>,
    /// On this node, which is told with a message (OpProcessStop, OpProcessStart) [default: the node here]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
    /// The task as it is then, as a JSON object
    #[arg(long)]
    json: bool,
}

impl Verb for StopProcess {
    const NAME: &'static str = "stop-process";
    const ABOUT: &'static str = "Stop a task of a node, such as its intake by file or its metrics";
    const MORE: &'static str = "\
A task that is stopped stays stopped until it is started again (`steward start-process`), or until its node restarts: \
then all tasks run. Nothing is lost by it: what the task has accepted is on disk, and what it would have taken in waits.
Refused, with the reason: what nothing works without (the engine), and what nobody could start again from where he is (the \
link to the broker from another node, the api from here). A lane is no task; `steward cancel` takes its messages back.
Examples:
  steward stop-process inmsg.txt
  steward stop-process metrics --node ship1";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        self.which.tell(&context, "/v1/ps/stop", "OpProcessStop")
    }
}

impl Verb for StartProcess {
    const NAME: &'static str = "start-process";
    const ABOUT: &'static str = "Start a task of a node that was stopped, or is down because it failed too often";
    const MORE: &'static str = "\
A task that was down has all its tries again; one that runs already is left alone.
Examples:
  steward start-process inmsg.txt
  steward start-process job guard --node ship1";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        self.which.tell(&context, "/v1/ps/start", "OpProcessStart")
    }
}

impl Which {
    /// Tells the node here, or with a message another one, and prints how the task is then.
    fn tell(self, context: &Context, path: &str, method: &str) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let name = self.name.join(" ");
        wait_for(async {
            let client = Client::new(&dir);
            let process: ProcessView = match &self.node {
                None => client.post(path, serde_json::to_string(&Named { name })?).await?,
                Some(node) => match remote::ask(&client, node, method, vec![name]).await? {
                    Ok(mut processes) => processes.pop().context("the answer names no task")?,
                    Err(exit) => return Ok(exit),
                },
            };
            let mut output = Output::stdout();
            if self.json {
                output.json(&process)?;
            } else {
                output.line(&output::one_line(&format!("{}: {}", process.name, process.state)))?;
            }
            output.flush()?;
            Ok(Exit::OK)
        })
    }
}
