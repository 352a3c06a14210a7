//! Follows messages until they have ended, across stops of the node: they are kept there, so the way to them is looked
//! for until it is back. A few are followed through an event stream each, many by looking at the list now and then,
//! because the node's connections are limited.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::api::client::{Client, ClientError};
use crate::cli::show::has_ended;
use crate::view::MessageView;

/// The first and the longest pause between looks for a node that has stopped.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Up to so many messages have a stream each; the node gives out 256 connections to everybody together.
pub(super) const STREAMS_MAX: usize = 64;

/// How often many messages are looked at, and how much longer it is for each that is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// See [`LOOK_INTERVAL`].
const LOOK_INTERVAL_EACH: Duration = Duration::from_micros(100);

/// Messages that are looked at one by one in a round, where newer ones have pushed them off the list.
const SINGLE_LOOKS_MAX: usize = 100;

/// The longest list that the node gives out.
const LIST_MAX: usize = 100_000;

/// What is new.
#[derive(Debug)]
pub(super) enum Update {
    /// The message at this place has changed.
    Message(usize, Box<MessageView>),
    /// The node here has stopped.
    Gone,
    /// The node here is back.
    Back,
    /// The message at this place can't be followed any further.
    Failed(usize, ClientError),
}

/// Tells of every change of a message until it has ended. The receiver going away ends it too.
pub(super) async fn message(client: Client, place: usize, id: String, updates: mpsc::Sender<Update>) {
    let mut pause = PAUSE_FIRST;
    let mut is_gone = false;
    loop {
        match events(&client, place, &id, &updates, &mut is_gone).await {
            Ok(true) => return,
            Err(error) if !error.is_passing() => {
                tell(&updates, Update::Failed(place, error)).await;
                return;
            }
            Ok(false) | Err(_) => {}
        }
        if !is_gone {
            is_gone = true;
            pause = PAUSE_FIRST;
            if !tell(&updates, Update::Gone).await {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One stream of events. Whether the message has ended, or just the stream.
async fn events(
    client: &Client,
    place: usize,
    id: &str,
    updates: &mpsc::Sender<Update>,
    is_gone: &mut bool,
) -> Result<bool, ClientError> {
    let mut events = client.stream(&format!("/v1/messages/{id}/events")).await?;
    while let Some(view) = events.line::<MessageView>().await? {
        if std::mem::take(is_gone) && !tell(updates, Update::Back).await {
            return Ok(true);
        }
        let is_end = has_ended(&view);
        if !tell(updates, Update::Message(place, Box::new(view))).await || is_end {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells of changes of many messages until all have ended. `since_ms` is a point before the first was accepted.
pub(super) async fn many(client: Client, ids: Vec<String>, since_ms: u64, updates: mpsc::Sender<Update>) {
    let mut open: BTreeMap<String, (usize, String)> =
        ids.into_iter().enumerate().map(|(place, id)| (id, (place, String::new()))).collect();
    let mut is_gone = false;
    while !open.is_empty() {
        let news = match look(&client, &open, since_ms).await {
            Ok(views) if std::mem::take(&mut is_gone) => {
                vec![Update::Back].into_iter().chain(changes(&mut open, views)).collect()
            }
            Ok(views) => changes(&mut open, views),
            Err(error) if error.is_passing() && is_gone => Vec::new(),
            Err(error) if error.is_passing() => {
                is_gone = true;
                vec![Update::Gone]
            }
            Err(error) => {
                let places = open.values().map(|(place, _)| *place);
                let why = error.to_string();
                let lost = places.map(|place| Update::Failed(place, ClientError::Answer(why.clone()))).collect();
                open.clear();
                lost
            }
        };
        for update in news {
            if !tell(&updates, update).await {
                return;
            }
        }
        let left = u32::try_from(open.len()).unwrap_or(u32::MAX);
        tokio::time::sleep(LOOK_INTERVAL + LOOK_INTERVAL_EACH * left).await;
    }
}

/// One look at those that are open; some may be missing.
async fn look(
    client: &Client,
    open: &BTreeMap<String, (usize, String)>,
    since_ms: u64,
) -> Result<Vec<MessageView>, ClientError> {
    let limit = (2 * open.len() + 1000).min(LIST_MAX);
    let mut views: Vec<MessageView> = client.get(&format!("/v1/messages?since={since_ms}&limit={limit}")).await?;
    let is_cut = views.len() >= limit;
    views.retain(|view| open.contains_key(&view.id));
    if is_cut {
        let listed: std::collections::BTreeSet<String> = views.iter().map(|view| view.id.clone()).collect();
        for id in open.keys().filter(|id| !listed.contains(*id)).take(SINGLE_LOOKS_MAX) {
            views.push(client.get(&format!("/v1/messages/{id}")).await?);
        }
    }
    Ok(views)
}

/// What has changed since the last look; what has ended is open no longer.
fn changes(open: &mut BTreeMap<String, (usize, String)>, views: Vec<MessageView>) -> Vec<Update> {
    let mut changes = Vec::new();
    for view in views {
        let Some((place, state)) = open.get_mut(&view.id) else { continue };
        let place = *place;
        if *state == view.state && !has_ended(&view) {
            continue;
        }
        state.clone_from(&view.state);
        if has_ended(&view) {
            open.remove(&view.id);
        }
        changes.push(Update::Message(place, Box::new(view)));
    }
    changes
}

/// Whether anybody listens still.
async fn tell(updates: &mpsc::Sender<Update>, update: Update) -> bool {
    updates.send(update).await.is_ok()
}
