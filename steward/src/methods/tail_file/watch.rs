//! What the file system tells of folders in which files are followed. It may tell nothing, or not all, and on a network file system it
//! never does: they are looked at now and then anyway.

use std::collections::BTreeSet;
use std::path::PathBuf;

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Folders that are watched; of more it is found out by looking.
const FOLDERS_MAX: usize = 64;

/// Hints that something may be new.
pub(super) struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    hints: mpsc::Receiver<()>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let (hint, hints) = mpsc::channel(1);
        let tell = move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                // A hint that finds another one waiting is of no use.
                hint.try_send(()).ok();
            }
        };
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::debug!(%error, "files that are followed are only looked at every second"))
            .ok();
        Self { watcher, watched: BTreeSet::new(), hints }
    }

    /// Watches these folders, as far as they are there.
    pub(super) fn keep(&mut self, folders: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> =
            folders.iter().filter(|folder| folder.is_dir()).take(FOLDERS_MAX).cloned().collect();
        for gone in self.watched.difference(&wanted) {
            if let Err(error) = watcher.unwatch(gone) {
                tracing::debug!(%error, "the watch of a folder is gone by itself");
            }
        }
        let mut watched: BTreeSet<PathBuf> = self.watched.intersection(&wanted).cloned().collect();
        for new in wanted.difference(&self.watched) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(new.clone())),
                Err(error) => tracing::debug!(%error, folder = %new.display(), "can't be watched"),
            }
        }
        self.watched = watched;
    }

    /// Returns when something may be new; never where nobody tells.
    pub(super) async fn hinted(&mut self) {
        if self.hints.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
