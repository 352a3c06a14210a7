//! What a node does with syslog, as it is told.

use std::time::Duration;

use protocol::name::NodeName;

use super::options as o;
use super::sources::{ConfigError, Sources};
use super::{boolean, units};
use crate::syslog::SyslogConfig;
use crate::syslog::source::{Source, Target};
use crate::syslog::spool::{Overflow, SPOOL_BYTES_MIN};

/// A day and a bit: what is kept shorter would be gone before its day is over.
const KEEP_MIN: Duration = Duration::from_secs(24 * 3600);

impl SyslogConfig {
    /// Takes each option from the first source that has it.
    pub(super) fn read(sources: &Sources, central: &NodeName) -> Result<Self, ConfigError> {
        let is_open = sources.one(&o::SYSLOG_OPEN, boolean)?;
        let listen = sources.many(&o::SYSLOG_LISTEN, |text| source(text, is_open))?;
        let forward = sources.one(&o::SYSLOG_FORWARD, |text| match text {
            "" | "none" => Ok(None),
            text => Target::parse(text).and_then(|target| no_circle(target, &listen)).map(Some),
        })?;
        if listen.iter().filter(|source| **source == Source::Journal).count() > 1 {
            return Err(ConfigError::new("syslogListen has the journal twice; keep one".to_owned()));
        }
        let to = sources.given(&o::SYSLOG_TO, |text| NodeName::new(text).map_err(|error| error.to_string()))?;
        Ok(Self {
            listen,
            to: to.unwrap_or_else(|| central.clone()),
            spool: sources.one(&o::SYSLOG_SPOOL, spool)?,
            overflow: sources.one(&o::SYSLOG_DROP, overflow)?,
            keep: sources.one(&o::SYSLOG_KEEP, keep)?,
            forward,
        })
    }
}

fn source(text: &str, is_open: bool) -> Result<Source, String> {
    let source = Source::parse(text)?;
    if source.is_local() || is_open {
        return Ok(source);
    }
    Err("is an address that other machines reach: whoever reaches it can write there under any name. If that is what you want, \
         say --syslog-open too"
        .to_owned())
}

fn no_circle(target: Target, listen: &[Source]) -> Result<Target, String> {
    match listen.iter().find(|source| target.is(source)) {
        Some(source) => {
            Err(format!("is where this node takes syslog itself ({source}): each line would come again and again"))
        }
        None => Ok(target),
    }
}

fn spool(text: &str) -> Result<u64, String> {
    let size = units::size(text)?;
    if size < SPOOL_BYTES_MIN { Err(format!("must be at least {} KiB", SPOOL_BYTES_MIN / 1024)) } else { Ok(size) }
}

fn overflow(text: &str) -> Result<Overflow, String> {
    match text {
        "oldest" => Ok(Overflow::Oldest),
        "newest" => Ok(Overflow::Newest),
        _ => Err("must be oldest or newest".to_owned()),
    }
}

fn keep(text: &str) -> Result<Option<Duration>, String> {
    match units::duration_or_none(text)? {
        Some(keep) if keep < KEEP_MIN => Err("must be at least 1d, or 0 (for ever)".to_owned()),
        keep => Ok(keep),
    }
}
