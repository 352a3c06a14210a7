//! What central's registry says of nodes, laid beside what is known of their presence.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::time::Wall;

use crate::authority;
use crate::cli::when;
use crate::clock::{self, rfc3339};
use crate::enrol::registry::{Registry, Renewal};
use crate::security::certificate::Role;
use crate::view::{NodeView, StandingView};

/// What the registry in this directory says, by name; none if no fleet was made here.
pub(super) fn read(dir: &Path) -> anyhow::Result<Option<BTreeMap<String, StandingView>>> {
    let folder = dir.join(authority::FOLDER);
    if !Registry::exists(&folder) {
        return Ok(None);
    }
    let registry = Registry::open(&folder)?;
    let mut standing = BTreeMap::new();
    for invitation in registry.pending(clock::wall())? {
        let view = StandingView {
            state: "invited".to_owned(),
            role: invitation.role.to_string(),
            since: rfc3339(invitation.created),
            expires: Some(rfc3339(invitation.expires)),
            key: None,
            reason: None,
            renewed: None,
            renewal: None,
            renewal_since: None,
        };
        standing.insert(invitation.name.to_string(), view);
    }
    let renewals = registry.renewals()?;
    for member in registry.members()?.into_iter().filter(|member| member.role != Role::Central) {
        // An invitation for a node that is there already says nothing about what it is now.
        let name = member.name.to_string();
        if member.revoked.is_some() && standing.contains_key(&name) {
            continue;
        }
        let (state, since, reason) = match member.revoked {
            None => ("member", member.joined, None),
            Some((at, reason)) => ("revoked", at, Some(reason).filter(|reason| !reason.is_empty())),
        };
        let renewal = renewals.iter().find(|renewal| renewal.name == member.name).and_then(under_way);
        let view = StandingView {
            state: state.to_owned(),
            role: member.role.to_string(),
            since: rfc3339(since),
            expires: None,
            key: Some(member.key),
            reason,
            renewed: member.renewed.map(rfc3339),
            renewal: renewal.map(|(state, _)| state.to_owned()),
            renewal_since: renewal.map(|(_, since)| rfc3339(since)),
        };
        standing.insert(name, view);
    }
    Ok(Some(standing))
}

/// How far the renewal of a member's keys is, and since when.
fn under_way(renewal: &Renewal) -> Option<(&'static str, Wall)> {
    match (&renewal.certified, renewal.asked) {
        (Some((_, since)), _) => Some(("certified", *since)),
        (None, asked) => asked.map(|since| ("asked", since)),
    }
}

/// Both together, by name. Who is only in the registry has never been heard of.
pub(super) fn merge(known: Vec<NodeView>, mut standing: BTreeMap<String, StandingView>) -> Vec<NodeView> {
    let together = |node: NodeView| NodeView { standing: standing.remove(&node.node), ..node };
    let mut nodes: Vec<NodeView> = known.into_iter().map(together).map(without_revoked).collect();
    nodes.extend(standing.into_iter().map(|(node, standing)| NodeView {
        node,
        presence: "unknown".to_owned(),
        because: String::new(),
        last_seen_at: None,
        outstanding: 0,
        standing: Some(standing),
        wire_out_bytes: None,
        wire_in_bytes: None,
        info: None,
    }));
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    nodes
}

/// What was known of the presence of a node that is thrown out is from before: it is there for nobody now.
fn without_revoked(node: NodeView) -> NodeView {
    if node.standing.as_ref().is_some_and(|standing| standing.state == "revoked") {
        return NodeView { presence: "unknown".to_owned(), because: String::new(), ..node };
    }
    node
}

/// What there is to say beyond the one word.
pub(super) fn words(standing: &StandingView) -> Option<String> {
    match (&*standing.state, &standing.expires, &standing.reason) {
        ("invited", Some(expires), _) => Some(format!("invited until {}", when::local(expires))),
        ("revoked", _, Some(reason)) => Some(format!("revoked {}: {reason}", when::local(&standing.since))),
        ("revoked", _, None) => Some(format!("revoked {}", when::local(&standing.since))),
        ("member", ..) => match (standing.renewal.as_deref(), &standing.renewal_since, &standing.renewed) {
            (Some("certified"), Some(since), _) => Some(format!("new keys {}, not used yet", when::local(since))),
            (Some(_), Some(since), _) => Some(format!("asked {} for new keys", when::local(since))),
            (_, _, Some(renewed)) => Some(format!("new keys since {}", when::local(renewed))),
            _ => None,
        },
        _ => None,
    }
}
