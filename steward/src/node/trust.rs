//! Whom the node believes: worked out once, at its start, from what lies in its directory and where its broker is.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use async_nats::ServerAddr;
use protocol::limits::PEERS_MAX;
use protocol::name::NodeName;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Config;
use crate::engine::Input;
use crate::security::certificate::Certificate;
use crate::security::identity::{Identity, renewal};
use crate::security::keys::PublicKey;
use crate::security::known::{Kept, Shelf};
use crate::security::revocations::Revocations;
use crate::security::trust::Trust;
use crate::store::{IdentityRow, Reader};

/// Whom this node believes. `inputs` is the way to the store, which has to be there already.
pub(super) fn trust(config: &Config, inputs: &mpsc::Sender<Input>) -> anyhow::Result<Trust> {
    let (dir, name, central) = (config.node.dir.as_path(), &config.node.name, config.node.central.clone());
    let Some(identity) = Identity::load(dir)? else {
        ensure!(
            !config.delivery.seal.is_used(),
            "the options seal and sealTo need an identity, and there is none in {}: let this node join a fleet (steward invite \
             on central, steward join here), or take the options away",
            dir.display()
        );
        if config.broker.insecure || config.broker.addresses.iter().all(is_here) {
            return Ok(Trust::open(name.clone(), central));
        }
        tracing::warn!(
            "this node has no identity, and its broker is on another machine: it refuses commands, because anybody could \
             have sent them; let it join a fleet (steward invite on central, steward join here), or start it with --insecure"
        );
        return Ok(Trust::closed(name.clone(), central)?);
    };
    let certified = &identity.certificate.name;
    ensure!(
        certified == name,
        "{} is the identity of node {certified}, not of {name}; start --node={certified}, or give {name} a directory of \
         its own with --dir",
        Identity::folder(dir).display()
    );
    if !identity.holds(clock::wall()) {
        tracing::error!(
            "the certificate of this node has expired: others refuse what it sends; let it join anew (steward invite {name} \
             --replace on central; here steward join, after the folder identity was removed)"
        );
    }
    let revocations = Revocations::load(dir, identity.fleet)
        .context("the list of revoked keys can't be used; if you remove the file, central sends it again")?;
    // Where a renewal of the keys was ended in the middle, others may seal for either.
    let beside = renewal::beside(dir)?;
    let trust = Trust::fleet(central, identity, shelf(dir, inputs.clone())?, revocations);
    if let Some(other) = beside {
        trust.keep_beside(other);
    }
    Ok(trust)
}

/// Whether a server is on this machine, so that nobody else can listen or speak in between.
fn is_here(server: &ServerAddr) -> bool {
    let host = server.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Where certificates of other nodes are kept: in the store, through the loop that owns it.
fn shelf(dir: &Path, inputs: mpsc::Sender<Input>) -> anyhow::Result<Shelf> {
    let reader = Arc::new(Reader::open(dir)?);
    let names = AtomicUsize::new(reader.certificates()?);
    let said = |found: Result<Option<String>, crate::store::ReadError>| {
        found.unwrap_or_else(|error| {
            tracing::error!(%error, "it can't be read whose key this is");
            None
        })
    };
    let (by_key, by_name, known) = (reader.clone(), reader.clone(), reader);
    Ok(Shelf {
        by_key: Box::new(move |key: &PublicKey| said(by_key.certificate_of_key(&key.to_string()))),
        by_name: Box::new(move |name: &NodeName| said(by_name.certificate_of(name))),
        keep: Box::new(move |certificate: &Certificate| {
            let is_new = known.certificate_of(&certificate.name).is_ok_and(|known| known.is_none());
            if is_new && names.load(Ordering::Relaxed) >= PEERS_MAX {
                return Kept::NoRoom;
            }
            let row = IdentityRow {
                name: certificate.name.clone(),
                key: certificate.key.to_string(),
                serial: certificate.serial,
                certificate: certificate.text.to_string(),
            };
            // The way is the same for what this key has signed, so nothing of that is in the store before its certificate.
            if inputs.try_send(Input::Identity(row)).is_err() {
                return Kept::NotNow;
            }
            names.fetch_add(usize::from(is_new), Ordering::Relaxed);
            Kept::Yes
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_here() {
        for (address, here) in [
            ("127.0.0.1:4222", true),
            ("nats://localhost:4222", true),
            ("nats://user:password@LOCALHOST", true),
            ("[::1]:4222", true),
            ("127.8.9.1", true),
            ("10.0.0.1:4222", false),
            ("0.0.0.0:4222", false),
            ("localhost.example.org", false),
            ("broker:4222", false),
        ] {
            assert_eq!(is_here(&address.parse().unwrap()), here, "{address}");
        }
    }
}
