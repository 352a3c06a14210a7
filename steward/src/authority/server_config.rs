//! The configuration of the fleet's nats-server: complete, so that nobody has to add anything to be safe. Paths in it
//! begin in the fleet's folder, which is where the server is started.

use super::{ACCOUNTS, RESOLVER, SERVER_CERTIFICATE, SERVER_CONFIG, SERVER_KEY};
use crate::security::keys::PublicKey;

/// The configuration itself. It does not change with the fleet.
pub(super) fn server(listen: &str) -> String {
    format!(
        "# Made by `steward init`. `steward broker` runs a nats-server with it; by hand: cd to this folder, and
# nats-server -c {SERVER_CONFIG}

listen: {listen:?}
server_name: \"steward\"

# Everybody speaks TLS. Satellites are slow, so the times are generous.
tls {{
  cert_file: \"{SERVER_CERTIFICATE}\"
  key_file: \"{SERVER_KEY}\"
  timeout: 15
}}
authorization {{ timeout: 15 }}

# Everybody has a login that the fleet has signed, and each may do what its role needs. Nodes are added, and revoked,
# without a change here.
include \"{ACCOUNTS}\"

# The connection of a node that is gone is noticed within a minute.
ping_interval: \"20s\"
ping_max: 2
write_deadline: \"15s\"
max_payload: 1MB
max_pending: 64MB
logtime: false
"
    )
}

/// Operator and accounts as they are now: what the server knows before anybody has told it something newer.
pub(super) fn accounts(operator: &str, system: (&PublicKey, &str), fleet: (&PublicKey, &str)) -> String {
    format!(
        "# Written by steward at each change. The server keeps what was pushed to it in {RESOLVER}/ and takes the newer one.
operator: {operator}
system_account: {}
resolver {{
  type: full
  dir: \"{RESOLVER}\"
  allow_delete: false
  interval: \"2m\"
}}
resolver_preload {{
  {}: {}
  {}: {}
}}
",
        system.0, system.0, system.1, fleet.0, fleet.1
    )
}
