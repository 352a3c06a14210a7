//! Many messages: events and commands a second, and memory when they come all at once.
//!
//! Messages come in arrays through the socket, as any program would bring them. How many have ended is asked of the
//! sender's engine, which answers after it has committed; what has ended there is final and durable on both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::report::{Figure, Unit};
use super::socket::Socket;
use super::usage::Usage;
use super::{Scale, limits};
use crate::cli::fleet::{Fleet, Node};
use crate::clock::Clock;

/// Bytes of an event's line.
pub(super) const EVENT_BYTES: usize = 200;

/// Messages that are not final at the sender, as in the ancestors' measurements.
pub(super) const IN_FLIGHT: u64 = 1000;

/// Messages of one array.
const BATCH: u64 = 100;

/// Arrays that wait for their answer at the same time.
const POSTS: usize = 4;

/// The pause between two questions how many have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The longest time in which nothing ends before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Messages before the measurement begins: the nodes know each other, and the caches are warm.
const WARM_UP: u64 = 2000;

/// Lanes, and nodes, of the measures over many.
const MANY: usize = 20;

/// An event of 200 bytes for `to`.
pub(super) fn event(to: &str) -> String {
    // The line ends with a line feed, which takes two bytes in JSON.
    let line = "x".repeat(EVENT_BYTES - 1);
    format!(r#"{{"toNode":"{to}","data":["{line}\n"],"commandOrEvent":"EventACK","method":"TextLogging"}}"#)
}

/// The line of a log: 200 bytes with its line feed, of which about a third differs from one line to the next.
pub(super) fn log_line(number: u64) -> String {
    let hash = blake3::hash(&number.to_le_bytes()).to_hex();
    let (trace, port, took) = (&hash[..32], 1024 + number * 7919 % 60_000, number * 31 % 997);
    let line = format!(
        "2026-11-23T04:{:02}:{:02}.{:03}Z ship app[{}]: request {trace} from 10.1.{}.{}:{port} took {took} ms, status 200, \
         {} bytes were sent to the client",
        number / 60 % 60,
        number % 60,
        number * 37 % 1000,
        number % 9 + 800,
        number % 5,
        number % 251,
        number * 6151 % 90_000,
    );
    let width = EVENT_BYTES - 1;
    format!("{line:.<width$}")
}

/// So many events with lines that differ, for `to`, as an array.
pub(super) fn log_lines(to: &str, count: u64) -> Bytes {
    let event = |number| {
        let line = log_line(number);
        format!(r#"{{"toNode":"{to}","data":["{line}\n"],"commandOrEvent":"EventACK","method":"TextLogging"}}"#)
    };
    let events: Vec<String> = (0..count).map(event).collect();
    format!("[{}]", events.join(",")).into()
}

/// Durable acknowledged events a second from one node to another.
pub(super) async fn events(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    flow(fleet, scale, "events/s, two nodes", 1, |ship| vec![event(ship)]).await
}

/// The same over 20 lanes: two of each of ten nodes, because a lane is made of a node, a type and a method.
pub(super) async fn lanes(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let two = |ship: &str| vec![event(ship).replace("EventACK", "CommandACK"), event(ship)];
    flow(fleet, scale, "events/s, 20 lanes", MANY / 2, two).await
}

/// The same to 20 nodes.
pub(super) async fn nodes(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    flow(fleet, scale, "events/s, 20 nodes", MANY, |ship| vec![event(ship)]).await
}

/// Events to so many ships, of each lane of a ship in turn.
async fn flow(
    fleet: &Fleet,
    scale: Scale,
    name: &str,
    ships: usize,
    lanes: impl Fn(&str) -> Vec<String>,
) -> anyhow::Result<Vec<Figure>> {
    let bare = limits::round_trips(fleet, scale).await?;
    let store = limits::store(fleet, scale.of(200_000, 50_000)).await?;
    let (central, ships) = (fleet.node("central").await?, fleet.ships(ships).await?);
    let messages: Vec<String> = ships.iter().flat_map(|ship| lanes(ship.name())).collect();
    let total = scale.of(300_000, 30_000);
    pour(&central, &messages, WARM_UP, IN_FLIGHT).await?;
    let before = (Usage::of(&central)?.cpu, cpu(&ships)?);
    let took = pour(&central, &messages, total, IN_FLIGHT).await?;
    let (sender, receivers) = (Usage::of(&central)?.cpu - before.0, cpu(&ships)? - before.1);
    let lines: u64 = ships.iter().map(lines).sum::<anyhow::Result<u64>>()?;
    anyhow::ensure!(lines == total + WARM_UP, "{} events were sent, but {lines} were written", total + WARM_UP);
    let each =
        |name: &str, cpu: Duration| Figure::new(name, cpu.as_secs_f64() * 1e6 / total as f64, Unit::Microseconds);
    Ok(vec![
        Figure::rate(name, total, took).at_least(30_000.0).beside(&bare).beside(&store.both),
        each("  CPU of the sender for each", sender),
        each("  CPU of the receivers for each", receivers),
    ])
}

/// Time on a CPU that these have taken together.
fn cpu(nodes: &[Node]) -> anyhow::Result<Duration> {
    nodes.iter().map(|node| Ok(Usage::of(node)?.cpu)).sum()
}

/// Lines in a node's text log: each event is there exactly once.
fn lines(node: &Node) -> anyhow::Result<u64> {
    let path = node.dir().join("textlogging.log");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(text.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// Shell commands a second that one node runs.
pub(super) async fn commands(fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let command =
        r#"{"toNode":"ship1","data":["true"],"commandOrEvent":"CommandACK","method":"ShellCommand","parallel":true}"#;
    let command = [command.to_owned()];
    let bare = limits::spawns(scale).await?;
    let (central, ships) = (fleet.node("central").await?, fleet.ships(1).await?);
    let total = scale.of(20_000, 2000);
    pour(&central, &command, WARM_UP / 10, IN_FLIGHT).await?;
    let took = pour(&central, &command, total, IN_FLIGHT).await?;
    drop(ships);
    Ok(vec![Figure::rate("shell commands/s, one node, parallel", total, took).at_least(2000.0).beside(&bare)])
}

/// Memory of both sides when 10,000 messages come in one array.
pub(super) async fn burst(fleet: &Fleet) -> anyhow::Result<Vec<Figure>> {
    let (central, ships) = (fleet.node("central").await?, fleet.ships(1).await?);
    let messages = [event("ship1")];
    let accepted = Socket::open(&central).await?.submit(array(&messages, 0, 10_000)).await?;
    anyhow::ensure!(accepted.len() == 10_000, "only {} messages were accepted", accepted.len());
    drained(&central).await?;
    let (sender, receiver) = (Usage::of(&central)?, Usage::of(&ships[0])?);
    Ok(vec![
        Figure::memory("10,000 at once: peak RSS of the sender", sender.peak).at_most(40.0),
        Figure::memory("10,000 at once: peak RSS of the receiver", receiver.peak).at_most(40.0),
    ])
}

/// Brings `total` messages to a node, of each of `messages` in turn, with at most `in_flight` that are not final, and
/// waits until all are. How long that took.
pub(super) async fn pour(node: &Node, messages: &[String], total: u64, in_flight: u64) -> anyhow::Result<Duration> {
    let clock = Clock::start();
    let mut poured = accept(node, messages, total, (BATCH, in_flight)).await?;
    while *poured.ended.borrow_and_update() < total {
        poured.wait().await?;
    }
    Ok(clock.elapsed())
}

/// Brings messages as above, in arrays of `batch`, and returns once the last is accepted.
pub(super) async fn accept(
    node: &Node,
    messages: &[String],
    total: u64,
    (batch, in_flight): (u64, u64),
) -> anyhow::Result<Watch> {
    let mut watch = Watch::start(node).await?;
    let mut idle = Vec::new();
    for _ in 0..POSTS {
        idle.push(Socket::open(node).await?);
    }
    let mut posts = FuturesUnordered::new();
    let mut given = 0;
    while given < total || !posts.is_empty() {
        let size = batch.min(total - given);
        let has_room = size > 0 && given + size <= *watch.ended.borrow_and_update() + in_flight;
        if has_room && let Some(mut socket) = idle.pop() {
            let body = array(messages, given, size);
            given += size;
            posts.push(async move {
                let accepted = socket.submit(body).await?.len() as u64;
                anyhow::ensure!(accepted == size, "{accepted} of {size} messages were accepted");
                Ok((socket, accepted))
            });
            continue;
        }
        tokio::select! {
            Some(posted) = posts.next() => {
                let (socket, accepted) = posted?;
                watch.accepted.fetch_add(accepted, Ordering::Release);
                idle.push(socket);
            }
            more = watch.wait() => more?,
        }
    }
    Ok(watch)
}

/// Waits until nothing is left of what a node has accepted.
pub(super) async fn drained(node: &Node) -> anyhow::Result<()> {
    let mut socket = Socket::open(node).await?;
    let clock = Clock::start();
    let (mut least, mut since) = (u64::MAX, clock.elapsed());
    loop {
        let outstanding = socket.outstanding().await?;
        if outstanding == 0 {
            return Ok(());
        }
        if outstanding < least {
            (least, since) = (outstanding, clock.elapsed());
        }
        anyhow::ensure!(clock.elapsed().saturating_sub(since) < STUCK, "{outstanding} messages don't leave");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Knows how many of the accepted messages have ended; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    /// Raised when a node has answered that it has accepted.
    accepted: Arc<AtomicU64>,
    ended: watch::Receiver<u64>,
    task: AbortHandle,
}

impl Watch {
    async fn start(node: &Node) -> anyhow::Result<Self> {
        let mut socket = Socket::open(node).await?;
        let before = socket.outstanding().await?;
        anyhow::ensure!(before == 0, "{before} messages wait from before");
        let accepted = Arc::new(AtomicU64::new(0));
        let (tell, ended) = watch::channel(0);
        let task = tokio::spawn(count(socket, accepted.clone(), tell)).abort_handle();
        Ok(Self { accepted, ended, task })
    }

    /// Waits until more have ended.
    async fn wait(&mut self) -> anyhow::Result<()> {
        let changed = tokio::time::timeout(STUCK, self.ended.changed()).await;
        let changed = changed.with_context(|| format!("nothing has ended for {} s", STUCK.as_secs()))?;
        changed.context("the node can't be asked how many have ended")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells how many have ended until nobody wants to know. What was accepted before the question and is not outstanding
/// in the answer has ended.
async fn count(mut socket: Socket, accepted: Arc<AtomicU64>, tell: watch::Sender<u64>) {
    loop {
        let before = accepted.load(Ordering::Acquire);
        let Ok(outstanding) = socket.outstanding().await else { return };
        let ended = before.saturating_sub(outstanding);
        if tell.is_closed() {
            return;
        }
        tell.send_if_modified(|told| ended > std::mem::replace(told, ended.max(*told)));
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A JSON array of `count` messages, the first of which is the one whose turn it is after `given`.
pub(super) fn array(messages: &[String], given: u64, count: u64) -> Bytes {
    let mut text = String::from("[");
    for number in given..given + count {
        if number > given {
            text.push(',');
        }
        let turn = usize::try_from(number).unwrap_or(0) % messages.len().max(1);
        text.push_str(messages.get(turn).map_or("", String::as_str));
    }
    text.push(']');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_take_turns_across_arrays() {
        let messages = ["1".to_owned(), "2".to_owned(), "3".to_owned()];
        assert_eq!(array(&messages, 0, 2), "[1,2]");
        assert_eq!(array(&messages, 2, 3), "[3,1,2]");
    }

    #[test]
    fn an_event_has_the_size_that_is_said() {
        let event: crate::intake::MessageInput = serde_json::from_str(&event("ship1")).unwrap();
        assert_eq!(event.data[0].len(), EVENT_BYTES);
    }
}
