//! What the file system tells of the spool folder: which files were moved into it, or closed by whoever wrote them. It may
//! tell nothing: the folder is looked at now and then anyway.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::is_offered;

/// Names that are known to be complete; of more it is found out by looking.
const CLOSED_MAX: usize = 10_000;

/// Hints, and what they were about.
pub(super) struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    inode: Option<u64>,
    closed: Arc<Mutex<HashSet<OsString>>>,
}

impl Watch {
    pub(super) fn new(dir: &Path, hint: mpsc::Sender<()>) -> Self {
        let closed: Arc<Mutex<HashSet<OsString>>> = Arc::default();
        let told = Arc::clone(&closed);
        let tell = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let is_complete = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => true,
                EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
                _ => return,
            };
            let names = event.paths.iter().filter_map(|path| path.file_name()).filter(|name| is_offered(name));
            let mut closed = told.lock().unwrap_or_else(PoisonError::into_inner);
            for name in names {
                if !is_complete {
                    closed.remove(name);
                } else if closed.len() < CLOSED_MAX {
                    closed.insert(name.to_owned());
                }
            }
            if is_complete {
                // A hint that finds another one waiting is of no use.
                hint.try_send(()).ok();
            }
        };
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::warn!(%error, folder = %dir.display(), "is only looked at every two seconds"))
            .ok();
        Self { watcher, inode: None, closed }
    }

    /// Watches the folder that has this name now.
    pub(super) fn keep(&mut self, dir: &Path) {
        let inode = fs::symlink_metadata(dir).ok().filter(fs::Metadata::is_dir).map(|meta| meta.ino());
        let Some(watcher) = self.watcher.as_mut().filter(|_| inode != self.inode) else { return };
        if self.inode.is_some()
            && let Err(error) = watcher.unwatch(dir)
        {
            tracing::debug!(%error, "the watch of the last messages.d is gone by itself");
        }
        self.inode = inode.filter(|_| match watcher.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "messages.d can't be watched");
                false
            }
        });
    }

    /// Names of files that are complete.
    pub(super) fn closed(&self) -> HashSet<OsString> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These are seen to.
    pub(super) fn forget<'a>(&self, names: impl Iterator<Item = &'a OsStr>) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            closed.remove(name);
        }
    }
}
