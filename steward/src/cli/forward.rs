//! `steward forward`: a port here that comes out at another node, or the other way round, for as long as it runs. The node here
//! does the work; this says what is wanted, tells how it is, and asks again when the node was started anew.

use std::time::Duration;

use protocol::name::NodeName;

use super::exit::{self, Exit, UsageError};
use super::output::{self, Output};
use super::{Context, Verb, wait_for};
use crate::api::client::{Client, ClientError};
use crate::api::forward::{ForwardInput, ForwardView};
use crate::forward::ask::Ask;
use crate::forward::place::Place;

/// The first of the pauses after which the node here is asked again, each twice as long, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Forward {
    /// Where connections are taken in: a port of this machine's loopback (0: any that is free), or ADDRESS:PORT
    #[arg(value_name = "LISTEN")]
    listen: String,
    /// Where they come out: HOST:PORT, as NODE reaches it
    #[arg(value_name = "NODE:HOST:PORT")]
    target: String,
    /// The other way round: NODE listens on LISTEN, and connections come out at HOST:PORT as this machine reaches it
    #[arg(long, short = 'R')]
    reverse: bool,
    /// How long connections outlast that nothing is heard of NODE: 1s to 24h [default: 10m]
    #[arg(long, value_name = "DURATION")]
    hold: Option<String>,
    /// Encrypt all of it to NODE: the broker's operator can't read it
    #[arg(long)]
    seal: bool,
    /// One JSON object a line: how it is, and what becomes of it
    #[arg(long)]
    json: bool,
}

impl Verb for Forward {
    const NAME: &'static str = "forward";
    const ABOUT: &'static str = "Forward a TCP port to another node, or one of it to here";
    const MORE: &'static str = "\
Examples:
  steward forward 8080 ship1:localhost:80           # http://localhost:8080 here is port 80 of ship1
  steward forward 2222 ship1:192.168.1.1:22         # a router that only ship1 reaches
  steward forward -R 8080 ship1:localhost:3000      # port 8080 of ship1's loopback is port 3000 here

It lasts until Ctrl-C. A rule of NODE has to name the place, whoever asks: forward = [\"localhost:80\"] for the first example,
listen = [\"127.0.0.1:8080\"] for the last (docs/rules.md).
A link that is cut breaks no connection off: they wait, for as long as --hold says. A node that is started anew does, and then
takes new ones. 128 connections can be open at the same time; more wait.

Exit codes: 130 ended by Ctrl-C; 126 refused by NODE; 1 it could not be done, or is over; 2 the command line makes no sense.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let input = self.input()?;
        let client = Client::new(&context.dir()?);
        wait_for(async {
            tokio::select! {
                ended = self.keep(&client, &input) => ended,
                _ = tokio::signal::ctrl_c() => Ok(Exit(exit::CTRL_C)),
            }
        })
    }
}

impl Forward {
    /// What the node here is asked for. What makes no sense is said before it is.
    fn input(&self) -> Result<ForwardInput, UsageError> {
        let Some((node, target)) = self.target.split_once(':') else {
            let why = format!("{:?} is no NODE:HOST:PORT; write ship1:localhost:80", self.target);
            return Err(UsageError(why));
        };
        let node = NodeName::new(node).map_err(|error| UsageError(format!("{node:?} is no node: {error}")))?;
        Place::target(target).map_err(UsageError)?;
        Place::listener(&self.listen).map_err(UsageError)?;
        if let Some(hold) = &self.hold {
            Ask::hold(hold).map_err(|why| UsageError(format!("--hold: {why}")))?;
        }
        Ok(ForwardInput {
            to_node: node.to_string(),
            listen: self.listen.clone(),
            target: target.to_owned(),
            reverse: self.reverse,
            hold: self.hold.clone(),
            seal: self.seal.then_some(true),
        })
    }

    /// Has the node here forward; again when it comes back after it was gone.
    async fn keep(&self, client: &Client, input: &ForwardInput) -> anyhow::Result<Exit> {
        let (mut has_begun, mut pause) = (false, PAUSE_FIRST);
        loop {
            match self.follow(client, input, &mut has_begun, &mut pause).await {
                Ok(Some(exit)) => return Ok(exit),
                Err(error) if !has_begun || !error.is_passing() => return Err(error.into()),
                Ok(None) | Err(_) => {}
            }
            if pause == PAUSE_FIRST {
                output::note("the node here has stopped; waiting for it to be back");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One answer of the node here, to its end; none: the node has gone.
    async fn follow(
        &self,
        client: &Client,
        input: &ForwardInput,
        has_begun: &mut bool,
        pause: &mut Duration,
    ) -> Result<Option<Exit>, ClientError> {
        let body = serde_json::to_string(input).map_err(|error| ClientError::Answer(error.to_string()))?;
        let mut answer = client.post_stream("/v1/forward", body).await?;
        (*has_begun, *pause) = (true, PAUSE_FIRST);
        while let Some(line) = answer.line::<ForwardView>().await? {
            self.show(input, &line)?;
            if let Some(state) = &line.state {
                return Ok(Some(Exit(if state == "refused" { exit::REFUSED } else { exit::FAILED })));
            }
        }
        Ok(None)
    }

    fn show(&self, input: &ForwardInput, line: &ForwardView) -> Result<(), ClientError> {
        if self.json {
            let mut stdout = Output::stdout();
            let printed = stdout.json(line).and_then(|()| stdout.flush());
            return printed.map_err(|error| ClientError::Lost(error.to_string()));
        }
        let ForwardInput { to_node, target, .. } = input;
        let there = if self.reverse { format!("{target} here") } else { format!("{target} at {to_node}") };
        if let Some(listening) = &line.listening {
            output::note(&format!("{listening} is forwarded to {there} (message {})", line.id));
        }
        match (line.open, &line.note) {
            (Some(true), _) => output::note(&format!("{to_node} is ready")),
            (Some(false), Some(why)) => output::note(&format!("waiting for {to_node}: {why}")),
            (Some(false), None) => output::note(&format!("waiting for {to_node}")),
            (None, Some(note)) => output::note(note),
            (None, None) => {}
        }
        if let Some(state) = &line.state {
            let reason = line.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            output::note(&format!("it is over, the message is {state}{reason}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(listen: &str, target: &str) -> Forward {
        let (listen, target) = (listen.to_owned(), target.to_owned());
        Forward { listen, target, reverse: false, hold: None, seal: false, json: false }
    }

    #[test]
    fn what_is_typed_is_read_as_ssh_would() {
        let input = forward("8080", "ship1:[::1]:80").input().unwrap();
        assert_eq!((&*input.to_node, &*input.listen, &*input.target), ("ship1", "8080", "[::1]:80"));
        for (listen, target) in [
            ("8080", "ship1"),
            ("8080", "ship1:80"),
            ("8080", "a b:localhost:80"),
            ("x", "ship1:localhost:80"),
            ("8080", ":l:1"),
        ] {
            assert!(forward(listen, target).input().is_err(), "{listen} {target}");
        }
        let hold = Some("1ms".to_owned());
        assert!(Forward { hold, ..forward("8080", "ship1:localhost:80") }.input().is_err());
    }
}
