//! Bytes that go through the broker for each message, with everything that belongs to it: receipts, confirmations, and,
//! with `--signed` and `--seal`, what these cost. Counted by somebody who listens to all of it, as the broker hands it out,
//! and beside it what the same would be as plain JSON.

use futures_util::StreamExt as _;

use super::load;
use super::plain::Plain;
use super::report::{Figure, Limit, Unit};
use super::socket::Socket;
use super::{Scale, latency};
use crate::cli::fleet::{Fleet, eventually};

/// So long without anything new, and all has passed.
const QUIET: std::time::Duration = std::time::Duration::from_millis(300);

/// How long it may take until it has.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Events that wait for a node that is away.
const QUEUED: u64 = 1000;

/// What has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Passed {
    publishes: u64,
    /// Of subjects, headers and bodies.
    bytes: u64,
    /// The same, had each message and each receipt gone by itself, and not compressed.
    plain: u64,
}

/// The figures.
pub(super) async fn measure(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let (central, ship) = (fleet.node("central").await?, fleet.node("ship").await?);
    let mut socket = Socket::open(&central).await?;
    latency::command(&mut socket, &ship).await?;
    let commands = scale.of(200, 20);
    let short = count(fleet, async {
        for _ in 0..commands {
            latency::command(&mut socket, &ship).await?;
        }
        Ok(())
    });
    let short = short.await?;
    let long = count(fleet, async {
        for number in 0..commands {
            let line = load::log_line(number);
            let argv = serde_json::to_string(&["bash", "-c", &format!("echo '{line}'")])?;
            latency::command_of(&mut socket, &ship, &argv, &format!("{line}\n")).await?;
        }
        Ok(())
    });
    let long = long.await?;
    let events = scale.of(50_000, 5000);
    let lines = [load::event("ship")];
    let stream = count(fleet, async { load::pour(&central, &lines, events, load::IN_FLIGHT).await.map(drop) }).await?;
    let mut away = fleet.absent("away")?;
    away.start().await?;
    let known = [load::event("away")];
    load::pour(&central, &known, 1, 1).await?;
    away.stop().await?;
    socket.submit(load::log_lines("away", QUEUED)).await?;
    let queued = count(fleet, async {
        away.start().await?;
        load::drained(&central).await
    });
    let queued = queued.await?;
    let each = |name: &str, what: u64, of: u64| Figure::new(name, what as f64 / of as f64, Unit::Each);
    let bytes = |name: &str, passed: &Passed, of: u64| {
        let plain = Limit { name: "bytes as plain JSON", value: passed.plain as f64 / of as f64, unit: Unit::Each };
        each(name, passed.bytes, of).beside(&plain)
    };
    Ok(vec![
        each("publishes for one command", short.publishes, commands),
        bytes("bytes through the broker for one command", &short, commands),
        bytes("bytes for one command with 200 bytes of output", &long, commands),
        each("publishes for one event of a stream", stream.publishes, events),
        bytes("bytes through the broker for one event of 200 bytes of a stream", &stream, events),
        each("publishes for 1,000 queued events", queued.publishes, 1),
        bytes("bytes for 1,000 queued events of 200 bytes that differ", &queued, 1),
    ])
}

/// What passes while something is done.
async fn count(fleet: &Fleet, done: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Passed> {
    let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 20).connect(fleet.address()).await?;
    let mut all = client.subscribe(">").await?;
    client.flush().await?;
    let counted = std::sync::Mutex::new(Passed::default());
    let look = || *counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut plain = Plain::default();
    let counting = async {
        while let Some(message) = all.next().await {
            let as_plain = plain.bytes(&message);
            let mut counted = counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            counted.publishes += 1;
            counted.bytes += message.length as u64;
            counted.plain += as_plain as u64;
        }
    };
    let working = async {
        done.await?;
        // The last confirmations are still on their way.
        let mut last = Passed::default();
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
