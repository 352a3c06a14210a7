//! A node that has nothing to do: how fast it starts, and what it takes.

use std::time::Duration;

use super::report::{Figure, Unit, percentile};
use super::usage::Usage;
use super::{Scale, limits};
use crate::cli::fleet::Fleet;

/// How long a node is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// From the start of the process until the node answers on its socket and has its link to the broker.
pub(super) async fn start(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let spawn = limits::spawn("bare fork and exec of `true`", &["true"]).await?;
    let sync = limits::sync(fleet).await?;
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for number in 1..=scale.of(20, 5) {
        let mut node = fleet.absent(&format!("start{number}"))?;
        new.push(node.start().await?);
        node.stop().await?;
        again.push(node.start().await?);
    }
    let figure = |name: &str, time: Duration| Figure::time(name, time).at_most(50.0).beside(&spawn).beside(&sync);
    Ok(vec![
        figure("start to ready, p50", percentile(&mut again, 50)),
        figure("start to ready in a new directory, p50", percentile(&mut new, 50)),
    ])
}

/// What a node takes while nothing happens but its hellos.
pub(super) async fn idle(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let _central = fleet.node("central").await?;
    let ship = fleet.node("ship1").await?;
    tokio::time::sleep(SETTLE).await;
    let before = Usage::of(&ship)?;
    let span: Duration = Duration::from_secs(scale.of(20, 5));
    tokio::time::sleep(span).await;
    let after = Usage::of(&ship)?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / span.as_secs_f64() * 100.0;
    Ok(vec![
        Figure::memory(format!("idle node: RSS of its {} processes, files once", after.processes), after.memory)
            .at_most(12.0),
        Figure::memory("  of it private: no file's pages", after.private),
        Figure::new("idle node: CPU, of one core", cpu, Unit::Percent).at_most(0.5),
    ])
}
