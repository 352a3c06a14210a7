//! What the machine itself can do: the same broker, kernel and disk without steward.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::Scale;

use super::load::EVENT_BYTES;
use super::report::{Limit, Unit, percentile};
use crate::cli::fleet::{Fleet, eventually};
use crate::clock::Clock;
use crate::store::measure::measure_inserts;

/// Requests on their way at the same time, as many as events are.
const IN_FLIGHT: u64 = 1000;

/// How long the broker may take until it carries requests, and the pause between two tries.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// See [`ANSWER_LIMIT`].
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Rows of one transaction when the store is measured.
const STORE_BATCH: usize = 1000;

/// What is written when the disk is measured: so many blocks of so many bytes.
const WRITING_BLOCK_BYTES: usize = 1 << 20;
/// See [`WRITING_BLOCK_BYTES`].
const WRITING_BLOCKS: usize = 1000;

/// Requests a second that the broker carries between two bare clients, 1000 in flight, 200 bytes each way.
pub(super) async fn round_trips(fleet: &Fleet, scale: Scale) -> anyhow::Result<Limit> {
    let (asking, answering) = clients(fleet).await?;
    let total = scale.of(200_000, 50_000);
    let left = Arc::new(AtomicU64::new(total));
    let clock = Clock::start();
    let mut asked = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (asking, left) = (asking.clone(), left.clone());
        asked.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                asking.request("bench.echo", vec![b'x'; EVENT_BYTES].into()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = asked.join_next().await {
        done??;
    }
    let took = clock.elapsed();
    drop(answering);
    Ok(Limit::new("bare NATS requests, 1000 in flight", total as f64 / took.as_secs_f64(), Unit::PerSecond))
}

/// How long one request takes while nothing else is on its way.
pub(super) async fn round_trip(fleet: &Fleet) -> anyhow::Result<Limit> {
    let (asking, answering) = clients(fleet).await?;
    let clock = Clock::start();
    let mut times = Vec::new();
    for _ in 0..300 {
        let begin = clock.elapsed();
        asking.request("bench.echo", vec![b'x'; EVENT_BYTES].into()).await?;
        times.push(clock.elapsed() - begin);
    }
    drop(answering);
    Ok(Limit::new("bare NATS request", percentile(&mut times, 50), Unit::Milliseconds))
}

/// Two clients of the broker; the second answers every request until the set is dropped.
async fn clients(fleet: &Fleet) -> anyhow::Result<(async_nats::Client, JoinSet<()>)> {
    let asking = async_nats::connect(fleet.address()).await?;
    let answering = async_nats::connect(fleet.address()).await?;
    let mut requests = answering.subscribe("bench.echo").await?;
    answering.flush().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply
                && answering.publish(reply, request.payload).await.is_err()
            {
                return;
            }
        }
    });
    // A flush reaches the broker, and says nothing of whether it has taken the subscription.
    eventually("bare NATS requests are answered", ANSWER_LIMIT, LOOK_AGAIN, async || {
        Ok(asking.request("bench.echo", bytes::Bytes::new()).await.ok())
    })
    .await?;
    Ok((asking, tasks))
}

/// How long it takes to start a program, and to read what it prints until it has ended; one after the other.
pub(super) async fn spawn(name: &'static str, argv: &'static [&'static str]) -> anyhow::Result<Limit> {
    let times = blocking(move || {
        let clock = Clock::start();
        let mut times = Vec::new();
        for _ in 0..200 {
            let begin = clock.elapsed();
            let done = Command::new(argv[0]).args(&argv[1..]).stdin(Stdio::null()).output();
            anyhow::ensure!(done?.status.success(), "{argv:?} failed");
            times.push(clock.elapsed() - begin);
        }
        Ok(percentile(&mut times, 50))
    });
    Ok(Limit::new(name, times.await?, Unit::Milliseconds))
}

/// Programs (`true`) that the machine starts and ends in a second, with twice as many threads as it has cores.
pub(super) async fn spawns(scale: Scale) -> anyhow::Result<Limit> {
    let threads = 2 * std::thread::available_parallelism()?.get();
    let each = scale.of(4000, 1000) / threads;
    let rate = blocking(move || {
        let clock = Clock::start();
        std::thread::scope(|scope| {
            let run = || -> std::io::Result<()> {
                for _ in 0..each {
                    Command::new("true").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
                }
                Ok(())
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            running.into_iter().try_for_each(|thread| match thread.join() {
                Ok(done) => done.context("true can't be started"),
                Err(_) => Err(anyhow::anyhow!("a thread has failed")),
            })
        })?;
        Ok((each * threads) as f64 / clock.elapsed().as_secs_f64())
    });
    Ok(Limit::new("bare fork and exec of `true`, parallel", rate.await?, Unit::PerSecond))
}

/// How long it takes to append an event to a file and sync it.
pub(super) async fn sync(fleet: &Fleet) -> anyhow::Result<Limit> {
    let path = fleet.folder().join("sync");
    let time = blocking(move || {
        let mut file = File::create(&path)?;
        let clock = Clock::start();
        let mut times = Vec::new();
        for _ in 0..300 {
            let begin = clock.elapsed();
            file.write_all(&[b'x'; EVENT_BYTES])?;
            file.sync_data()?;
            times.push(clock.elapsed() - begin);
        }
        std::fs::remove_file(&path)?;
        Ok(percentile(&mut times, 50))
    });
    Ok(Limit::new("append and fdatasync", time.await?, Unit::Milliseconds))
}

/// Bytes a second that the disk takes and syncs, written in one go.
pub(super) async fn writing(fleet: &Fleet) -> anyhow::Result<Limit> {
    let path = fleet.folder().join("writing");
    let rate = blocking(move || {
        let mut file = File::create(&path)?;
        let block = vec![b'x'; WRITING_BLOCK_BYTES];
        let clock = Clock::start();
        for _ in 0..WRITING_BLOCKS {
            file.write_all(&block)?;
        }
        file.sync_data()?;
        let took = clock.elapsed();
        std::fs::remove_file(&path)?;
        Ok((WRITING_BLOCK_BYTES * WRITING_BLOCKS) as f64 / 1e6 / took.as_secs_f64())
    });
    Ok(Limit::new("the disk alone: writes and syncs", rate.await?, Unit::MegabytesPerSecond))
}

/// What the store alone does, durably and in batches.
pub(super) struct Alone {
    /// Messages accepted a second.
    pub(super) accepts: Limit,
    /// Messages accepted and ended a second.
    pub(super) both: Limit,
    /// Opening it with all of them waiting, and reading what a start needs.
    pub(super) open: Limit,
}

/// See [`Alone`]; with so many messages.
pub(super) async fn store(fleet: &Fleet, messages: usize) -> anyhow::Result<Alone> {
    let dir = fleet.fresh("store")?;
    let path = dir.clone();
    let measured = blocking(move || measure_inserts(&path, messages, STORE_BATCH)).await?;
    remove(&dir)?;
    let accepts = messages as f64 / measured.submit.as_secs_f64();
    let both = messages as f64 / (measured.submit + measured.end).as_secs_f64();
    Ok(Alone {
        accepts: Limit::new("the store alone: accepts", accepts, Unit::PerSecond),
        both: Limit::new("the store alone: accepts and ends", both, Unit::PerSecond),
        open: Limit::new("the store alone: opens with as many", measured.open, Unit::Milliseconds),
    })
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// A limit that is made of others, one after the other.
pub(super) fn sum(name: &'static str, parts: &[(f64, &Limit)]) -> Limit {
    let millis: f64 = parts.iter().map(|(times, limit)| times * limit.value).sum();
    Limit { name, value: millis, unit: Unit::Milliseconds }
}

impl Limit {
    fn new(name: &'static str, value: impl Into<Value>, unit: Unit) -> Self {
        let Value(value) = value.into();
        Self { name, value, unit }
    }
}

/// A number of a limit's unit.
struct Value(f64);

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self(value.as_secs_f64() * 1000.0)
    }
}
