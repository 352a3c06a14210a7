//! A fleet whose nodes have certificates, and what somebody with a key, or without one, can publish. Written from
//! `docs/wire.md`, with nothing of the program in it: another language would have to do the same.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use async_nats::{Client, HeaderMap, Message};
use curve25519_dalek::MontgomeryPoint;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::{KeyPair, XKey};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

use crate::harness::Node;

/// The key of a fleet.
pub(crate) struct Members(KeyPair);

/// A node of it, as whoever has its files can be it.
pub(crate) struct Member {
    key: KeyPair,
    seal: XKey,
    pub(crate) certificate: String,
    fleet: String,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

impl Members {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn member(&self, name: &str, serial: u64) -> Member {
        let (key, seal, fleet) = (KeyPair::new_user(), XKey::new(), self.0.public_key());
        let role = if name == "central" { "central" } else { "node" };
        let part = json!({ "v": 1, "fleet": fleet, "role": role, "labels": {}, "sealKey": seal.public_key(), "serial": serial });
        let certificate = self.token(name, &key.public_key(), &part);
        Member { key, seal, certificate, fleet }
    }

    /// Makes a node, which is not started yet, a member.
    pub(crate) fn join(&self, node: &Node<'_>) -> Member {
        let member = self.member(node.name(), 1);
        member.settle(node.dir());
        member
    }

    /// The list that says that this member is believed no more.
    pub(crate) fn revoke(&self, version: u64, member: &Member, name: &str) -> String {
        let revoked = json!([{ "key": member.key.public_key(), "name": name, "atMs": now_ms() }]);
        self.token("revoked", &self.0.public_key(), &json!({ "v": 1, "version": version, "revoked": revoked }))
    }
}

impl Member {
    /// Puts its identity into the directory of a node, instead of the one that is there.
    pub(crate) fn settle(&self, dir: &Path) {
        let folder = dir.join("identity");
        fs::remove_dir_all(&folder).ok();
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        secret(&folder.join("node.nk"), &self.key.seed().unwrap());
        secret(&folder.join("node.xk"), &self.seal.seed().unwrap());
        secret(&folder.join("node.cert"), &self.certificate);
        secret(&folder.join("fleet.pub"), &self.fleet);
    }

    /// Signs and publishes, at a time of one's own choice.
    pub(crate) async fn publish_at(
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

    /// Seals for the holder of `to`, as `docs/wire.md` has it, and signs and publishes that.
    pub(crate) async fn publish_sealed(&self, client: &Client, subject: &str, to: &str, body: &[u8]) {
        let sealed = self.seal(subject, to, body);
        self.publish_box(client, subject, to, &sealed).await;
    }

    /// Signs and publishes a box, whoever has made it.
    pub(crate) async fn publish_box(&self, client: &Client, subject: &str, to: &str, sealed: &[u8]) {
        let at_ms = now_ms();
        let headers = [
            ("Steward-Certificate", self.certificate.clone()),
            ("Steward-Key", self.key.public_key()),
            ("Steward-Seal", to.to_owned()),
            ("Steward-Time", at_ms.to_string()),
        ];
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let signed = format!("steward-1\n{subject}\n{lines}\n");
        let signature = self.key.sign(&[signed.as_bytes(), sealed].concat()).unwrap();
        let mut map = HeaderMap::new();
        headers.into_iter().for_each(|(name, value)| map.insert(name, value));
        map.insert("Steward-Signature", BASE64URL_NOPAD.encode(&signature));
        client.publish_with_headers(subject.to_owned(), map, sealed.to_vec().into()).await.unwrap();
    }

    fn seal(&self, subject: &str, to: &str, body: &[u8]) -> Vec<u8> {
        let (secret, to) = (raw(&XKey::new().seed().unwrap()), raw(to));
        let session = MontgomeryPoint::mul_base_clamped(secret).to_bytes();
        let shared = MontgomeryPoint(to).mul_clamped(secret).to_bytes();
        let salt: [u8; 24] = *blake3::hash(&secret).as_bytes().first_chunk().unwrap();
        let mut content = [b"\n", body].concat();
        let key = message_key(&shared, &session, &to, &salt);
        let bound = format!("steward-seal-1\n{}\n{subject}\n", self.key.public_key());
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.seal_in_place_append_tag(nonce, Aad::from(bound), &mut content).unwrap();
        [&session[..], &salt, &content].concat()
    }

    /// What was sealed for this member, with its headers before the body, as they stand in the box.
    pub(crate) fn open(&self, message: &Message) -> Option<String> {
        let headers = message.headers.as_ref()?;
        if headers.get("Steward-Seal")?.as_str() != self.seal.public_key() {
            return None;
        }
        let (session, rest) = message.payload.split_first_chunk::<32>().unwrap();
        let (salt, content) = rest.split_first_chunk::<24>().unwrap();
        let shared = MontgomeryPoint(*session).mul_clamped(raw(&self.seal.seed().unwrap())).to_bytes();
        let key = message_key(&shared, session, &raw(&self.seal_key()), salt);
        let bound = format!("steward-seal-1\n{}\n{}\n", headers.get("Steward-Key")?, message.subject);
        let mut content = content.to_vec();
        let opened = key.open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::from(bound), &mut content).unwrap();
        let end = opened.windows(2).position(|two| two == b"\n\n").map_or(1, |at| at + 2);
        let (lines, body) = opened.split_at(if opened.starts_with(b"\n") { 1 } else { end });
        let lines = String::from_utf8(lines.to_vec()).unwrap();
        Some(lines + &String::from_utf8(crate::harness::unpacked(body)).unwrap())
    }

    /// The public key for which others seal.
    pub(crate) fn seal_key(&self) -> String {
        self.seal.public_key()
    }

    /// Signs and publishes, with its own certificate.
    pub(crate) async fn publish(&self, client: &Client, subject: &str, body: &Value) {
        let body = body.to_string();
        self.publish_at(now_ms(), client, subject, Some(&self.certificate), body.as_bytes()).await;
    }

    /// Signs and publishes with one more header, whose name is behind that of the certificate and before that of the key.
    pub(crate) async fn publish_with(&self, client: &Client, subject: &str, header: (&str, &str), body: &[u8]) {
        let at_ms = now_ms().to_string();
        let key = self.key.public_key();
        let all =
            [("Steward-Certificate", &*self.certificate), header, ("Steward-Key", &key), ("Steward-Time", &at_ms)];
        let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let signature = self.key.sign(&[format!("steward-1\n{subject}\n{lines}\n").as_bytes(), body].concat()).unwrap();
        let mut headers = HeaderMap::new();
        all.into_iter().for_each(|(name, value)| headers.insert(name, value));
        headers.insert("Steward-Signature", BASE64URL_NOPAD.encode(&signature));
        client.publish_with_headers(subject.to_owned(), headers, body.to_vec().into()).await.unwrap();
    }

    /// Its public key.
    pub(crate) fn public_key(&self) -> String {
        self.key.public_key()
    }
}

/// The bytes of a key in the text form of NATS.
fn raw(text: &str) -> [u8; 32] {
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).unwrap();
    let from = if text.starts_with('S') { 2 } else { 1 };
    bytes[from..from + 32].try_into().unwrap()
}

fn message_key(shared: &[u8; 32], session: &[u8; 32], to: &[u8; 32], salt: &[u8; 24]) -> LessSafeKey {
    let material = [&shared[..], session, to].concat();
    let secret = blake3::derive_key("steward 2026-11-23 seal 1: the secret of a session", &material);
    let key = blake3::keyed_hash(&secret, salt);
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes()).unwrap())
}

/// Writes a file that nobody else may read.
pub(crate) fn secret(path: &Path, text: &str) {
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// Publishes something that was recorded, as it was, or with other headers, subject or body.
pub(crate) async fn replay(client: &Client, message: &Message) {
    let headers = message.headers.clone().unwrap_or_default();
    client.publish_with_headers(message.subject.clone(), headers, message.payload.clone()).await.unwrap();
}

/// The JSON of a body that was recorded.
pub(crate) fn body(message: &Message) -> Value {
    serde_json::from_slice(&crate::harness::unpacked(&message.payload)).unwrap_or(Value::Null)
}
