//! Load: 200 MB of output from each of 20 nodes at once.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::report::{Figure, Unit, percentile};
use super::socket::Socket;
use super::usage::Usage;
use super::{flood, latency, limits};
use crate::cli::fleet::{Fleet, Node};
use crate::clock::Clock;

/// Nodes that print.
const SHIPS: usize = 20;

/// Bytes that each prints.
const BYTES: u64 = 200_000_000;

/// Commands whose latency is measured while nothing else happens.
const QUIET: usize = 200;

/// The figures.
pub(super) async fn measure(fleet: &Fleet) -> anyhow::Result<Vec<Figure>> {
    let disk = limits::writing(fleet).await?;
    let (central, other) = (fleet.node("central").await?, fleet.node("other").await?);
    let mut ships = Vec::new();
    for number in 1..=SHIPS {
        let mut ship = fleet.absent(&format!("ship{number}"))?.with(&["--max-output", "256MiB"]);
        ship.start().await?;
        ships.push(ship);
    }
    let mut socket = Socket::open(&central).await?;
    let mut quiet = Vec::new();
    for _ in 0..QUIET {
        quiet.push(latency::command(&mut socket, &other).await?);
    }
    let before = Usage::of(&central)?;

    let clock = Clock::start();
    let is_over = Cell::new(false);
    let transfer = async {
        let ids = try_join_all(ships.iter().map(|ship| fetched(&central, ship))).await;
        is_over.set(true);
        ids
    };
    let (ids, mut meanwhile) = tokio::try_join!(transfer, flood::commands(&central, &other, &is_over))?;
    let took = clock.elapsed();
    let sender = Usage::of(&central)?;
    let receivers = ships.iter().map(|ship| Ok(Usage::of(ship)?.peak)).collect::<anyhow::Result<Vec<u64>>>()?;
    for (ship, id) in ships.iter().zip(&ids) {
        let got = Socket::open(&central).await?.hash(&format!("/v1/messages/{id}/stdout")).await?;
        anyhow::ensure!(got == expected(ship), "the bytes of {}'s output are others", ship.name());
    }
    let all = SHIPS as u64 * BYTES;
    let figure = |name: String, time: Duration| Figure::time(name, time);
    Ok(vec![
        Figure::new(
            "200 MB from each of 20 nodes at once",
            all as f64 / 1e6 / took.as_secs_f64(),
            Unit::MegabytesPerSecond,
        )
        .beside(&disk),
        Figure::memory("  growth of the RSS of who fetches", sender.peak.saturating_sub(before.memory)).at_most(64.0),
        Figure::memory("  peak RSS of who prints, the largest", receivers.into_iter().max().unwrap_or(0)).at_most(64.0),
        figure(format!("  {QUIET} commands to another node without it, p50"), percentile(&mut quiet, 50)),
        figure("  the same, p99".to_owned(), percentile(&mut quiet, 99)),
        figure(format!("  {} meanwhile, p50", meanwhile.len()), percentile(&mut meanwhile, 50)),
        figure("  the same, p99".to_owned(), percentile(&mut meanwhile, 99)),
    ])
}

/// Has a ship print, and waits until all of it is here; the message's id.
async fn fetched(central: &Node, ship: &Node) -> anyhow::Result<String> {
    let mut socket = Socket::open(central).await?;
    let script = format!("yes {} | head -c {BYTES}", ship.name());
    let data = serde_json::to_string(&["bash", "-c", &script])?;
    let message = format!(
        r#"[{{"toNode":"{}","data":{data},"commandOrEvent":"CommandACK","method":"ShellCommand"}}]"#,
        ship.name()
    );
    let id = socket.submit(message.into()).await?.remove(0);
    let view = socket.follow(&id).await?;
    let is_whole = view.state == "done" && view.stdout_bytes == BYTES && !view.truncated;
    anyhow::ensure!(
        is_whole,
        "{} has printed {} bytes: {} {:?}",
        ship.name(),
        view.stdout_bytes,
        view.state,
        view.reason
    );
    Ok(id)
}

/// The length and the BLAKE3 hash of what a ship prints.
fn expected(ship: &Node) -> (u64, blake3::Hash) {
    let line = format!("{}\n", ship.name()).into_bytes();
    let block: Vec<u8> = line.iter().copied().cycle().take(line.len() * 16 * 1024).collect();
    let (mut hasher, mut left) = (blake3::Hasher::new(), usize::try_from(BYTES).unwrap_or(usize::MAX));
    while left > 0 {
        let some = &block[..block.len().min(left)];
        hasher.update(some);
        left -= some.len();
    }
    (BYTES, hasher.finalize())
}
