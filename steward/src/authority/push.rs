//! Tells the running nats-server of the fleet's account as it is now, so that a revocation takes effect at once. The server
//! also hangs up on the users that are revoked.

use std::time::Duration;

use anyhow::Context as _;
use protocol::time::Wall;
use serde::Deserialize;

use super::{Authority, OwnBroker, claims};
use crate::broker::Access;
use crate::config::broker::{Login, Secret, Tls};
use crate::security::keys::{KeyKind, KeyPair};

/// Where accounts are pushed to.
pub(super) const SUBJECT: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Where the server answers.
pub(super) const ANSWERS: &str = "_INBOX.>";

/// How long connecting and pushing may take, together.
const LIMIT: Duration = Duration::from_secs(15);

/// How long the login for it holds.
const LOGIN_MS: u64 = 60_000;

#[derive(Deserialize)]
struct Answer {
    data: Option<Updated>,
    error: Option<Failed>,
}

#[derive(Deserialize)]
struct Updated {
    code: u64,
}

#[derive(Deserialize)]
struct Failed {
    description: String,
}

impl Authority {
    /// Pushes the account to the broker. An error means that the broker has not taken it; it will when it starts the next
    /// time, because its configuration says the same.
    pub(crate) async fn push(&self, now: Wall) -> anyhow::Result<()> {
        let Some(broker) = &self.broker else { return Ok(()) };
        let push = async {
            let client = broker.system_client(self, now).await?;
            let answer = client.request(SUBJECT, broker.account_jwt()?.as_str().to_owned().into()).await;
            let answer = answer.context("the broker does not answer")?;
            let answer: Answer =
                serde_json::from_slice(&answer.payload).context("the broker's answer makes no sense")?;
            match answer {
                Answer { data: Some(Updated { code: 200 }), error: None } => Ok(()),
                Answer { error, .. } => {
                    anyhow::bail!("the broker refuses it: {}", error.map(|error| error.description).unwrap_or_default())
                }
            }
        };
        let pushed = tokio::time::timeout(LIMIT, push).await;
        pushed.unwrap_or_else(|_| Err(anyhow::anyhow!("it took longer than {} s", LIMIT.as_secs()))).context(
            "the broker was not told who may no longer come in; it takes it from its configuration when it is started \
             the next time (`steward broker`)",
        )
    }
}

impl OwnBroker {
    async fn system_client(&self, authority: &Authority, now: Wall) -> anyhow::Result<async_nats::Client> {
        let user = KeyPair::generate(KeyKind::User)?;
        let jwt = claims::pusher(&self.system, &user.public(), now, Wall(now.0 + LOGIN_MS))?;
        let login = Login::Jwt {
            jwt: Secret::Text(jwt.as_str().into()),
            seed: Some(Secret::Text(user.seed().as_str().into())),
        };
        let tls = Tls { ca: Some(authority.ca_file()), ..Tls::default() };
        let mut servers = vec![self.local_address().parse()?];
        for address in authority.addresses() {
            servers.push(format!("tls://{address}").parse()?);
        }
        let options = Access { tls, login }.options(&servers).name("steward, for the fleet").retain_servers_order();
        options.connect(servers).await.context("the broker can't be reached")
    }
}
