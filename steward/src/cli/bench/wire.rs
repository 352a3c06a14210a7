//! Bytes that go through the broker for each message, with everything that belongs to it: receipts, confirmations, and,
//! with `--signed` and `--seal`, what these cost. Counted by somebody who listens to all of it, as the broker hands it out.

use futures_util::StreamExt as _;

use super::load;
use super::report::{Figure, Unit};
use super::socket::Socket;
use super::{Scale, latency};
use crate::cli::fleet::{Fleet, eventually};

/// So long without anything new, and all has passed.
const QUIET: std::time::Duration = std::time::Duration::from_millis(300);

/// How long it may take until it has.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// The figures.
pub(super) async fn measure(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let (central, ship) = (fleet.node("central").await?, fleet.node("ship").await?);
    let mut socket = Socket::open(&central).await?;
    latency::command(&mut socket, &ship).await?;
    let commands = scale.of(200, 20);
    let one_by_one = count(fleet, async {
        for _ in 0..commands {
            latency::command(&mut socket, &ship).await?;
        }
        Ok(())
    });
    let (publishes, bytes) = one_by_one.await?;
    let events = scale.of(50_000, 5000);
    let lines = [load::event("ship")];
    let stream = count(fleet, async { load::pour(&central, &lines, events, load::IN_FLIGHT).await.map(drop) }).await?;
    let each = |name: &str, what: u64, of: u64| Figure::new(name, what as f64 / of as f64, Unit::Each);
    Ok(vec![
        each("publishes for one command", publishes, commands),
        each("bytes through the broker for one command", bytes, commands),
        each("publishes for one event of a stream", stream.0, events),
        each("bytes through the broker for one event of 200 bytes of a stream", stream.1, events),
    ])
}

/// What passes while something is done: publishes, and bytes of their subjects, headers and bodies.
async fn count(fleet: &Fleet, done: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<(u64, u64)> {
    let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 20).connect(fleet.address()).await?;
    let mut all = client.subscribe(">").await?;
    client.flush().await?;
    let counted = std::sync::Mutex::new((0, 0));
    let look = || *counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let counting = async {
        while let Some(message) = all.next().await {
            let mut counted = counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *counted = (counted.0 + 1, counted.1 + message.length as u64);
        }
    };
    let working = async {
        done.await?;
        // The last confirmations are still on their way.
        let mut last = (0, 0);
        eventually("everything has passed", LIMIT, QUIET, async || {
            let before = std::mem::replace(&mut last, look());
            Ok((before == last).then_some(last))
        })
        .await
    };
    tokio::select! {
        found = working => found,
        () = counting => anyhow::bail!("the broker has ended"),
    }
}
