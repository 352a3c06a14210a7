//! Load: 10,000 nodes that are absent, with ten messages for each. Some of them come.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::report::{Figure, Unit, percentile};
use super::socket::Socket;
use super::usage::Usage;
use super::{flood, limits, load};
use crate::cli::fleet::{Fleet, Node, eventually};
use crate::clock::Clock;
use crate::view::MessageView;

/// Nodes that are absent.
const CROWD: usize = 10_000;

/// Messages for each of them.
const EACH: u64 = 10;

/// Nodes that come in the end, each a process; the others stay away.
const COMING: usize = 20;

/// Messages of one array through the socket.
const BATCH: usize = 1000;

/// How long those that stay away are left alone, so that the pauses between probes have grown, and how long it is listened
/// then to what the sender does for them.
const SETTLE: Duration = Duration::from_secs(180);
/// See [`SETTLE`].
const QUIET: Duration = Duration::from_secs(60);

/// How long the messages in `inmsg.txt` may take to be accepted.
const ACCEPT_LIMIT: Duration = Duration::from_secs(120);

/// The pause between two looks whether they are.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The figures. Half of the messages come through the socket, the other half in one write to `inmsg.txt`.
pub(super) async fn measure(fleet: &Fleet) -> anyhow::Result<Vec<Figure>> {
    let total = CROWD as u64 * EACH;
    let store = limits::store(fleet, usize::try_from(total)?).await?;
    let mut central = fleet.node("central").await?;
    let before = Usage::of(&central)?;

    let clock = Clock::start();
    let mut socket = Socket::open(&central).await?;
    let half: Vec<String> = (0..CROWD / 2).flat_map(messages).collect();
    for some in half.chunks(BATCH) {
        socket.submit(array(some)).await?;
    }
    let through_socket = clock.elapsed();
    let clock = Clock::start();
    let other_half: Vec<String> = (CROWD / 2..CROWD).flat_map(messages).collect();
    flood::append(&central, &array(&other_half))?;
    // Not asked for all nodes and what waits for each: the answer would show in the memory.
    let last = name(CROWD - 1);
    eventually("inmsg.txt is taken in", ACCEPT_LIMIT, LOOK_AGAIN, async || {
        let newest: Vec<MessageView> = central.client().get("/v1/messages?limit=1").await?;
        Ok(newest.first().filter(|newest| newest.to_node == last).map(drop))
    })
    .await?;
    let through_file = clock.elapsed();

    let packets = listen(fleet, &central).await?;
    let waiting = Usage::of(&central)?;
    central.stop().await?;
    let restart = central.start().await?;
    let mut socket = Socket::open(&central).await?;
    anyhow::ensure!(socket.outstanding().await? == total, "not all of them wait after the restart");

    let mut coming = Vec::new();
    let mut came = Vec::new();
    for number in (0..CROWD).step_by(CROWD / COMING) {
        let mut node = fleet.absent(&name(number))?;
        node.start().await?;
        let clock = Clock::start();
        flood::has_text(&node, EACH * load::EVENT_BYTES as u64).await?;
        coming.push(clock.elapsed());
        came.push(node);
    }
    eventually("what came is final", ACCEPT_LIMIT, LOOK_AGAIN, async || {
        let left = total - COMING as u64 * EACH;
        Ok((socket.outstanding().await? == left).then_some(()))
    })
    .await?;
    let after = Usage::of(&central)?;
    Ok(vec![
        Figure::rate("10,000 absent nodes, 10 each: accepted, socket", total / 2, through_socket)
            .beside(&store.accepts),
        Figure::rate("  accepted, one write to inmsg.txt", total / 2, through_file).beside(&store.accepts),
        Figure::memory("  growth of the sender's RSS by them", waiting.peak.saturating_sub(before.memory))
            .at_most(64.0),
        packets.0,
        packets.1,
        Figure::time("  restart of the sender to ready", restart).at_most(1000.0).beside(&store.open),
        Figure::time(format!("  {COMING} come: all ten there after ready, p50"), percentile(&mut coming, 50)),
        Figure::time("  the same, the slowest", percentile(&mut coming, 100)),
        Figure::memory("  peak RSS of the sender, restarted and asked for all", after.peak).at_most(100.0),
    ])
}

/// What the sender does while nothing happens: packets that anybody could hear, and time on a CPU.
async fn listen(fleet: &Fleet, central: &Node) -> anyhow::Result<(Figure, Figure)> {
    tokio::time::sleep(SETTLE).await;
    let client = async_nats::connect(fleet.address()).await?;
    let mut all = client.subscribe(">").await?;
    client.flush().await?;
    let (clock, before) = (Clock::start(), Usage::of(central)?.cpu);
    let mut packets = 0_u64;
    let hear = async {
        while all.next().await.is_some() {
            packets += 1;
        }
    };
    // The end of the time is the end of it; a broker that goes away would show in the figure.
    tokio::time::timeout(QUIET, hear).await.unwrap_or_default();
    let (span, cpu) = (clock.elapsed(), Usage::of(central)?.cpu.saturating_sub(before));
    let share = cpu.as_secs_f64() / span.as_secs_f64() * 100.0;
    Ok((
        Figure::rate("  packets on the broker while they stay away", packets, span),
        Figure::new("  CPU of the sender meanwhile, of one core", share, Unit::Percent),
    ))
}

fn name(number: usize) -> String {
    format!("away{number:05}")
}

fn messages(number: usize) -> impl Iterator<Item = String> {
    let event = load::event(&name(number));
    (0..EACH).map(move |_| event.clone())
}

fn array(messages: &[String]) -> Bytes {
    load::array(messages, 0, messages.len() as u64)
}
