//! Load: 50,000 messages in one write to `inmsg.txt`, and what other lanes notice of it.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use super::report::{Figure, percentile};
use super::socket::Socket;
use super::usage::Usage;
use super::{latency, load};
use crate::cli::fleet::{Fleet, Node, eventually};
use crate::clock::Clock;

/// Messages of the flood.
const FLOOD: u64 = 50_000;

/// Commands whose latency is measured without the flood.
const QUIET: usize = 500;

/// How long the flood may take to arrive.
const FLOOD_LIMIT: Duration = Duration::from_secs(300);

/// The pause between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The figures.
pub(super) async fn measure(fleet: &Fleet) -> anyhow::Result<Vec<Figure>> {
    let (central, ships) = (fleet.node("central").await?, fleet.ships(2).await?);
    let (flooded, other) = (&ships[0], &ships[1]);
    let mut quiet = Vec::new();
    let mut socket = Socket::open(&central).await?;
    latency::command(&mut socket, flooded).await?;
    for _ in 0..QUIET {
        quiet.push(latency::command(&mut socket, other).await?);
    }
    let before = (Usage::of(&central)?, Usage::of(flooded)?);

    let is_over = Cell::new(false);
    let clock = Clock::start();
    append(&central, &load::array(&[load::event(flooded.name())], 0, FLOOD))?;
    let arrives = async {
        let arrived = has_text(flooded, FLOOD * load::EVENT_BYTES as u64).await;
        is_over.set(true);
        arrived.map(|()| clock.elapsed())
    };
    let (took, mut same, mut other) =
        tokio::try_join!(arrives, commands(&central, flooded, &is_over), commands(&central, other, &is_over))?;
    load::drained(&central).await?;
    let ended = clock.elapsed();
    let after = (Usage::of(&central)?, Usage::of(flooded)?);
    let growth = |before: Usage, after: Usage| after.peak.saturating_sub(before.memory);
    Ok(vec![
        Figure::rate("flood of 50,000 in one write to inmsg.txt: arrive", FLOOD, took),
        Figure::rate("  and are final at the sender", FLOOD, ended),
        Figure::memory("  growth of the sender's RSS by it", growth(before.0, after.0)).at_most(64.0),
        Figure::memory("  growth of the receiver's RSS by it", growth(before.1, after.1)).at_most(64.0),
        Figure::time(format!("  {QUIET} commands on another lane without it, p50"), percentile(&mut quiet, 50)),
        Figure::time("  the same, p99", percentile(&mut quiet, 99)),
        Figure::time(format!("  {} meanwhile to another node, p50", other.len()), percentile(&mut other, 50)),
        Figure::time("  the same, p99", percentile(&mut other, 99)),
        Figure::time(format!("  {} meanwhile to the same node, p50", same.len()), percentile(&mut same, 50)),
        Figure::time("  the same, p99", percentile(&mut same, 99)),
    ])
}

/// One write, as `cat >>` makes it.
pub(super) fn append(node: &Node, text: &[u8]) -> anyhow::Result<()> {
    Ok(File::options().create(true).append(true).open(node.dir().join("inmsg.txt"))?.write_all(text)?)
}

/// Waits until a node's text log has so many bytes.
pub(super) async fn has_text(node: &Node, bytes: u64) -> anyhow::Result<()> {
    let path = node.dir().join("textlogging.log");
    eventually(&format!("{} has it all", node.name()), FLOOD_LIMIT, LOOK_AGAIN, async || {
        let length = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        Ok((length >= bytes).then_some(()))
    })
    .await
}

/// The times of commands, one after the other, until something is over.
pub(super) async fn commands(from: &Node, to: &Node, is_over: &Cell<bool>) -> anyhow::Result<Vec<Duration>> {
    let mut socket = Socket::open(from).await?;
    let mut times = Vec::new();
    while !is_over.get() {
        times.push(latency::command(&mut socket, to).await?);
    }
    Ok(times)
}
