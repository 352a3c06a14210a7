//! The options that have a message run again and again on its node.

use clap::ValueEnum;

use crate::methods::schedule::spec::{Missed, Spec, Written};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct When {
    /// Run it on its node again and again, so far apart (15m, 1h30m), link or no link; `steward schedules` shows what comes of it
    #[arg(long, value_name = "DURATION", conflicts_with = "cron")]
    every: Option<String>,
    /// The same at these times: minute, hour, day of month, month, day of week, as in '0 3 * * *'; a time zone may stand behind them
    #[arg(long, value_name = "FIELDS")]
    cron: Option<String>,
    /// The time zone of --cron: Europe/Berlin, or local, that of the node [default: UTC]
    #[arg(long, value_name = "NAME", requires = "cron")]
    zone: Option<String>,
    /// What becomes of runs that were due while the node was away: skip leaves them out, once makes up for all with one, all runs each
    /// [default: skip]
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true)]
    missed: Option<MissedArg>,
    /// Let a run of it begin while those before still go on
    #[arg(long)]
    overlap: bool,
    /// Have each node begin later by its own part of this, so that many don't begin together
    #[arg(long, value_name = "DURATION")]
    jitter: Option<String>,
}

/// See [`Missed`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum MissedArg {
    Skip,
    Once,
    All,
}

impl When {
    /// Whether a schedule is asked for.
    pub(super) fn is_given(&self) -> bool {
        self.every.is_some() || self.cron.is_some()
    }

    /// The schedule as it stands in a message. What belongs to one and has none is told by the node.
    pub(super) fn written(&self) -> Option<Written> {
        let belongs = self.missed.is_some() || self.overlap || self.jitter.is_some();
        (self.is_given() || belongs).then(|| {
            Written(Spec {
                every: self.every.clone(),
                cron: self.cron.clone(),
                zone: self.zone.clone(),
                missed: self.missed.map_or(Missed::Skip, |missed| match missed {
                    MissedArg::Skip => Missed::Skip,
                    MissedArg::Once => Missed::Once,
                    MissedArg::All => Missed::All,
                }),
                overlap: self.overlap,
                jitter: self.jitter.clone(),
                ..Spec::default()
            })
        })
    }
}
