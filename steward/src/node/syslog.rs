//! What takes syslog at a running node and sends it.

use super::assemble::{Parts, host};
use crate::clock::Clock;
use crate::config::Config;
use crate::intake::Intake;
use crate::syslog::{self, Desk, Wiring};

/// Starts it, if anything is to be taken.
pub(super) fn keep(config: &Config, parts: &Parts, desk: &Desk, intake: &Intake, clock: Clock) -> anyhow::Result<()> {
    let wiring = Wiring {
        dir: &config.node.dir,
        host: host(),
        intake: intake.clone(),
        engine: parts.engine.clone(),
        supervisor: &parts.supervisor,
        intake_end: parts.intake_end.clone(),
        clock,
    };
    syslog::keep(&config.syslog, desk, wiring)
}
