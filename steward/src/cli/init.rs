//! `steward init`: makes a fleet, once. Keys, the CA and the broker's configuration go into `fleet/`, the identity of central
//! into `identity/`, and `steward.toml` says the rest, so that `steward run` and `steward up` need no flag.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::error::Error;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use protocol::name::NodeName;

use super::exit::{Exit, UsageError};
use super::output::{self, Output};
use super::{Context, Verb};
use crate::authority::{Authority, Settings};
use crate::broker::access::is_loopback;
use crate::clock;
use crate::config::broker::BrokerConfig;
use crate::config::options::{self as o, Opt};
use crate::config::own_file;
use crate::config::sources::Sources;
use crate::security::certificate::{Draft, Role};
use crate::security::identity::{Identity, NodeKeys};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Where nodes will reach the broker: the name or address by which they know this machine; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<String>,
    /// Use a NATS system that is there already; the --broker options say how to get in there
    #[arg(long, conflicts_with = "address")]
    external: bool,
    /// The name of the node here, from which the others are managed
    #[arg(long, value_name = "NAME", default_value = "central")]
    node: NodeName,
    /// One JSON object that says what was made
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// What was made.
#[derive(Debug, serde::Serialize)]
struct Made {
    /// The node here.
    node: String,
    dir: String,
    /// The public key of the fleet.
    fleet: String,
    /// Where nodes reach its broker; none where that is somebody else's.
    addresses: Vec<String>,
}

impl Verb for Init {
    const NAME: &'static str = "init";
    const ABOUT: &'static str = "Make a fleet: keys, a broker's configuration, and the node here as its central";
    const MORE: &'static str = "\
In --dir it makes fleet/ (keys, CA, a complete configuration of nats-server with TLS and a login for each node), identity/ \
(who this node is) and steward.toml (so that `steward run` here needs no flag). All of it is readable for you alone. A fleet \
that is there is never overwritten. Keep a copy of fleet/ in a safe: whoever has it is the fleet, and nothing replaces it. Where \
only fleet/ is there, put back from that copy, the node here becomes its central anew.
Examples:
  steward init --address hq.example.org:4222
  steward init --address hq.example.org --address 10.0.0.1     # the same broker under two names
  steward init --external --broker-address tls://nats.example.org --broker-creds central.creds
Then: `steward up` runs broker and central together; docs/security.md says what comes next.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let authority = if is_headless(&dir) {
            if !self.address.is_empty() {
                output::note("the fleet in fleet/ knows where its broker is, so --address means nothing");
            }
            join_own(&dir.canonicalize()?, &self.node, &self.broker.0)?
        } else {
            let settings = self.settings()?;
            found(&make_dir(&dir)?, &self.node, &settings, &self.broker.0)?
        };
        let dir = dir.canonicalize()?;
        let mut output = Output::stdout();
        if self.json {
            let (node, dir) = (self.node.to_string(), dir.display().to_string());
            let (fleet, addresses) = (authority.fleet().public().to_string(), authority.addresses().collect());
            output.json(&Made { node, dir, fleet, addresses })?;
        } else {
            for line in told(&dir, &authority) {
                output.line(&line)?;
            }
        }
        output.flush()?;
        Ok(Exit::OK)
    }
}

impl Init {
    fn settings(&self) -> Result<Settings, UsageError> {
        if self.external {
            let sources = Sources { flags: self.broker.0.clone(), ..Sources::default() };
            BrokerConfig::read(&sources).map_err(|error| UsageError(error.to_string()))?;
            return Ok(Settings::external());
        }
        if let Some(name) = self.broker.0.keys().next() {
            return Err(UsageError(format!(
                "{name} says how to get in at a broker that is there: it goes with --external. For a broker of the fleet's \
                 own, --address says where nodes will reach it"
            )));
        }
        if self.address.is_empty() {
            let why = "where will nodes reach the broker? Say it with --address HOST:PORT, or use a NATS system that is \
                       there with --external; for a fleet on this machine alone: --address 127.0.0.1:4222";
            return Err(UsageError(why.to_owned()));
        }
        own_settings(&self.address)
    }
}

/// What is known of a fleet whose broker nodes reach at these addresses.
pub(super) fn own_settings(addresses: &[String]) -> Result<Settings, UsageError> {
    let parsed: Result<Vec<_>, String> = addresses.iter().map(|text| text.parse()).collect();
    parsed.and_then(Settings::own).map_err(|why| UsageError(format!("--address: {why}")))
}

/// The directory, which is made if it is not there; with its full path.
pub(super) fn make_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    make.with_context(|| format!("the directory {} can't be made", dir.display()))?;
    dir.canonicalize().with_context(|| format!("the directory {} can't be found", dir.display()))
}

/// Whether there is a fleet whose central is missing: `fleet/` was put back from its copy, or an `init` was interrupted.
pub(super) fn is_headless(dir: &Path) -> bool {
    let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
    is_there(dir.join(crate::authority::FOLDER)) && !is_there(Identity::folder(dir))
}

/// Makes the fleet in `dir`, with the node here as its central. Nothing that is there is overwritten.
pub(super) fn found(
    dir: &Path,
    name: &NodeName,
    settings: &Settings,
    broker: &BTreeMap<&'static str, Vec<String>>,
) -> anyhow::Result<Authority> {
    // A fleet that is there is the better reason to refuse than what belongs to it, so it is left to be found.
    if dir.join(crate::authority::FOLDER).symlink_metadata().is_err() {
        let folder = Identity::folder(dir);
        anyhow::ensure!(
            folder.symlink_metadata().is_err(),
            "{} is there already: this directory belongs to a node of a fleet, and nothing was changed. Use another --dir",
            folder.display()
        );
        own_file::check(dir)?;
    }
    Authority::found(dir, settings, clock::wall())?;
    join_own(dir, name, broker)
}

/// Has the node here be central of the fleet that lies in its own directory. Its identity is written last: without one,
/// this can be done again.
pub(super) fn join_own(
    dir: &Path,
    name: &NodeName,
    broker: &BTreeMap<&'static str, Vec<String>>,
) -> anyhow::Result<Authority> {
    let (authority, now) = (Authority::open(dir)?, clock::wall());
    let keys = NodeKeys::generate()?;
    let draft = Draft {
        name: name.clone(),
        key: keys.node.public(),
        seal_key: keys.seal.public(),
        role: Role::Central,
        labels: BTreeMap::new(),
        // Higher than that of a central before.
        serial: now.0,
        renews: None,
        expires: None,
    };
    let certificate = authority.certify(draft, now)?;
    let user_jwt = authority.member_jwt(name, &keys.node.public(), Role::Central, now, None)?;
    let ca = authority.ca().map(str::to_owned);
    if own_file::check(dir).is_ok() {
        own_file::write(dir, "steward init", &options(name, &authority, broker))?;
    }
    Identity { keys, certificate, fleet: authority.fleet().public(), user_jwt, ca }.save(dir)?;
    Ok(authority)
}

/// What the node here is told of itself.
fn options(
    name: &NodeName,
    authority: &Authority,
    broker: &BTreeMap<&'static str, Vec<String>>,
) -> Vec<(&'static Opt, Vec<String>)> {
    let one = |opt: &'static Opt, value: &str| (opt, vec![value.to_owned()]);
    let mut options = vec![one(&o::NODE, name.as_str()), one(&o::CENTRAL, name.as_str())];
    options.push(one(&o::CENTRAL_ERROR_LOGGER, "true"));
    match authority.local_address() {
        Some(local) => options.extend([
            one(&o::BROKER_ADDRESS, local),
            one(&o::BROKER_TLS_CA, "identity/ca.pem"),
            one(&o::BROKER_CREDS, "identity/node.creds"),
            one(&o::BROKER_NKEY, "identity/node.nk"),
        ]),
        None => {
            for opt in o::BROKER {
                options.extend(broker.get(opt.name).map(|values| (*opt, values.clone())));
            }
        }
    }
    options
}

fn told(dir: &Path, authority: &Authority) -> Vec<String> {
    let folder = authority.folder().display();
    let mut lines = vec![
        format!("The fleet is there. Its keys lie in {folder}: keep a copy where nobody else gets at it."),
        "Next, in this order:".to_owned(),
    ];
    let at = if dir == Path::new(".") { String::new() } else { format!(" --dir {}", dir.display()) };
    if authority.has_broker() {
        lines.push(format!("  steward{at} up         # broker and this node together; Ctrl-C ends both"));
        let addresses: Vec<String> = authority.addresses().collect();
        lines.push(format!("  (or, as two services: steward{at} broker; steward{at} run)"));
        let only_here = |address: &str| address.rsplit_once(':').is_some_and(|(host, _)| is_loopback(host));
        if addresses.iter().all(|address| only_here(address)) {
            lines.push("Its broker can be reached from this machine alone, as the address says.".to_owned());
        } else {
            lines.push(format!("Nodes have to reach {} over TCP.", addresses.join(", ")));
        }
    } else {
        lines.push(format!("  steward{at} run        # this node"));
    }
    lines
}

/// The options of a node that say how to get in at a broker, as options of this verb.
#[derive(Debug, Clone, Default)]
pub(super) struct BrokerOptions(pub(super) BTreeMap<&'static str, Vec<String>>);

impl Args for BrokerOptions {
    fn augment_args(command: Command) -> Command {
        command.args(o::BROKER.iter().map(|opt| opt.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for BrokerOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        for opt in o::BROKER {
            let Some(given) = matches.get_many::<String>(opt.name) else { continue };
            values.insert(opt.name, given.map(|text| opt.absolute(text)).collect());
        }
        Ok(Self(values))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
