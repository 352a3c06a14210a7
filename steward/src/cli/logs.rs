//! `steward logs`: the output of a message that was sent from here, while it runs or when it has ended, from its beginning
//! or from its end on. It only looks.

use protocol::outcome::{Final, Stream};
use tokio::sync::mpsc;

use super::exit::{self, Exit};
use super::live::{self, Heard, Wanted};
use super::output::{self, Output};
use super::source::Source;
use super::{Context, Verb, wait_for};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// The id of a message, or its beginning or its end
    #[arg(value_name = "ID")]
    id: String,
    /// Stay, and print what its command writes until it has ended
    #[arg(long, short = 'f')]
    follow: bool,
    /// Begin with so many lines of what is there, instead of all; 0: only what comes
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only one of its outputs
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr"])]
    stream: Option<String>,
}

impl Verb for Logs {
    const NAME: &'static str = "logs";
    const ABOUT: &'static str = "Print the output of a message, also while its command runs";
    const MORE: &'static str = "\
Examples:
  steward logs -f 0c1d2e3f4a5b                  # all of it, and what comes
  steward logs -f --tail 10 0c1d2e3f4a5b        # the last ten lines, and what comes
  steward logs --stream stderr 0c1d2e3f4a5b

Standard output comes on standard output, standard error on standard error. Nothing travels from the other node for an
output that nobody follows, and no byte of it twice: what was followed is there already when the message ends. --tail
leaves lines out here; what is before them travels all the same, as it will when the message ends.
Ctrl-C ends looking on, and nothing else. The exit code is 0 however the message ends.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let source = Source::open(&dir).await?;
            let id = source.resolve(&self.id).await?;
            let stream = Stream::ALL.into_iter().find(|stream| Some(stream.as_str()) == self.stream.as_deref());
            let client = match &source {
                Source::Node(client) => client.clone(),
                Source::Store(_) => {
                    anyhow::ensure!(!self.follow && self.tail.is_none(), "only a node that runs can follow an output");
                    let mut stdout = Output::stdout();
                    let mut stderr = Output::stderr();
                    for which in Stream::ALL.into_iter().filter(|which| stream.is_none_or(|stream| stream == *which)) {
                        let to = if which == Stream::Stdout { &mut stdout } else { &mut stderr };
                        source.copy(&id, which, to).await?;
                    }
                    return Ok(Exit::OK);
                }
            };
            let (heard, mut news) = mpsc::channel(live::HEARD_MAX);
            let wanted = Wanted { id, follow: self.follow, stream, tail: self.tail };
            let listen = live::listen(client, wanted, heard);
            tokio::select! {
                printed = print(&mut news) => printed,
                () = listen => print(&mut news).await,
                _ = tokio::signal::ctrl_c() => Ok(Exit(exit::CTRL_C)),
            }
        })
    }
}

/// Prints what comes until the end.
async fn print(news: &mut mpsc::Receiver<Heard>) -> anyhow::Result<Exit> {
    let (mut stdout, mut stderr) = (Output::stdout(), Output::stderr());
    while let Some(heard) = news.recv().await {
        match heard {
            Heard::Piece(Stream::Stdout, bytes) => {
                stdout.bytes(&bytes)?;
                stdout.flush()?;
            }
            Heard::Piece(Stream::Stderr, bytes) => stderr.bytes(&bytes)?,
            Heard::Again => output::note(AGAIN),
            Heard::Gone => output::note("the node here has stopped; waiting for it to be back"),
            Heard::Failed(error) => return Err(error.into()),
            Heard::End(state) => {
                if !matches!(Final::parse(&state), Some(Final::Done | Final::Sent)) {
                    output::note(&format!("the message is {state}"));
                }
                return Ok(Exit::OK);
            }
        }
    }
    Ok(Exit::OK)
}

/// What is said where the output of another run begins.
pub(super) const AGAIN: &str = "its node has died in the middle, and runs it again; the output begins anew:";
