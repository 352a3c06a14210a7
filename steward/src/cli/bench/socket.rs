//! A connection to a node's socket that is kept: what is measured is the node, and not connecting to it.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::api::client::socket_path;
use crate::cli::fleet::Node;
use crate::cli::show::has_ended;
use crate::view::{MessageView, NodeView};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Accepted {
    ids: Vec<String>,
}

/// One connection; it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Socket {
    /// Connects to a node that runs.
    pub(super) async fn open(node: &Node) -> anyhow::Result<Self> {
        let (path, held) = socket_path(node.dir())?;
        let stream = UnixStream::connect(path).await?;
        drop(held);
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { requests, driver: tokio::spawn(connection) })
    }

    /// Brings an array of messages; their ids, once they are durable.
    pub(super) async fn submit(&mut self, messages: Bytes) -> anyhow::Result<Vec<String>> {
        let accepted: Accepted = self.read(Method::POST, "/v1/messages", messages).await?;
        Ok(accepted.ids)
    }

    /// Messages of the node that are not final.
    pub(super) async fn outstanding(&mut self) -> anyhow::Result<u64> {
        let nodes: Vec<NodeView> = self.read(Method::GET, "/v1/nodes", Bytes::new()).await?;
        Ok(nodes.iter().map(|node| node.outstanding).sum())
    }

    /// Follows a message until it has ended.
    pub(super) async fn follow(&mut self, id: &str) -> anyhow::Result<MessageView> {
        let response = self.request(Method::GET, &format!("/v1/messages/{id}/events"), Bytes::new()).await?;
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            text.extend_from_slice(frame?.data_ref().map_or(&[], |data| &data[..]));
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let view: MessageView = serde_json::from_slice(&line)?;
                if has_ended(&view) {
                    // The connection can be used again once the answer is read to its end.
                    while body.frame().await.transpose()?.is_some() {}
                    return Ok(view);
                }
            }
        }
        anyhow::bail!("the node stopped telling about {id} before it had ended")
    }

    /// The length and the BLAKE3 hash of an answer, which may be larger than memory.
    pub(super) async fn hash(&mut self, path: &str) -> anyhow::Result<(u64, blake3::Hash)> {
        let mut body = self.request(Method::GET, path, Bytes::new()).await?.into_body();
        let (mut length, mut hasher) = (0, blake3::Hasher::new());
        while let Some(frame) = body.frame().await {
            if let Ok(bytes) = frame?.into_data() {
                length += bytes.len() as u64;
                hasher.update(&bytes);
            }
        }
        Ok((length, hasher.finalize()))
    }

    async fn read<T: DeserializeOwned>(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let answer = async {
            let response = self.request(method, path, body).await?;
            Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
        };
        tokio::time::timeout(ANSWER_LIMIT, answer).await.with_context(|| format!("{path} is not answered"))?
    }

    async fn request(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path).header("host", "steward").body(Full::new(body))?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::bail!("{path} is answered with {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
