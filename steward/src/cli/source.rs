//! Where a look comes from: the node that runs in the directory, or its store where none runs. What changes anything
//! needs the node.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::Stream;
use protocol::time::Wall;

use super::output::{self, Output};
use crate::api::InfoView;
use crate::api::client::{Client, ClientError};
use crate::clock::rfc3339;
use crate::engine::Filter;
use crate::own_file;
use crate::store::{ErrorFilter, Place, Reader};
use crate::view::{ErrorView, MessageView, NodeView, ScheduleResultView, ScheduleView};

/// Messages among which an abbreviated id is looked for, newest first.
const RECENT_MESSAGES_MAX: usize = 10_000;

/// The fewest digits of an abbreviated id.
const ID_DIGITS_MIN: usize = 4;

/// Where a look comes from.
pub(super) enum Source {
    /// The node that runs.
    Node(Client),
    /// What is stored: no node runs.
    Store(Reader),
}

impl Source {
    /// The node in this directory, or what is stored there.
    pub(super) async fn open(dir: &Path) -> anyhow::Result<Self> {
        let client = Client::new(dir);
        match client.get::<InfoView>("/v1/info").await {
            Ok(_) => Ok(Self::Node(client)),
            Err(ClientError::NotRunning(shown)) => {
                let reader = Reader::open(dir)?;
                output::note(&format!("no node runs in {shown}; this is what is stored, not what is going on"));
                Ok(Self::Store(reader))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Messages, newest first.
    pub(super) async fn messages(&self, filter: &Filter) -> anyhow::Result<Vec<MessageView>> {
        match self {
            Self::Node(client) => Ok(client.get(&messages_path(filter)).await?),
            Self::Store(reader) => Ok(reader.list(filter)?),
        }
    }

    /// One message, with its history and the beginning of its output.
    pub(super) async fn message(&self, id: &str) -> anyhow::Result<MessageView> {
        match self {
            Self::Node(client) => Ok(client.get(&format!("/v1/messages/{id}")).await?),
            Self::Store(reader) => reader.show(id.parse()?)?.ok_or_else(|| unknown(id)),
        }
    }

    /// What is known of other nodes.
    pub(super) async fn nodes(&self) -> anyhow::Result<Vec<NodeView>> {
        match self {
            Self::Node(client) => Ok(client.get("/v1/nodes").await?),
            Self::Store(reader) => stored_nodes(reader),
        }
    }

    /// Errors of nodes that are kept here, as they came in.
    pub(super) async fn errors(&self, filter: &ErrorFilter) -> anyhow::Result<Vec<ErrorView>> {
        match self {
            Self::Node(client) => {
                let node = filter.node.as_ref().map_or_else(String::new, |node| format!("&node={node}"));
                let since = filter.since_ms.map_or_else(String::new, |since_ms| format!("&since={since_ms}"));
                Ok(client.get(&format!("/v1/errors?limit={}{node}{since}", filter.limit)).await?)
            }
            Self::Store(reader) => Ok(reader.errors(filter)?),
        }
    }

    /// Orders with a schedule that stand: those given to one node, or all.
    pub(super) async fn schedules(&self, node: Option<&NodeName>) -> anyhow::Result<Vec<ScheduleView>> {
        match self {
            Self::Node(client) => {
                let node = node.map_or_else(String::new, |node| format!("?node={node}"));
                Ok(client.get(&format!("/v1/schedules{node}")).await?)
            }
            Self::Store(reader) => Ok(reader.schedules(node.map(NodeName::as_str))?),
        }
    }

    /// The newest results of an order, the oldest of them first.
    pub(super) async fn schedule_results(&self, id: &str, limit: usize) -> anyhow::Result<Vec<ScheduleResultView>> {
        match self {
            Self::Node(client) => Ok(client.get(&format!("/v1/messages/{id}/results?limit={limit}")).await?),
            Self::Store(reader) => Ok(reader.schedule_results(id.parse()?, limit)?),
        }
    }

    /// Copies an output as it is.
    pub(super) async fn copy(&self, id: &str, stream: Stream, to: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Node(client) => copy(client, id, stream, to, &mut 0).await,
            Self::Store(reader) => {
                let Some(output) = reader.output(id.parse()?, stream)? else {
                    anyhow::bail!("message {id} has not ended, so it has no output yet");
                };
                match output.place {
                    Place::Inline(text) => to.bytes(text.as_bytes())?,
                    Place::File(path) => {
                        let shown = path.display();
                        let mut file =
                            own_file::read(&path).with_context(|| format!("the output {shown} can't be read"))?;
                        std::io::copy(&mut file, to)?;
                    }
                }
                Ok(to.flush()?)
            }
        }
    }

    /// The full id for what was typed: a whole one, or the beginning or the end of a recent one.
    pub(super) async fn resolve(&self, typed: &str) -> anyhow::Result<String> {
        if let Ok(id) = typed.parse::<MessageId>() {
            return Ok(id.to_string());
        }
        let digits = digits(typed).ok_or_else(|| {
            anyhow::anyhow!("{typed:?} is no message id: give a whole one, or at least {ID_DIGITS_MIN} digits of its beginning or end")
        })?;
        let recent = Filter { limit: RECENT_MESSAGES_MAX, ..Filter::default() };
        let messages = self.messages(&recent).await?;
        let fits: Vec<&MessageView> = messages.iter().filter(|message| matches(&message.id, &digits)).collect();
        match fits.as_slice() {
            [one] => Ok(one.id.clone()),
            [] => anyhow::bail!("no message with the id {typed} is known here; `steward messages` lists the latest"),
            many => {
                let lines: Vec<String> = many.iter().take(10).map(|message| one_line(message)).collect();
                anyhow::bail!("{} messages fit {typed}; give more of the id:\n{}", many.len(), lines.join("\n"))
            }
        }
    }
}

/// Copies an output from the node, from byte `copied` on, and counts on: when it fails in the middle, a second call
/// goes on where the first one stopped.
pub(super) async fn copy(
    client: &Client,
    id: &str,
    stream: Stream,
    to: &mut Output,
    copied: &mut u64,
) -> anyhow::Result<()> {
    let mut answer = client.stream(&format!("/v1/messages/{id}/{}", stream.as_str())).await?;
    let mut skip = *copied;
    while let Some(bytes) = answer.chunk().await? {
        let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
        skip -= known as u64;
        to.bytes(&bytes[known..])?;
        *copied += (bytes.len() - known) as u64;
    }
    Ok(to.flush()?)
}

/// What is stored of other nodes: when they were last seen, not whether they are there.
fn stored_nodes(reader: &Reader) -> anyhow::Result<Vec<NodeView>> {
    let mut outstanding: BTreeMap<String, u64> =
        reader.outstanding()?.into_iter().map(|(node, messages)| (node.to_string(), messages)).collect();
    let view = |node: String, seen: Option<Wall>, outstanding, info: &str| NodeView {
        node,
        presence: "unknown".to_owned(),
        because: "no node runs here to find out".to_owned(),
        last_seen_at: seen.map(rfc3339),
        outstanding,
        standing: None,
        wire_out_bytes: None,
        wire_in_bytes: None,
        info: serde_json::from_str(info).ok(),
    };
    let mut nodes = Vec::new();
    for peer in reader.peers()? {
        let name = peer.name.to_string();
        let messages = outstanding.remove(&name).unwrap_or(0);
        nodes.push(view(name, peer.seen, messages, &peer.info));
    }
    nodes.extend(outstanding.into_iter().map(|(name, messages)| view(name, None, messages, "")));
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(nodes)
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow::anyhow!("no message {id} is known here; `steward messages` lists the latest")
}

fn messages_path(filter: &Filter) -> String {
    let mut path = format!("/v1/messages?limit={}", filter.limit);
    if let Some(node) = &filter.node {
        path.push_str(&format!("&node={node}"));
    }
    if let Some(state) = &filter.state {
        path.push_str(&format!("&state={state}"));
    }
    if let Some(since_ms) = filter.since_ms {
        path.push_str(&format!("&since={since_ms}"));
    }
    path
}

/// The hexadecimal digits of an abbreviated id, as `messages` prints it or as it was typed.
fn digits(typed: &str) -> Option<String> {
    let digits: String = typed.trim_matches('…').chars().filter(|c| *c != '-').collect();
    let is_id = digits.len() >= ID_DIGITS_MIN && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_id.then(|| digits.to_ascii_lowercase())
}

fn matches(id: &str, digits: &str) -> bool {
    let id = id.replace('-', "");
    id.starts_with(digits) || id.ends_with(digits)
}

fn one_line(message: &MessageView) -> String {
    output::one_line(&format!("  {}  {}  {}  {}", message.id, message.to_node, message.method, message.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_abbreviated_at_either_end() {
        let id = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
        for typed in ["0193a1b2", "0193A1B2-C3", "2e3f4a5b", "…0c1d2e3f4a5b", "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"]
        {
            assert!(matches(id, &digits(typed).unwrap()), "{typed}");
        }
        assert!(!matches(id, &digits("a1b2").unwrap()));
        for typed in ["", "abc", "ship1", "…", "0193a1b2*"] {
            assert_eq!(digits(typed), None, "{typed}");
        }
    }
}
