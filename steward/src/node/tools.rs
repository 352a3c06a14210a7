//! Where tools look at a running node: metrics and profiles.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::assemble::Parts;
use crate::config::Config;
use crate::engine::EngineStats;
use crate::metrics::{self, Sample};
use crate::syslog::tally::Tally;

/// Starts metrics and profiles.
pub(super) fn open_doors(config: &Config, parts: &Parts, stats: &Arc<EngineStats>, syslog: Tally) {
    if let Some(address) = config.listen.metrics.clone() {
        let sources = metrics::Sources {
            engine: parts.engine.clone(),
            supervisor: parts.supervisor.clone(),
            dir: config.node.dir.clone(),
            sample: sample(parts, stats, syslog),
        };
        let counted = stats.metrics.clone();
        parts.supervisor.keep("metrics", move |end| counted.clone().serve(address.clone(), sources.clone(), end));
    }
    if let Some(address) = config.listen.profiling.clone() {
        let supervisor = parts.supervisor.clone();
        let serve = move |end| crate::profiling::serve(address.clone(), supervisor.clone(), end);
        parts.supervisor.keep("profiling", serve);
    }
}

/// How things are, for metrics.
fn sample(parts: &Parts, stats: &Arc<EngineStats>, syslog: Tally) -> Arc<dyn Fn() -> Sample + Send + Sync> {
    let (broker, runner, troubles, stats) =
        (parts.broker.clone(), parts.runner.clone(), parts.troubles.clone(), stats.clone());
    let (rules, audit, link) = (parts.rules.clone(), parts.audit.clone(), parts.broker.board().clone());
    Arc::new(move || {
        let (queues, told) = (stats.queues(), troubles.counts());
        Sample {
            link_state: link.view().state.as_str(),
            denied_subjects: link.denials().all().len() as u64,
            outbox_open: queues.outbox,
            inbox_open: queues.inbox,
            inbox_stored: stats.waiting(),
            lanes: stats.lanes(),
            effects_dropped: stats.effects_dropped.load(Ordering::Relaxed),
            methods_running: runner.counts().running,
            forwards: (broker.forwards().counts(), broker.forwards().refused()),
            errors: (told.told, told.summed),
            rules: (rules.view(), rules.refused()),
            audit: audit.counts(),
            syslog: syslog.figures(),
            wire: stats.traffic.classes(),
            wire_nodes: stats.traffic.nodes_shown(),
            ..Sample::default()
        }
        .with_link(broker.is_up(), broker.counters())
    })
}
