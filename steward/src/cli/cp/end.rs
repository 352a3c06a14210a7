//! One end of a copy, as it is typed: a path here, or `NODE:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use protocol::name::NodeName;

use crate::copies;

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// A path on this machine.
    Here(PathBuf),
    /// A path on a node.
    There(NodeName, String),
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((node, path)) = text.split_once(':').filter(|(node, _)| !node.contains('/')) else {
            return match text {
                "" => Err("a path is empty".to_owned()),
                path => Ok(Self::Here(PathBuf::from(path))),
            };
        };
        let node = NodeName::new(node)
            .map_err(|error| format!("{text:?}: the node: {error}; a path here is written ./{text}"))?;
        // People write folders with a slash at their end.
        let path = match path.trim_end_matches('/') {
            "" if path.starts_with('/') => "/",
            path => path,
        };
        copies::check(path).map_err(|why| format!("{text:?}: {why}"))?;
        Ok(Self::There(node, path.to_owned()))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => write!(f, "{}", path.display()),
            Self::There(node, path) => write!(f, "{node}:{path}"),
        }
    }
}

impl End {
    /// The last part of the path: what a copy is called in a folder.
    pub(super) fn name(&self) -> Option<&std::ffi::OsStr> {
        match self {
            Self::Here(path) => path.file_name(),
            Self::There(_, path) => std::path::Path::new(path).file_name(),
        }
    }
}
