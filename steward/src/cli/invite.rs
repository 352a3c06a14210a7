//! `steward invite`: makes a token with which one machine can join the fleet, once and for a short time. It only needs the
//! fleet's folder: central may run or not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use protocol::name::NodeName;
use protocol::time::Wall;

use super::exit::{Exit, UsageError};
use super::output::{self, Output};
use super::{Context, Verb};
use crate::authority::Authority;
use crate::clock;
use crate::config::broker::BrokerConfig;
use crate::config::sources::Sources;
use crate::config::units;
use crate::enrol::registry::{Invitation, Registry};
use crate::enrol::token::{self, Token};
use crate::security::certificate::{self, Role};
use crate::security::identity::Identity;
use crate::security::keys::{KeyKind, KeyPair};
use crate::security::private_memory;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Invite {
    /// The name that the node will have
    #[arg(value_name = "NAME")]
    name: NodeName,
    /// What is said of the node, in rules and in tables; may be repeated, or name several
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., value_parser = label)]
    labels: Vec<(String, String)>,
    /// What it will be: a node, or the machine of an operator, from which commands are sent
    #[arg(long, value_enum, default_value = "node")]
    role: RoleName,
    /// How long the token is good for
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = units::duration)]
    expires: Duration,
    /// Show the token as a QR code as well
    #[arg(long)]
    qr: bool,
    /// Let it take the place of the node that has this name; that one is thrown out when it does
    #[arg(long)]
    replace: bool,
    /// Take back the invitations for this name that were not used
    #[arg(long, conflicts_with_all = ["labels", "role", "expires", "qr", "replace"])]
    withdraw: bool,
    /// One JSON object; the token in it is as secret as without
    #[arg(long)]
    json: bool,
}

/// An invitation.
#[derive(Debug, serde::Serialize)]
struct Invited<'a> {
    node: &'a str,
    role: Role,
    token: &'a str,
    /// Until when it can be used.
    expires: String,
}

/// What was taken back.
#[derive(Debug, serde::Serialize)]
struct Withdrawn<'a> {
    node: &'a str,
    withdrawn: usize,
}

/// A role that can be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RoleName {
    /// Takes commands, sends events
    Node,
    /// Sends commands
    Operator,
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            Self::Node => Role::Node,
            Self::Operator => Role::Operator,
        }
    }
}

impl Verb for Invite {
    const NAME: &'static str = "invite";
    const ABOUT: &'static str = "Make a token with which a machine joins the fleet, once (on central)";
    const MORE: &'static str = "\
The token is a secret until it is used: whoever has it first is that node. It can be used once, on one machine, until it expires. \
Nothing has to be changed or reloaded at the broker.
Examples:
  steward invite ship1
  steward invite ship1 --labels site=north kind=ferry --expires 1h
  steward invite ship1 --replace        # a new machine for a node that is lost
  steward invite ship1 --withdraw       # take back what was not used
On the machine: `steward join TOKEN`, and then `steward run`. `steward nodes` shows who is invited.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        private_memory::for_keys();
        let dir = context.dir()?;
        let authority = Authority::open(&dir)?;
        let mut registry = Registry::open(authority.folder())?;
        let mut output = Output::stdout();
        let now = clock::wall();
        if self.withdraw {
            let taken = registry.withdraw(&self.name, now)?;
            ensure!(taken > 0, "no invitation for {} is open; `steward nodes` shows those that are", self.name);
            match self.json {
                true => output.json(&Withdrawn { node: self.name.as_str(), withdrawn: taken })?,
                false => output.line(&format!("{taken} taken back"))?,
            }
            output.flush()?;
            return Ok(Exit::OK);
        }
        self.check(&dir, &registry, now)?;
        let draft = self.draft(context.sources, &authority, now)?;
        let (token, text) = self.make(&authority, &mut registry, draft, now)?;
        let expires = clock::rfc3339(Wall(token.expires_ms));
        if self.json {
            let node = self.name.as_str();
            output.json(&Invited { node, role: self.role.role(), token: &text, expires: expires.clone() })?;
        } else {
            output.line(&text)?;
        }
        if self.qr {
            output.line(&qr(&text)?)?;
        }
        output.flush()?;
        output::note(&format!(
            "good for one machine until {}; there: steward join TOKEN (or `steward join -`, which reads it, so that it is in no \
             list of processes)",
            expires
        ));
        Ok(Exit::OK)
    }
}

impl Invite {
    /// Refuses what central would refuse later, when somebody else stands in front of it.
    fn check(&self, dir: &Path, registry: &Registry, now: Wall) -> anyhow::Result<()> {
        if let Some(own) = Identity::load(dir)?.filter(|own| own.certificate.name == self.name) {
            bail!("{} is the node here, which made the fleet; give the other one another name", own.certificate.name);
        }
        let taken = registry.member(self.name.as_str())?.filter(|member| member.revoked.is_none());
        ensure!(
            taken.is_none() || self.replace,
            "the fleet has a node {0} already; if another machine is to take its place, say --replace; if it has to go, run \
             `steward revoke {0}`",
            self.name
        );
        let open = registry.pending(now)?.iter().filter(|other| other.name == self.name).count();
        if open > 0 {
            output::note(&format!("{open} for {} open already; the first one that is used counts", self.name));
        }
        Ok(())
    }

    fn draft(&self, sources: Sources, authority: &Authority, now: Wall) -> anyhow::Result<token::Draft> {
        let labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        certificate::check_labels(&labels)?;
        let expires = Wall(now.0.saturating_add(u64::try_from(self.expires.as_millis())?));
        if expires <= now {
            return Err(UsageError("--expires has to be longer than nothing".to_owned()).into());
        }
        let (brokers, ca) = match authority.ca() {
            Some(ca) => {
                (authority.addresses().map(|address| format!("tls://{address}")).collect(), Some(ca.to_owned()))
            }
            None => external(sources)?,
        };
        let role = self.role.role();
        Ok(token::Draft { name: self.name.clone(), role, labels, expires, brokers, ca })
    }

    /// Makes the token, and notes it in the registry.
    fn make(
        &self,
        authority: &Authority,
        registry: &mut Registry,
        draft: token::Draft,
        now: Wall,
    ) -> anyhow::Result<(Token, zeroize::Zeroizing<String>)> {
        let key = KeyPair::generate(KeyKind::User)?;
        let id = NodeName::new(&token::id_of(&key.public()))?;
        let invitation = Invitation {
            id: id.to_string(),
            name: draft.name.clone(),
            role: draft.role,
            labels: draft.labels.clone(),
            key: key.public(),
            replaces: self.replace,
            created: now,
            expires: draft.expires,
            used: None,
            withdrawn: None,
        };
        let user = authority.invitation_jwt(&id, &key.public(), now, draft.expires)?;
        let token = Token::new(draft, &authority.fleet().public(), &key, user)?;
        let text = token.seal(authority.fleet())?;
        registry.invite(&invitation, now)?;
        Ok((token, text))
    }
}

/// Where the broker is and who vouches for it, as the node here has it. Its login is its own.
fn external(sources: Sources) -> anyhow::Result<(Vec<String>, Option<String>)> {
    let broker = BrokerConfig::read(&sources.with_own_file()?)?;
    let address =
        |server: &async_nats::ServerAddr| format!("{}://{}:{}", server.scheme(), server.host(), server.port());
    let ca = broker.tls.ca.as_deref().map(|path| {
        std::fs::read_to_string(path).with_context(|| format!("the CA in {} can't be read", path.display()))
    });
    Ok((broker.addresses.iter().map(address).collect(), ca.transpose()?))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as site=north")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The text as a QR code of two rows a line. The least correction, because the code is large and a screen is clean.
fn qr(text: &str) -> anyhow::Result<String> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L);
    let code = code.context("the token is too long for a QR code; copy it as text")?;
    // Light on dark is how most terminals are, and most readers take either.
    let mut render = code.render::<qrcode::render::unicode::Dense1x2>();
    let (light, dark) = (qrcode::render::unicode::Dense1x2::Light, qrcode::render::unicode::Dense1x2::Dark);
    Ok(render.dark_color(light).light_color(dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_usual_length_fits_a_qr_code() {
        let shown = qr(&format!("steward1.{}", "Ab3_".repeat(600))).unwrap();
        assert!(shown.lines().count() > 40 && shown.contains('█'), "{shown}");
        assert!(qr(&"x".repeat(3000)).is_err());
    }
}
