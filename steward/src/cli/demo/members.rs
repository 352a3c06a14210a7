//! A fleet with keys, as `steward init`, `invite` and `join` make it, with its own broker; and what a stranger, somebody with a
//! stolen login and a node that was thrown out get there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::cast::{Cast, since};
use super::stage::{self, Stage, millis};
use crate::api::InfoView;
use crate::api::client::Client;
use crate::cli::fleet::Process;
use crate::security::keys::{KeyKind, KeyPair};
use crate::view::MessageView;

/// How long the broker may take to hang up on somebody.
const HANGS_UP: Duration = Duration::from_secs(5);

/// The fleet, with the processes that run for it.
struct Members {
    folder: PathBuf,
    address: String,
    up: Process,
    ship1: Process,
}

/// The scene from its beginning to its end; its processes end with it.
pub(super) async fn show(cast: &Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("A fleet with keys and a broker of its own")?;
    let members = enrol(cast, stage).await?;
    stranger(&members, stage)?;
    stolen_login(&members, stage).await?;
    thrown_out(cast, &members, stage).await?;
    members.ship1.stop().await?;
    members.up.stop().await?;
    Ok(())
}

async fn enrol(cast: &Cast, stage: &mut Stage) -> anyhow::Result<Members> {
    let began = stage.now();
    let folder = cast.folder().join("fleet");
    let (central, ship1) = (folder.join("central"), folder.join("ship1"));
    fs::create_dir_all(&folder)?;
    // The system chooses a port that is free; nothing else is likely to take it within a second.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    stage.does("steward --dir central init --address HOST:PORT && steward --dir central up &")?;
    cast.runs(&central, &["init", "--address", &address]).await?;
    let up = cast.begins("fleet-central", &central, &["up"])?;
    ready(&central).await?;
    stage.does(
        "steward --dir central invite ship1 > token; steward --dir ship1 join token; steward --dir ship1 run &",
    )?;
    let token = folder.join("token");
    fs::write(&token, cast.runs(&central, &["invite", "ship1"]).await?)?;
    cast.runs(&ship1, &["join", &token.to_string_lossy()]).await?;
    let ship1_runs = cast.begins("fleet-ship1", &ship1, &["run"])?;
    ready(&ship1).await?;
    let took = millis(since(stage, began));
    let members = Members { folder, address, up, ship1: ship1_runs };
    let done = members.command("echo signed, over TLS").await?;
    stage.state("ship1", &done.state, done.stdout.as_deref().unwrap_or_default().trim())?;
    let is_done = done.stdout.as_deref() == Some("signed, over TLS\n");
    stage.promise("a fleet with keys and TLS is made, and a node joins it", format!("{}, {took}", done.state), is_done);
    Ok(members)
}

/// Waits until the node in this directory has its link.
async fn ready(dir: &Path) -> anyhow::Result<()> {
    let client = Client::new(dir);
    stage::eventually(&format!("the node in {} is ready", dir.display()), async || {
        Ok(client.get::<InfoView>("/v1/info").await.is_ok_and(|info| info.link == "up").then_some(()))
    })
    .await
}

impl Members {
    fn dir(&self, node: &str) -> PathBuf {
        self.folder.join(node)
    }

    /// A command from central to ship1, once it has ended.
    async fn command(&self, script: &str) -> anyhow::Result<MessageView> {
        let client = Client::new(&self.dir("central"));
        let message = super::play::command("ship1", script);
        let accepted: serde_json::Value = client.post("/v1/messages", message).await?;
        let id = accepted["ids"][0].as_str().context("central gives no id")?;
        stage::eventually("the command ends", async || {
            let view: MessageView = client.get(&format!("/v1/messages/{id}")).await?;
            Ok(view.finished_at.is_some().then_some(view))
        })
        .await
    }
}

/// Somebody at the broker's port who has nothing.
fn stranger(members: &Members, stage: &mut Stage) -> anyhow::Result<()> {
    stage.does("a stranger: printf 'CONNECT {} … PUB ship1.CommandACK.ShellCommand …' | nc HOST PORT")?;
    let mut stream = TcpStream::connect(&members.address)?;
    stream.set_read_timeout(Some(HANGS_UP))?;
    stream.write_all(b"CONNECT {\"verbose\":true}\r\nPUB ship1.CommandACK.ShellCommand 2\r\n{}\r\nPING\r\n")?;
    let mut heard = Vec::new();
    // A connection that is reset has ended as well as one that is closed.
    let has_ended = match stream.read_to_end(&mut heard) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    let heard = String::from_utf8_lossy(&heard);
    let is_out = has_ended && heard.contains("\"tls_required\":true") && !heard.contains("PONG");
    let seen = if is_out { "hung up on: TLS and a login are required" } else { "was let in" };
    stage.sees(seen)?;
    stage.promise("a stranger gets nowhere", seen, is_out);
    Ok(())
}

/// Somebody who has stolen the login of ship1, but signs nothing, or with another key.
async fn stolen_login(members: &Members, stage: &mut Stage) -> anyhow::Result<()> {
    stage.does("somebody with ship1's login: nats pub central.EventACK.TextLogging … without its signature")?;
    let identity = members.dir("ship1").join("identity");
    let jwt = fs::read_to_string(identity.join("node.creds"))?;
    let jwt = jwt.split_whitespace().find(|word| word.starts_with("eyJ")).context("the login has no JWT")?.to_owned();
    let key = Arc::new(KeyPair::from_seed(fs::read_to_string(identity.join("node.nk"))?.trim(), KeyKind::User)?);
    let sign = move |nonce: Vec<u8>| {
        let key = Arc::clone(&key);
        async move { Ok(key.sign(&nonce).to_vec()) }
    };
    let options = async_nats::ConnectOptions::with_jwt(jwt, sign).add_root_certificates(identity.join("ca.pem"));
    let thief = options.require_tls(true).connect(format!("tls://{}", members.address)).await?;
    let subject = "central.EventACK.TextLogging";
    thief.publish(subject, r#"{"v":1,"fromNode":"ship1"}"#.into()).await?;
    let mut forged = async_nats::HeaderMap::new();
    forged.insert("Steward-Key", KeyPair::generate(KeyKind::User)?.public().to_string());
    forged.insert("Steward-Time", crate::clock::wall().0.to_string());
    forged.insert("Steward-Signature", "A".repeat(86));
    thief.publish_with_headers(subject, forged, r#"{"v":1,"fromNode":"ship1"}"#.into()).await?;
    thief.flush().await?;
    let log = members.folder.with_file_name("fleet-central.log");
    let refused = stage::eventually("central says that it does not believe it", async || {
        let lines = fs::read_to_string(&log)?;
        // One for each of the two.
        let refused = lines.matches("was not believed").count();
        Ok((refused >= 2).then_some(refused))
    })
    .await?;
    let has_logged = members.dir("central").join("textlogging.log").exists();
    let seen = if refused > 0 && !has_logged { "dropped, and told in central's log" } else { "it was taken" };
    stage.sees(seen)?;
    stage.promise("what is unsigned or forged is not believed", seen, refused > 0 && !has_logged);
    Ok(())
}

async fn thrown_out(cast: &Cast, members: &Members, stage: &mut Stage) -> anyhow::Result<()> {
    stage.does("steward --dir central revoke ship1")?;
    let began = stage.now();
    cast.runs(&members.dir("central"), &["revoke", "ship1"]).await?;
    let client = Client::new(&members.dir("ship1"));
    let state = stage::eventually("ship1 is out", async || {
        let info: InfoView = client.get("/v1/info").await?;
        Ok((info.link != "up" && ["revoked", "unauthorized"].contains(&&*info.link_state)).then_some(info.link_state))
    })
    .await?;
    let took = millis(since(stage, began));
    ensure!(!state.is_empty(), "ship1 says nothing of its link");
    stage.state("ship1", &state, &took)?;
    stage.promise("a node that is thrown out is out at once", format!("{state}, {took}"), true);
    Ok(())
}
