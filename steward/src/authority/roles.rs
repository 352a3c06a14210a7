//! What each role may do at the broker: the permissions of NATS users, as templates in which the server puts a user's name.
//! A key signs for one role only, so nobody who has a node's credentials can be anything but that node.
//!
//! This is the first fence. The second one is at the receiver, which believes signatures and rules only.

use serde::{Deserialize, Serialize};

use crate::security::certificate::Role;

/// The largest message that an invitation may publish, in bytes: a request to join.
const INVITATION_PAYLOAD_BYTES_MAX: i64 = 16 * 1024;

/// What one scoped signing key may sign for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Members of the fleet in this role.
    Member(Role),
    /// Whoever holds an invitation, until it is a member.
    Invitation,
}

impl Scope {
    /// All there are.
    pub(super) const ALL: [Self; 4] =
        [Self::Member(Role::Node), Self::Member(Role::Central), Self::Member(Role::Operator), Self::Invitation];

    /// Its name, in the account and in the name of the key's file.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Member(role) => role.as_str(),
            Self::Invitation => "invitation",
        }
    }

    /// What users of this scope may do.
    pub(super) fn template(self) -> Template {
        let (publish, subscribe) = match self {
            Self::Member(role) => member(role),
            Self::Invitation => (texts(&["$STEWARD.join.{{name()}}"]), texts(&["$STEWARD.joined.{{name()}}"])),
        };
        let (subs, payload) = match self {
            Self::Member(_) => (-1, -1),
            Self::Invitation => (2, INVITATION_PAYLOAD_BYTES_MAX),
        };
        Template {
            publish: Subjects { allow: publish, deny: Vec::new() },
            subscribe: Subjects { allow: subscribe, deny: Vec::new() },
            subs,
            data: -1,
            payload,
            allowed_connection_types: texts(&["STANDARD"]),
        }
    }
}

/// Permissions and limits of a user, as NATS writes them; -1 is without limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Template {
    #[serde(rename = "pub")]
    pub(super) publish: Subjects,
    #[serde(rename = "sub")]
    pub(super) subscribe: Subjects,
    /// Subscriptions.
    pub(super) subs: i64,
    /// Bytes in all.
    pub(super) data: i64,
    /// Bytes of one message.
    pub(super) payload: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) allowed_connection_types: Vec<String>,
}

/// Subjects that are allowed, and those that are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subjects {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) allow: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) deny: Vec<String>,
}

/// What a member publishes and subscribes to; `docs/wire.md` says what the subjects are.
fn member(role: Role) -> (Vec<String>, Vec<String>) {
    let mut publish = texts(&[
        "{{name()}}.ECHO.*",
        "{{name()}}.NAME.*",
        "$STEWARD.hello.{{name()}}",
        "$STEWARD.ask.{{name()}}",
        "*.ACK.{{name()}}",
        "*.CTL.{{name()}}",
        "*.DATA.{{name()}}",
        "*.EventACK.*",
        "*.EventNACK.*",
        "{{name()}}.CommandACK.*",
        "{{name()}}.CommandNACK.*",
    ]);
    let mut subscribe = texts(&["{{name()}}.>", "$STEWARD.hello.*", "$STEWARD.fleet.>"]);
    match role {
        Role::Node => {}
        Role::Operator => publish.extend(texts(&["*.CommandACK.*", "*.CommandNACK.*"])),
        Role::Central => {
            publish.extend(texts(&["*.CommandACK.*", "*.CommandNACK.*", "$STEWARD.fleet.>", "$STEWARD.joined.*"]));
            subscribe.extend(texts(&["$STEWARD.join.*", "$STEWARD.ask.*"]));
        }
    }
    (publish, subscribe)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
