//! The nats-server of this machine: where it is found, and how the fleet's own is kept running. It is never fetched here:
//! `scripts/nats-server` does that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use protocol::time::Wall;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, SERVER_CONFIG, certificate_until};
use crate::broker::Noise;
use crate::child::Program;
use crate::clock::{self, Clock};

/// Where Debian puts servers; not on everyone's PATH.
const BEYOND_PATH: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];

/// The oldest version that will do: its JWTs have scoped keys, and `nats-server` knows what a node says.
const VERSION_MIN: (u64, u64) = (2, 10);

/// How long it may take to stop, in which it says goodbye to its clients.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What the server says once it takes connections.
const READY: &str = "Server is ready";

/// How often it is looked whether its certificate ends soon.
const RENEW_EVERY: Duration = Duration::from_secs(86_400);

/// How often it is looked whether somebody else has renewed it (`steward rotate --broker`).
const LOOK: Duration = Duration::from_secs(1);

const NONE: &str = "\
no nats-server here: it is in none of $NATS_SERVER_BIN, PATH, .tools/. One of these gets it:
  scripts/nats-server                              # in a checkout of steward; scripts/demo does it by itself
  sudo apt-get install nats-server                 # Debian 13 or newer
  export NATS_SERVER_BIN=/path/to/nats-server      # from https://github.com/nats-io/nats-server/releases";

/// A nats-server that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    /// The program.
    pub(crate) path: PathBuf,
    /// What it says of itself, e.g. `2.15.1`.
    pub(crate) version: String,
}

impl Binary {
    /// The one to use on this machine.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let path = match std::env::var_os("NATS_SERVER_BIN").filter(|chosen| !chosen.is_empty()) {
            Some(chosen) => std::path::absolute(PathBuf::from(chosen))?,
            None => search().context(NONE)?,
        };
        let answer = Command::new(&path).arg("--version").output();
        let answer = answer.with_context(|| format!("{} can't be run", path.display()))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let version = text.trim().rsplit(['v', ' ']).next().unwrap_or_default().to_owned();
        anyhow::ensure!(answer.status.success() && !version.is_empty(), "{} is no nats-server", path.display());
        Ok(Self { path, version })
    }

    /// An error, with what to do, if it is too old to be the broker of a fleet.
    pub(crate) fn check_version(&self) -> anyhow::Result<()> {
        let mut parts = self.version.split('.').map(|part| part.parse::<u64>().ok());
        let found = (parts.next().flatten(), parts.next().flatten());
        // What has no number was built by somebody who knows what they are doing.
        let is_old = matches!(found, (Some(major), Some(minor)) if (major, minor) < VERSION_MIN);
        let (major, minor) = VERSION_MIN;
        anyhow::ensure!(
            !is_old,
            "{} is nats-server {}; {major}.{minor} or newer is needed: see https://github.com/nats-io/nats-server/releases",
            self.path.display(),
            self.version
        );
        Ok(())
    }
}

fn search() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(BEYOND_PATH.map(PathBuf::from)).chain(tools());
    folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file())
}

/// The `.tools` folders of the checkout that we stand in, and of the one that this program was built in.
fn tools() -> Vec<PathBuf> {
    let here = std::env::current_dir().ok();
    let program = std::env::current_exe().ok();
    let places = here.iter().chain(&program).flat_map(|place| place.ancestors());
    places.map(|place| place.join(".tools")).collect()
}

/// Runs the broker of the fleet in `dir` until `end`; an error if it ends by itself. `ready` becomes true
/// once it takes connections.
pub(crate) async fn serve(
    binary: Binary,
    dir: PathBuf,
    ready: watch::Sender<bool>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let mut authority = Authority::open(&dir)?;
    renew(&mut authority)?;
    let noise = Noise::new(Clock::start());
    let program = Program {
        name: "nats-server",
        path: binary.path,
        args: vec!["-c".into(), SERVER_CONFIG.into()],
        dir: authority.folder().to_owned(),
        take_line: Some(Arc::new(move |line| {
            log(line, &noise);
            if line.ends_with(READY) {
                ready.send_replace(true);
            }
        })),
    };
    let mut server = program.start()?;
    let (mut look, mut renewal) = (tokio::time::interval(LOOK), tokio::time::interval(RENEW_EVERY));
    let mut known = certificate_until(&dir)?;
    loop {
        tokio::select! {
            status = server.ends() => anyhow::bail!("nats-server ended by itself: {}", status?),
            _ = renewal.tick() => keep_certificate(&dir),
            _ = look.tick() => {
                let until = certificate_until(&dir).unwrap_or(known);
                // Written last of all that belongs to a new one.
                if until != known && until != Some(Wall(0)) {
                    known = until;
                    tracing::info!("nats-server is told that it has a new TLS certificate");
                    // It reads its files anew; connections stay.
                    server.signal(Signal::HUP);
                }
            }
            () = end.cancelled() => break,
        }
    }
    server.stop(STOP_LIMIT).await;
    Ok(())
}

fn renew(authority: &mut Authority) -> anyhow::Result<()> {
    if authority.renew_certificate(clock::wall())? {
        tracing::info!("the broker's TLS certificate was renewed");
    }
    Ok(())
}

fn keep_certificate(dir: &Path) {
    // Opened anew: somebody else may have renewed it meanwhile.
    let renewed = Authority::open(dir).map_err(anyhow::Error::from).and_then(|mut authority| renew(&mut authority));
    if let Err(error) = renewed {
        tracing::error!("the broker's TLS certificate can't be renewed, and will end: {error:#}");
    }
}

/// A line of the server, `[812] [INF] Server is ready`, as a line of ours.
fn log(line: &str, noise: &Noise) {
    let (level, text) = parse(line);
    match (level, client(text)) {
        ("FTL", _) | ("ERR", None) => tracing::error!("nats-server: {text}"),
        // What is wrong with one client is that client's trouble, and it tries again and again; the server goes on.
        ("ERR", Some(about)) => {
            if noise.worth_a_line("client", &about) {
                tracing::warn!("nats-server: {text} (the same from there is not told again within a minute)");
            }
        }
        ("WRN", _) => tracing::warn!("nats-server: {text}"),
        ("DBG" | "TRC", _) => tracing::debug!("nats-server: {text}"),
        _ => tracing::info!("nats-server: {text}"),
    }
}

/// From which host, and about what, the server complains of a client: `10.0.0.7:4711 - cid:12 - authentication error`.
fn client(text: &str) -> Option<String> {
    let (address, rest) = text.split_once(" - cid:")?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    // What follows a colon names ports, which are others each time.
    let what = rest.rsplit(" - ").next().and_then(|what| what.split(": ").next()).unwrap_or_default();
    Some(format!("{host} {what}"))
}

fn parse(line: &str) -> (&str, &str) {
    let marked = line.split_once("] [").and_then(|(_, rest)| rest.split_once("] "));
    marked.filter(|(level, _)| level.len() == 3).unwrap_or(("", line))
}

/// Whether `dir` has a fleet with a broker of its own; an error that says what to do if not.
pub(crate) fn open_fleet(dir: &Path) -> anyhow::Result<Authority> {
    let authority = Authority::open(dir)?;
    anyhow::ensure!(
        authority.has_broker(),
        "the broker of this fleet is not ours (`steward init --external`), so there is nothing to run; `steward run` runs the \
         node here"
    );
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_server_keep_their_level() {
        assert_eq!(parse("[812] [INF] Server is ready"), ("INF", "Server is ready"));
        assert_eq!(parse("[812] [ERR] a ] [ b"), ("ERR", "a ] [ b"));
        assert_eq!(parse("nats-server: no such file"), ("", "nats-server: no such file"));
    }

    #[test]
    fn a_client_that_tries_again_is_the_same_client() {
        let first = client("10.0.0.7:4711 - cid:12 - authentication error").unwrap();
        assert_eq!(first, "10.0.0.7 authentication error");
        assert_eq!(client("10.0.0.7:4712 - cid:13 - authentication error"), Some(first));
        assert_eq!(
            client("[fd00::1]:4712 - cid:1 - TLS handshake error: EOF").unwrap(),
            "[fd00::1] TLS handshake error"
        );
        assert_eq!(client("Error listening on port: 127.0.0.1:4222"), None);
    }

    #[test]
    fn a_server_that_is_too_old_is_told_apart() {
        let version = |version: &str| Binary { path: "x".into(), version: version.to_owned() }.check_version();
        for fine in ["2.10.0", "2.15.1", "3.0.0", "dev"] {
            version(fine).unwrap();
        }
        assert!(version("2.9.25").unwrap_err().to_string().contains("2.10 or newer"));
    }
}
