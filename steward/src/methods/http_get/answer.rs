//! An answer on its way to whoever asked: its head and its body, in the form that was asked for, each within its limits.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use data_encoding::BASE64;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use protocol::message::MessageId;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use url::Url;

use super::ask::{Ask, Shape};
use super::download::{Download, FOLDER};
use super::exchange::said;

/// The largest body that stands in a JSON object, in bytes; it is in memory as a whole.
const JSON_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// The largest file, in bytes, where the message does not say.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// So many bytes of a file are collected before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// How much may be kept of a body, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// As output.
    pub(super) output: u64,
    /// As a file, where the node's rules say so.
    pub(super) file: Option<u64>,
}

/// Where an answer goes.
pub(super) struct Answer<'a> {
    ask: &'a Ask,
    stdout: pipe::Sender,
    stderr: pipe::Sender,
    most: Most,
    /// Whose answer it is.
    url: Url,
    /// The URLs that have led on; as many as redirects were followed.
    left: Vec<Url>,
    truncated: bool,
}

/// What became of a body.
enum Taken {
    /// It is not wanted.
    Not,
    /// It went to the output, so many bytes of it.
    Output(u64),
    Memory(Vec<u8>),
    File(u64, blake3::Hash),
}

/// An answer as one object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    url: &'a str,
    status: u16,
    reason: String,
    version: String,
    headers: Vec<(&'a str, String)>,
    redirects: Vec<&'a str>,
    bytes: u64,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    file: Option<Saved>,
}

/// A file, as it is told of.
#[derive(Serialize)]
struct Saved {
    file: String,
    blake3: String,
}

/// The same as the whole of an answer.
#[derive(Serialize)]
struct SavedAlone {
    #[serde(flatten)]
    saved: Saved,
    bytes: u64,
}

impl<'a> Answer<'a> {
    pub(super) fn new(ask: &'a Ask, stdout: pipe::Sender, stderr: pipe::Sender, most: Most) -> Self {
        Self { ask, stdout, stderr, most, url: ask.url.clone(), left: Vec::new(), truncated: false }
    }

    /// Whether a body was cut.
    pub(super) fn truncated(&self) -> bool {
        self.truncated
    }

    /// How many redirects were followed.
    pub(super) fn redirects(&self) -> usize {
        self.left.len()
    }

    /// Notes that an answer has led on to another one.
    pub(super) fn follow(&mut self, url: Url) {
        self.left.push(std::mem::replace(&mut self.url, url));
    }

    /// Takes the head of an answer, also of one that leads on.
    pub(super) async fn head(&mut self, response: &Response<Incoming>) -> Result<(), String> {
        let to = match self.ask.shape {
            Shape::Both => &mut self.stderr,
            Shape::Head => &mut self.stdout,
            Shape::Body | Shape::Json => return Ok(()),
        };
        let mut head = format!("{:?} {}\n", response.version(), status(response)).into_bytes();
        for (name, value) in response.headers() {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.push(b'\n');
        }
        head.push(b'\n');
        to.write_all(&head).await.map_err(kept)
    }

    /// Takes the last answer's body. Returns its status, as people write it.
    pub(super) async fn body(
        &mut self,
        response: Response<Incoming>,
        dir: &Path,
        id: MessageId,
    ) -> Result<String, String> {
        let mut told = status(&response);
        let (head, mut body) = response.into_parts();
        let name = self.ask.file.as_deref().filter(|_| head.status.is_success());
        let taken = match (self.ask.shape, name) {
            (Shape::Head, _) => Taken::Not,
            (_, Some(name)) => {
                let (len, hash) = self.save(&mut body, dir, name, id).await?;
                Taken::File(len, hash)
            }
            (Shape::Json, None) => Taken::Memory(self.collect(&mut body).await?),
            (Shape::Both | Shape::Body, None) => Taken::Output(self.print(&mut body).await?),
        };
        if self.truncated {
            let len = match &taken {
                Taken::Not => 0,
                Taken::Output(len) | Taken::File(len, _) => *len,
                Taken::Memory(bytes) => bytes.len() as u64,
            };
            // Writing into a string can't fail.
            write!(told, "; the body was cut after {len} bytes").ok();
        }
        let object = match (self.ask.shape, taken) {
            (Shape::Json, taken) => self.object(&Response::from_parts(head, body), &taken),
            (_, Taken::File(bytes, hash)) => {
                let saved = Saved::new(name.unwrap_or_default(), hash);
                serde_json::to_string(&SavedAlone { saved, bytes })
            }
            (_, Taken::Not | Taken::Output(_) | Taken::Memory(_)) => return Ok(told),
        };
        let object = object.map_err(|error| format!("the answer can't be written as JSON: {error}"))?;
        self.stdout.write_all(format!("{object}\n").as_bytes()).await.map_err(kept)?;
        Ok(told)
    }

    fn object(&self, response: &Response<Incoming>, taken: &Taken) -> Result<String, serde_json::Error> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str(), text(value.as_bytes())));
        let mut object = Object {
            url: self.url.as_str(),
            status: response.status().as_u16(),
            reason: reason(response),
            version: format!("{:?}", response.version()),
            headers: headers.collect(),
            redirects: self.left.iter().map(Url::as_str).collect(),
            bytes: 0,
            truncated: self.truncated,
            body: None,
            body_base64: None,
            file: None,
        };
        match taken {
            Taken::Not | Taken::Output(_) => {}
            Taken::Memory(bytes) => {
                object.bytes = bytes.len() as u64;
                object.body = std::str::from_utf8(bytes).ok();
                object.body_base64 = object.body.is_none().then(|| BASE64.encode(bytes));
            }
            Taken::File(len, hash) => {
                object.bytes = *len;
                object.file = Some(Saved::new(self.ask.file.as_deref().unwrap_or_default(), *hash));
            }
        }
        serde_json::to_string(&object)
    }

    /// The next piece of a body, of which `taken` bytes are here: cut where `most` are full.
    async fn piece(&mut self, body: &mut Incoming, taken: u64, most: u64) -> Result<Option<bytes::Bytes>, String> {
        while !self.truncated {
            let Some(frame) = body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| {
                let awaited = body.size_hint().exact().map(|left| format!(" of {}", taken + left)).unwrap_or_default();
                said(&format!("the answer broke off after {taken} bytes{awaited} of its body"), &error)
            })?;
            // What is no data are trailers, which nobody has asked for.
            let Ok(mut piece) = frame.into_data() else { continue };
            let room = usize::try_from(most.saturating_sub(taken)).unwrap_or(usize::MAX);
            self.truncated = piece.len() > room;
            piece.truncate(room);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    async fn print(&mut self, body: &mut Incoming) -> Result<u64, String> {
        let most = self.ask.limit.unwrap_or(u64::MAX).min(self.most.output);
        let mut taken = 0;
        while let Some(piece) = self.piece(body, taken, most).await? {
            self.stdout.write_all(&piece).await.map_err(kept)?;
            taken += piece.len() as u64;
        }
        Ok(taken)
    }

    async fn collect(&mut self, body: &mut Incoming) -> Result<Vec<u8>, String> {
        let most = self.ask.limit.unwrap_or(u64::MAX).min(self.most.output).min(JSON_BODY_BYTES_MAX);
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(body, bytes.len() as u64, most).await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn save(
        &mut self,
        body: &mut Incoming,
        dir: &Path,
        name: &str,
        id: MessageId,
    ) -> Result<(u64, blake3::Hash), String> {
        let most = self.ask.limit.unwrap_or(FILE_BYTES_MAX).min(self.most.file.unwrap_or(u64::MAX));
        let too_long = |len: String| {
            format!("the body has {len} bytes, and at most {most} go into a file; {FOLDER}/{name} stays as it was")
        };
        let trouble = |error: io::Error| format!("{FOLDER}/{name} can't be written: {error}");
        if let Some(len) = body.size_hint().exact().filter(|len| *len > most) {
            return Err(too_long(len.to_string()));
        }
        let (dir, of) = (dir.to_owned(), name.to_owned());
        let mut download = blocking(move || Download::begin(&dir, &of, id)).await.map_err(trouble)?;
        let (mut taken, mut waiting) = (0, Vec::new());
        loop {
            let piece = self.piece(body, taken, most).await?;
            if self.truncated {
                self.truncated = false;
                return Err(too_long(format!("more than {most}")));
            }
            let last = piece.is_none();
            let piece = piece.unwrap_or_default();
            taken += piece.len() as u64;
            waiting.extend_from_slice(&piece);
            if waiting.len() >= WRITE_BYTES || (last && !waiting.is_empty()) {
                let bytes = std::mem::take(&mut waiting);
                let written = blocking(move || download.append(&bytes).map(|()| download)).await;
                download = written.map_err(trouble)?;
            }
            if last {
                return blocking(move || download.finish()).await.map_err(trouble);
            }
        }
    }
}

impl Saved {
    fn new(name: &str, hash: blake3::Hash) -> Self {
        Self { file: format!("{FOLDER}/{name}"), blake3: hash.to_string() }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

fn kept(error: io::Error) -> String {
    format!("the answer can't be kept: {error}")
}

/// `404 Not Found`.
fn status(response: &Response<Incoming>) -> String {
    format!("{} {}", response.status().as_u16(), reason(response)).trim_end().to_owned()
}

/// What the server calls its status; what everybody calls it, where it says nothing else.
fn reason(response: &Response<Incoming>) -> String {
    match response.extensions().get::<ReasonPhrase>() {
        Some(own) => String::from_utf8_lossy(own.as_bytes()).into_owned(),
        None => response.status().canonical_reason().unwrap_or_default().to_owned(),
    }
}
