//! Who gave which message, from the moment at which it is handed to the engine until its line is written down. The
//! protocol knows nothing of it: it would change nothing there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use protocol::message::{Message, MessageId};

use super::By;

/// Messages on their way to the engine of which it is known who gave them; of more it is not known.
const BROUGHT_MAX: usize = 65_536;

/// Who gave what is on its way.
#[derive(Debug, Default)]
pub(super) struct Brought(Mutex<HashMap<MessageId, By>>);

impl Brought {
    /// These come from there.
    pub(super) fn add(&self, messages: &[Message], by: By) {
        let mut brought = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BROUGHT_MAX.saturating_sub(brought.len());
        brought.extend(messages.iter().take(room).map(|message| (message.id, by)));
    }

    /// Who gave it. It is asked once.
    pub(super) fn take(&self, id: MessageId) -> Option<By> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// The engine has answered: whatever of these it has not taken is on no way any more.
    pub(super) fn forget(&self, ids: impl Iterator<Item = MessageId>) {
        let mut brought = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            brought.remove(&id);
        }
    }
}
