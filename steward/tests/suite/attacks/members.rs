//! A fleet whose nodes have certificates, and what somebody with a key, or without one, can publish. Written from
//! `docs/wire.md`, with nothing of the program in it: another language would have to do the same.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use async_nats::{Client, HeaderMap, Message};
use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};

use crate::harness::Node;

/// The key of a fleet.
pub(super) struct Members(KeyPair);

/// A node of it, as whoever has its files can be it.
pub(super) struct Member {
    key: KeyPair,
    seal: XKey,
    pub(super) certificate: String,
    fleet: String,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

impl Members {
    pub(super) fn new() -> Self {
        Self(KeyPair::new_account())
    }

    fn token(&self, name: &str, sub: &str, steward: &Value) -> String {
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let claims = json!({
            "jti": "x", "iat": now_ms() / 1000, "iss": self.0.public_key(), "name": name, "sub": sub, "steward": steward,
        });
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.0.sign(text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// A member that no node is yet.
    pub(super) fn member(&self, name: &str, serial: u64) -> Member {
        let (key, seal, fleet) = (KeyPair::new_user(), XKey::new(), self.0.public_key());
        let role = if name == "central" { "central" } else { "node" };
        let part = json!({ "v": 1, "fleet": fleet, "role": role, "labels": {}, "sealKey": seal.public_key(), "serial": serial });
        let certificate = self.token(name, &key.public_key(), &part);
        Member { key, seal, certificate, fleet }
    }

    /// Makes a node, which is not started yet, a member.
    pub(super) fn join(&self, node: &Node<'_>) -> Member {
        let member = self.member(node.name(), 1);
        member.settle(node.dir());
        member
    }

    /// The list that says that this member is believed no more.
    pub(super) fn revoke(&self, version: u64, member: &Member, name: &str) -> String {
        let revoked = json!([{ "key": member.key.public_key(), "name": name, "atMs": now_ms() }]);
        self.token("revoked", &self.0.public_key(), &json!({ "v": 1, "version": version, "revoked": revoked }))
    }
}

impl Member {
    /// Puts its identity into the directory of a node, instead of the one that is there.
    pub(super) fn settle(&self, dir: &Path) {
        let folder = dir.join("identity");
        fs::remove_dir_all(&folder).ok();
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        secret(&folder.join("node.nk"), &self.key.seed().unwrap());
        secret(&folder.join("node.xk"), &self.seal.seed().unwrap());
        secret(&folder.join("node.cert"), &self.certificate);
        secret(&folder.join("fleet.pub"), &self.fleet);
    }

    /// Signs and publishes, at a time of one's own choice.
    pub(super) async fn publish_at(
        &self,
        at_ms: u64,
        client: &Client,
        subject: &str,
        certificate: Option<&str>,
        body: &[u8],
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("Steward-Key", self.key.public_key());
        headers.insert("Steward-Time", at_ms.to_string());
        let mut signed = format!("steward-1\n{subject}\n");
        if let Some(certificate) = certificate {
            headers.insert("Steward-Certificate", certificate);
            signed += &format!("Steward-Certificate: {certificate}\n");
        }
        signed += &format!("Steward-Key: {}\nSteward-Time: {at_ms}\n\n", self.key.public_key());
        let signature = self.key.sign(&[signed.as_bytes(), body].concat()).unwrap();
        headers.insert("Steward-Signature", BASE64URL_NOPAD.encode(&signature));
        client.publish_with_headers(subject.to_owned(), headers, body.to_vec().into()).await.unwrap();
    }

    /// Signs and publishes, with its own certificate.
    pub(super) async fn publish(&self, client: &Client, subject: &str, body: &Value) {
        let body = body.to_string();
        self.publish_at(now_ms(), client, subject, Some(&self.certificate), body.as_bytes()).await;
    }

    /// Its public key.
    pub(super) fn public_key(&self) -> String {
        self.key.public_key()
    }
}

/// Writes a file that nobody else may read.
pub(super) fn secret(path: &Path, text: &str) {
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// Publishes something that was recorded, as it was, or with other headers, subject or body.
pub(super) async fn replay(client: &Client, message: &Message) {
    let headers = message.headers.clone().unwrap_or_default();
    client.publish_with_headers(message.subject.clone(), headers, message.payload.clone()).await.unwrap();
}

/// The JSON of a body that was recorded.
pub(super) fn body(message: &Message) -> Value {
    let packed = message.headers.as_ref().is_some_and(|headers| headers.get("Steward-Encoding").is_some());
    let bytes = match packed {
        true => zstd::stream::decode_all(&message.payload[..]).unwrap(),
        false => message.payload.to_vec(),
    };
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}
