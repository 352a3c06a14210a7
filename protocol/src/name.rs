//! Names of nodes and methods, and the key of a lane.
//!
//! One rule for every name, safe in a NATS subject token, a file name, a metric label and a JSON key
//! (NATS ADR-6 allows more; what we refuse here we never have to escape anywhere).

use std::fmt;
use std::sync::Arc;

use crate::message::Kind;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("the name is empty; use 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 _ -")]
    Empty,
    /// The name is longer than [`NAME_BYTES_MAX`].
    #[error("the name has {0} bytes; at most {NAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A character is outside `[A-Za-z0-9_-]`.
    #[error("the name {name:?} has {character:?} at position {position}; allowed are A-Z a-z 0-9 _ -")]
    Character {
        /// The refused name, cut to a readable length.
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// Its position, counted in characters from 1.
        position: usize,
    },
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let bad = |c: &char| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-');
    if let Some((index, character)) = text.chars().enumerate().find(|(_, c)| bad(c)) {
        let name = text.chars().take(NAME_BYTES_MAX).collect();
        return Err(NameError::Character { name, character, position: index + 1 });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes `text` as a name if it matches `[A-Za-z0-9_-]{1,64}`; the error says which character does not.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// The name of a node, such as `central` or `ship1`.
    NodeName
);
name!(
    /// The name of a method, such as `ShellCommand`.
    MethodName
);

/// All messages from this node to one node with the same type and method, seen from the sender: the seed's "process".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The node at the other end: the receiver of an outgoing lane, the sender of an incoming one.
    pub peer: NodeName,
    /// The type of its messages.
    pub kind: Kind,
    /// The method of its messages.
    pub method: MethodName,
}

impl Lane {
    /// A key that sorts before every lane with this node, to begin a range with.
    pub(crate) fn first(peer: &NodeName) -> Self {
        Self { peer: peer.clone(), kind: Kind::CommandAck, method: MethodName(Arc::from("")) }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.peer, self.kind, self.method)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_name_says_which_character_and_where() {
        assert_eq!(
            NodeName::new("ship.1"),
            Err(NameError::Character { name: "ship.1".into(), character: '.', position: 5 })
        );
        assert_eq!(NodeName::new(""), Err(NameError::Empty));
        assert_eq!(NodeName::new(&"a".repeat(65)), Err(NameError::TooLong(65)));
        assert!(NodeName::new(&"a".repeat(64)).is_ok());
        assert!(MethodName::new("Shell_Command-2").is_ok());
        for bad in ["a b", "a\tb", "a>", "*", "schiff-ä", "a\0"] {
            assert!(NodeName::new(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
