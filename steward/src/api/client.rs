//! The command line's side of the HTTP API: one connection a request, over the unix socket in the node's directory.
//! Bodies come piece by piece, so that an output of any size passes through. It never tries again: whoever asks knows
//! whether that is safe.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::intake::Fault;

/// The socket's name in the node's directory.
pub(crate) const SOCKET: &str = "steward.sock";

/// How long a node may take to answer at all. A node that is there answers in milliseconds; one that has just taken a
/// hundred thousand messages, in seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The largest answer that is read as a whole, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The longest line of a stream of JSON lines, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Bytes of a file that are brought at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The longest path of a unix socket, in bytes, with its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 108;

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "no node runs in {0}: start one with `steward run --dir {0} --node NAME`, or say where it runs with --dir or STEWARD_DIR"
    )]
    NotRunning(String),
    /// The socket is there, but not for us.
    #[error("the node's socket {path} can't be used: {error}; run this as the user who runs the node")]
    Denied {
        /// The socket.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The connection ended before the answer did: the node stopped, or was killed.
    #[error("the node stopped before it had answered ({0})")]
    Lost(String),
    /// The node said no.
    #[error("{error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, in the node's words.
        error: String,
    },
    /// Some of the messages make no sense; none was accepted.
    #[error("{}", faults(.0))]
    Invalid(Vec<Fault>),
    /// The answer is not what it should be.
    #[error("the node's answer can't be read ({0}); are node and command of the same version?")]
    Answer(String),
}

impl ClientError {
    /// Whether asking again, once the node is back, may bring an answer.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::NotRunning(_) | Self::Lost(_) => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            Self::Denied { .. } | Self::Invalid(_) | Self::Answer(_) => false,
        }
    }
}

fn faults(faults: &[Fault]) -> String {
    match faults {
        [] => "the node refused the messages without a reason".to_owned(),
        [one] if one.index == 0 => one.error.clone(),
        many => {
            let lines = many.iter().map(|fault| format!("message {}: {}", fault.index + 1, fault.error));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// The way to the node in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    dir: PathBuf,
}

impl Client {
    /// The way to the node that has this directory, whether it runs or not.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Reads an object.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(Method::GET, path, Bytes::new()).await
    }

    /// Brings an object (JSON text) and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, ClientError> {
        self.read(Method::POST, path, body.into()).await
    }

    /// Tells something to which there is no answer but that it is done.
    pub(crate) async fn tell(&self, path: &str) -> Result<(), ClientError> {
        self.request(Method::POST, path, Bytes::new()).await?.whole().await.map(drop)
    }

    /// Reads bytes as they come.
    pub(crate) async fn stream(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Brings the bytes of a file and reads the answer. It takes as long as it takes to write them down.
    pub(crate) async fn upload<T: DeserializeOwned>(&self, path: &str, file: File) -> Result<T, ClientError> {
        let blocks = stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async move {
            let mut block = bytes::BytesMut::with_capacity(BLOCK_BYTES);
            let count = file.read_buf(&mut block).await?;
            Ok((count > 0).then(|| (Frame::data(block.freeze()), file)))
        });
        self.bring(path, StreamBody::new(blocks).boxed_unsync()).await
    }

    /// Brings bytes that somebody makes meanwhile, and reads the answer.
    pub(crate) async fn bring_made<T: DeserializeOwned>(
        &self,
        path: &str,
        made: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<T, ClientError> {
        let blocks = stream::unfold(made, |mut made| async move {
            let next = made.recv().await?;
            Some((next.map(Frame::data), made))
        });
        self.bring(path, StreamBody::new(blocks).boxed_unsync()).await
    }

    /// Brings what an answer brings, and reads the answer to that.
    pub(crate) async fn pass_on<T: DeserializeOwned>(&self, path: &str, from: Answer) -> Result<T, ClientError> {
        let blocks = stream::try_unfold(from, |mut from| async move {
            let chunk = from.chunk().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (Frame::data(chunk), from)))
        });
        self.bring(path, StreamBody::new(blocks).boxed_unsync()).await
    }

    async fn bring<T: DeserializeOwned>(&self, path: &str, body: Body) -> Result<T, ClientError> {
        let bytes = self.ask(Method::POST, path, body).await?.accepted().await?.whole().await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// Brings an object (JSON text), and reads bytes as they come.
    pub(crate) async fn post_stream(&self, path: &str, body: String) -> Result<Answer, ClientError> {
        self.request(Method::POST, path, body.into()).await
    }

    async fn read<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let bytes = self.request(method, path, body).await?.whole().await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        match tokio::time::timeout(ANSWER_LIMIT, self.ask(method, path, body)).await {
            Ok(answer) => answer?.accepted().await,
            Err(_) => Err(ClientError::Lost(format!("it has not answered for {} s", ANSWER_LIMIT.as_secs()))),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Body) -> Result<Answer, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "steward")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(lost)?;
        let mut driver: Driver = Box::pin(connection);
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => Ok(Answer::new(answer.map_err(lost)?, Some(driver))),
            ended = &mut driver => {
                ended.map_err(lost)?;
                Ok(Answer::new(answer.await.map_err(lost)?, None))
            }
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let connected = match socket_path(&self.dir) {
            Ok((path, dir)) => {
                let connected = UnixStream::connect(&path).await;
                drop(dir);
                connected
            }
            Err(error) => Err(error),
        };
        connected.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                // The directory in full, so that the advice works from anywhere.
                let dir = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
                ClientError::NotRunning(dir.display().to_string())
            }
            _ => ClientError::Denied { path: self.dir.join(SOCKET).display().to_string(), error },
        })
    }
}

/// A path to the socket in this directory that is short enough for the system, however long the directory's own is.
/// The file keeps such a path valid; drop it once the socket is bound or connected.
pub(crate) fn socket_path(dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = dir.join(SOCKET);
    if path.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let dir = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
    Ok((short, Some(dir)))
}

/// The body of a request.
type Body = UnsyncBoxBody<Bytes, io::Error>;

type Driver = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// An answer, whose body comes piece by piece.
pub(crate) struct Answer {
    status: StatusCode,
    body: Incoming,
    /// What moves the bytes; `None` once it has nothing more to do.
    driver: Option<Driver>,
    /// What has come beyond the last line that was taken.
    rest: Vec<u8>,
}

impl Answer {
    fn new(response: Response<Incoming>, driver: Option<Driver>) -> Self {
        Self { status: response.status(), body: response.into_body(), driver, rest: Vec::new() }
    }

    /// The answer, if the node did what it was asked.
    async fn accepted(self) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum No {
            Faults { errors: Vec<Fault> },
            Error { error: String },
        }
        if self.status.is_success() {
            return Ok(self);
        }
        let status = self.status;
        let bytes = self.whole().await?;
        Err(match serde_json::from_slice(&bytes) {
            Ok(No::Faults { errors }) => ClientError::Invalid(errors),
            Ok(No::Error { error }) => ClientError::Refused { status: status.as_u16(), error },
            Err(_) => ClientError::Refused { status: status.as_u16(), error: format!("the node answered {status}") },
        })
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = match &mut self.driver {
                None => self.body.frame().await,
                Some(driver) => tokio::select! {
                    biased;
                    frame = self.body.frame() => frame,
                    ended = driver => {
                        // What it has read before its end is still in the body.
                        self.driver = None;
                        ended.map_err(lost)?;
                        continue;
                    }
                },
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(bytes) = frame.map_err(lost)?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// The next JSON line; `None` at the end.
    pub(crate) async fn line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(|error| ClientError::Answer(error.to_string()));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(ClientError::Answer(format!("a line of more than {LINE_BYTES_MAX} bytes")));
            }
            match self.chunk().await? {
                Some(bytes) => self.rest.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    async fn whole(mut self) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            whole.extend_from_slice(&bytes);
            if whole.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::Answer(format!("more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        Ok(whole)
    }
}

fn lost(error: hyper::Error) -> ClientError {
    ClientError::Lost(error.to_string())
}

#[cfg(test)]
mod tests;
