//! The table `members`: the nodes of the fleet, with the certificate that each has now.

use protocol::limits::PEERS_MAX;
use protocol::name::NodeName;
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::revocations::{self, Revoked};
use super::{Registry, RegistryError, from_column, invitations, journal, renewals, to_column};
use crate::audit::{Act, Deed};
use crate::clock::rfc3339;
use crate::security::certificate::Role;

/// A node of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its key.
    pub(crate) key: String,
    /// Its role.
    pub(crate) role: Role,
    /// Its certificate.
    pub(crate) certificate: String,
    /// Its NATS user (JWT), where the broker is the fleet's own.
    pub(crate) user: Option<String>,
    /// The serial of its certificate.
    pub(crate) serial: u64,
    /// Since when it is a node of the fleet.
    pub(crate) joined: Wall,
    /// Since when it has this key, if it has renewed it since it joined.
    pub(crate) renewed: Option<Wall>,
    /// Since when it is thrown out, and why.
    pub(crate) revoked: Option<(Wall, String)>,
}

/// What came of a node that asked to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is a member from now on.
    New(Member),
    /// It was one already, by the same invitation and with the same key: its answer was lost.
    Again(Member),
}

/// Why a node is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such invitation.
    #[error(
        "central does not know this invitation: it expired long ago, or is of another fleet; ask for another one (steward invite)"
    )]
    Unknown,
    /// It was used by somebody else.
    #[error(
        "the invitation was used at {at} by another machine or directory (key {key}), and it is good for one only; if that \
         was not you, run `steward revoke {name}` on central; for this one ask for another (steward invite)"
    )]
    Used {
        /// When.
        at: String,
        /// By which key.
        key: String,
        /// For which name.
        name: NodeName,
    },
    /// It was taken back.
    #[error("the invitation was taken back at {0}; ask for another one (steward invite)")]
    Withdrawn(String),
    /// Its time is over.
    #[error("the invitation expired at {0}, by central's clock; ask for another one (steward invite)")]
    Expired(String),
    /// It is for another name.
    #[error("the invitation is for {0}, not for the name in the request")]
    Name(NodeName),
    /// The name is another's.
    #[error(
        "the fleet has a node {0} already; if this one takes its place, make the invitation with `steward invite {0} \
         --replace`, else choose another name"
    )]
    Taken(NodeName),
    /// The key is another node's.
    #[error("the key belongs to the node {0} already; join in a directory of its own (--dir)")]
    Key(String),
    /// The key is thrown out.
    #[error("the key is revoked; remove the folder identity.joining here and join again, which makes new keys")]
    KeyRevoked,
    /// The node was thrown out after it had joined.
    #[error(
        "{0} was thrown out of the fleet (steward revoke) after this invitation was used; ask for another one (steward invite)"
    )]
    Revoked(NodeName),
    /// The fleet is full.
    #[error("the fleet has {PEERS_MAX} nodes, which is as many as may be")]
    Full,
}

const COLUMNS: &str = "name, key, role, certificate, user, serial, joined_ms, revoked_ms, reason, renewed_ms";

impl Registry {
    /// Lets the node with this key in by this invitation, if nothing speaks against it. `make` makes its certificate and
    /// NATS user, given the lowest serial that the certificate may have. What it answers is on disk when this returns.
    pub(crate) fn admit<E: From<RegistryError>>(
        &mut self,
        id: &str,
        name: &str,
        key: &str,
        now: Wall,
        make: impl FnOnce(&super::Invitation, u64) -> Result<(String, Option<String>, u64), E>,
    ) -> Result<Result<Admission, Refusal>, E> {
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(RegistryError::from)?;
        let Some(invitation) = invitations::find(&transaction, id)? else { return Ok(Err(Refusal::Unknown)) };
        let before = member(&transaction, invitation.name.as_str())?;
        if let Some(refusal) = refusal(&transaction, &invitation, (name, key), before.as_ref(), now)? {
            return Ok(Err(refusal));
        }
        if invitation.used.is_some() {
            return Ok(before.map(Admission::Again).ok_or(Refusal::Unknown));
        }
        let serial_min = before.as_ref().map_or(0, |before| before.serial.saturating_add(1)).max(now.0);
        let (certificate, user, serial) = make(&invitation, serial_min)?;
        let (name, key) = (invitation.name.clone(), key.to_owned());
        let role = invitation.role;
        let member = Member { name, key, role, certificate, user, serial, joined: now, renewed: None, revoked: None };
        let before = before.filter(|before| before.key != member.key);
        let replaced = before.as_ref().map(|before| before.key.clone());
        if let Some(before) = before {
            let reason = "another machine has taken its place (steward invite --replace)".to_owned();
            let old = Revoked { key: before.key, name: before.name.to_string(), at: now, reason };
            revocations::add(&transaction, &old)?;
        }
        renewals::drop_of(&transaction, member.name.as_str(), now)?;
        write(&transaction, &member)?;
        let used = "update invitations set used_ms = ?, used_by = ? where id = ?";
        let about = serde_json::json!({
            "invitation": id, "key": member.key, "role": role.as_str(), "serial": serial, "replaced": replaced,
        });
        let node = Some(member.name.clone());
        journal::add(&transaction, &Act { at: now, deed: Deed::Joined, node, reason: None, about, by: None })?;
        let used = to_column("the time", now.0)
            .and_then(|at| Ok(transaction.execute(used, params![at, member.key, id])?))
            .and_then(|_| Ok(transaction.commit()?));
        used?;
        Ok(Ok(Admission::New(member)))
    }

    /// The node with this name.
    pub(crate) fn member(&self, name: &str) -> Result<Option<Member>, RegistryError> {
        member(&self.0, name)
    }

    /// All nodes, by name: at most [`PEERS_MAX`].
    pub(crate) fn members(&self) -> Result<Vec<Member>, RegistryError> {
        let mut find = self.0.prepare_cached(&format!("select {COLUMNS} from members order by name"))?;
        let rows = find.query_map([], |row| Ok(read(row)))?;
        rows.map(|row| row?).collect()
    }
}

/// What speaks against letting a node in.
fn refusal(
    connection: &Connection,
    invitation: &super::Invitation,
    (name, key): (&str, &str),
    before: Option<&Member>,
    now: Wall,
) -> Result<Option<Refusal>, RegistryError> {
    if name != invitation.name.as_str() {
        return Ok(Some(Refusal::Name(invitation.name.clone())));
    }
    if let Some((at, by)) = &invitation.used {
        let is_same = by == key && before.is_some_and(|before| before.key == key);
        return Ok(match before.filter(|_| is_same) {
            Some(before) if before.revoked.is_some() => Some(Refusal::Revoked(invitation.name.clone())),
            Some(_) => None,
            None => Some(Refusal::Used { at: rfc3339(*at), key: by.clone(), name: invitation.name.clone() }),
        });
    }
    if let Some(at) = invitation.withdrawn {
        return Ok(Some(Refusal::Withdrawn(rfc3339(at))));
    }
    if now >= invitation.expires {
        return Ok(Some(Refusal::Expired(rfc3339(invitation.expires))));
    }
    if before.is_some_and(|before| before.revoked.is_none()) && !invitation.replaces {
        return Ok(Some(Refusal::Taken(invitation.name.clone())));
    }
    let text = |sql: &str| -> Result<Option<String>, RegistryError> {
        Ok(connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
    };
    if text("select name from revoked where key = ?")?.is_some() {
        return Ok(Some(Refusal::KeyRevoked));
    }
    if let Some(owner) = text("select name from members where key = ?")?.filter(|owner| *owner != name) {
        return Ok(Some(Refusal::Key(owner)));
    }
    let members: i64 = connection.query_row("select count(*) from members", [], |row| row.get(0))?;
    Ok((before.is_none() && from_column(members) >= PEERS_MAX as u64).then_some(Refusal::Full))
}

pub(super) fn member(connection: &Connection, name: &str) -> Result<Option<Member>, RegistryError> {
    let mut find = connection.prepare_cached(&format!("select {COLUMNS} from members where name = ?"))?;
    find.query_row([name], |row| Ok(read(row))).optional()?.transpose()
}

pub(super) fn write(connection: &Connection, member: &Member) -> Result<(), RegistryError> {
    let write = format!("insert or replace into members ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let revoked = member.revoked.as_ref();
    connection.prepare_cached(&write)?.execute(params![
        member.name.as_str(),
        member.key,
        member.role.as_str(),
        member.certificate,
        member.user,
        to_column("the serial", member.serial)?,
        to_column("the time", member.joined.0)?,
        revoked.map(|(at, _)| to_column("the time", at.0)).transpose()?,
        revoked.map(|(_, reason)| reason),
        member.renewed.map(|at| to_column("the time", at.0)).transpose()?,
    ])?;
    Ok(())
}

/// Writes what a renewal changes of a member.
pub(super) fn update(connection: &Connection, member: &Member) -> Result<(), RegistryError> {
    let update = "update members set key = ?, certificate = ?, user = ?, serial = ?, renewed_ms = ? where name = ?";
    connection.prepare_cached(update)?.execute(params![
        member.key,
        member.certificate,
        member.user,
        to_column("the serial", member.serial)?,
        member.renewed.map(|at| to_column("the time", at.0)).transpose()?,
        member.name.as_str(),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Member, RegistryError> {
    let (name, role): (String, String) = (row.get(0)?, row.get(2)?);
    let revoked: (Option<i64>, Option<String>) = (row.get(7)?, row.get(8)?);
    Ok(Member {
        name: NodeName::new(&name).map_err(|error| RegistryError::Content(format!("a node: {error}")))?,
        key: row.get(1)?,
        role: invitations::role_of(&role).ok_or_else(|| RegistryError::Content(format!("role {role:?}")))?,
        certificate: row.get(3)?,
        user: row.get(4)?,
        serial: from_column(row.get(5)?),
        joined: Wall(from_column(row.get(6)?)),
        renewed: row.get::<_, Option<i64>>(9)?.map(|at| Wall(from_column(at))),
        revoked: revoked.0.map(|at| (Wall(from_column(at)), revoked.1.unwrap_or_default())),
    })
}
