//! Central's decision on whoever wants new keys. It writes down before it answers, so an answer that is lost is asked for again,
//! and is the same one.

use protocol::name::NodeName;
use protocol::time::Wall;

use super::{Registrar, RegistrarError};
use crate::crash_points::{Point, reach};
use crate::enrol::registry::{Member, NotRenewed, Progress, Registry, Wanted};
use crate::enrol::renewal::wire::{Answer, Certified, Renew, Verdict, Word};
use crate::enrol::wire::RequestError;
use crate::security::certificate::{Certificate, Draft};
use crate::security::keys::{KeyKind, PublicKey};

/// What came of a word.
#[derive(Debug)]
pub(crate) struct Heard {
    /// For the node, signed.
    pub(crate) body: String,
    /// For the log.
    pub(crate) outcome: Renewed,
}

/// What came of a word, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// It has its certificate, perhaps once more.
    Certified,
    /// The new key is the node's now.
    Settled,
    /// That was so before.
    Again,
    /// Refused, for this reason.
    Refused(String),
}

impl Registrar {
    /// Answers a word that came on the subject of the node `name`.
    pub(crate) fn renew(
        &self,
        registry: &mut Registry,
        name: &NodeName,
        word: &Word,
        now: Wall,
    ) -> Result<Heard, RegistrarError> {
        if word.name() != name.as_str() {
            return Err(RequestError::Form("it is about another node than its subject".to_owned()).into());
        }
        let progress = match word {
            Word::Renew(renew) => self.certify_anew(registry, renew, now)?,
            Word::Using(using) => {
                using.prove()?;
                registry.settle_renewal(&using.name, &using.key, now)?
            }
        };
        reach(Point::RenewalKept);
        let (outcome, verdict) = match progress {
            Ok(Progress { certificate, user, is_settled, is_new }) => {
                let outcome = match (is_settled, is_new) {
                    (false, _) => Renewed::Certified,
                    (true, true) => Renewed::Settled,
                    (true, false) => Renewed::Again,
                };
                (outcome, Verdict::Certified(Certified { certificate, user, settled: is_settled }))
            }
            Err(refusal) => (Renewed::Refused(refusal.to_string()), Verdict::Refused(refusal.to_string())),
        };
        let answer = Answer { name: word.name().to_owned(), key: word.key().to_owned(), verdict };
        Ok(Heard { body: answer.seal(self.authority.fleet())?, outcome })
    }

    fn certify_anew(
        &self,
        registry: &mut Registry,
        renew: &Renew,
        now: Wall,
    ) -> Result<Result<Progress, NotRenewed>, RegistrarError> {
        let (key, seal_key) = renew.prove()?;
        let make = |member: &Member, serial: u64| -> Result<(String, Option<String>), RegistrarError> {
            let before = Certificate::verify(&member.certificate, &self.authority.fleet().public());
            let before = before.map_err(crate::authority::AuthorityError::from)?;
            let old = PublicKey::parse(&member.key, KeyKind::User).map_err(|_| RequestError::Key("old key"))?;
            let draft = Draft {
                name: member.name.clone(),
                key,
                seal_key,
                role: before.role,
                labels: before.labels.as_ref().clone(),
                serial,
                renews: Some(old),
                expires: before.expires,
            };
            let certificate = self.authority.certify(draft, now)?;
            let user = self.authority.member_jwt(&member.name, &key, before.role, now, None)?;
            Ok((certificate.text.as_ref().to_owned(), user))
        };
        let wanted = Wanted { name: &renew.name, old: &renew.old_key, new: &renew.new_key };
        registry.certify_renewal(wanted, now, make)
    }
}
