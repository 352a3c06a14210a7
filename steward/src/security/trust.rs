//! Whom this node believes: the one place where what goes out is signed, and where what comes in is verified.
//!
//! | mode | when | what comes in |
//! | --- | --- | --- |
//! | fleet | the node has an identity | is taken only with the signature of a node of the fleet, over exactly this |
//! | open | no identity, and the broker is on this machine, or `--insecure` | is believed to be from whom it says |
//! | closed | no identity, and the broker is elsewhere | the same, but commands of others are refused, because anybody could have sent them |
//!
//! It decides who has sent something. What a sender may is the business of the rules.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_nats::HeaderMap;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use protocol::message::Kind;
use protocol::name::NodeName;
use protocol::time::Wall;

use super::certificate::Role;
use super::identity::Identity;
use super::keys::{KeyError, KeyKind, KeyPair, PublicKey, SealPublic};
use super::known::{Directory, Shelf};
use super::refusal::Refusal;
use super::replays::Replays;
use super::revocations::Revocations;
use super::sealing::{self, Bound, Opened, Sessions};
use super::sender::Sender;
use super::signing;
use crate::evidence;

/// What is said to whoever sends a command to a node that can't know who he is.
const CLOSED: &str = "it is not signed, and its broker is not on the node's own machine, so anybody could have sent it: let \
                      both nodes join a fleet (steward init and invite on central, steward join here), or start this one \
                      with --insecure";

/// Whom this node believes. Clones are the same.
#[derive(Clone)]
pub(crate) struct Trust(Arc<Inner>);

struct Inner {
    me: NodeName,
    central: NodeName,
    mode: Mode,
}

enum Mode {
    Open,
    /// With a key of this process, by which it knows its own messages.
    Closed(Box<OwnKey>),
    Fleet(Box<Fleet>),
}

/// A key that no other process has.
struct OwnKey {
    key: KeyPair,
    public: String,
}

/// Who a node of a fleet is at this moment.
#[derive(Clone)]
struct Own {
    identity: Arc<Identity>,
    public: Arc<str>,
    /// The other one of its two identities while it renews its keys, for which others may still seal, or may do so already.
    beside: Option<Arc<Identity>>,
}

impl Own {
    fn new(identity: Identity, beside: Option<Arc<Identity>>) -> Self {
        Self { public: identity.keys.node.public().to_string().into(), identity: Arc::new(identity), beside }
    }
}

/// What a node of a fleet believes.
struct Fleet {
    own: RwLock<Own>,
    directory: Directory,
    revocations: Revocations,
    replays: Mutex<Replays>,
    sessions: Sessions,
}

/// What was verified of something that has arrived, before anything of it was read.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// Nothing is proven, and nothing has to be: whom it is from is what it says.
    Nothing,
    /// This node has signed it.
    Signed {
        /// Who.
        sender: Sender,
        /// The key.
        key: PublicKey,
        /// When, by its clock.
        at: Wall,
        /// Tells it from everything else that this key has signed.
        mark: u128,
    },
}

/// Something that is to go out.
#[derive(Debug)]
pub(crate) struct Plain {
    /// What stands in its headers; none of this module's.
    pub(crate) headers: Option<HeaderMap>,
    /// Its body.
    pub(crate) body: Bytes,
    /// Whether whoever gets it may not know us yet, so that our certificate goes with it.
    pub(crate) introduces: bool,
    /// What this node vouches for beside it.
    pub(crate) attests: Option<Attested>,
}

/// Receipts that are signed apart, so that whoever gets them can show them to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attested {
    /// Whom they are for.
    pub(crate) to: NodeName,
    /// The root over them.
    pub(crate) root: blake3::Hash,
}

/// Why something can't be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsealable {
    /// There is no identity here.
    #[error("this node has no identity, so it can't seal; let it join a fleet (steward join)")]
    NoIdentity,
    /// The receiver's key is not known here.
    #[error("the key of {0} to seal for is not known here yet; it waits until {0} has shown its certificate")]
    NoKey(NodeName),
    /// The key makes no sense, or there are no random bytes.
    #[error("it can't be sealed for {to}: {why}")]
    Key {
        /// The receiver.
        to: NodeName,
        /// Why.
        why: KeyError,
    },
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({})", self.mode())
    }
}

impl Trust {
    /// Everybody is believed.
    pub(crate) fn open(me: NodeName, central: NodeName) -> Self {
        Self(Arc::new(Inner { me, central, mode: Mode::Open }))
    }

    /// Everybody is believed, and nobody may command.
    pub(crate) fn closed(me: NodeName, central: NodeName) -> Result<Self, KeyError> {
        let key = KeyPair::generate(KeyKind::User)?;
        let public = key.public().to_string();
        Ok(Self(Arc::new(Inner { me, central, mode: Mode::Closed(Box::new(OwnKey { key, public })) })))
    }

    /// Only nodes of the fleet are believed.
    pub(crate) fn fleet(central: NodeName, identity: Identity, shelf: Shelf, revocations: Revocations) -> Self {
        let me = identity.certificate.name.clone();
        let fleet = Fleet {
            directory: Directory::new(&identity.certificate, shelf),
            own: RwLock::new(Own::new(identity, None)),
            revocations,
            replays: Mutex::default(),
            sessions: Sessions::default(),
        };
        Self(Arc::new(Inner { me, central, mode: Mode::Fleet(Box::new(fleet)) }))
    }

    /// `open`, `closed` or `fleet`.
    pub(crate) fn mode(&self) -> &'static str {
        match self.0.mode {
            Mode::Open => "open",
            Mode::Closed(_) => "closed",
            Mode::Fleet(_) => "fleet",
        }
    }

    /// The identity of this node, if it has one, as it is at this moment.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        match &self.0.mode {
            Mode::Fleet(fleet) => Some(fleet.own().identity),
            Mode::Open | Mode::Closed(_) => None,
        }
    }

    /// From now on this node signs with this identity, which is its own under other keys. What it has signed with the keys before is
    /// still its own. Only for a node of a fleet; for another one nothing changes.
    pub(crate) fn take_on(&self, identity: Identity) {
        if let Mode::Fleet(fleet) = &self.0.mode {
            fleet.directory.take_on(&identity.certificate);
            let mut own = fleet.own.write().unwrap_or_else(PoisonError::into_inner);
            let before = own.identity.clone();
            *own = Own::new(identity, Some(before));
        }
    }

    /// What others have sealed for this identity, which is this node's as well, can be opened here.
    pub(crate) fn keep_beside(&self, other: Identity) {
        if let Mode::Fleet(fleet) = &self.0.mode {
            fleet.own.write().unwrap_or_else(PoisonError::into_inner).beside = Some(Arc::new(other));
        }
    }

    /// Which keys are believed no more, in a fleet.
    pub(crate) fn revocations(&self) -> Option<&Revocations> {
        match &self.0.mode {
            Mode::Fleet(fleet) => Some(&fleet.revocations),
            Mode::Open | Mode::Closed(_) => None,
        }
    }

    /// Bytes that a signature and a seal add to a publish at most; `introduces` is with the certificate.
    pub(crate) fn overhead_bytes(&self, introduces: bool) -> usize {
        match &self.0.mode {
            Mode::Open => 0,
            Mode::Closed(_) => signing::OVERHEAD_BYTES,
            Mode::Fleet(_) if !introduces => signing::OVERHEAD_BYTES + sealing::OVERHEAD_BYTES,
            Mode::Fleet(fleet) => {
                signing::OVERHEAD_BYTES + sealing::OVERHEAD_BYTES + fleet.own().identity.certificate.text.len()
            }
        }
    }

    /// Headers and body of a publish as they go out: sealed for `to`, if there is one, and then signed where this node signs,
    /// all with the keys that it has at this moment. Takes about 20 µs, twice as much with receipts that it attests, and some more
    /// for long bodies.
    pub(crate) fn protect(
        &self,
        to: Option<&NodeName>,
        now: Wall,
        subject: &str,
        plain: Plain,
    ) -> Result<(Option<HeaderMap>, Bytes), Unsealable> {
        let Plain { mut headers, body, introduces, attests } = plain;
        let Mode::Fleet(fleet) = &self.0.mode else {
            return match to {
                Some(_) => Err(Unsealable::NoIdentity),
                None => Ok((self.sign_for_itself(now, subject, headers, &body), body)),
            };
        };
        let own = fleet.own();
        if let Some(Attested { to, root }) = attests {
            let signed = evidence::signed_bytes(&own.identity.fleet, &self.0.me, &to, &root);
            let signature = BASE64URL_NOPAD.encode(&own.identity.keys.node.sign(&signed));
            headers.get_or_insert_default().insert(evidence::HEADER, signature);
        }
        let (headers, body) = match to {
            Some(to) => fleet.seal(&own, to, now, subject, headers.as_ref(), &body)?,
            None => (headers.unwrap_or_default(), body),
        };
        let certificate = introduces.then_some(&*own.identity.certificate.text);
        let headers = signing::signed(&own.identity.keys.node, &own.public, now, certificate, subject, headers, &body);
        Ok((Some(headers), body))
    }

    /// Opens what was verified; none if it is not sealed.
    pub(crate) fn unseal(
        &self,
        proof: &Proof,
        subject: &str,
        headers: Option<&HeaderMap>,
        body: &[u8],
    ) -> Result<Option<Opened>, Refusal> {
        let Some(key) = sealing::sealed_for(headers)? else { return Ok(None) };
        let (Mode::Fleet(fleet), Proof::Signed { sender, key: signer, .. }) = (&self.0.mode, proof) else {
            return Err(Refusal::SealedForNobody);
        };
        let name = || sender.name.clone();
        let own = fleet.sealed_for(&key).ok_or_else(|| Refusal::SealKey { name: name(), key })?;
        let opened = fleet.sessions.open(&own.keys.seal, Bound { signer, subject }, body);
        opened.map(Some).map_err(|_| Refusal::Box { name: name() })
    }

    /// Without an identity: what is for this node itself is signed with the key of this process. For others its signature would
    /// only be a riddle.
    fn sign_for_itself(&self, now: Wall, subject: &str, headers: Option<HeaderMap>, body: &[u8]) -> Option<HeaderMap> {
        let is_own = subject.strip_prefix(self.0.me.as_str()).is_some_and(|rest| rest.starts_with('.'));
        match &self.0.mode {
            Mode::Closed(own) if is_own => {
                Some(signing::signed(&own.key, &own.public, now, None, subject, headers.unwrap_or_default(), body))
            }
            Mode::Open | Mode::Closed(_) | Mode::Fleet(_) => headers,
        }
    }

    /// The certificate of who has signed something that has arrived; none where nothing is proven. May block for a look into
    /// the store.
    pub(crate) fn certificate(&self, proof: &Proof) -> Option<Arc<str>> {
        let (Mode::Fleet(fleet), Proof::Signed { sender, key, .. }) = (&self.0.mode, proof) else { return None };
        if sender.name != self.0.me {
            return fleet.directory.certificate(key);
        }
        let Own { identity, beside, .. } = fleet.own();
        let other = beside.filter(|other| other.certificate.key == *key);
        Some(other.unwrap_or(identity).certificate.text.clone())
    }

    /// Verifies something that has arrived. Nothing of it may be read before this, and nothing of it counts after an error.
    /// Takes about 60 µs in a fleet, twice as much with a certificate that is new.
    pub(crate) fn verify(
        &self,
        subject: &str,
        headers: Option<&HeaderMap>,
        body: &[u8],
        now: Wall,
    ) -> Result<Proof, Refusal> {
        match &self.0.mode {
            Mode::Open => Ok(Proof::Nothing),
            Mode::Closed(own) => Ok(self.own(&own.key, subject, headers, body)),
            Mode::Fleet(fleet) => fleet.verify(subject, headers, body, now),
        }
    }

    /// Without an identity: whether this process itself has signed it.
    fn own(&self, key: &KeyPair, subject: &str, headers: Option<&HeaderMap>, body: &[u8]) -> Proof {
        let public = key.public();
        let (Ok(said), Some(headers)) = (signing::read(headers), headers) else { return Proof::Nothing };
        let bytes = signing::signed_bytes(subject, headers, body);
        if said.key != public || !bytes.is_ok_and(|bytes| public.verify(&bytes, &said.signature)) {
            return Proof::Nothing;
        }
        let sender = Sender::unsigned(self.0.me.clone(), &self.0.central);
        Proof::Signed {
            sender: Sender { key: Some(public), ..sender },
            key: public,
            at: said.at,
            mark: mark(&said.signature),
        }
    }

    /// Who has sent it, given whom it says that it is from.
    pub(crate) fn sender(&self, proof: &Proof, said: &str) -> Result<Sender, Refusal> {
        match proof {
            Proof::Signed { sender, .. } if sender.name.as_str() == said => Ok(sender.clone()),
            Proof::Signed { sender, .. } => {
                let said = said.chars().take(protocol::name::NAME_BYTES_MAX).flat_map(char::escape_default).collect();
                Err(Refusal::Name { signed: sender.name.clone(), said })
            }
            Proof::Nothing if said == self.0.me.as_str() && matches!(self.0.mode, Mode::Closed(_)) => {
                Err(Refusal::Impostor)
            }
            Proof::Nothing => {
                let name = NodeName::new(said).map_err(|_| Refusal::Header("fromNode"))?;
                Ok(Sender::unsigned(name, &self.0.central))
            }
        }
    }

    /// Whether it is fresh; from then on it is not. To be asked about whatever is not addressed to this very process, once.
    /// `started` is when this process started, by the clock that `now` is from.
    pub(crate) fn fresh(&self, proof: &Proof, now: Wall, started: Wall) -> Result<(), Refusal> {
        let (Mode::Fleet(fleet), Proof::Signed { sender, key, at, mark }) = (&self.0.mode, proof) else {
            return Ok(());
        };
        let mut replays = fleet.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.fresh(key, *at, *mark, now, started).map_err(|why| Refusal::Stale { name: sender.name.clone(), why })
    }

    /// Who has this name, for what was taken from it before. A node of a fleet whose certificate is not here any more is
    /// nobody in particular.
    pub(crate) fn who_is(&self, name: &NodeName) -> Sender {
        match &self.0.mode {
            Mode::Open | Mode::Closed(_) => Sender::unsigned(name.clone(), &self.0.central),
            Mode::Fleet(fleet) => match fleet.directory.by_name(name) {
                Some(known) => known.sender.clone(),
                None => Sender { name: name.clone(), role: Role::Node, labels: Arc::default(), key: None },
            },
        }
    }

    /// Why a message of this type from this sender is refused before any rule is asked.
    pub(crate) fn refusal(&self, sender: &Sender, kind: Kind) -> Option<&'static str> {
        let closed = matches!(self.0.mode, Mode::Closed(_));
        (closed && kind.is_command() && sender.key.is_none()).then_some(CLOSED)
    }

    /// Whether the broker takes commands for other nodes from this one: that of a fleet takes none from a plain node.
    pub(crate) fn may_command(&self) -> bool {
        let is_plain = |identity: &Identity| identity.user_jwt.is_some() && identity.certificate.role == Role::Node;
        !self.identity().as_deref().is_some_and(is_plain)
    }
}

impl Fleet {
    /// Who has the private half of a key that others have sealed for, as long as it is kept.
    fn sealed_for(&self, key: &SealPublic) -> Option<Arc<Identity>> {
        let own = self.own();
        [Some(own.identity), own.beside].into_iter().flatten().find(|own| own.keys.seal.public() == *key)
    }

    fn seal(
        &self,
        own: &Own,
        to: &NodeName,
        now: Wall,
        subject: &str,
        headers: Option<&HeaderMap>,
        body: &[u8],
    ) -> Result<(HeaderMap, Bytes), Unsealable> {
        let known = self.directory.by_name(to).ok_or_else(|| Unsealable::NoKey(to.clone()))?;
        let bound = Bound { signer: &own.identity.certificate.key, subject };
        let sealed = self.sessions.seal(&known.seal_key, bound, now, headers, body);
        sealed.map_err(|why| Unsealable::Key { to: to.clone(), why })
    }

    fn own(&self) -> Own {
        self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn verify(&self, subject: &str, headers: Option<&HeaderMap>, body: &[u8], now: Wall) -> Result<Proof, Refusal> {
        let said = signing::read(headers)?;
        let headers = headers.ok_or(Refusal::Unsigned)?;
        if self.revocations.has(&said.key) {
            return Err(Refusal::Revoked(said.key));
        }
        let known = self.directory.by_key(&said.key);
        if known.is_none() && said.certificate.is_none() {
            return Err(Refusal::UnknownKey(said.key));
        }
        let bytes = signing::signed_bytes(subject, headers, body)?;
        if !said.key.verify(&bytes, &said.signature) {
            return Err(Refusal::Signature(said.key));
        }
        let known = match (known, said.certificate) {
            (Some(known), None) => known,
            (None, None) => return Err(Refusal::UnknownKey(said.key)),
            (_, Some(certificate)) => self.directory.learn(certificate, &said.key)?,
        };
        if let Some(at) = known.expires.filter(|end| now >= *end) {
            return Err(Refusal::Expired { name: known.sender.name.clone(), at });
        }
        let sender = known.sender.clone();
        Ok(Proof::Signed { sender, key: said.key, at: said.at, mark: mark(&said.signature) })
    }
}

/// Of a signature enough to tell it from all others: nobody but its maker can make another one for the same bytes.
fn mark(signature: &[u8; super::keys::SIGNATURE_BYTES]) -> u128 {
    let hash = blake3::hash(signature);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(crate) mod fleet_of_tests;
#[cfg(test)]
mod tests;
