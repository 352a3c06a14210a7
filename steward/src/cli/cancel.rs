//! `steward cancel`: takes messages back. Whether a command that runs could still be stopped is decided by its node, so
//! the state that is printed may not be the last one.

use super::exit::{self, Exit};
use super::output::Output;
use super::source::Source;
use super::{Context, Verb, messages, output, wait_for};
use crate::api::client::Client;
use crate::view::MessageView;
use protocol::outcome::Final;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Cancel {
    /// Ids, or the beginning or the end of each
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Verb for Cancel {
    const NAME: &'static str = "cancel";
    const ABOUT: &'static str = "Take messages back: what has not started won't, what runs is stopped";
    const MORE: &'static str = "\
A message for a node that is away is told to that node when it comes, in case it has it already.
Exit code: 0 if each could still be taken back, 1 if one had ended already or is not known.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let client = Client::new(&dir);
            let source = Source::Node(client.clone());
            let mut output = Output::stdout();
            let mut end = Exit::OK;
            for typed in &self.ids {
                match cancel(&client, &source, typed).await {
                    Ok(view) => {
                        if ended_before(&view) {
                            end = Exit(exit::FAILED);
                        }
                        if self.json {
                            output.json(&view)?;
                        } else {
                            output.line(&told(&view, &output))?;
                        }
                    }
                    // With one id the error says it all; with several, the others still have to be tried.
                    Err(error) if self.ids.len() == 1 => return Err(error),
                    Err(error) => {
                        end = Exit(exit::FAILED);
                        output::note_as("error", &format!("{typed}: {error:#}"));
                    }
                }
            }
            output.flush()?;
            Ok(end)
        })
    }
}

async fn cancel(client: &Client, source: &Source, typed: &str) -> anyhow::Result<MessageView> {
    let id = source.resolve(typed).await?;
    Ok(client.post(&format!("/v1/messages/{id}/cancel"), String::new()).await?)
}

fn ended_before(view: &MessageView) -> bool {
    view.finished_at.is_some() && view.state != Final::Cancelled.as_str()
}

fn told(view: &MessageView, output: &Output) -> String {
    let state = output.paint(messages::style(&view.state), &view.state);
    if view.state == Final::Cancelled.as_str() {
        format!("{}  {}  {state}", view.id, view.to_node)
    } else if ended_before(view) {
        format!("{}  {}  {state} before it could be cancelled", view.id, view.to_node)
    } else {
        format!("{}  {}  {state}, its cancellation is asked for", view.id, view.to_node)
    }
}
