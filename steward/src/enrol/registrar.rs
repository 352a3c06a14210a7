//! Central's decision on whoever asks to join: who is let in, and what it is given. It writes down before it answers.

pub(crate) mod renewing;

use std::sync::Arc;

use protocol::name::NodeName;
use protocol::time::Wall;

use super::registry::{Admission, Invitation, Member, Registry, RegistryError};
use super::wire::{Answer, Request, RequestError, Verdict, Welcome};
use crate::authority::{Authority, AuthorityError};
use crate::security::certificate;
use crate::security::keys::{PublicKey, SealPublic};

/// What the registrar vouches with.
pub(crate) struct Registrar {
    /// The keys of the fleet.
    pub(crate) authority: Arc<Authority>,
    /// Whom central itself is, whose certificate a new node is given.
    pub(crate) own: Box<dyn Fn() -> Arc<str> + Send + Sync>,
}

/// Why a request brings no answer. The node asks again, so nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrarError {
    /// It is not to be answered: whoever sent it has not the invitation, or no sense.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The registry.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// No certificate or NATS user can be made.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// The answer can't be written.
    #[error("the answer can't be written: {0}")]
    Answer(#[from] serde_json::Error),
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Answered {
    /// For the node, signed.
    pub(crate) body: String,
    /// For the log: who joined or was refused, and why.
    pub(crate) outcome: Outcome,
}

/// What came of a request, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A new node.
    Joined(NodeName),
    /// The same answer once more.
    Again(NodeName),
    /// Refused.
    Refused {
        /// What it wants to be called; within the limits of a name.
        name: String,
        /// Why.
        why: String,
    },
}

impl Registrar {
    /// Answers a request that came for the invitation `id`.
    pub(crate) fn join(
        &self,
        registry: &mut Registry,
        id: &str,
        body: &[u8],
        now: Wall,
    ) -> Result<Answered, RegistrarError> {
        let request = Request::parse(body)?;
        if request.id != id {
            return Err(RequestError::Form("it is about another invitation than its subject".to_owned()).into());
        }
        // Of an unknown invitation there is no key to check; all that is told then is that it is unknown.
        let seal = match registry.invitation(id)? {
            Some(invitation) => Some(request.prove(&invitation.key)?),
            None => None,
        };
        let make = |invitation: &Invitation, serial_min: u64| match &seal {
            Some((key, seal)) => self.vouch(invitation, (key, seal), serial_min, now),
            None => Err(RequestError::Key("seal key").into()),
        };
        let admission = registry.admit::<RegistrarError>(id, &request.name, &request.node_key, now, make)?;
        let (outcome, verdict) = match admission {
            Ok(Admission::New(member)) => (Outcome::Joined(member.name.clone()), self.welcome(member)),
            Ok(Admission::Again(member)) => (Outcome::Again(member.name.clone()), self.welcome(member)),
            Err(refusal) => {
                let name: String = request.name.chars().take(64).flat_map(char::escape_default).collect();
                let why = refusal.to_string();
                (Outcome::Refused { name, why: why.clone() }, Verdict::Refused(why))
            }
        };
        let answer = Answer { id: request.id, node_key: request.node_key, verdict };
        Ok(Answered { body: answer.seal(self.authority.fleet())?, outcome })
    }

    fn vouch(
        &self,
        invitation: &Invitation,
        (key, seal): (&PublicKey, &SealPublic),
        serial: u64,
        now: Wall,
    ) -> Result<(String, Option<String>, u64), RegistrarError> {
        let draft = certificate::Draft {
            name: invitation.name.clone(),
            key: *key,
            seal_key: *seal,
            role: invitation.role,
            labels: invitation.labels.clone(),
            serial,
            renews: None,
            expires: None,
        };
        let certificate = self.authority.certify(draft, now)?;
        let user = self.authority.member_jwt(&invitation.name, key, invitation.role, now, None)?;
        Ok((certificate.text.as_ref().to_owned(), user, serial))
    }

    fn welcome(&self, member: Member) -> Verdict {
        let central = (self.own)().as_ref().to_owned();
        Verdict::Welcome(Welcome { certificate: member.certificate, central, user: member.user })
    }
}

#[cfg(test)]
mod tests;
