//! How long one command takes, from the request on the socket until its end is told there.

use std::time::Duration;

use bytes::Bytes;

use super::report::{Figure, percentile};
use super::socket::Socket;
use super::{Scale, limits, load};
use crate::cli::fleet::{Fleet, Node};
use crate::clock::Clock;

/// Nodes whose first command is measured, each once.
const FIRSTS: usize = 20;

/// The command, and the same without steward.
const ECHO: &[&str] = &["bash", "-c", "echo hi"];

/// The figures.
pub(super) async fn measure(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let spawn = limits::spawn("bare fork and exec of the same", ECHO).await?;
    let trip = limits::round_trip(fleet).await?;
    let sync = limits::sync(fleet).await?;
    // Accepted, taken by the receiver, ended there, ended here: each is on the disk before anybody is told.
    let floor = limits::sum("command, request and four syncs", &[(1.0, &spawn), (1.0, &trip), (4.0, &sync)]);
    let central = fleet.node("central").await?;
    let mut socket = Socket::open(&central).await?;
    let ship = fleet.node("ship").await?;
    for _ in 0..20 {
        command(&mut socket, &ship).await?;
    }
    let mut times = Vec::new();
    for _ in 0..scale.of(1000, 100) {
        times.push(command(&mut socket, &ship).await?);
    }
    drop(ship);
    let (mut new_lane, mut new_node) = (Vec::new(), Vec::new());
    for number in 1..=scale.of(FIRSTS, FIRSTS / 4) {
        let ship = fleet.node(&format!("newlane{number}")).await?;
        let ids = socket.submit(format!("[{}]", load::event(ship.name())).into()).await?;
        socket.follow(&ids[0]).await?;
        new_lane.push(command(&mut socket, &ship).await?);
        let ship = fleet.node(&format!("newnode{number}")).await?;
        new_node.push(command(&mut socket, &ship).await?);
    }
    let figure = |name: &str, time: Duration| Figure::time(name, time).at_most(4.0).beside(&floor);
    Ok(vec![
        figure("one command, p50", percentile(&mut times, 50)).beside(&spawn).beside(&trip).beside(&sync),
        Figure::time("one command, p99", percentile(&mut times, 99)).beside(&floor),
        figure("the first on a new lane, p50", percentile(&mut new_lane, 50)),
        figure("the first to a new node, p50", percentile(&mut new_node, 50)),
    ])
}

/// One command, from the request until its end is told.
pub(super) async fn command(socket: &mut Socket, to: &Node) -> anyhow::Result<Duration> {
    command_of(socket, to, &serde_json::to_string(ECHO)?, "hi\n").await
}

/// A command with this `data` that writes this, from the request until its end is told.
pub(super) async fn command_of(socket: &mut Socket, to: &Node, argv: &str, output: &str) -> anyhow::Result<Duration> {
    let message = format!(
        r#"[{{"toNode":"{}","data":{argv},"commandOrEvent":"CommandACK","method":"ShellCommand"}}]"#,
        to.name()
    );
    let clock = Clock::start();
    let ids = socket.submit(Bytes::from(message)).await?;
    let view = socket.follow(&ids[0]).await?;
    let took = clock.elapsed();
    anyhow::ensure!(view.stdout.as_deref() == Some(output), "the command ended with {view:?}");
    Ok(took)
}
