//! The places of a server: who has one, and who has to give it up when all are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The connections that have not asked for anything yet, oldest first, each with what ends it.
#[derive(Debug, Default)]
struct Silent {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// All places of a server.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    silent: Arc<Mutex<Silent>>,
}

impl Seats {
    /// So many, all of them free.
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), silent: Arc::default() }
    }

    /// A place, as soon as there is one. Where all are taken, the one that has been silent for longest becomes free.
    pub(super) async fn take(&self) -> Option<Seat> {
        if self.free.available_permits() == 0
            && let Some((_, oldest)) = lock(&self.silent).by_age.pop_first()
        {
            oldest.cancel();
        }
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let wanted = CancellationToken::new();
        let mut silent = lock(&self.silent);
        let number = silent.next;
        silent.next += 1;
        silent.by_age.insert(number, wanted.clone());
        Some(Seat { number, wanted, silent: Arc::clone(&self.silent), _permit: permit })
    }
}

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    wanted: CancellationToken,
    silent: Arc<Mutex<Silent>>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    /// The connection has asked for something: it keeps its place.
    pub(super) fn has_asked(&self) {
        lock(&self.silent).by_age.remove(&self.number);
    }

    /// Returns when somebody else needs the place.
    pub(super) async fn is_wanted(&self) {
        self.wanted.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.has_asked();
    }
}

fn lock(silent: &Mutex<Silent>) -> MutexGuard<'_, Silent> {
    // It is whole at any moment, even after a panic.
    silent.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_is_silent_for_longest_makes_room() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().await.unwrap(), seats.take().await.unwrap());
        first.has_asked();
        assert!(seats.take().now_or_never().is_none(), "nobody has left yet");
        assert!(second.is_wanted().now_or_never().is_some() && first.is_wanted().now_or_never().is_none());
        drop(second);
        let third = seats.take().now_or_never().flatten().unwrap();
        third.has_asked();
        assert!(seats.take().now_or_never().is_none());
        assert!(first.is_wanted().now_or_never().is_none() && third.is_wanted().now_or_never().is_none());
        drop(first);
        assert!(seats.take().now_or_never().flatten().is_some());
    }
}
