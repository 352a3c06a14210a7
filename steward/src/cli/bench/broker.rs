//! The nats-server of a benchmark: found where `scripts/nats-server` looks, on a port that it chooses itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::process::Process;

/// How long the server may take until it says where it listens.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A nats-server that runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Broker {
    /// `127.0.0.1:PORT`.
    pub(super) address: String,
    /// What it says of its version.
    pub(super) version: String,
    _process: Process,
}

impl Broker {
    /// Starts one; its files lie in `folder`.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let (program, version) = find()?;
        let ports = folder.join("ports");
        fs::create_dir(&ports)?;
        let mut command = Command::new(&program);
        command.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"]).arg(&ports);
        let mut process = Process::start(&mut command, &folder.join("nats-server.log"))?;
        let address = async {
            loop {
                process.check()?;
                if let Some(address) = address(&ports) {
                    return anyhow::Ok(address);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let address = tokio::time::timeout(START_LIMIT, address).await;
        let address = address.context("nats-server does not say where it listens")??;
        Ok(Self { address, version, _process: process })
    }
}

/// Where it listens, once it has written that down.
fn address(ports: &Path) -> Option<String> {
    let file =
        fs::read_dir(ports).ok()?.flatten().find(|file| file.path().extension().is_some_and(|e| e == "ports"))?;
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(file.path()).ok()?).ok()?;
    let address = ports["nats"].as_array()?.iter().find_map(|url| url.as_str()?.strip_prefix("nats://127"))?;
    Some(format!("127{address}"))
}

/// The program and its version.
fn find() -> anyhow::Result<(PathBuf, String)> {
    if let Some(chosen) = std::env::var_os("NATS_SERVER_BIN").filter(|chosen| !chosen.is_empty()) {
        let chosen = PathBuf::from(chosen);
        let version =
            version(&chosen).with_context(|| format!("NATS_SERVER_BIN={} is no nats-server", chosen.display()))?;
        return Ok((chosen, version));
    }
    // Debian puts servers into sbin, which is not on everyone's PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/local/sbin".into(), "/usr/sbin".into(), ".tools".into()]);
    // A build from a clone has the server beside it: target/release/steward, .tools/nats-server.
    let own = std::env::current_exe()?;
    folders.extend(own.ancestors().skip(1).take(4).map(|folder| folder.join(".tools")));
    for folder in folders {
        let program = folder.join("nats-server");
        if let Some(version) = version(&program) {
            return Ok((program, version));
        }
    }
    anyhow::bail!(
        "there is no nats-server on the PATH or in .tools; `scripts/nats-server` gets one, or set NATS_SERVER_BIN to one"
    )
}

fn version(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("--version").output().ok().filter(|said| said.status.success())?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
