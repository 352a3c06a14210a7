//! What strangers can hand to this program, as functions of bytes: one for each place where such bytes are read.
//!
//! `scripts/fuzz` builds the program with `--cfg fuzzing`, which puts libFuzzer in the place of `main`; the ordinary tests
//! drive the same functions over the small corpus in `fuzz/corpus`, and over changes of it. Neither is in a program that
//! is shipped. A function panics where a promise is broken; that anything is refused is none.
//!
//! It never talks to anybody: no network, no disk, no clock but the wall's.

mod arrival;
mod bodies;
mod bundle;
mod enrolment;
mod input;
mod rules;
mod sealed;
mod syslog;
mod trust;

/// A place where bytes of strangers are read.
pub(crate) struct Target {
    /// Its name, and that of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Reads the bytes there.
    pub(crate) run: fn(&[u8]),
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "envelope", run: bodies::envelope },
    Target { name: "receipts", run: bodies::receipts },
    Target { name: "control", run: bodies::control },
    Target { name: "hello", run: bodies::hello },
    Target { name: "frame", run: arrival::frame },
    Target { name: "node", run: arrival::node },
    Target { name: "inmsg", run: input::inmsg },
    Target { name: "document", run: input::document },
    Target { name: "rules", run: rules::file },
    Target { name: "signature", run: trust::signature },
    Target { name: "sealed", run: sealed::sealed },
    Target { name: "token", run: trust::token },
    Target { name: "invitation", run: enrolment::invitation },
    Target { name: "joining", run: enrolment::joining },
    Target { name: "bundle", run: bundle::bundle },
    Target { name: "syslog", run: syslog::syslog },
];

/// The target that the environment names; libFuzzer itself owns the command line.
#[cfg(fuzzing)]
fn chosen() -> fn(&[u8]) {
    static CHOSEN: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("STEWARD_FUZZ").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        let Some(target) = target else { panic!("STEWARD_FUZZ={name:?} is no target; see scripts/fuzz") };
        target.run
    })
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chosen()(bytes));

#[cfg(test)]
mod tests;
