//! Bugs that are planted on purpose, to show that the simulator catches what it says it catches. Those of the shell are
//! here in the simulated shell; those of the protocol are behind the feature `planted-bugs`, which nothing but tests has.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The shell does what a step wants done before what it wants written is durable.
    EffectsBeforeCommit,
    /// The shell takes a commit for durable that was not synced.
    NothingSynced,
    /// One in the protocol.
    #[cfg(feature = "planted-bugs")]
    Protocol(protocol::planted::Bug),
}
