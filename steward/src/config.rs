//! What a node is told at its start, parsed once into types. Each part of the program is given its own slice and never
//! sees the rest; nothing reads a flag, a variable or a file after this.
//!
//! A value comes from the first of these that has it: the flag, the environment (`STEWARD_…`), the file named by
//! `--config`, `steward.toml` in the node's directory, the default. `options.rs` is the one list of all options.

pub(crate) mod broker;
mod context;
pub(crate) mod file;
pub(crate) mod options;
pub(crate) mod own_file;
pub(crate) mod sources;
mod syslog;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::name::{MethodName, NodeName};

use crate::audit;
use crate::security::sealing::Policy;
use crate::syslog::SyslogConfig;
pub(crate) use broker::BrokerConfig;
use options as o;
use sources::{ConfigError, Sources};

/// The most failures within five minutes that an operator may allow: with longer and longer pauses between the tries
/// there are hardly more.
const RESTART_LIMIT_MAX: usize = 100;

/// Everything that a node is told.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Who it is.
    pub(crate) node: NodeConfig,
    /// How it reaches the broker.
    pub(crate) broker: BrokerConfig,
    /// What holds for messages that don't say otherwise.
    pub(crate) delivery: DeliveryConfig,
    /// What may run here, and within which limits.
    pub(crate) methods: MethodsConfig,
    /// How long ended messages are kept, and how many there may be that have not ended.
    pub(crate) store: StoreConfig,
    /// Where it can be given messages, and asked for metrics and profiles.
    pub(crate) listen: ListenConfig,
    /// What it does with syslog.
    pub(crate) syslog: SyslogConfig,
    /// How it logs.
    pub(crate) log: LogConfig,
}

/// Who a node is.
#[derive(Debug, Clone)]
pub(crate) struct NodeConfig {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its directory: store, outputs, `inmsg.txt`, socket.
    pub(crate) dir: PathBuf,
    /// The node whose commands are taken without a rule, and that gets errors and hellos.
    pub(crate) central: NodeName,
    /// Whether it logs the errors of all nodes.
    pub(crate) is_error_logger: bool,
    /// How often it says hello; `None` is only when it comes up and before it goes.
    pub(crate) hello_interval: Option<Duration>,
    /// What its operator says of it.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it ends another live process with its name instead of refusing to start.
    pub(crate) take_over: bool,
    /// How long a stop waits for what runs.
    pub(crate) stop_limit: Duration,
    /// So many failures of a part of the node within five minutes, and it stays down.
    pub(crate) restart_limit: usize,
}

/// What holds for messages that don't say otherwise (R10).
#[derive(Debug, Clone)]
pub(crate) struct DeliveryConfig {
    /// How long to wait for a receipt before sending again; more than zero.
    pub(crate) timeout: Duration,
    /// How many attempts; 0 is without limit.
    pub(crate) retries: u32,
    /// How long a method may run; `None` is without limit.
    pub(crate) method_timeout: Option<Duration>,
    /// What is sealed that does not ask for it, and what is taken.
    pub(crate) seal: Policy,
}

/// What may run on a node, and within which limits.
#[derive(Debug, Clone)]
pub(crate) struct MethodsConfig {
    /// Bytes of output that are kept of a message, both streams together.
    pub(crate) max_output: u64,
    /// What is taken beside commands from central and events from everybody.
    pub(crate) allow: Vec<AllowRule>,
    /// What is written down of it.
    pub(crate) audit: audit::Settings,
}

/// `FROM:METHOD`; `None` is `*`, any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowRule {
    /// The sender.
    pub(crate) from: Option<NodeName>,
    /// The method.
    pub(crate) method: Option<MethodName>,
}

impl std::fmt::Display for AllowRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = self.from.as_ref().map_or("*", NodeName::as_str);
        write!(f, "{from}:{}", self.method.as_ref().map_or("*", MethodName::as_str))
    }
}

/// How long ended messages are kept.
#[derive(Debug, Clone)]
pub(crate) struct StoreConfig {
    /// For so long after their end; `None` is for ever.
    pub(crate) keep: Option<Duration>,
    /// And the newest of them only while all take less than so many bytes; `None` is without limit.
    pub(crate) keep_size: Option<u64>,
    /// Outgoing messages that may be outstanding; `None` is without limit.
    pub(crate) max_outstanding: Option<u64>,
}

/// Where a node listens, beside its socket.
#[derive(Debug, Clone)]
pub(crate) struct ListenConfig {
    /// Messages, on a loopback address.
    pub(crate) messages: Option<SocketAddr>,
    /// Prometheus metrics.
    pub(crate) metrics: Option<ListenAddress>,
    /// Profiles, on the loopback interface unless a host is given.
    pub(crate) profiling: Option<ListenAddress>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// A host name or an address; `None` is every interface.
    pub(crate) host: Option<String>,
    /// 1 to 65535, or 0 for a free one.
    pub(crate) port: u16,
}

impl ListenAddress {
    /// Addresses to bind, the first that works: every interface is IPv6 with IPv4, or IPv4 alone where there is no IPv6.
    pub(crate) fn candidates(&self) -> Vec<String> {
        let port = self.port;
        match self.host.as_deref() {
            None => vec![format!("[::]:{port}"), format!("0.0.0.0:{port}")],
            Some(host) if host.contains(':') => vec![format!("[{host}]:{port}")],
            Some(host) => vec![format!("{host}:{port}")],
        }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host.as_deref().unwrap_or_default(), self.port)
    }
}

/// How a node logs, on its standard error.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    /// Text or JSON lines.
    pub(crate) format: LogFormat,
    /// A level, or directives of `tracing-subscriber`'s `EnvFilter`; valid.
    pub(crate) level: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}

impl Config {
    /// Takes each option from the first source that has it.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let central = sources.one(&o::CENTRAL, |text| NodeName::new(text).map_err(|error| error.to_string()))?;
        Ok(Self {
            syslog: SyslogConfig::read(sources, &central)?,
            node: NodeConfig {
                name: node_name(sources)?,
                dir: sources.dir()?,
                central,
                is_error_logger: sources.one(&o::CENTRAL_ERROR_LOGGER, boolean)?,
                hello_interval: sources.one(&o::HELLO_INTERVAL, units::duration_or_none)?,
                labels: sources.many(&o::LABEL, label)?.into_iter().collect(),
                take_over: sources.one(&o::TAKE_OVER, boolean)?,
                stop_limit: sources.one(&o::STOP_LIMIT, units::duration)?,
                restart_limit: sources.one(&o::RESTART_LIMIT, restart_limit)?,
            },
            broker: BrokerConfig::read(sources)?,
            delivery: DeliveryConfig {
                timeout: sources.one(&o::DEFAULT_MESSAGE_TIMEOUT, ack_timeout)?,
                retries: sources.one(&o::DEFAULT_MESSAGE_RETRIES, retries)?,
                method_timeout: sources.one(&o::DEFAULT_METHOD_TIMEOUT, units::duration_or_none)?,
                seal: seal(sources)?,
            },
            methods: MethodsConfig {
                max_output: sources.one(&o::MAX_OUTPUT, units::size)?,
                allow: sources.many(&o::ALLOW, allow_rule)?,
                audit: audit::Settings {
                    scope: sources.one(&o::AUDIT, audit_scope)?,
                    data: sources.one(&o::AUDIT_DATA, audit_data)?,
                },
            },
            store: StoreConfig {
                keep: sources.one(&o::KEEP, units::duration_or_none)?,
                keep_size: sources.one(&o::KEEP_SIZE, units::size_or_none)?,
                max_outstanding: sources.one(&o::MAX_OUTSTANDING, count_or_none)?,
            },
            listen: ListenConfig {
                messages: sources.one(&o::LISTEN, loopback)?,
                metrics: sources.one(&o::PROM_HOST_AND_PORT, |text| listen(text, None))?,
                profiling: sources.one(&o::PROFILING_PORT, |text| listen(text, Some("127.0.0.1")))?,
            },
            log: log(sources)?,
        })
    }
}

/// How to log, which is all that some verbs need.
pub(crate) fn log(sources: &Sources) -> Result<LogConfig, ConfigError> {
    Ok(LogConfig { format: sources.one(&o::LOG_FORMAT, log_format)?, level: sources.one(&o::LOG_LEVEL, log_level)? })
}

fn node_name(sources: &Sources) -> Result<NodeName, ConfigError> {
    let given = sources.given(&o::NODE, |text| NodeName::new(text).map_err(|error| error.to_string()))?;
    if let Some(name) = given {
        return Ok(name);
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name_of_host(&host).map_err(|why| {
        ConfigError::new(format!("the host name can't be the node's name, so give one with --node: {why}"))
    })
}

/// A host name as a node's name: its dots, which divide the parts of a subject, become dashes.
fn name_of_host(host: &str) -> Result<NodeName, String> {
    NodeName::new(&host.replace('.', "-")).map_err(|error| error.to_string())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn seal(sources: &Sources) -> Result<Policy, ConfigError> {
    let (all, require) = sources.one(&o::SEAL, |text| match (text, boolean(text)) {
        ("require", _) => Ok((true, true)),
        (_, Ok(all)) => Ok((all, false)),
        (_, Err(_)) => Err("must be true, false or require".to_owned()),
    })?;
    let to = sources.many(&o::SEAL_TO, |text| NodeName::new(text).map_err(|error| error.to_string()))?;
    Ok(Policy { all, to: Arc::new(to.into_iter().collect()), require })
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

fn ack_timeout(text: &str) -> Result<Duration, String> {
    units::duration_or_none(text)?.ok_or_else(|| "must be more than 0".to_owned())
}

fn retries(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("must be a whole number from 0 (without limit) to {}", u32::MAX))
}

fn restart_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=RESTART_LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be a whole number from 1 to {RESTART_LIMIT_MAX}"))
}

fn count_or_none(text: &str) -> Result<Option<u64>, String> {
    let count: u64 =
        text.parse().map_err(|_| format!("must be a whole number from 0 (without limit) to {}", u64::MAX))?;
    Ok(Some(count).filter(|count| *count > 0))
}

fn allow_rule(text: &str) -> Result<AllowRule, String> {
    let Some((from, method)) = text.split_once(':') else {
        return Err("must be FROM:METHOD, each a name or *".to_owned());
    };
    Ok(AllowRule {
        from: if from == "*" {
            None
        } else {
            Some(NodeName::new(from).map_err(|error| format!("the sender: {error}"))?)
        },
        method: match method {
            "*" => None,
            name => Some(MethodName::new(name).map_err(|error| format!("the method: {error}"))?),
        },
    })
}

/// `HOST:PORT`, `:PORT` (every interface) or `PORT` (on `host`); `none`, `0` and nothing are none.
fn listen(text: &str, host: Option<&str>) -> Result<Option<ListenAddress>, String> {
    let shape = || "must be HOST:PORT, :PORT or PORT, or none".to_owned();
    if matches!(text, "" | "0" | "none") {
        return Ok(None);
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (host, text),
        Some(("", port)) => (None, port),
        Some((host, port)) => (Some(host.trim_start_matches('[').trim_end_matches(']')), port),
    };
    let port = port.parse().map_err(|_| shape())?;
    Ok(Some(ListenAddress { host: host.map(str::to_owned), port }))
}

/// Where messages are taken: nobody on another machine may reach it.
fn loopback(text: &str) -> Result<Option<SocketAddr>, String> {
    let Some(ListenAddress { host, port }) = listen(text, Some("127.0.0.1"))? else { return Ok(None) };
    let host = host.filter(|host| !host.eq_ignore_ascii_case("localhost"));
    let is_open = text.starts_with(':');
    let address = host.as_deref().unwrap_or("127.0.0.1").parse().ok().filter(IpAddr::is_loopback);
    match address {
        Some(address) if !is_open => Ok(Some(SocketAddr::new(address, port))),
        _ => Err("must be a port of a loopback address (127.0.0.1:PORT, [::1]:PORT or PORT): whoever can give messages here speaks \
                  for this node, so those on other machines send by a node of their own, or through a tunnel (ssh -L)"
            .to_owned()),
    }
}

fn audit_scope(text: &str) -> Result<audit::Scope, String> {
    match text {
        "commands" => Ok(audit::Scope::Commands),
        "all" => Ok(audit::Scope::All),
        "none" => Ok(audit::Scope::Nothing),
        _ => Err("must be commands, all or none".to_owned()),
    }
}

fn audit_data(text: &str) -> Result<audit::DataForm, String> {
    match text {
        "full" => Ok(audit::DataForm::Full),
        "hash" => Ok(audit::DataForm::Hash),
        _ => Err("must be full or hash".to_owned()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be auto, text or json".to_owned()),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("must be error, warn, info, debug or trace ({error})")),
    }
}

#[cfg(test)]
mod tests;
