//! The nats-server of a fleet that shows or measures something: without TLS, on a port of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::eventually;
use super::keeper::Keeper;
use super::process::Process;
use crate::nats_server::Binary;

/// How long a server may take until it says where it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// A nats-server that can be started.
#[derive(Debug)]
pub(super) struct Server(pub(super) Binary);

impl Server {
    /// The one to use on this machine.
    pub(super) fn find() -> anyhow::Result<Self> {
        Binary::find().map(Self)
    }

    /// Starts it on a free port of the loopback interface; its process and its address. Its files lie in the folder.
    pub(super) async fn start(&self, folder: &Path, keeper: &Keeper) -> anyhow::Result<(Process, String)> {
        let mut command = Command::new(&self.0.path);
        // The server chooses the port itself, so that nobody can take it in between, and writes it into a file.
        command.args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"]).arg(folder);
        keeper.mark(&mut command);
        let mut process = Process::start("nats-server", &folder.join("nats-server.log"), &mut command)?;
        let name = self.0.path.file_name().unwrap_or_default().to_string_lossy();
        let ports = folder.join(format!("{name}_{}.ports", process.id()));
        let address = eventually("nats-server says where it listens", START_LIMIT, LOOK_AGAIN, async || {
            process.check()?;
            Ok(fs::read(&ports).ok().and_then(|text| address(&text)))
        })
        .await?;
        Ok((process, address))
    }
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
