//! One file that is copied: the message is sent, waited for, and what has come is put in its place.

use std::path::Path;

use anyhow::Context as _;
use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::Final;

use super::end::End;
use super::meter::{Line, Meter};
use super::waiting;
use crate::api::client::{Client, ClientError};
use crate::cli::exit::{Exit, UsageError};
use crate::cli::send;
use crate::copies::attributes::{Attributes, FileView};
use crate::copies::placing::Place;
use crate::copies::snapshot;
use crate::intake::MessageInput;
use crate::view::MessageView;

/// The method that does it there.
const METHOD: &str = "CopyFile";

/// A file to be copied.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// None where a copy is gone on with.
    pub(super) from: Option<End>,
    pub(super) to: End,
    /// The message of a copy that is under way, or over.
    pub(super) resume: Option<String>,
    pub(super) seal: bool,
}

/// A copy whose message did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(super) struct Failed {
    pub(super) exit: u8,
    said: String,
}

/// Whether something can be copied between these two.
pub(super) fn check(from: &End, to: &End) -> Result<(), UsageError> {
    match (from, to) {
        (End::There(..), End::Here(_)) | (End::Here(_), End::There(..)) => Ok(()),
        (End::Here(_), End::Here(_)) => {
            Err(UsageError(format!("{from} and {to} are both on this machine; on a node it is NODE:PATH")))
        }
        (End::There(..), End::There(..)) => {
            Err(UsageError(format!("{from} and {to} are both on nodes; copy to this machine, and from there")))
        }
    }
}

impl Job {
    /// What it is called.
    pub(super) fn label(&self) -> String {
        match (&self.from, &self.resume) {
            (Some(from), _) => from.to_string(),
            (None, id) => id.clone().unwrap_or_default(),
        }
    }

    /// Copies it.
    pub(super) async fn run(self, client: &Client, meter: &Meter) -> anyhow::Result<()> {
        let line = meter.begin(self.label());
        let done = match (&self.from, &self.resume, &self.to) {
            (Some(End::There(node, path)), _, End::Here(to)) => {
                // Before anything travels.
                Place::find(to, self.name())?;
                let id = self.get(client, node, path).await?;
                self.arrive(client, &id, to, line, meter).await
            }
            (None, Some(id), End::Here(to)) => self.arrive(client, id, to, line, meter).await,
            (Some(End::Here(path)), _, End::There(node, to)) => {
                let id = self.put(client, path, (node, to), line, meter).await?;
                self.depart(client, &id, line, meter).await
            }
            (None, Some(id), End::There(..)) => self.depart(client, id, line, meter).await,
            (from, _, to) => Err(anyhow::anyhow!("nothing can be copied from {from:?} to {to}")),
        };
        meter.end(line);
        done
    }

    fn name(&self) -> Option<&std::ffi::OsStr> {
        self.from.as_ref().and_then(End::name)
    }

    async fn get(&self, client: &Client, node: &NodeName, path: &str) -> anyhow::Result<String> {
        let message = MessageInput {
            to_node: node.to_string(),
            data: vec!["get".to_owned(), path.to_owned()],
            command_or_event: "CommandACK".to_owned(),
            method: METHOD.to_owned(),
            method_timeout: Some(0.0),
            parallel: Some(true),
            seal: self.seal.then_some(true),
            ..MessageInput::default()
        };
        let ids = send::submit(client, &[message]).await?;
        ids.into_iter().next().context("the node gave no id")
    }

    /// Gives a file to the node here, which brings it there.
    async fn put(
        &self,
        client: &Client,
        path: &Path,
        (node, to): (&NodeName, &str),
        line: Line,
        meter: &Meter,
    ) -> anyhow::Result<String> {
        #[derive(serde::Deserialize)]
        struct Sent {
            id: String,
        }
        let (_, is) = snapshot::open(path)?;
        let attributes = Attributes::of(&is);
        let mut query = url::form_urlencoded::Serializer::new("/v1/copies?".to_owned());
        query.append_pair("to", node.as_str()).append_pair("path", to);
        if let Some(name) = path.file_name() {
            query.append_pair("name", name.to_str().context("its name is no text (UTF-8), and messages are")?);
        }
        query.append_pair("mode", &attributes.mode_text()).append_pair("modified", &attributes.modified_text());
        query.append_pair("seal", if self.seal { "true" } else { "false" });
        let query = query.finish();
        meter.total(line, is.len());
        // Given twice it is there once: the same content in the same place.
        let sent = waiting::again(meter, async || {
            let (file, _) = snapshot::open(path).map_err(|error| ClientError::Answer(error.to_string()))?;
            client.upload::<Sent>(&query, file).await
        });
        Ok(sent.await?.id)
    }

    /// Waits until a file is there.
    async fn depart(&self, client: &Client, id: &str, line: Line, meter: &Meter) -> anyhow::Result<()> {
        meter.accepted(line, id);
        Ok(well(&waiting::ended(client, id, line, meter).await?)?)
    }

    /// Waits for the content of a file, and puts it in its place.
    async fn arrive(&self, client: &Client, id: &str, to: &Path, line: Line, meter: &Meter) -> anyhow::Result<()> {
        meter.accepted(line, id);
        let view = waiting::ended(client, id, line, meter).await?;
        well(&view)?;
        let text = view.stderr.as_deref().unwrap_or_default();
        let file: FileView = serde_json::from_str(text).with_context(|| format!("message {id} brought no file"))?;
        let attributes =
            Attributes::read(&file.mode, &file.modified).context("mode and time of the file make no sense")?;
        let place = Place::find(to, Path::new(&file.path).file_name())?;
        let id: MessageId = view.id.parse()?;
        waiting::again(meter, async || bring(client, &view, &file, &attributes, &place, id).await).await??;
        let placed = format!("/v1/copies/{id}/placed");
        waiting::again(meter, async || client.tell(&placed).await).await?;
        if let Some(why) = view.reason.as_deref() {
            meter.clear();
            crate::cli::output::note(&format!("{}: {why}", self.label()));
        }
        Ok(())
    }
}

/// Brings the content from the node here to its place. The outer error is one of the way to the node.
async fn bring(
    client: &Client,
    view: &MessageView,
    file: &FileView,
    attributes: &Attributes,
    place: &Place,
    id: MessageId,
) -> Result<anyhow::Result<()>, ClientError> {
    let mut answer = client.stream(&format!("/v1/messages/{}/stdout", view.id)).await?;
    let shown = place.shown().display();
    let mut aside = match place.begin(id).with_context(|| format!("{shown} can't be written")) {
        Ok(aside) => aside,
        Err(error) => return Ok(Err(error)),
    };
    let mut hash = blake3::Hasher::new();
    while let Some(bytes) = answer.chunk().await? {
        hash.update(&bytes);
        if let Err(error) = aside.append(&bytes).with_context(|| format!("{shown} can't be written")) {
            return Ok(Err(error));
        }
    }
    if hash.finalize().to_hex().as_str() != file.blake3 {
        return Ok(Err(anyhow::anyhow!("what lies at the node here is not what was copied: its hash is another one")));
    }
    Ok(aside.finish(attributes).with_context(|| format!("{shown} can't be put in its place")))
}

/// Says how a message ended, if it did not end well.
fn well(view: &MessageView) -> Result<(), Failed> {
    if view.state == Final::Done.as_str() {
        return Ok(());
    }
    let reason = view.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Err(Failed { exit: Exit::of(view).0, said: format!("{}{reason} (steward show {})", view.state, view.id) })
}
