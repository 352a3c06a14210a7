//! Something that has arrived, once it is known who has signed it, and opened where it was sealed. Nothing of it is
//! unpacked or read before that.

use async_nats::{HeaderMap, Message};
use bytes::Bytes;

use super::Broker;
use crate::clock;
use crate::security::refusal::Refusal;
use crate::security::sealing::Opened;
use crate::security::trust::Proof;

/// What was verified, and can be read.
pub(super) struct Arrived<'a> {
    pub(super) proof: Proof,
    message: &'a Message,
    opened: Option<Opened>,
}

impl Arrived<'_> {
    /// The headers that belong to the body: those of a box are in it.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        match &self.opened {
            Some(opened) => Some(&opened.headers),
            None => self.message.headers.as_ref(),
        }
    }

    /// The body, compressed if the headers say so.
    pub(super) fn body(&self) -> &Bytes {
        self.opened.as_ref().map_or(&self.message.payload, |opened| &opened.body)
    }

    /// Whether nobody could read it on its way.
    pub(super) fn is_sealed(&self) -> bool {
        self.opened.is_some()
    }
}

impl Broker {
    /// Verifies what has arrived, and opens it.
    pub(super) fn arrived<'a>(&self, message: &'a Message) -> Result<Arrived<'a>, Refusal> {
        let Message { subject, headers, payload, .. } = message;
        let proof = self.verify(message)?;
        let opened = self.trust().unseal(&proof, subject, headers.as_ref(), payload)?;
        Ok(Arrived { proof, message, opened })
    }

    pub(super) fn verify(&self, message: &Message) -> Result<Proof, Refusal> {
        let Message { subject, headers, payload, .. } = message;
        self.trust().verify(subject, headers.as_ref(), payload, clock::wall())
    }
}
