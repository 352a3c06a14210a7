//! A fleet for tests: one key that certifies, and nodes whose certificates lie in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_nats::HeaderMap;
use bytes::Bytes;
use protocol::name::NodeName;
use protocol::time::Wall;

use super::super::certificate::{Certificate, Draft, Role};
use super::super::identity::{Identity, NodeKeys};
use super::super::keys::{KeyKind, KeyPair, PublicKey};
use super::super::known::{Kept, Shelf};
use super::super::revocations::{Revocations, Revoked};
use super::{Mode, Plain, Trust};
use crate::clock::wall;

/// A fleet.
pub(crate) struct TestFleet {
    pub(crate) key: KeyPair,
    dir: tempfile::TempDir,
}

/// A shelf in memory; clones are the same, as one store is that of two processes one after the other.
#[derive(Clone, Default)]
pub(crate) struct TestShelf(Arc<Mutex<HashMap<NodeName, Certificate>>>);

impl TestShelf {
    pub(crate) fn shelf(&self) -> Shelf {
        let (by_key, by_name, keep) = (self.clone(), self.clone(), self.clone());
        Shelf {
            by_key: Box::new(move |key: &PublicKey| {
                let all = by_key.0.lock().unwrap();
                all.values().find(|certificate| certificate.key == *key).map(|found| found.text.to_string())
            }),
            by_name: Box::new(move |name: &NodeName| Some(by_name.0.lock().unwrap().get(name)?.text.to_string())),
            keep: Box::new(move |certificate: &Certificate| {
                keep.0.lock().unwrap().insert(certificate.name.clone(), certificate.clone());
                Kept::Yes
            }),
        }
    }
}

impl TestFleet {
    pub(crate) fn new() -> Self {
        Self { key: KeyPair::generate(KeyKind::Account).unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    /// A node that has just joined.
    pub(crate) fn identity(&self, name: &str, serial: u64) -> Identity {
        self.identity_until(name, serial, None)
    }

    /// A node whose certificate ends then.
    pub(crate) fn identity_until(&self, name: &str, serial: u64, expires: Option<Wall>) -> Identity {
        let keys = NodeKeys::generate().unwrap();
        let draft = Draft {
            name: NodeName::new(name).unwrap(),
            key: keys.node.public(),
            seal_key: keys.seal.public(),
            role: if name == "central" { Role::Central } else { Role::Node },
            labels: BTreeMap::new(),
            serial,
            renews: None,
            expires,
        };
        let certificate = Certificate::issue(draft, &self.key, wall()).unwrap();
        Identity { keys, certificate, fleet: self.key.public(), user_jwt: None, ca: None }
    }

    /// The same node with other keys, which take the place of those that it has.
    pub(crate) fn renewed(&self, old: &Identity, serial: u64) -> Identity {
        let new = self.identity(old.certificate.name.as_str(), serial);
        let draft = Draft {
            name: old.certificate.name.clone(),
            key: new.certificate.key,
            seal_key: new.certificate.seal_key,
            role: old.certificate.role,
            labels: BTreeMap::new(),
            serial,
            renews: Some(old.certificate.key),
            expires: None,
        };
        Identity { certificate: Certificate::issue(draft, &self.key, wall()).unwrap(), ..new }
    }

    /// What a process of this identity believes.
    pub(crate) fn trust(&self, identity: Identity, shelf: &TestShelf) -> Trust {
        let dir = self.dir.path().join(identity.certificate.name.as_str());
        std::fs::create_dir_all(&dir).unwrap();
        let revocations = Revocations::load(&dir, self.key.public()).unwrap();
        Trust::fleet(NodeName::new("central").unwrap(), identity, shelf.shelf(), revocations)
    }

    /// A new node, as it is at its first start.
    pub(crate) fn node(&self, name: &str) -> Trust {
        self.trust(self.identity(name, 1), &TestShelf::default())
    }

    /// The list that revokes this key.
    pub(crate) fn revoke(&self, version: u64, key: &PublicKey, name: &str) -> String {
        let revoked = Revoked { key: key.to_string(), name: name.to_owned(), at_ms: wall().0 };
        Revocations::issue(version, vec![revoked], &self.key, wall()).unwrap()
    }
}

impl Plain {
    /// Something that this node vouches for no further than by sending it.
    pub(crate) fn new(headers: Option<HeaderMap>, body: Bytes, introduces: bool) -> Self {
        Self { headers, body, introduces, attests: None }
    }
}

impl Trust {
    /// The headers of a publish that is not sealed.
    pub(crate) fn sign(
        &self,
        now: Wall,
        subject: &str,
        headers: Option<HeaderMap>,
        body: &[u8],
        introduces: bool,
    ) -> Option<HeaderMap> {
        self.protect(None, now, subject, Plain::new(headers, Bytes::copy_from_slice(body), introduces)).unwrap().0
    }

    /// Has it know another node of its fleet, as if that one had sent something.
    pub(crate) fn meets(&self, certificate: &Certificate) {
        let Mode::Fleet(fleet) = &self.0.mode else { panic!("it is in no fleet") };
        fleet.directory.learn(&certificate.text, &certificate.key).unwrap();
    }
}

/// A copy of an identity, as it is after a restart, or in the hands of a thief.
pub(crate) fn copy(identity: &Identity) -> Identity {
    let dir = tempfile::tempdir().unwrap();
    save(identity, dir.path());
    Identity::load(dir.path()).unwrap().unwrap()
}

fn save(identity: &Identity, dir: &Path) {
    identity.save(dir).unwrap();
}
