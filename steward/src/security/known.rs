//! Which key belongs to which name: learned from certificates, kept durably, and looked up for each publish that comes in.
//!
//! Of each name the certificate with the highest serial counts, and beside it the key that it says that it renews, until that one is
//! revoked: what was signed with it may still be on its way, and its node may not have got in with the new one yet. In memory are
//! those that were asked for lately; the store has all of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use protocol::name::NodeName;
use protocol::time::Wall;

use super::certificate::Certificate;
use super::keys::{PublicKey, SealPublic};
use super::refusal::Refusal;
use super::sender::Sender;

/// Identities in memory (300 bytes each). With more, all are forgotten here and read from the store again.
const CACHED_MAX: usize = 65_536;

/// Certificates in memory (a KiB each). With more, all are forgotten here and read from the store again.
const TEXTS_MAX: usize = 256;

/// Finds a certificate by something of it.
type Find<T> = Box<dyn Fn(&T) -> Option<String> + Send + Sync>;

/// Where certificates are kept. All calls block for as long as a look into the store takes.
pub(crate) struct Shelf {
    /// The certificate with this key.
    pub(crate) by_key: Find<PublicKey>,
    /// The certificate with this name.
    pub(crate) by_name: Find<NodeName>,
    /// Keeps a certificate instead of the one with its name, before anything that its key has signed.
    pub(crate) keep: Box<dyn Fn(&Certificate) -> Kept + Send + Sync>,
}

/// What became of a certificate that is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is on its way to the store.
    Yes,
    /// The store is too busy to take it; it is shown again.
    NotNow,
    /// There is no room for another name.
    NoRoom,
}

/// What is known of a node.
#[derive(Debug)]
pub(crate) struct Known {
    /// Who it is.
    pub(crate) sender: Sender,
    /// Its key.
    pub(crate) key: PublicKey,
    /// The key for which others seal.
    pub(crate) seal_key: SealPublic,
    /// The serial of its certificate.
    pub(crate) serial: u64,
    /// Until when its certificate holds.
    pub(crate) expires: Option<Wall>,
    /// The key that this one takes the place of.
    renews: Option<PublicKey>,
    digest: blake3::Hash,
}

impl Known {
    fn new(certificate: &Certificate) -> Self {
        Self {
            sender: Sender::certified(certificate),
            key: certificate.key,
            seal_key: certificate.seal_key,
            serial: certificate.serial,
            expires: certificate.expires,
            renews: certificate.renews,
            digest: blake3::hash(certificate.text.as_bytes()),
        }
    }

    /// The same node with the key that it had before, where there is one.
    fn before(&self) -> Option<Self> {
        let key = self.renews?;
        let sender = Sender { key: Some(key), ..self.sender.clone() };
        // A serial that any certificate has at least: nobody is refused for it.
        Some(Self {
            sender,
            key,
            serial: 0,
            expires: self.expires,
            renews: None,
            digest: self.digest,
            seal_key: self.seal_key,
        })
    }
}

/// This node: the key that it has, and the one that it has had before.
#[derive(Debug, Clone)]
struct Own {
    now: Arc<Known>,
    before: Option<Arc<Known>>,
}

/// All that are known. Our own is always among them.
pub(crate) struct Directory {
    fleet: PublicKey,
    name: NodeName,
    own: RwLock<Own>,
    shelf: Shelf,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    by_key: HashMap<PublicKey, Arc<Known>>,
    by_name: HashMap<NodeName, Arc<Known>>,
    /// Certificates that were asked for lately, with their hashes.
    texts: HashMap<blake3::Hash, Arc<str>>,
}

impl Cache {
    /// Holds the text of a certificate; with too many, all others go.
    fn hold(&mut self, digest: blake3::Hash, text: Arc<str>) -> Arc<str> {
        if self.texts.len() >= TEXTS_MAX {
            self.texts.clear();
        }
        self.texts.entry(digest).or_insert(text).clone()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("own", &self.own()).finish_non_exhaustive()
    }
}

impl Directory {
    /// What the fleet says, beginning with our own certificate.
    pub(crate) fn new(own: &Certificate, shelf: Shelf) -> Self {
        let (now, name) = (Arc::new(Known::new(own)), own.name.clone());
        let own_ = Own { before: now.before().map(Arc::new), now };
        Self { fleet: own.fleet, name, own: RwLock::new(own_), shelf, cache: Mutex::default() }
    }

    /// This node has another certificate from now on; the key that it had is its own still.
    pub(crate) fn take_on(&self, certificate: &Certificate) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut own.now, Arc::new(Known::new(certificate)));
        own.before = Some(before);
    }

    fn own(&self) -> Own {
        self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose key this is.
    pub(crate) fn by_key(&self, key: &PublicKey) -> Option<Arc<Known>> {
        let own = self.own();
        if let Some(own) = [Some(own.now), own.before].into_iter().flatten().find(|own| own.key == *key) {
            return Some(own);
        }
        let cached = self.lock().by_key.get(key).cloned();
        cached.or_else(|| self.read((self.shelf.by_key)(key)?))
    }

    /// The certificate of another node that vouches for this key of it, or for the one that this key is renewed by.
    pub(crate) fn certificate(&self, key: &PublicKey) -> Option<Arc<str>> {
        let known = self.by_key(key)?;
        let held = self.lock().texts.get(&known.digest).cloned();
        if held.is_some() {
            return held;
        }
        // What the store has may be older: a certificate is on its way there when it counts here already.
        let text: Arc<str> = (self.shelf.by_name)(&known.sender.name)?.into();
        (blake3::hash(text.as_bytes()) == known.digest).then(|| self.lock().hold(known.digest, text))
    }

    /// What is known of a node.
    pub(crate) fn by_name(&self, name: &NodeName) -> Option<Arc<Known>> {
        if *name == self.name {
            return Some(self.own().now);
        }
        let cached = self.lock().by_name.get(name).cloned();
        cached.or_else(|| self.read((self.shelf.by_name)(name)?))
    }

    /// Takes what the store has of a node into the memory.
    fn read(&self, text: String) -> Option<Arc<Known>> {
        match Certificate::verify(&text, &self.fleet) {
            Ok(certificate) => Some(self.remember(&certificate)),
            Err(error) => {
                // Of another fleet, such as the one that this node belonged to before.
                tracing::debug!(%error, "a certificate in the store is not believed");
                None
            }
        }
    }

    /// Learns from a certificate that came with something that `key` has signed. Answers with what is known of the node
    /// from then on.
    pub(crate) fn learn(&self, text: &str, key: &PublicKey) -> Result<Arc<Known>, Refusal> {
        let known = self.by_key(key);
        if let Some(known) = known.filter(|known| known.digest == blake3::hash(text.as_bytes())) {
            return Ok(known);
        }
        let certificate = Certificate::verify(text, &self.fleet)?;
        if certificate.key != *key {
            return Err(Refusal::OtherCertificate);
        }
        match self.by_name(&certificate.name) {
            Some(known) if known.key == *key && certificate.serial <= known.serial => return Ok(known),
            // The fleet says that it is to be believed until it is revoked, and that was looked at before.
            Some(known) if known.renews == Some(*key) && certificate.serial < known.serial => {
                return Ok(known.before().map_or(known, Arc::new));
            }
            Some(known) if known.key != *key && certificate.serial <= known.serial => {
                return Err(other_key(&certificate, &known));
            }
            // Nobody but this node itself says who it is.
            Some(known) if certificate.name == self.name => return Err(other_key(&certificate, &known)),
            Some(_) | None => {}
        }
        match (self.shelf.keep)(&certificate) {
            Kept::Yes => Ok(self.remember(&certificate)),
            Kept::NotNow => Err(Refusal::Busy(certificate.name)),
            Kept::NoRoom => Err(Refusal::TooMany(certificate.name)),
        }
    }

    fn remember(&self, certificate: &Certificate) -> Arc<Known> {
        let known = Arc::new(Known::new(certificate));
        let mut cache = self.lock();
        if cache.by_name.len() >= CACHED_MAX {
            *cache = Cache::default();
        }
        if let Some(before) = cache.by_name.insert(certificate.name.clone(), known.clone()) {
            cache.by_key.remove(&before.key);
            before.renews.and_then(|key| cache.by_key.remove(&key));
        }
        cache.hold(known.digest, certificate.text.clone());
        if let Some(before) = known.before() {
            cache.by_key.insert(before.key, Arc::new(before));
        }
        cache.by_key.insert(known.key, known.clone());
        known
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn other_key(certificate: &Certificate, known: &Known) -> Refusal {
    Refusal::OtherKey {
        name: certificate.name.clone(),
        key: certificate.key,
        serial: certificate.serial,
        known: known.key,
        known_serial: known.serial,
    }
}
