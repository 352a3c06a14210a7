//! Who this node is: its keys, its certificate and the fleet that it belongs to, in the folder `identity` of its directory.
//!
//! | file | what |
//! | --- | --- |
//! | `node.nk` | the seed with which it signs and logs in |
//! | `node.xk` | the seed that opens what was sealed for it |
//! | `node.cert` | its certificate |
//! | `fleet.pub` | the key of its fleet: what this one has not signed is not believed |
//! | `node.creds` | its NATS user (JWT), where the broker is the fleet's |
//! | `ca.pem` | who vouches for the broker, where that is not somebody that everybody knows |
//!
//! The folder is written aside and put in place as a whole, so that keys and certificate always belong together. While keys are
//! renewed, a second one lies beside it ([`renewal`]).

pub(crate) mod renewal;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use protocol::time::Wall;
use rustix::fs::{CWD, RenameFlags};

use super::certificate::{Certificate, CertificateError};
use super::keys::{KeyError, KeyKind, KeyPair, PublicKey, SealKey};
use super::secret_file::{self, SecretFileError};

/// The folder in the node's directory.
pub(crate) const FOLDER: &str = "identity";

const NODE_SEED: &str = "node.nk";
const SEAL_SEED: &str = "node.xk";
const CERTIFICATE: &str = "node.cert";
const FLEET: &str = "fleet.pub";
const USER_JWT: &str = "node.creds";
const CA: &str = "ca.pem";

/// The keys of a node. They are made where the node is, and never leave it.
#[derive(Debug)]
pub(crate) struct NodeKeys {
    /// With which it signs and logs in.
    pub(crate) node: KeyPair,
    /// That opens what was sealed for it.
    pub(crate) seal: SealKey,
}

/// Who a node is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Its keys.
    pub(crate) keys: NodeKeys,
    /// What its fleet says of it.
    pub(crate) certificate: Certificate,
    /// The key of its fleet.
    pub(crate) fleet: PublicKey,
    /// Its NATS user (a JWT, not the seed), where the broker is the fleet's.
    pub(crate) user_jwt: Option<String>,
    /// The certificates (PEM) of who vouches for the broker.
    pub(crate) ca: Option<String>,
}

/// Why there is no identity to be had from a folder that is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A file.
    #[error("{0}")]
    File(#[from] SecretFileError),
    /// A file is missing.
    #[error(
        "{} is missing, so this node can't show who it is; put it back from a copy, or remove {} and let the node join \
         again (steward invite on central, steward join here)", path.display(), folder.display()
    )]
    Incomplete {
        /// Which.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// A file does not hold what its name says.
    #[error("{} does not hold a key of its kind: {why}; put it back from a copy, or let the node join again", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        why: KeyError,
    },
    /// The certificate is not believed.
    #[error("{}: {why}; let the node join again", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        why: CertificateError,
    },
    /// Keys and certificate are of different nodes or times.
    #[error(
        "{} is for another key than the one in {}: the files are of different nodes or times; put back those that belong \
         together, or let the node join again", certificate.display(), seed.display()
    )]
    Apart {
        /// The certificate.
        certificate: PathBuf,
        /// The seed.
        seed: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("keys can't be made: {0}")]
    Make(#[from] KeyError),
    /// The folder can't be put in place.
    #[error("{} can't be put in place: {error}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl NodeKeys {
    /// New ones.
    pub(crate) fn generate() -> Result<Self, IdentityError> {
        Ok(Self { node: KeyPair::generate(KeyKind::User)?, seal: SealKey::generate()? })
    }

    /// Reads the two seeds in `folder`.
    pub(crate) fn load(folder: &Path) -> Result<Self, IdentityError> {
        let key = |path: PathBuf| move |why| IdentityError::Key { path, why };
        let node = KeyPair::from_seed(&required(folder, NODE_SEED)?, KeyKind::User);
        let seal = SealKey::from_seed(&required(folder, SEAL_SEED)?);
        Ok(Self { node: node.map_err(key(folder.join(NODE_SEED)))?, seal: seal.map_err(key(folder.join(SEAL_SEED)))? })
    }

    /// Writes the two seeds into `folder`, which is made where it is missing. For a node that has asked to join and waits
    /// for its certificate.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        secret_file::make_folder(folder)?;
        secret_file::write(&folder.join(NODE_SEED), &self.node.seed())?;
        secret_file::write(&folder.join(SEAL_SEED), &self.seal.seed())?;
        Ok(())
    }
}

impl Identity {
    /// The folder of the identity in a node's directory.
    pub(crate) fn folder(dir: &Path) -> PathBuf {
        dir.join(FOLDER)
    }

    /// Reads the identity in the node's directory `dir`; none if it has no such folder. Whether the certificate still
    /// holds is not looked at: a node whose certificate has expired has to be able to say so.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        Self::load_from(&Self::folder(dir))
    }

    /// Reads the identity in this folder; none if the folder is not there.
    fn load_from(folder: &Path) -> Result<Option<Self>, IdentityError> {
        match secret_file::check_folder(folder) {
            Err(SecretFileError::Missing { .. }) => return Ok(None),
            checked => checked?,
        }
        let fleet_path = folder.join(FLEET);
        let fleet = PublicKey::parse(&required(folder, FLEET)?, KeyKind::Account)
            .map_err(|why| IdentityError::Key { path: fleet_path, why })?;
        let keys = NodeKeys::load(folder)?;
        let path = folder.join(CERTIFICATE);
        let certificate = Certificate::verify(&required(folder, CERTIFICATE)?, &fleet)
            .map_err(|why| IdentityError::Certificate { path: path.clone(), why })?;
        if certificate.key != keys.node.public() || certificate.seal_key != keys.seal.public() {
            return Err(IdentityError::Apart { certificate: path, seed: folder.join(NODE_SEED) });
        }
        let user_jwt = optional(folder, USER_JWT)?;
        let ca = optional(folder, CA)?;
        Ok(Some(Self { keys, certificate, fleet, user_jwt, ca }))
    }

    /// Writes the identity into the node's directory `dir`, as a whole; what was there before goes.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        self.save_as(dir, FOLDER)
    }

    /// Writes it into the folder with this name, as a whole.
    fn save_as(&self, dir: &Path, name: &str) -> Result<(), IdentityError> {
        let (folder, aside) = (dir.join(name), dir.join(format!("{name}.new")));
        let placing = |error| IdentityError::Place { path: folder.clone(), error };
        remove_folder(&aside).map_err(placing)?;
        self.keys.save(&aside)?;
        secret_file::write(&aside.join(FLEET), &self.fleet.to_string())?;
        secret_file::write(&aside.join(CERTIFICATE), &self.certificate.text)?;
        for (name, text) in [(USER_JWT, &self.user_jwt), (CA, &self.ca)] {
            if let Some(text) = text {
                secret_file::write(&aside.join(name), text)?;
            }
        }
        let placed = match exchange(&aside, &folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(&aside, &folder),
            exchanged => exchanged,
        };
        placed.and_then(|()| File::open(dir)?.sync_all()).map_err(placing)?;
        remove_folder(&aside).map_err(placing)
    }

    /// Whether the certificate has not expired.
    pub(crate) fn holds(&self, now: Wall) -> bool {
        self.certificate.holds(now)
    }
}

fn required(folder: &Path, name: &str) -> Result<zeroize::Zeroizing<String>, IdentityError> {
    let path = folder.join(name);
    match secret_file::read(&path) {
        Err(SecretFileError::Missing { path }) => Err(IdentityError::Incomplete { path, folder: folder.to_owned() }),
        read => Ok(read?),
    }
}

fn optional(folder: &Path, name: &str) -> Result<Option<String>, IdentityError> {
    match secret_file::read(&folder.join(name)) {
        Err(SecretFileError::Missing { .. }) => Ok(None),
        read => Ok(Some(read?.as_str().to_owned())),
    }
}

/// Has two folders change places, in one step.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
