//! What a sender does with the results of its messages (`replyMethod`): into a file, to the end of one, to another method, or
//! nowhere. A result that waits for that is marked so in the transaction that writes the message's end, and is marked as done
//! once it is done; what is done in between is done once, however often the node is killed.
//!
//! * `file`: written aside, synced, and given its name. Doing that twice changes nothing.
//! * `fileAppend`: the file's length before it is written down first. Whoever finds that mark later compares what stands behind
//!   it: the whole result is there, or what is there of it is cut off and written again. A result with such a mark goes before
//!   all others, and while it can't be settled nothing else is appended, so that nothing of others is ever cut off.
//! * A method: a message to this node with an id that is worked out from the one of the message that has ended. An id is
//!   accepted once.
//! * `none`: the output goes with the end itself; what lies in files is removed.
//!
//! What can't be done (a full disk, a link in the way) stays, says why in `steward show`, and is tried again. It never decides
//! about delivery: for its receiver the message is long over.

mod files;
mod keeper;
pub(crate) mod spec;

pub(crate) use keeper::Keeper;
pub(crate) use spec::Spec;
