//! `steward tail`: has a node follow files, and shows their lines as they come here. The lines are in files of the node here by then;
//! looking at them changes nothing.

mod files;

use std::time::Duration;

use protocol::name::NodeName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::files::{Files, Shown};
use super::exit::{self, Exit, UsageError};
use super::output::{self, Output};
use super::show::has_ended;
use super::source::Source;
use super::{Context, Verb, send, wait_for};
use crate::api::client::{Client, ClientError};
use crate::intake::MessageInput;
use crate::view::MessageView;

/// What is sent.
const METHOD: &str = crate::methods::TAIL_FILE;

/// How often it is looked for new lines.
const LOOK: Duration = Duration::from_millis(200);

/// How often the message is looked at, in looks for lines.
const LOOKS_FOR_MESSAGE: u32 = 10;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Tail {
    /// The node and the absolute path of a file there, or a pattern for several, in quotes: 'ship1:/var/log/*.log'
    #[arg(value_name = "NODE:PATH", required_unless_present = "follow")]
    what: Option<String>,
    /// Show the lines of a tail that runs already; the id may be abbreviated
    #[arg(long, short = 'f', value_name = "ID", conflicts_with_all = ["what", "from_start", "wanted", "unwanted", "rate",
        "line_max", "links", "seal", "directory", "file_name", "detach"])]
    follow: Option<String>,
    /// Begin at the start of files that are there already, instead of at their ends
    #[arg(long)]
    from_start: bool,
    /// Only lines in which this regular expression is found; given more than once: any of them
    #[arg(long = "match", value_name = "REGEX")]
    wanted: Vec<String>,
    /// No lines in which this regular expression is found; may be repeated
    #[arg(long = "not", value_name = "REGEX")]
    unwanted: Vec<String>,
    /// At most so many lines a second; a mark says how many were left out
    #[arg(long, value_name = "LINES")]
    rate: Option<u32>,
    /// Of longer lines only the beginning [default: 64KiB]
    #[arg(long, value_name = "SIZE")]
    line_max: Option<String>,
    /// Follow a file also where it is a symbolic link
    #[arg(long)]
    links: bool,
    /// Encrypt the lines on their way: the broker's operator can't read them
    #[arg(long)]
    seal: bool,
    /// The folder for the lines here, below tails/ in the node's directory [default: the name of the other node]
    #[arg(long, value_name = "FOLDER")]
    directory: Option<String>,
    /// One file for all lines [default: a file for each file there, called as it is there]
    #[arg(long, value_name = "NAME")]
    file_name: Option<String>,
    /// Leave it running when this ends with Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Show no lines: print the id and go; it goes on until it is cancelled
    #[arg(long)]
    detach: bool,
    /// Begin with so many of the lines that are here already [default: 0, with -f 10]
    #[arg(long, short = 'n', value_name = "LINES")]
    lines: Option<usize>,
    /// One JSON object a line (with --detach: its id)
    #[arg(long)]
    json: bool,
}

impl Verb for Tail {
    const NAME: &'static str = "tail";
    const ABOUT: &'static str = "Follow files on a node, and show their lines as they come";
    const MORE: &'static str = "\
Examples:
  steward tail ship1:/var/log/syslog
  steward tail 'ship1:/var/log/app/*.log' --match 'ERROR|WARN' --rate 100
  steward tail ship1:/var/log/syslog --from-start --detach
  steward tail -f 0c1d2e3f4a5b                  # look on again

The lines also lie in tails/NODE/PATH in the directory of the node here, each once, whatever was restarted meanwhile.
Ctrl-C takes the order back, unless --keep is given or it was there before (-f); `steward cancel ID` ends one that
was left. What is shown is what arrives here; while the other node is away nothing does, and nothing is lost by that.
The exit code is 130 after Ctrl-C, and 1 if the other node ends it: a rule refuses it, or the path makes no sense.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            // From before anything is sent, so that Ctrl-C takes back whatever was.
            let mut interrupt = signal(SignalKind::interrupt())?;
            let client = Client::new(&dir);
            let source = Source::Node(client.clone());
            let (id, mut files) = match &self.follow {
                Some(typed) => {
                    let id = source.resolve(typed).await?;
                    let view = source.message(&id).await?;
                    anyhow::ensure!(view.method == METHOD, "message {id} is {}, and follows no file", view.method);
                    let mut files = Files::of(&dir, &view)?;
                    files.begin(self.lines.unwrap_or(10));
                    (id, files)
                }
                None => {
                    let order = self.order()?;
                    let mut files = Files::of_order(&dir, &order)?;
                    files.begin(self.lines.unwrap_or(0));
                    let ids = send::submit(&client, std::slice::from_ref(&order)).await?;
                    let Some(id) = ids.into_iter().next() else { anyhow::bail!("the node here has taken nothing") };
                    if self.detach {
                        return self.detached(&id);
                    }
                    output::note(&format!("the order is {id}"));
                    (id, files)
                }
            };
            self.show(&client, &id, &mut files, &mut interrupt).await
        })
    }
}

impl Tail {
    fn order(&self) -> Result<MessageInput, UsageError> {
        let what = self.what.as_deref().unwrap_or_default();
        let Some((node, path)) = what.split_once(':') else {
            return Err(UsageError(format!("{what:?} names no file of a node; write it as ship1:/var/log/syslog")));
        };
        NodeName::new(node).map_err(|error| UsageError(format!("{what:?}: {error}")))?;
        let option = |name: &str, value: &str| format!("{name}={value}");
        let mut data = vec![path.to_owned()];
        data.extend(self.from_start.then(|| option("from", "start")));
        data.extend(self.wanted.iter().map(|regex| option("match", regex)));
        data.extend(self.unwanted.iter().map(|regex| option("not", regex)));
        data.extend(self.rate.map(|rate| option("rate", &rate.to_string())));
        data.extend(self.line_max.iter().map(|size| option("lineMax", size)));
        data.extend(self.links.then(|| option("links", "follow")));
        let is_named = self.directory.is_some() || self.file_name.is_some();
        crate::methods::check(protocol::message::Kind::CommandAck, METHOD, &data).map_err(UsageError)?;
        Ok(MessageInput {
            to_node: node.to_owned(),
            data,
            command_or_event: "CommandACK".to_owned(),
            method: METHOD.to_owned(),
            seal: self.seal.then_some(true),
            reply_method: is_named.then(|| "fileAppend".to_owned()),
            directory: self.directory.clone(),
            file_name: self.file_name.clone(),
            ..MessageInput::default()
        })
    }

    fn detached(&self, id: &str) -> anyhow::Result<Exit> {
        let mut output = Output::stdout();
        match self.json {
            true => output.json(&serde_json::json!({ "id": id }))?,
            false => output.line(id)?,
        }
        output.flush()?;
        Ok(Exit::OK)
    }

    /// Shows lines until the message has ended, or somebody does not want any more.
    async fn show(&self, client: &Client, id: &str, files: &mut Files, interrupt: &mut Signal) -> anyhow::Result<Exit> {
        let mut output = Output::stdout();
        let mut shown = Shown::new(self.json);
        let (mut looks, mut is_gone) = (0u32, false);
        loop {
            files.show(&mut shown, &mut output)?;
            if looks.is_multiple_of(LOOKS_FOR_MESSAGE) {
                let message = format!("/v1/messages/{id}");
                match client.get::<MessageView>(&message).await {
                    Ok(view) if has_ended(&view) => return self.ended(&view, files, &mut shown, &mut output),
                    Ok(_) => is_gone = false,
                    Err(error) if !error.is_passing() => return Err(error.into()),
                    Err(_) if !is_gone => {
                        output::note("the node here has stopped; waiting for it to be back");
                        is_gone = true;
                    }
                    Err(_) => {}
                }
            }
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = interrupt.recv() => return self.interrupted(client, id).await,
            }
        }
    }

    fn ended(
        &self,
        view: &MessageView,
        files: &mut Files,
        shown: &mut Shown,
        output: &mut Output,
    ) -> anyhow::Result<Exit> {
        files.show(shown, output)?;
        let why = view.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        output::note(&format!("the tail has ended; it is {}{why}", view.state));
        Ok(Exit(exit::FAILED))
    }

    async fn interrupted(&self, client: &Client, id: &str) -> anyhow::Result<Exit> {
        if self.keep || self.follow.is_some() {
            output::note(&format!("it goes on; `steward tail -f {id}` shows it again, `steward cancel {id}` ends it"));
            return Ok(Exit(exit::CTRL_C));
        }
        let cancelled: Result<MessageView, ClientError> =
            client.post(&format!("/v1/messages/{id}/cancel"), String::new()).await;
        match cancelled {
            Ok(_) => output::note("it is taken back; lines that are on their way still come"),
            Err(error) => {
                output::note_as(
                    "error",
                    &format!("it could not be taken back, and goes on until `steward cancel {id}`: {error}"),
                );
            }
        }
        Ok(Exit(exit::CTRL_C))
    }
}
