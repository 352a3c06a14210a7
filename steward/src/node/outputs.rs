//! What outputs and copied files travel by: the tasks, and who may have what.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::step::Effect;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::broker::{Broker, Bulk};
use crate::engine::EngineHandle;
use crate::methods::Setup;
use crate::results::{Audience, Contents, Entitled, ReceiverOf, Results, SenderOf, Wiring};
use crate::store::Reader;
use crate::supervise::Supervisor;
use crate::traffic::Class;

/// What the tasks are connected to: events, the way out, and what comes in from the engine and from the broker.
type Ways = (EngineHandle, Broker, mpsc::Receiver<Vec<Effect>>, mpsc::Receiver<Bulk>);

/// Runs the tasks until the node stops. Returns who looks on, and what goes along with messages.
pub(super) fn keep(
    dir: &Path,
    supervisor: &Supervisor,
    (engine, broker, effects, bulk): Ways,
    blobs: &Blobs,
    setup: &Setup,
) -> anyhow::Result<(Audience, Contents)> {
    let contents = Contents::new(blobs.clone());
    let results = Results::new(Wiring {
        engine,
        broker,
        blobs: blobs.clone(),
        effects,
        bulk,
        sender_of: sender_of(dir)?,
        receiver_of: receiver_of(dir)?,
        contents: contents.clone(),
        wants: setup.wants.clone(),
        live: setup.live.clone(),
    });
    let (fetch, serve, feed, follow) = (results.clone(), results.clone(), results.clone(), results.clone());
    supervisor.keep("results in", move |end| until(end, fetch.clone().receiving()));
    supervisor.keep("results out", move |end| until(end, serve.clone().serving()));
    supervisor.keep("live outputs in", move |end| until(end, follow.clone().following()));
    supervisor.keep("live outputs out", move |end| until(end, feed.clone().feeding()));
    let (want, keep) = (results.clone(), results.clone());
    supervisor.keep("copies in", move |end| until(end, want.clone().wanting()));
    supervisor.keep("copies out", move |end| until(end, keep.clone().keeping()));
    Ok((results.audience(), contents))
}

/// Runs `task` until it ends or is to end.
pub(super) async fn until<T: Future<Output = anyhow::Result<()>>>(
    end: CancellationToken,
    task: T,
) -> anyhow::Result<()> {
    tokio::select! {
        () = end.cancelled() => Ok(()),
        result = task => result,
    }
}

/// Whose message a number of ours belongs to.
fn sender_of(dir: &Path) -> anyhow::Result<SenderOf> {
    let reader = Mutex::new(Reader::open(dir)?);
    Ok(Arc::new(move |ticket| {
        let owner = reader.lock().unwrap_or_else(PoisonError::into_inner).blob_owner(ticket);
        match owner {
            Ok(owner) => owner.map(|owner| Entitled {
                node: owner.sender,
                seal: owner.sealed,
                rate: owner.rate,
                class: if owner.is_copy { Class::Files } else { Class::Outputs },
            }),
            Err(error) => {
                tracing::error!(?ticket, %error, "it can't be read whose message this is");
                None
            }
        }
    }))
}

/// For which node what goes along with a message of ours is.
fn receiver_of(dir: &Path) -> anyhow::Result<ReceiverOf> {
    let reader = Reader::open(dir)?;
    let entitled = |(node, seal)| Entitled { node, seal, rate: None, class: Class::Files };
    Ok(Arc::new(move |id| Ok(reader.content_owner(id)?.map(entitled))))
}
