//! Hears what the output of a message brings, as it comes, across stops of the node here: it goes on where it was.

use std::time::Duration;

use protocol::outcome::Stream;
use tokio::sync::mpsc;

use crate::api::client::{Client, ClientError};
use crate::view::OutputView;

/// The first and the longest pause between looks for a node that has stopped.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Pieces that may wait to be printed; then no more are read.
pub(super) const HEARD_MAX: usize = 16;

/// What is new.
#[derive(Debug)]
pub(super) enum Heard {
    /// A piece of an output, behind the one before it.
    Piece(Stream, Vec<u8>),
    /// The message runs again: what comes now is its output from the beginning.
    Again,
    /// Nothing more comes; this is the message's state.
    End(String),
    /// The node here has stopped; it is waited for.
    Gone,
    /// It can't be heard any further.
    Failed(ClientError),
}

/// What is wanted of an output.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// The message.
    pub(super) id: String,
    /// Whether to stay until it has ended.
    pub(super) follow: bool,
    /// Only this stream.
    pub(super) stream: Option<Stream>,
    /// Begin with so many lines.
    pub(super) tail: Option<u64>,
}

/// How far it was heard.
#[derive(Debug, Default)]
struct Place {
    run: u64,
    given: [u64; 2],
}

/// Tells of all that comes until the end. The receiver going away ends it too.
pub(super) async fn listen(client: Client, wanted: Wanted, heard: mpsc::Sender<Heard>) {
    let (mut place, mut pause, mut is_gone) = (Place::default(), PAUSE_FIRST, false);
    loop {
        match lines(&client, &wanted, &mut place, &heard, &mut is_gone).await {
            Ok(true) => return,
            Err(error) if !error.is_passing() => {
                tell(&heard, Heard::Failed(error)).await;
                return;
            }
            Ok(false) | Err(_) => {}
        }
        if !is_gone {
            (is_gone, pause) = (true, PAUSE_FIRST);
            if !tell(&heard, Heard::Gone).await {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One answer. Whether all was heard, or just the answer is over.
async fn lines(
    client: &Client,
    wanted: &Wanted,
    place: &mut Place,
    heard: &mpsc::Sender<Heard>,
    is_gone: &mut bool,
) -> Result<bool, ClientError> {
    let Wanted { id, follow, stream, tail } = wanted;
    let Place { run, given: [stdout, stderr] } = place;
    let mut path = format!("/v1/messages/{id}/output?follow={follow}&run={run}&stdout={stdout}&stderr={stderr}");
    if let Some(stream) = stream {
        path.push_str(&format!("&stream={}", stream.as_str()));
    }
    // Only where nothing was heard yet: behind that, nothing is left out.
    if let Some(tail) = tail.filter(|_| *run == 0) {
        path.push_str(&format!("&tail={tail}"));
    }
    let mut answer = client.stream(&path).await?;
    while let Some(line) = answer.line::<OutputView>().await? {
        *is_gone = false;
        if let Some(state) = line.state {
            tell(heard, Heard::End(state)).await;
            return Ok(true);
        }
        if line.again {
            *place = Place { run: line.run.unwrap_or(0), given: [0; 2] };
            if !tell(heard, Heard::Again).await {
                return Ok(true);
            }
            continue;
        }
        let (stream, offset, bytes) = piece(&line)?;
        place.run = line.run.unwrap_or(0);
        place.given[usize::from(stream == Stream::Stderr)] = offset + bytes.len() as u64;
        if !tell(heard, Heard::Piece(stream, bytes)).await {
            return Ok(true);
        }
    }
    Ok(false)
}

fn piece(line: &OutputView) -> Result<(Stream, u64, Vec<u8>), ClientError> {
    let bad = || ClientError::Answer("a piece of an output makes no sense".to_owned());
    let stream = line.stream.as_deref().unwrap_or_default();
    let stream = Stream::ALL.into_iter().find(|known| known.as_str() == stream).ok_or_else(bad)?;
    let bytes = match (&line.text, &line.base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(base64)) => data_encoding::BASE64.decode(base64.as_bytes()).map_err(|_| bad())?,
        (None, None) => return Err(bad()),
    };
    Ok((stream, line.offset.ok_or_else(bad)?, bytes))
}

/// Whether anybody listens still.
async fn tell(heard: &mpsc::Sender<Heard>, what: Heard) -> bool {
    heard.send(what).await.is_ok()
}
