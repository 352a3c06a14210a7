//! Where a nats-server is found on this machine, and how it gets a port of its own. It is never fetched here:
//! `scripts/nats-server` does that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::eventually;
use super::keeper::Keeper;
use super::process::Process;

/// How long a server may take until it says where it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Where Debian puts servers; not on everyone's PATH.
const BEYOND_PATH: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];

const NONE: &str = "\
no nats-server here: it is in none of $NATS_SERVER_BIN, PATH, .tools/. One of these gets it:
  scripts/nats-server                              # in a checkout of steward; scripts/demo does it by itself
  sudo apt-get install nats-server                 # Debian 13 or newer
  export NATS_SERVER_BIN=/path/to/nats-server      # from https://github.com/nats-io/nats-server/releases";

/// A nats-server that can be started.
#[derive(Debug)]
pub(super) struct Server {
    binary: PathBuf,
    /// What it says of itself, e.g. `2.15.1`.
    pub(super) version: String,
}

impl Server {
    /// The one to use on this machine.
    pub(super) fn find() -> anyhow::Result<Self> {
        let binary = match std::env::var_os("NATS_SERVER_BIN").filter(|chosen| !chosen.is_empty()) {
            Some(chosen) => chosen.into(),
            None => search().context(NONE)?,
        };
        let answer = Command::new(&binary).arg("--version").output();
        let answer = answer.with_context(|| format!("{} can't be run", binary.display()))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let version = text.trim().rsplit(['v', ' ']).next().unwrap_or_default().to_owned();
        anyhow::ensure!(answer.status.success() && !version.is_empty(), "{} is no nats-server", binary.display());
        Ok(Self { binary, version })
    }

    /// Starts it on a free port of the loopback interface; its process and its address. Its files lie in the folder.
    pub(super) async fn start(&self, folder: &Path, keeper: &Keeper) -> anyhow::Result<(Process, String)> {
        let mut command = Command::new(&self.binary);
        // The server chooses the port itself, so that nobody can take it in between, and writes it into a file.
        command.args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"]).arg(folder);
        keeper.mark(&mut command);
        let mut process = Process::start("nats-server", &folder.join("nats-server.log"), &mut command)?;
        let name = self.binary.file_name().unwrap_or_default().to_string_lossy();
        let ports = folder.join(format!("{name}_{}.ports", process.id()));
        let address = eventually("nats-server says where it listens", START_LIMIT, LOOK_AGAIN, async || {
            process.check()?;
            Ok(fs::read(&ports).ok().and_then(|text| address(&text)))
        })
        .await?;
        Ok((process, address))
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

/// The address in a ports file; `None` while it is not complete.
fn address(text: &[u8]) -> Option<String> {
    let ports: serde_json::Value = serde_json::from_slice(text).ok()?;
    Some(ports["nats"][0].as_str()?.strip_prefix("nats://")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_file_is_read_once_it_is_complete() {
        let text = br#"{"nats":["nats://127.0.0.1:4711"],"monitoring":[]}"#;
        assert_eq!(address(text).as_deref(), Some("127.0.0.1:4711"));
        for length in 0..text.len() {
            assert_eq!(address(&text[..length]), None);
        }
    }
}
