//! The table `renewals`: who is to renew its keys, and who was certified for new ones that it has not shown yet. The old key of
//! a node goes when the new one has been seen in use, and not before.

use protocol::name::NodeName;
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::members::{self, Member};
use super::revocations::{self, Revoked};
use super::{Registry, RegistryError, from_column, journal, to_column};
use crate::audit::{Act, By, Deed};
use crate::clock::rfc3339;

/// What there is of it in version 3 of the registry, and which set of the fleet's rules each member was sent.
pub(super) const TABLES: &str = "
alter table members add column renewed_ms integer;
alter table members add column rules integer not null default 0;
create table renewals (
    name text primary key,
    asked_ms integer,
    key text unique,
    certificate text,
    user text,
    serial integer,
    certified_ms integer
) strict, without rowid;
";

/// How far the renewal of a node's keys is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// The node.
    pub(crate) name: NodeName,
    /// When somebody here asked for it.
    pub(crate) asked: Option<Wall>,
    /// The new key, and when it was certified.
    pub(crate) certified: Option<(String, Wall)>,
}

/// A node wants to be certified for a new key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The node.
    pub(crate) name: &'a str,
    /// The key that it has, and with which it asks.
    pub(crate) old: &'a str,
    /// The key that it wants to have.
    pub(crate) new: &'a str,
}

/// What a node is given for its new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its certificate.
    pub(crate) certificate: String,
    /// Its NATS user (JWT), where the broker is the fleet's own.
    pub(crate) user: Option<String>,
    /// Whether the new key is the node's, and the old one revoked.
    pub(crate) is_settled: bool,
    /// Whether that is so since this very call.
    pub(crate) is_new: bool,
}

/// Why a key is not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRenewed {
    /// There is no such node.
    #[error("the fleet has no node {0}")]
    Unknown(String),
    /// It was thrown out.
    #[error("{0} was thrown out of the fleet (steward revoke)")]
    Revoked(NodeName),
    /// The key is not the node's, or not any more.
    #[error(
        "the key that asks is not that of {name}, which has the key {key} since {since}; if this is {name}, its files are old: \
         revoke it, and invite it again"
    )]
    NotCurrent {
        /// The node.
        name: NodeName,
        /// Its key.
        key: String,
        /// Since when.
        since: String,
    },
    /// Another new key waits for its first use.
    #[error(
        "{name} was certified for another new key at {since} ({key}), which it has not used so far; if its folder identity.next was \
         lost, run `steward rotate --node {name}` on central, which lets it ask with another one"
    )]
    Pending {
        /// The node.
        name: NodeName,
        /// The new key.
        key: String,
        /// Since when.
        since: String,
    },
    /// The new key is known already.
    #[error("the new key is not new: it was used before, or belongs to another node")]
    NotNew,
}

const COLUMNS: &str = "name, asked_ms, key, certificate, user, serial, certified_ms";

/// A row.
struct Kept {
    renewal: Renewal,
    certificate: Option<String>,
    user: Option<String>,
    serial: u64,
}

impl Registry {
    /// Notes that this node was asked to renew its keys. If it was certified for a new key before that and has not used it, it may
    /// ask for another one from now on.
    pub(crate) fn ask_renewal(&mut self, name: &NodeName, now: Wall) -> Result<(), RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let member = members::member(&transaction, name.as_str())?.filter(|member| member.revoked.is_none());
        member.ok_or_else(|| RegistryError::Unknown(name.to_string()))?;
        let (node, about) = (Some(name.clone()), serde_json::json!({}));
        let by = Some(By::this_process());
        let act = Act { at: now, deed: Deed::RenewalAsked, node, reason: None, about, by };
        journal::add(&transaction, &act)?;
        transaction.execute(
            "insert into renewals (name, asked_ms) values (?1, ?2) on conflict (name) do update set asked_ms = ?2",
            params![name.as_str(), to_column("the time", now.0)?],
        )?;
        Ok(transaction.commit()?)
    }

    /// Certifies a node for a new key, if it is the one that asks. `make` makes certificate and NATS user, given what the node is and the lowest serial that
    /// the certificate may have. What it answers is on disk when this returns; asked again, it is the same.
    pub(crate) fn certify_renewal<E: From<RegistryError>>(
        &mut self,
        wanted: Wanted<'_>,
        now: Wall,
        make: impl FnOnce(&Member, u64) -> Result<(String, Option<String>), E>,
    ) -> Result<Result<Progress, NotRenewed>, E> {
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(RegistryError::from)?;
        let (member, kept) = match known(&transaction, wanted.name)? {
            Ok(known) => known,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if member.key == wanted.new {
            return Ok(Ok(settled(member, false)));
        }
        if member.key != wanted.old {
            return Ok(Err(not_current(member)));
        }
        let pending = kept.as_ref().and_then(|kept| kept.renewal.certified.clone());
        if let (Some((key, since)), Some(kept)) = (pending, &kept) {
            if key == wanted.new {
                return Ok(Ok(certified(kept)));
            }
            if kept.renewal.asked.is_none_or(|asked| asked <= since) {
                return Ok(Err(NotRenewed::Pending { name: member.name, key, since: rfc3339(since) }));
            }
            revoke(&transaction, &member.name, &key, "never used; another one took its place", now)?;
        }
        if is_known(&transaction, wanted.new)? {
            return Ok(Err(NotRenewed::NotNew));
        }
        let before = member.serial.max(kept.as_ref().map_or(0, |kept| kept.serial));
        let serial = before.saturating_add(1).max(now.0);
        let (certificate, user) = make(&member, serial)?;
        let asked = kept.and_then(|kept| kept.renewal.asked);
        let renewal = Renewal { name: member.name, asked, certified: Some((wanted.new.to_owned(), now)) };
        let kept = Kept { renewal, certificate: Some(certificate), user, serial };
        write(&transaction, &kept)?;
        transaction.commit().map_err(RegistryError::from)?;
        Ok(Ok(certified(&kept)))
    }

    /// The new key of a node was seen in use: it is the node's from now on, and the old one is revoked. On disk when this
    /// returns; asked again, it is the same.
    pub(crate) fn settle_renewal(
        &mut self,
        name: &str,
        key: &str,
        now: Wall,
    ) -> Result<Result<Progress, NotRenewed>, RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (member, kept) = match known(&transaction, name)? {
            Ok(known) => known,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if member.key == key {
            return Ok(Ok(settled(member, false)));
        }
        let is_certified = |kept: &Kept| kept.renewal.certified.as_ref().is_some_and(|(certified, _)| certified == key);
        let Some(Kept { certificate: Some(certificate), user, serial, .. }) = kept.filter(is_certified) else {
            return Ok(Err(not_current(member)));
        };
        revoke(&transaction, &member.name, &member.key, "the node has renewed it", now)?;
        let old = member.key;
        let member = Member { key: key.to_owned(), certificate, user, serial, renewed: Some(now), ..member };
        members::update(&transaction, &member)?;
        let about = serde_json::json!({ "key": member.key, "serial": member.serial, "renewed": old });
        let node = Some(member.name.clone());
        journal::add(&transaction, &Act { at: now, deed: Deed::Renewed, node, reason: None, about, by: None })?;
        transaction.execute("delete from renewals where name = ?", [name])?;
        transaction.commit()?;
        Ok(Ok(settled(member, true)))
    }

    /// Has the node here, which made the fleet, stand among the members with what it is now. Where it was made anew (`steward init` with the
    /// fleet's folder from its copy), the key that it had before is revoked.
    pub(crate) fn own(&mut self, own: &Member) -> Result<(), RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let name = own.name.as_str();
        let before = members::member(&transaction, name)?;
        let is_pending = find(&transaction, name)?
            .and_then(|kept| kept.renewal.certified)
            .is_some_and(|(certified, _)| certified == own.key);
        match before {
            None => members::write(&transaction, own)?,
            Some(before) if before.key != own.key && before.serial < own.serial && !is_pending => {
                revoke(&transaction, &own.name, &before.key, "central was made anew", own.joined)?;
                drop_of(&transaction, name, own.joined)?;
                members::write(&transaction, own)?;
            }
            Some(_) => {}
        }
        Ok(transaction.commit()?)
    }

    /// Those that are under way, by name: at most one for each member.
    pub(crate) fn renewals(&self) -> Result<Vec<Renewal>, RegistryError> {
        let mut find = self.0.prepare_cached(&format!("select {COLUMNS} from renewals order by name"))?;
        let rows = find.query_map([], |row| Ok(read(row)))?;
        rows.map(|row| Ok(row??.renewal)).collect()
    }
}

/// Ends the renewal of a node that joins anew or is thrown out, within a transaction. A key that was certified is revoked with it.
pub(super) fn drop_of(connection: &Connection, name: &str, now: Wall) -> Result<(), RegistryError> {
    let Some(kept) = find(connection, name)? else { return Ok(()) };
    if let Some((key, _)) = kept.renewal.certified {
        revoke(connection, &kept.renewal.name, &key, "never used", now)?;
    }
    connection.execute("delete from renewals where name = ?", [name])?;
    Ok(())
}

/// The node, which has to be a member, and its renewal.
fn known(connection: &Connection, name: &str) -> Result<Result<(Member, Option<Kept>), NotRenewed>, RegistryError> {
    let Some(member) = members::member(connection, name)? else {
        let shown = name.chars().take(protocol::name::NAME_BYTES_MAX).flat_map(char::escape_default).collect();
        return Ok(Err(NotRenewed::Unknown(shown)));
    };
    if member.revoked.is_some() {
        return Ok(Err(NotRenewed::Revoked(member.name)));
    }
    Ok(Ok((member, find(connection, name)?)))
}

fn not_current(member: Member) -> NotRenewed {
    let since = rfc3339(member.renewed.unwrap_or(member.joined));
    NotRenewed::NotCurrent { name: member.name, key: member.key, since }
}

fn settled(member: Member, is_new: bool) -> Progress {
    Progress { certificate: member.certificate, user: member.user, is_settled: true, is_new }
}

fn certified(kept: &Kept) -> Progress {
    let certificate = kept.certificate.clone().unwrap_or_default();
    Progress { certificate, user: kept.user.clone(), is_settled: false, is_new: false }
}

fn revoke(connection: &Connection, name: &NodeName, key: &str, reason: &str, now: Wall) -> Result<(), RegistryError> {
    let revoked = Revoked { key: key.to_owned(), name: name.to_string(), at: now, reason: reason.to_owned() };
    revocations::add(connection, &revoked)
}

/// Whether a key belongs, belonged or is to belong to somebody.
fn is_known(connection: &Connection, key: &str) -> Result<bool, RegistryError> {
    let known = "select 1 from members where key = ?1 union select 1 from revoked where key = ?1 union select 1 from \
                 renewals where key = ?1";
    Ok(connection.prepare_cached(known)?.exists([key])?)
}

fn find(connection: &Connection, name: &str) -> Result<Option<Kept>, RegistryError> {
    let mut find = connection.prepare_cached(&format!("select {COLUMNS} from renewals where name = ?"))?;
    find.query_row([name], |row| Ok(read(row))).optional()?.transpose()
}

fn write(connection: &Connection, kept: &Kept) -> Result<(), RegistryError> {
    let write = format!("insert or replace into renewals ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)");
    let (asked, certified) = (kept.renewal.asked, kept.renewal.certified.as_ref());
    connection.prepare_cached(&write)?.execute(params![
        kept.renewal.name.as_str(),
        asked.map(|at| to_column("the time", at.0)).transpose()?,
        certified.map(|(key, _)| key),
        kept.certificate,
        kept.user,
        to_column("the serial", kept.serial)?,
        certified.map(|(_, at)| to_column("the time", at.0)).transpose()?,
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Kept, RegistryError> {
    let at = |ms: Option<i64>| ms.map(|ms| Wall(from_column(ms)));
    let name: String = row.get(0)?;
    let (key, since): (Option<String>, Option<i64>) = (row.get(2)?, row.get(6)?);
    let renewal = Renewal {
        name: NodeName::new(&name).map_err(|error| RegistryError::Content(format!("a renewal: {error}")))?,
        asked: at(row.get(1)?),
        certified: key.zip(at(since)),
    };
    let serial = row.get::<_, Option<i64>>(5)?.map_or(0, from_column);
    Ok(Kept { renewal, certificate: row.get(3)?, user: row.get(4)?, serial })
}
