//! The table `invitations`: what was promised to whom, until when, and by which key it was used.

use std::collections::BTreeMap;

use protocol::name::NodeName;
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::{Registry, RegistryError, from_column, journal, to_column};
use crate::audit::{Act, By, Deed};
use crate::clock::rfc3339;
use crate::security::certificate::Role;
use crate::security::keys::{KeyKind, PublicKey};

/// Invitations at most that are neither used nor expired. What is more is refused.
pub(crate) const PENDING_MAX: usize = 10_000;

/// Invitations at most that are kept in all; the oldest that can't be used any more go first.
const KEPT_MAX: usize = 50_000;

/// How long an invitation is kept after its time, in milliseconds, so that whoever comes late is told so.
const KEPT_AFTER_MS: u64 = 30 * 24 * 3_600_000;

/// An invitation as central remembers it. The token itself is not kept: it holds a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// Its id.
    pub(crate) id: String,
    /// The name that the node will have.
    pub(crate) name: NodeName,
    /// The role that it will have.
    pub(crate) role: Role,
    /// The labels that it will have.
    pub(crate) labels: BTreeMap<String, String>,
    /// The public key of the invitation.
    pub(crate) key: PublicKey,
    /// Whether it may take the name from a node that has it.
    pub(crate) replaces: bool,
    /// When it was made.
    pub(crate) created: Wall,
    /// Until when it can be used.
    pub(crate) expires: Wall,
    /// When it was used, and by which node key.
    pub(crate) used: Option<(Wall, String)>,
    /// When it was taken back.
    pub(crate) withdrawn: Option<Wall>,
}

const COLUMNS: &str = "id, name, role, labels, key, replaces, created_ms, expires_ms, used_ms, used_by, withdrawn_ms";

impl Registry {
    /// Keeps a new invitation. Those that are long over go.
    pub(crate) fn invite(&mut self, invitation: &Invitation, now: Wall) -> Result<(), RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let at = to_column("the time", now.0)?;
        let over = to_column("the time", now.0.saturating_sub(KEPT_AFTER_MS))?;
        transaction.prepare_cached("delete from invitations where expires_ms < ?")?.execute([over])?;
        let pending: i64 = transaction
            .prepare_cached(
                "select count(*) from invitations where expires_ms > ? and used_ms is null and withdrawn_ms is null",
            )?
            .query_row([at], |row| row.get(0))?;
        if from_column(pending) >= PENDING_MAX as u64 {
            return Err(RegistryError::Pending);
        }
        let kept: i64 = transaction.query_row("select count(*) from invitations", [], |row| row.get(0))?;
        let surplus = (from_column(kept) + 1).saturating_sub(KEPT_MAX as u64);
        transaction
            .prepare_cached(
                "delete from invitations where id in (select id from invitations where expires_ms <= ?1 or used_ms is \
                 not null or withdrawn_ms is not null order by expires_ms limit ?2)",
            )?
            .execute(params![at, to_column("the surplus", surplus)?])?;
        insert(&transaction, invitation)?;
        let about = serde_json::json!({
            "invitation": invitation.id,
            "role": invitation.role.as_str(),
            "labels": invitation.labels,
            "replaces": invitation.replaces,
            "expires": rfc3339(invitation.expires),
        });
        journal::add(&transaction, &act(Deed::Invited, &invitation.name, now, about))?;
        Ok(transaction.commit()?)
    }

    /// The invitation with this id.
    pub(crate) fn invitation(&self, id: &str) -> Result<Option<Invitation>, RegistryError> {
        find(&self.0, id)
    }

    /// Invitations that can still be used, those that expire first first.
    pub(crate) fn pending(&self, now: Wall) -> Result<Vec<Invitation>, RegistryError> {
        let mut find = self.0.prepare_cached(&format!(
            "select {COLUMNS} from invitations where expires_ms > ?1 and used_ms is null and withdrawn_ms is null \
             order by expires_ms limit ?2"
        ))?;
        let limit = to_column("the limit", PENDING_MAX as u64)?;
        let rows = find.query_map(params![to_column("the time", now.0)?, limit], |row| Ok(read(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Takes back the invitations for this name that can still be used; how many there were.
    pub(crate) fn withdraw(&mut self, name: &NodeName, now: Wall) -> Result<usize, RegistryError> {
        let withdraw = "update invitations set withdrawn_ms = ?1 where name = ?2 and expires_ms > ?1 and used_ms is null \
                        and withdrawn_ms is null";
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken = transaction.execute(withdraw, params![to_column("the time", now.0)?, name.as_str()])?;
        if taken > 0 {
            let about = serde_json::json!({ "invitations": taken });
            journal::add(&transaction, &act(Deed::Withdrawn, name, now, about))?;
        }
        transaction.commit()?;
        Ok(taken)
    }
}

/// What this process does about a name.
fn act(deed: Deed, name: &NodeName, at: Wall, about: serde_json::Value) -> Act {
    Act { at, deed, node: Some(name.clone()), reason: None, about, by: Some(By::this_process()) }
}

/// Adds an invitation within a transaction.
pub(super) fn insert(connection: &Connection, invitation: &Invitation) -> Result<(), RegistryError> {
    let labels =
        serde_json::to_string(&invitation.labels).map_err(|error| RegistryError::Content(error.to_string()))?;
    let insert = format!("insert into invitations ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, null, null, null)");
    connection.prepare_cached(&insert)?.execute(params![
        invitation.id,
        invitation.name.as_str(),
        invitation.role.as_str(),
        labels,
        invitation.key.to_string(),
        invitation.replaces,
        to_column("the time", invitation.created.0)?,
        to_column("the expiry", invitation.expires.0)?,
    ])?;
    Ok(())
}

/// The invitation with this id, within a transaction.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<Invitation>, RegistryError> {
    let mut find = connection.prepare_cached(&format!("select {COLUMNS} from invitations where id = ?"))?;
    find.query_row([id], |row| Ok(read(row))).optional()?.transpose()
}

fn read(row: &Row<'_>) -> Result<Invitation, RegistryError> {
    let content = |why: String| RegistryError::Content(format!("an invitation: {why}"));
    let (name, role, labels, key): (String, String, String, String) =
        (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
    let used: (Option<i64>, Option<String>) = (row.get(8)?, row.get(9)?);
    let at = |ms: i64| Wall(from_column(ms));
    Ok(Invitation {
        id: row.get(0)?,
        name: NodeName::new(&name).map_err(|error| content(error.to_string()))?,
        role: role_of(&role).ok_or_else(|| content(format!("role {role:?}")))?,
        labels: serde_json::from_str(&labels).map_err(|error| content(error.to_string()))?,
        key: PublicKey::parse(&key, KeyKind::User).map_err(|error| content(error.to_string()))?,
        replaces: row.get(5)?,
        created: at(row.get(6)?),
        expires: at(row.get(7)?),
        used: used.0.map(at).zip(used.1),
        withdrawn: row.get::<_, Option<i64>>(10)?.map(at),
    })
}

/// The role with this name.
pub(crate) fn role_of(text: &str) -> Option<Role> {
    [Role::Node, Role::Central, Role::Operator].into_iter().find(|role| role.as_str() == text)
}
