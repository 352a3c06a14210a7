//! Brings what was done to the fleet from its registry into central's audit log.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::registry::{Registry, RegistryError};
use crate::audit::Audit;

/// What is on its way into the log.
pub(super) struct Journal {
    audit: Audit,
    registry: Arc<Mutex<Registry>>,
    /// The last row that was handed over, and who says that it is on the disk.
    handed: Option<(u64, oneshot::Receiver<()>)>,
}

impl Journal {
    pub(super) fn new(audit: Audit, registry: Arc<Mutex<Registry>>) -> Self {
        Self { audit, registry, handed: None }
    }

    /// Once a second: hands over what waits, and lets go of what is on the disk. It never waits for the log, which may have
    /// to wait for room for hours. On a thread that may block, because the registry syncs its file.
    pub(super) async fn look(mut self) -> anyhow::Result<(Self, Result<(), RegistryError>)> {
        let look = move || {
            let looked = self.take_a_look();
            (self, looked)
        };
        Ok(tokio::task::spawn_blocking(look).await?)
    }

    fn take_a_look(&mut self) -> Result<(), RegistryError> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, answer)) = &mut self.handed {
            match answer.try_recv() {
                Ok(()) => registry.journal_written(*last)?,
                Err(TryRecvError::Empty) => return Ok(()),
                // The task that writes the log was begun anew and knows nothing of it.
                Err(TryRecvError::Closed) => {}
            }
            self.handed = None;
        }
        if let Some(waiting) = registry.journal()?
            && let Some(answer) = self.audit.acts(waiting.acts)
        {
            self.audit.acts_lost(waiting.lost);
            self.handed = Some((waiting.last, answer));
        }
        Ok(())
    }
}
