//! One file that is copied: the message is sent, waited for, and what has come is put in its place, or sent on.

use std::path::Path;

use anyhow::Context as _;
use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::Final;

use super::beside::Beside;
use super::end::End;
use super::meter::{Line, Meter};
use super::waiting;
use crate::api::client::{Client, ClientError};
use crate::cli::exit::{Exit, UsageError};
use crate::cli::{output, send};
use crate::copies::attributes::{Attributes, ChunksView, FileView};
use crate::copies::delta::{self, List, Patch};
use crate::copies::placing::Place;
use crate::copies::snapshot;
use crate::intake::MessageInput;
use crate::methods;
use crate::view::MessageView;

/// A file to be copied.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// None where a copy is gone on with.
    pub(super) from: Option<End>,
    pub(super) to: End,
    /// Whether `to` is the file itself, and no folder for it.
    pub(super) is_exact: bool,
    /// The message of a copy that is under way, or over.
    pub(super) resume: Option<String>,
    pub(super) terms: Terms,
}

/// What holds for all copies of a command.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    pub(super) seal: bool,
    /// Bytes of a file that may travel in a second.
    pub(super) rate: Option<u64>,
    /// Whether nobody looks for older versions.
    pub(super) whole: bool,
}

/// A copy whose message did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(super) struct Failed {
    pub(super) exit: u8,
    said: String,
}

/// The older version is not the one any more that was looked at.
#[derive(Debug, thiserror::Error)]
#[error("the older version of the file has changed meanwhile")]
pub(super) struct Another;

/// Whether something can be copied between these two.
pub(super) fn check(from: &End, to: &End) -> Result<(), UsageError> {
    match (from, to) {
        (End::Here(_), End::Here(_)) => {
            Err(UsageError(format!("{from} and {to} are both on this machine; on a node it is NODE:PATH")))
        }
        (End::There(..), _) | (_, End::There(..)) => Ok(()),
    }
}

impl Terms {
    /// Has a node do something about files, and waits for its answer.
    pub(super) async fn command(
        &self,
        client: &Client,
        node: &NodeName,
        data: Vec<String>,
        label: &End,
        meter: &Meter,
    ) -> anyhow::Result<MessageView> {
        let line = meter.begin(label.to_string());
        let ended = async {
            let id = self.send(client, node, data, meter).await?;
            meter.accepted(line, &id);
            waiting::ended(client, &id, line, meter).await
        };
        let ended = ended.await;
        meter.end(line);
        let view = ended?;
        well(&view)?;
        Ok(view)
    }

    /// Tells the node here that what a copy has brought is in its place.
    pub(super) async fn placed(&self, client: &Client, id: &str, meter: &Meter) -> anyhow::Result<()> {
        let placed = format!("/v1/copies/{id}/placed");
        Ok(waiting::again(meter, async || client.tell(&placed).await).await?)
    }

    async fn send(&self, client: &Client, node: &NodeName, data: Vec<String>, meter: &Meter) -> anyhow::Result<String> {
        let message = MessageInput {
            to_node: node.to_string(),
            data,
            command_or_event: "CommandACK".to_owned(),
            method: methods::COPY_FILE.to_owned(),
            method_timeout: Some(0.0),
            parallel: Some(true),
            seal: self.seal.then_some(true),
            ..MessageInput::default()
        };
        // Given twice it does nothing else than once, so it is given again where nobody knows.
        let ids = loop {
            match send::submit(client, std::slice::from_ref(&message)).await {
                Err(error) if error.downcast_ref::<ClientError>().is_some_and(ClientError::is_passing) => {
                    waiting::pause(meter).await;
                }
                ids => break ids?,
            }
        };
        ids.into_iter().next().context("the node gave no id")
    }

    /// The request that gives a file to the node here, for another.
    fn upload(&self, to: (&NodeName, &str), name: Option<&str>, attributes: &Attributes) -> String {
        let mut query = url::form_urlencoded::Serializer::new("/v1/copies?".to_owned());
        query.append_pair("to", to.0.as_str()).append_pair("path", to.1);
        if let Some(name) = name {
            query.append_pair("name", name);
        }
        query.append_pair("mode", &attributes.mode_text()).append_pair("modified", &attributes.modified_text());
        if let Some(rate) = self.rate {
            query.append_pair("rate", &rate.to_string());
        }
        query.append_pair("seal", if self.seal { "true" } else { "false" });
        query.finish()
    }
}

/// The answer to a file that is given.
#[derive(serde::Deserialize)]
struct Sent {
    id: String,
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
    pub(super) async fn run(mut self, client: &Client, meter: &Meter) -> anyhow::Result<()> {
        let line = meter.begin(self.label());
        let mut done = self.copy(client, line, meter).await;
        if done.as_ref().is_err_and(|error| error.is::<Another>()) {
            // Somebody has written the older version meanwhile: then there is none.
            self.terms.whole = true;
            done = self.copy(client, line, meter).await;
        }
        meter.end(line);
        done
    }

    async fn copy(&self, client: &Client, line: Line, meter: &Meter) -> anyhow::Result<()> {
        let id = match (&self.from, &self.resume) {
            (Some(End::There(node, path)), _) => {
                let mut data = vec!["get".to_owned(), path.clone()];
                if let End::Here(to) = &self.to {
                    // Before anything travels.
                    let older = Place::find(to, self.name())?.present().filter(|_| !self.terms.whole);
                    let list = older.map(|mut older| List::of(&mut older)).transpose()?.flatten();
                    data.extend(list.map(|(list, _)| format!("have={}", list.text())));
                }
                data.extend(self.terms.rate.map(|rate| format!("rate={rate}")));
                self.terms.send(client, node, data, meter).await?
            }
            (Some(End::Here(path)), _) => {
                let End::There(node, to) = &self.to else { anyhow::bail!("both ends are on this machine") };
                let id = self.put(client, path, (node, to), line, meter).await?;
                return self.depart(client, &id, line, meter).await;
            }
            (None, Some(id)) => id.clone(),
            (None, None) => anyhow::bail!("there is nothing to copy"),
        };
        meter.accepted(line, &id);
        let view = waiting::ended(client, &id, line, meter).await?;
        well(&view)?;
        if let Some(why) = view.reason.as_deref() {
            meter.clear();
            output::note(&format!("{}: {why}", self.label()));
        }
        // A copy to a node has nothing to bring back.
        if view.data.first().is_some_and(|verb| verb == "put") {
            return Ok(());
        }
        let text = view.stderr.as_deref().unwrap_or_default();
        let file: FileView = serde_json::from_str(text).with_context(|| format!("message {id} brought no file"))?;
        match &self.to {
            End::Here(to) => self.arrive(client, &view, &file, to, meter).await?,
            End::There(node, to) => self.pass_on(client, &view, &file, (node, to), line, meter).await?,
        }
        self.terms.placed(client, &id, meter).await
    }

    fn name(&self) -> Option<&std::ffi::OsStr> {
        self.from.as_ref().filter(|_| !self.is_exact).and_then(End::name)
    }

    /// Gives a file to the node here, which brings it there.
    async fn put(
        &self,
        client: &Client,
        path: &Path,
        to: (&NodeName, &str),
        line: Line,
        meter: &Meter,
    ) -> anyhow::Result<String> {
        let (_, is) = snapshot::open(path)?;
        let name = self.name().map(|name| name.to_str().context("its name is no text (UTF-8), and messages are"));
        let name = name.transpose()?;
        let query = self.terms.upload(to, name, &Attributes::of(&is));
        if is.len() >= delta::BYTES_MIN && !self.terms.whole {
            let mut data = vec!["chunks".to_owned(), to.1.to_owned()];
            data.extend(name.map(|name| format!("name={name}")));
            let id = self.terms.send(client, to.0, data, meter).await?;
            meter.accepted(line, &id);
            let view = waiting::ended(client, &id, line, meter).await?;
            well(&view)?;
            let said = waiting::again(meter, async || {
                let mut answer = client.stream(&format!("/v1/messages/{id}/stdout")).await?;
                answer.line::<ChunksView>().await
            });
            let said = said.await?.unwrap_or_default();
            self.terms.placed(client, &id, meter).await?;
            if let Some(beside) = Beside::of(said, snapshot::open(path)?.0)? {
                let (base, bytes, hash) = (&beside.base, beside.bytes, beside.hash.to_hex());
                let query = format!("{query}&base={base}&bytes={bytes}&blake3={hash}");
                let sent = waiting::again(meter, async || {
                    let (file, _) = snapshot::open(path).map_err(|error| ClientError::Answer(error.to_string()))?;
                    client.bring_made::<Sent>(&query, beside.make(file)).await
                });
                return Ok(sent.await?.id);
            }
        }
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
        let view = waiting::ended(client, id, line, meter).await?;
        let is_delta = view.data.iter().any(|word| word.starts_with("base="));
        well(&view).map_err(|failed| match is_delta && view.state == Final::Failed.as_str() {
            true => Another.into(),
            false => failed.into(),
        })
    }

    /// Puts what has come in its place.
    async fn arrive(
        &self,
        client: &Client,
        view: &MessageView,
        file: &FileView,
        to: &Path,
        meter: &Meter,
    ) -> anyhow::Result<()> {
        let attributes = attributes(file)?;
        let place = Place::find(to, Path::new(&file.path).file_name().filter(|_| !self.is_exact))?;
        let id: MessageId = view.id.parse()?;
        waiting::again(meter, async || bring(client, view, file, &attributes, &place, id).await).await?
    }

    /// Sends what has come from one node on to another.
    async fn pass_on(
        &self,
        client: &Client,
        view: &MessageView,
        file: &FileView,
        to: (&NodeName, &str),
        line: Line,
        meter: &Meter,
    ) -> anyhow::Result<()> {
        let name = Path::new(&file.path).file_name().and_then(|name| name.to_str()).filter(|_| !self.is_exact);
        let query = self.terms.upload(to, name, &attributes(file)?);
        let path = format!("/v1/messages/{}/stdout", view.id);
        let sent = waiting::again(meter, async || {
            let content = client.stream(&path).await?;
            client.pass_on::<Sent>(&query, content).await
        });
        let id = sent.await?.id;
        meter.total(line, file.bytes);
        self.depart(client, &id, line, meter).await
    }
}

fn attributes(file: &FileView) -> anyhow::Result<Attributes> {
    Attributes::read(&file.mode, &file.modified).context("mode and time of the file make no sense")
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
    let mut patch = match (file.delta, place.present()) {
        (false, _) => None,
        (true, Some(older)) => Some(Patch::new(older, file.bytes)),
        (true, None) => return Ok(Err(Another.into())),
    };
    while let Some(bytes) = answer.chunk().await? {
        let written = match &mut patch {
            Some(patch) => patch.push(&bytes, &mut |bytes| aside.append(bytes)),
            None => {
                hash.update(&bytes);
                aside.append(&bytes)
            }
        };
        match written {
            Ok(()) => {}
            // It is shorter by now than it was.
            Err(_) if patch.is_some() => return Ok(Err(Another.into())),
            Err(error) => return Ok(Err(anyhow::Error::from(error).context(format!("{shown} can't be written")))),
        }
    }
    let (hash, is_patched) = patch.map_or_else(|| (hash.finalize(), false), |patch| (patch.hash(), true));
    if hash.to_hex().as_str() != file.blake3 {
        return Ok(Err(match is_patched {
            true => Another.into(),
            false => anyhow::anyhow!("what lies at the node here is not what was copied: its hash is another one"),
        }));
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
