//! `steward join`: makes this machine a node of a fleet, with a token that `steward invite` has made on central. Keys are
//! made here, and stay here.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::exit::Exit;
use super::init::{BrokerOptions, make_dir};
use super::output::{self, Output};
use super::{Context, Verb, wait_for};
use crate::broker::Access;
use crate::config::broker::BrokerConfig;
use crate::config::options::{self as o, Opt};
use crate::config::sources::{OWN_FILE, Sources};
use crate::config::{own_file, units};
use crate::enrol::joining::{self, Joining};
use crate::enrol::token::{TOKEN_CHARS_MAX, Token};
use crate::lock::DirLock;
use crate::security::certificate::{Certificate, Role};
use crate::security::identity::Identity;
use crate::security::private_memory;

/// What the file that is written says of its maker.
const MADE_BY: &str = "steward join";

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Join {
    /// The token; a file that holds it; or - to read it from standard input, so that it is in no list of processes
    #[arg(value_name = "TOKEN|FILE|-")]
    token: String,
    /// How long to wait for the broker and for central
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = units::duration)]
    timeout: Duration,
    /// One JSON object that says what this machine is now
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// What this machine is now.
#[derive(Debug, serde::Serialize)]
struct Joined<'a> {
    node: &'a str,
    role: Role,
    /// The node that manages it.
    central: &'a str,
    dir: String,
    /// Its public key.
    key: String,
}

impl Verb for Join {
    const NAME: &'static str = "join";
    const ABOUT: &'static str = "Make this machine a node of a fleet, with a token that `steward invite` has made";
    const MORE: &'static str = "\
Makes keys in --dir, which never leave it, asks central to vouch for them, and writes down what it answers: identity/ (who this \
node is) and steward.toml, so that `steward run` there needs no flag. Central has to run; until it does, this waits. If it is \
ended in the middle, run it again: it goes on with the same keys. The --broker options are for a broker that is not the fleet's \
own (steward init --external).
Examples:
  steward --dir /var/lib/steward join token.txt
  ssh central steward invite ship1 | steward --dir /var/lib/steward join -";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        private_memory::for_keys();
        let token = Token::open(&read(&self.token)?)?;
        let dir = make_dir(&context.dir()?)?;
        let access = self.access(&token, context.sources)?;
        // Nobody else works in this directory meanwhile, and it is no other node's.
        let _lock = DirLock::take(&dir, &token.name)?;
        let is_begun = joining::is_begun(&dir);
        if !is_begun && Identity::load(&dir)?.is_none() && token.user.is_some() {
            own_file::check(&dir)?;
        }
        let mut tell = |why: &str| output::note(why);
        let joining = Joining { dir: dir.clone(), token, access, limit: self.timeout };
        let write = |identity: &Identity, central: &Certificate| {
            let options = options(&joining.token, central, &self.broker);
            configure(&dir, identity.user_jwt.is_none(), &options)
        };
        let (identity, central) = wait_for(async { Ok(joining.run(&mut tell, &write).await?) })?;
        let mut output = Output::stdout();
        let certificate = &identity.certificate;
        if self.json {
            let (node, central, key) = (certificate.name.as_str(), central.name.as_str(), certificate.key.to_string());
            output.json(&Joined { node, role: certificate.role, central, dir: dir.display().to_string(), key })?;
        } else {
            output.line(&format!(
                "{} is a node of the fleet now ({}); its central is {}",
                certificate.name, certificate.role, central.name
            ))?;
            output.line(&format!("Next: steward --dir {} run", dir.display()))?;
        }
        output.flush()?;
        Ok(Exit::OK)
    }
}

impl Join {
    /// How to get in at a broker that is not the fleet's own; the token has the login for one that is.
    fn access(&self, token: &Token, sources: Sources) -> anyhow::Result<Access> {
        if token.user.is_some() {
            return Ok(Access::default());
        }
        let sources = Sources { flags: self.broker.0.clone(), ..sources };
        let broker = BrokerConfig::read(&sources)?;
        Ok(Access { tls: broker.tls, login: broker.login })
    }
}

/// The token, from wherever it is.
fn read(from: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let most = TOKEN_CHARS_MAX as u64 * 2;
    if from == "-" {
        std::io::stdin().take(most).read_to_string(&mut text).context("the token can't be read from standard input")?;
    } else if Path::new(from).is_file() {
        let file = std::fs::File::open(from).with_context(|| format!("the token in {from} can't be read"))?;
        file.take(most).read_to_string(&mut text).with_context(|| format!("the token in {from} can't be read"))?;
    } else {
        from.clone_into(&mut text);
    }
    Ok(text)
}

/// What the node is told of itself.
fn options(token: &Token, central: &Certificate, broker: &BrokerOptions) -> Vec<(&'static Opt, Vec<String>)> {
    let one = |opt: &'static Opt, value: &str| (opt, vec![value.to_owned()]);
    let mut options = vec![one(&o::NODE, token.name.as_str()), one(&o::CENTRAL, central.name.as_str())];
    if !token.labels.is_empty() {
        options.push((&o::LABEL, token.labels.iter().map(|(name, value)| format!("{name}={value}")).collect()));
    }
    if token.user.is_some() {
        options.extend([
            (&o::BROKER_ADDRESS, token.brokers.clone()),
            one(&o::BROKER_TLS_CA, "identity/ca.pem"),
            one(&o::BROKER_CREDS, "identity/node.creds"),
            one(&o::BROKER_NKEY, "identity/node.nk"),
        ]);
        return options;
    }
    if !broker.0.contains_key(o::BROKER_ADDRESS.name) {
        options.push((&o::BROKER_ADDRESS, token.brokers.clone()));
    }
    for opt in o::BROKER {
        options.extend(broker.0.get(opt.name).map(|values| (*opt, values.clone())));
    }
    options
}

/// Writes the node's configuration. One that this very join has written before it was ended is written anew; one that
/// somebody wrote for a broker of his own stays.
fn configure(dir: &Path, is_external: bool, options: &[(&'static Opt, Vec<String>)]) -> anyhow::Result<()> {
    let path = dir.join(OWN_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(&format!("# Made by `{MADE_BY}`")) => std::fs::remove_file(&path)?,
        Ok(_) if is_external => {
            let settings: Vec<String> =
                options.iter().map(|(opt, values)| format!("{} = {:?}", opt.name, values.join(","))).collect();
            output::note(&format!("{} stays as it is; it has to say: {}", path.display(), settings.join("; ")));
            return Ok(());
        }
        Ok(_) | Err(_) => {}
    }
    Ok(own_file::write(dir, MADE_BY, options)?)
}
