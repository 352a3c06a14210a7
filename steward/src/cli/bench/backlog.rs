//! A node that is absent for long: a million messages are accepted for it, wait across a restart, and leave when it comes.

use super::report::Figure;
use super::socket::Socket;
use super::usage::Usage;
use super::{Scale, limits, load};
use crate::cli::fleet::Fleet;
use crate::clock::Clock;

/// Messages of one array: whoever has a million to bring doesn't bring them one by one.
const BATCH: u64 = 1000;

/// The figures.
pub(super) async fn measure(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let total: u64 = scale.of(1_000_000, 100_000);
    let what = scale.of("1,000,000", "100,000");
    let store = limits::store(fleet, usize::try_from(total)?).await?;
    let bare = limits::round_trips(fleet, scale).await?;
    let mut central = fleet.node("central").await?;
    let mut ship = fleet.absent("ship1")?;
    let messages = [load::event(ship.name())];

    let clock = Clock::start();
    drop(load::accept(&central, &messages, total, (BATCH, u64::MAX / 2)).await?);
    let accepting = clock.elapsed();
    let waiting = Usage::of(&central)?;

    central.stop().await?;
    let restart = central.start().await?;
    let outstanding = Socket::open(&central).await?.outstanding().await?;
    anyhow::ensure!(outstanding == total, "{outstanding} of {total} messages wait after the restart");

    let clock = Clock::start();
    let came = ship.start().await?;
    load::drained(&central).await?;
    let draining = clock.elapsed().saturating_sub(came);
    let (sender, receiver) = (Usage::of(&central)?, Usage::of(&ship)?);
    Ok(vec![
        Figure::rate(format!("{what} for an absent node: accepted"), total, accepting)
            .at_least(20_000.0)
            .beside(&store.accepts),
        Figure::memory("  peak RSS of the sender, accepting", waiting.peak).at_most(100.0),
        Figure::time("  restart of the sender to ready", restart).at_most(1000.0).beside(&store.open),
        Figure::rate("  drained once the node is there", total, draining)
            .at_least(30_000.0)
            .beside(&bare)
            .beside(&store.both),
        Figure::memory("  peak RSS of the sender, draining", sender.peak).at_most(100.0),
        Figure::memory("  peak RSS of the receiver, draining", receiver.peak).at_most(100.0),
    ])
}
