//! The authority of a fleet: the folder `fleet` in central's directory, which `steward init` makes, and what can be signed
//! with the keys in it. Whoever has this folder is the fleet; it is made once, never overwritten, and read by nobody else.
//!
//! | file | what |
//! | --- | --- |
//! | `fleet.nk` | the fleet key, in which every node trusts: it signs certificates, rules and revocations |
//! | `fleet.toml` | where nodes reach the broker |
//! | `operator.nk`, `system.nk`, `account.nk` | keys of NATS: the operator, the account of the system, the fleet's account |
//! | `signer-ROLE.nk` | a key for each role: the users that it signs for can do what the role may, and nothing else |
//! | `ca.pem`, `ca.key`, `server.pem`, `server.key` | the CA of the fleet, and the broker's certificate |
//! | `operator.jwt`, `system.jwt`, `account.jwt` | what the NATS server is told |
//! | `nats-server.conf`, `accounts.conf`, `resolver/` | its configuration, and what it keeps itself |
//!
//! With a NATS system of the user's own (`--external`) there are the first two only. It never decides who is let in.

mod claims;
mod push;
mod roles;
mod server_config;
mod settings;
mod tls;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::time::Wall;
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::own_file;
use crate::security::certificate::{Certificate, CertificateError, Draft, Role};
use crate::security::jwt::JwtError;
use crate::security::keys::{KeyError, KeyKind, KeyPair, PublicKey};
use crate::security::secret_file::{self, SecretFileError};
pub(crate) use roles::Scope;
pub(crate) use settings::Settings;
pub(crate) use tls::TOLD_BEFORE;

/// The folder in central's directory.
pub(crate) const FOLDER: &str = "fleet";

/// The configuration of the fleet's nats-server.
pub(crate) const SERVER_CONFIG: &str = "nats-server.conf";

const FLEET_SEED: &str = "fleet.nk";
const OPERATOR_SEED: &str = "operator.nk";
const SYSTEM_SEED: &str = "system.nk";
const ACCOUNT_SEED: &str = "account.nk";
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const SERVER_CERTIFICATE: &str = "server.pem";
const SERVER_KEY: &str = "server.key";
const OPERATOR_JWT: &str = "operator.jwt";
const SYSTEM_JWT: &str = "system.jwt";
const ACCOUNT_JWT: &str = "account.jwt";
const ACCOUNTS: &str = "accounts.conf";
const RESOLVER: &str = "resolver";
const LOCK: &str = "lock";

/// Why something can't be done with a fleet's authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// There is one already.
    #[error(
        "{} is there already: a fleet is made once, and nothing was changed. To make another one, do it in another --dir", .0.display()
    )]
    Exists(PathBuf),
    /// There is none.
    #[error("{} is not there: this is done where the fleet was made; `steward init` makes one", .0.display())]
    None(PathBuf),
    /// A file.
    #[error("{0}")]
    File(#[from] SecretFileError),
    /// A file does not hold what its name says.
    #[error("{} does not hold what belongs there: {why}; put it back from a copy", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Keys can't be made.
    #[error("keys can't be made: {0}")]
    Keys(#[from] KeyError),
    /// Something can't be signed.
    #[error("it can't be signed: {0}")]
    Sign(#[from] JwtError),
    /// A certificate can't be signed.
    #[error("{0}")]
    Certify(#[from] CertificateError),
    /// A TLS certificate can't be made.
    #[error("the broker's TLS certificate can't be made: {0}")]
    Tls(#[from] rcgen::Error),
    /// Too many are revoked.
    #[error(
        "{} keys are revoked in this fleet, which is as many as the broker can be told; make a new fleet, and let the nodes \
         that are left join that",
        claims::REVOKED_MAX
    )]
    Full,
    /// The folder can't be put in place.
    #[error("{} can't be made: {error}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The authority of a fleet.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
    settings: Settings,
    fleet: KeyPair,
    broker: Option<OwnBroker>,
}

/// What there is for a broker that is the fleet's own.
#[derive(Debug)]
struct OwnBroker {
    folder: PathBuf,
    operator: KeyPair,
    system: KeyPair,
    account: KeyPair,
    signers: BTreeMap<Scope, KeyPair>,
    ca: String,
    local: String,
}

impl Authority {
    /// Makes the authority of a new fleet in `dir`, whole or not at all. A fleet that is there is left alone.
    pub(crate) fn found(dir: &Path, settings: &Settings, now: Wall) -> Result<Self, AuthorityError> {
        let folder = dir.join(FOLDER);
        if fs::symlink_metadata(&folder).is_ok() {
            return Err(AuthorityError::Exists(folder));
        }
        let placing = |error| AuthorityError::Place { path: folder.clone(), error };
        let aside = dir.join(format!("{FOLDER}.new"));
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(placing(error)),
            Ok(()) | Err(_) => {}
        }
        secret_file::make_folder(&aside)?;
        let fleet = KeyPair::generate(KeyKind::Account)?;
        secret_file::write(&aside.join(FLEET_SEED), &fleet.seed())?;
        let mut settings = settings.clone();
        if !settings.is_external {
            settings.tls_until = Some(found_broker(&aside, &fleet.public(), &settings, now)?);
        }
        settings.save(&aside)?;
        fs::rename(&aside, &folder).and_then(|()| File::open(dir)?.sync_all()).map_err(placing)?;
        Self::open(dir)
    }

    /// Opens the one in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let folder = dir.join(FOLDER);
        match secret_file::check_folder(&folder) {
            Err(SecretFileError::Missing { path }) => return Err(AuthorityError::None(path)),
            checked => checked?,
        }
        let settings = Settings::load(&folder)?;
        let fleet = seed(&folder, FLEET_SEED, KeyKind::Account)?;
        let broker = match settings.is_external {
            true => None,
            false => Some(OwnBroker::open(&folder, &settings)?),
        };
        Ok(Self { folder, settings, fleet, broker })
    }

    /// The fleet key.
    pub(crate) fn fleet(&self) -> &KeyPair {
        &self.fleet
    }

    /// Where nodes reach the broker: `HOST:PORT` each. None for one that is not ours.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        self.settings.addresses.iter().map(ToString::to_string)
    }

    /// The certificate (PEM) of the CA that vouches for the broker; `None` where the broker is not ours.
    pub(crate) fn ca(&self) -> Option<&str> {
        self.broker.as_ref().map(|broker| broker.ca.as_str())
    }

    /// The folder in which everything lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the broker is ours.
    pub(crate) fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    /// Where the broker is reached on its own machine; `None` where it is not ours.
    pub(crate) fn local_address(&self) -> Option<&str> {
        self.broker.as_ref().map(OwnBroker::local_address)
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.join(CA)
    }

    /// What the fleet says of a node, signed.
    pub(crate) fn certify(&self, draft: Draft, now: Wall) -> Result<Certificate, AuthorityError> {
        Ok(Certificate::issue(draft, &self.fleet, now)?)
    }

    /// The login at the broker for a member: it may do what its role may, under its own name. It holds for ever unless it
    /// is to expire. `None` where the broker is not ours.
    pub(crate) fn member_jwt(
        &self,
        name: &protocol::name::NodeName,
        key: &PublicKey,
        role: Role,
        now: Wall,
        expires: Option<Wall>,
    ) -> Result<Option<String>, AuthorityError> {
        self.user(Scope::Member(role), name.as_str(), key, now, expires)
    }

    /// The login for whoever holds an invitation: it can publish on `$STEWARD.join.<id>` and hear `$STEWARD.joined.<id>`,
    /// and nothing else. The id has the form of a node's name. `None` where the broker is not ours.
    pub(crate) fn invitation_jwt(
        &self,
        id: &protocol::name::NodeName,
        key: &PublicKey,
        now: Wall,
        expires: Wall,
    ) -> Result<Option<String>, AuthorityError> {
        self.user(Scope::Invitation, id.as_str(), key, now, Some(expires))
    }

    fn user(
        &self,
        scope: Scope,
        name: &str,
        key: &PublicKey,
        now: Wall,
        expires: Option<Wall>,
    ) -> Result<Option<String>, AuthorityError> {
        let Some(broker) = &self.broker else { return Ok(None) };
        let Some(signer) = broker.signers.get(&scope) else { return Ok(None) };
        Ok(Some(claims::scoped_user(signer, &broker.account.public(), name, key, now, expires)?))
    }

    /// Writes down that the broker is not to let these keys in any more: logins for them that were signed until now. To
    /// take effect at once it has to be told ([`Self::push`]); it reads what stands here when it starts.
    pub(crate) fn revoke(&self, keys: &[PublicKey], now: Wall) -> Result<(), AuthorityError> {
        let Some(broker) = &self.broker else { return Ok(()) };
        let _lock = broker.lock()?;
        let account = claims::revoke(&broker.operator, &broker.account_jwt()?, keys, now)?;
        let account = account.ok_or(AuthorityError::Full)?;
        secret_file::write(&self.folder.join(ACCOUNT_JWT), &account)?;
        broker.write_accounts()
    }

    /// Renews the broker's certificate if it ends soon, and says whether it did.
    pub(crate) fn renew_certificate(&mut self, now: Wall) -> Result<bool, AuthorityError> {
        if !self.has_broker() {
            return Ok(false);
        }
        let ends = self.settings.tls_until.unwrap_or(Wall(0));
        if ends.0.saturating_sub(now.0) > u64::try_from(tls::RENEW_BEFORE.as_millis()).unwrap_or(u64::MAX) {
            return Ok(false);
        }
        self.renew_certificate_now(now)?;
        Ok(true)
    }

    /// Renews the broker's certificate, which is signed by the same CA as before; until when the new one holds.
    pub(crate) fn renew_certificate_now(&mut self, now: Wall) -> Result<Wall, AuthorityError> {
        let _lock = self.broker.as_ref().map(OwnBroker::lock).transpose()?;
        let ca_key = secret_file::read(&self.folder.join(CA_KEY))?;
        // Key and certificate are two files. Whoever dies between them leaves a pair that nobody can use, and that is renewed by
        // whoever comes next.
        self.settings.tls_until = None;
        self.settings.save(&self.folder)?;
        let until = write_server_certificate(&self.folder, &self.fleet.public(), &ca_key, &self.settings, now)?;
        self.settings.tls_until = Some(until);
        self.settings.save(&self.folder)?;
        Ok(until)
    }
}

impl OwnBroker {
    fn open(folder: &Path, settings: &Settings) -> Result<Self, AuthorityError> {
        let mut signers = BTreeMap::new();
        for scope in Scope::ALL {
            signers.insert(scope, seed(folder, &signer_file(scope), KeyKind::Account)?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            operator: seed(folder, OPERATOR_SEED, KeyKind::Operator)?,
            system: seed(folder, SYSTEM_SEED, KeyKind::Account)?,
            account: seed(folder, ACCOUNT_SEED, KeyKind::Account)?,
            signers,
            ca: secret_file::read(&folder.join(CA))?.as_str().to_owned() + "\n",
            local: settings.local_address(),
        })
    }

    fn local_address(&self) -> &str {
        &self.local
    }

    /// The fleet's account as it is now.
    fn account_jwt(&self) -> Result<Zeroizing<String>, AuthorityError> {
        Ok(secret_file::read(&self.folder.join(ACCOUNT_JWT))?)
    }

    fn write_accounts(&self) -> Result<(), AuthorityError> {
        let operator = secret_file::read(&self.folder.join(OPERATOR_JWT))?;
        let system = secret_file::read(&self.folder.join(SYSTEM_JWT))?;
        let text = server_config::accounts(
            &operator,
            (&self.system.public(), &system),
            (&self.account.public(), &self.account_jwt()?),
        );
        Ok(secret_file::write(&self.folder.join(ACCOUNTS), &text)?)
    }

    /// Held by one process that changes something here; others wait for it.
    fn lock(&self) -> Result<File, AuthorityError> {
        let path = self.folder.join(LOCK);
        let mut options = OpenOptions::new();
        let open = own_file::open(&path, options.write(true).create(true).truncate(false).mode(0o600));
        let lock = open.and_then(|file| {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        lock.map_err(|error| AuthorityError::Place { path, error })
    }
}

/// Until when the certificate of the broker holds that belongs to the fleet in `dir`; none where there is no such broker.
pub(crate) fn certificate_until(dir: &Path) -> Result<Option<Wall>, AuthorityError> {
    match Settings::load(&dir.join(FOLDER)) {
        Err(AuthorityError::File(SecretFileError::Missing { .. })) => Ok(None),
        Err(error) => Err(error),
        Ok(settings) if settings.is_external => Ok(None),
        Ok(settings) => Ok(Some(settings.tls_until.unwrap_or(Wall(0)))),
    }
}

/// Makes everything for a broker of the fleet's own in `folder`; until when its certificate holds.
fn found_broker(folder: &Path, fleet: &PublicKey, settings: &Settings, now: Wall) -> Result<Wall, AuthorityError> {
    let make = |file: &str, kind| -> Result<KeyPair, AuthorityError> {
        let pair = KeyPair::generate(kind)?;
        secret_file::write(&folder.join(file), &pair.seed())?;
        Ok(pair)
    };
    let operator = make(OPERATOR_SEED, KeyKind::Operator)?;
    let (system, account) = (make(SYSTEM_SEED, KeyKind::Account)?, make(ACCOUNT_SEED, KeyKind::Account)?);
    let mut signers = Vec::new();
    for scope in Scope::ALL {
        signers.push((scope, make(&signer_file(scope), KeyKind::Account)?.public()));
    }
    let write = |file: &str, text: &str| secret_file::write(&folder.join(file), text);
    write(OPERATOR_JWT, &claims::operator(&operator, &system.public(), now)?)?;
    write(SYSTEM_JWT, &claims::system_account(&operator, &system.public(), now)?)?;
    write(ACCOUNT_JWT, &claims::fleet_account(&operator, &account.public(), &signers, now)?)?;
    let ca = tls::authority(&fleet.to_string(), now)?;
    write(CA, &ca.certificate)?;
    write(CA_KEY, &ca.key)?;
    let until = write_server_certificate(folder, fleet, &ca.key, settings, now)?;
    write(SERVER_CONFIG, &server_config::server(&settings.listen_address()))?;
    secret_file::make_folder(&folder.join(RESOLVER))?;
    OwnBroker::open(folder, settings)?.write_accounts()?;
    Ok(until)
}

fn write_server_certificate(
    folder: &Path,
    fleet: &PublicKey,
    ca_key: &str,
    settings: &Settings,
    now: Wall,
) -> Result<Wall, AuthorityError> {
    let (pair, until) = tls::server(&fleet.to_string(), ca_key, &settings.hosts(), now)?;
    secret_file::write(&folder.join(SERVER_KEY), &pair.key)?;
    secret_file::write(&folder.join(SERVER_CERTIFICATE), &pair.certificate)?;
    Ok(until)
}

fn signer_file(scope: Scope) -> String {
    format!("signer-{}.nk", scope.as_str())
}

fn seed(folder: &Path, file: &str, kind: KeyKind) -> Result<KeyPair, AuthorityError> {
    let path = folder.join(file);
    let text = secret_file::read(&path)?;
    KeyPair::from_seed(&text, kind).map_err(|why| AuthorityError::Damaged { path, why: why.to_string() })
}

#[cfg(test)]
mod tests;
