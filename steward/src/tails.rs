//! Lines of files that this node has others follow (`TailFile`): where they lie here, and how they get there, each once. Below one
//! folder of the node's directory and nowhere else; which nodes may bring some is not decided here.

mod journal;
pub(crate) mod names;
mod writer;

pub(crate) use writer::{AppendError, Tails, recover};

/// The folder in the node's directory below which all of them lie.
pub(crate) const FOLDER: &str = "tails";
