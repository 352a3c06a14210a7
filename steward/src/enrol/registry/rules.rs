//! Which set of the fleet's rules each member was sent last: a column of `members`, by which central knows who lacks it.

use protocol::name::NodeName;
use rusqlite::{TransactionBehavior, params};

use super::{Registry, RegistryError, to_column};

/// Members that are told at once.
const TOLD_MAX: usize = 256;

impl Registry {
    /// Members that were not sent this version of the rules, or a later one, by name; some of them, if there are many.
    pub(crate) fn without_rules(&self, version: u64) -> Result<Vec<NodeName>, RegistryError> {
        let mut find = self.0.prepare_cached(
            "select name from members where rules < ?1 and revoked_ms is null and role <> 'central' order by name limit ?2",
        )?;
        let limits = params![to_column("the version", version)?, to_column("the limit", TOLD_MAX as u64)?];
        let names = find.query_map(limits, |row| row.get::<_, String>(0))?;
        let name = |name: String| NodeName::new(&name).map_err(|error| RegistryError::Content(error.to_string()));
        names.map(|read| name(read?)).collect()
    }

    /// Notes that these nodes were sent this version of the rules.
    pub(crate) fn rules_sent(&mut self, nodes: &[NodeName], version: u64) -> Result<(), RegistryError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for node in nodes {
            let raise = "update members set rules = max(rules, ?1) where name = ?2";
            transaction.prepare_cached(raise)?.execute(params![to_column("the version", version)?, node.as_str()])?;
        }
        Ok(transaction.commit()?)
    }
}
