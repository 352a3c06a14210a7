//! Requests and their answers: connects, asks, follows redirects. HTTP/1.1, one connection for each request; nothing of it
//! outlives the method. What becomes of an answer is up to [`Answer`].

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::message::MessageId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Position, Url};

use super::answer::Answer;
use super::ask::{Ask, TlsOptions, checked};
use super::tls;

/// How long a connection may take: looking the name up, TCP and TLS, all addresses of the host together.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long one of several addresses of a host may take before the next one is tried.
const ADDRESS_LIMIT: Duration = Duration::from_secs(8);

/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 8;

/// The largest head of an answer that is taken, in bytes, and what is read ahead of a body.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Headers of an answer that are taken.
const HEADERS_MAX: usize = 256;

/// A request that is about to be made.
struct Next {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    tls: TlsOptions,
}

/// Asks, and follows redirects as far as it may. Returns the status of the last answer, as people write it; an error says
/// why there is none, in words.
pub(super) async fn perform(ask: &Ask, dir: &Path, id: MessageId, answer: &mut Answer<'_>) -> Result<String, String> {
    let Ask { url, method, headers, body, tls, .. } = ask.clone();
    let mut next = Next { url, method, headers, body, tls };
    loop {
        let url = next.url.clone();
        match request(ask, &mut next, dir, id, answer).await {
            Ok(None) => {}
            Ok(Some(status)) => return Ok(status),
            // Whoever asked has named the first one.
            Err(why) if url == ask.url => return Err(why),
            Err(why) => return Err(format!("it led to {url}: {why}")),
        }
    }
}

/// One request; what comes of it, or nothing if `next` has become another one.
async fn request(
    ask: &Ask,
    next: &mut Next,
    dir: &Path,
    id: MessageId,
    answer: &mut Answer<'_>,
) -> Result<Option<String>, String> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, connect(next, dir));
    let stream = connecting.await.map_err(|_| format!("there was no connection within {CONNECT_LIMIT:?}"))??;
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let handshake = client.handshake(TokioIo::new(stream)).await;
    let (mut requests, connection) = handshake.map_err(|error| said("the connection can't be used", &error))?;
    // What goes wrong with the connection is told to whoever waits for the answer.
    let served = async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of HttpGet has ended");
        }
        std::future::pending::<Infallible>().await
    };
    let exchange = async {
        let response = requests.send_request(ready(next)?).await;
        let response = response.map_err(|error| said("there was no answer", &error))?;
        answer.head(&response).await?;
        if let Some(other) = redirected(ask, next, &response, answer.redirects())? {
            answer.follow(other.url.clone());
            *next = other;
            return Ok(None);
        }
        answer.body(response, dir, id).await.map(Some)
    };
    tokio::select! {
        done = exchange => done,
        never = served => match never {},
    }
}

/// The request as it goes out.
fn ready(next: &Next) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::new(next.body.clone()));
    *request.method_mut() = next.method.clone();
    let path = &next.url[Position::BeforePath..Position::AfterQuery];
    *request.uri_mut() = path.parse().map_err(|error| format!("{path:?} can't be asked for: {error}"))?;
    let host = &next.url[Position::BeforeHost..Position::AfterPort];
    let host = HeaderValue::from_str(host).map_err(|error| format!("{host:?} can't be asked: {error}"))?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("steward/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for name in next.headers.keys() {
        headers.remove(name);
    }
    headers.extend(next.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(request)
}

/// Where an answer sends us, if it does and that is followed.
fn redirected(ask: &Ask, next: &Next, response: &Response<Incoming>, left: usize) -> Result<Option<Next>, String> {
    let status = response.status();
    let follows = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && ask.redirects > 0;
    let Some(location) = response.headers().get(header::LOCATION).filter(|_| follows) else { return Ok(None) };
    let shown = String::from_utf8_lossy(location.as_bytes()).into_owned();
    if left >= usize::from(ask.redirects) {
        return Err(format!("it leads on and on: {left} redirects were followed, and another one leads to {shown:?}"));
    }
    let refused = |why: &str| format!("its redirect to {shown:?} is not followed: {why}");
    let url = next.url.join(&shown).map_err(|error| refused(&error.to_string()))?;
    let url = checked(url).map_err(|why| refused(&why))?;
    if next.url.scheme() == "https" && url.scheme() == "http" {
        return Err(refused("from there on anybody could read along"));
    }
    let reads = matches!(next.method, Method::GET | Method::HEAD | Method::OPTIONS);
    // As everybody does it: what was sent is not sent again, unless the status says so.
    let again = reads || matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let (method, body) = if again { (next.method.clone(), next.body.clone()) } else { (Method::GET, Bytes::new()) };
    let mut other = Next { url, method, body, headers: next.headers.clone(), tls: next.tls.clone() };
    if other.url.origin() != next.url.origin() {
        if !other.body.is_empty() || !matches!(other.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Err(refused("it is another server, and what the message brings is for this one"));
        }
        other.headers.clear();
        other.tls.cert = None;
    }
    Ok(Some(other))
}

/// What carries a request.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(next: &Next, dir: &Path) -> Result<Box<dyn Stream>, String> {
    let url = &next.url;
    let port = url.port_or_known_default().unwrap_or_default();
    let name = url.host_str().unwrap_or_default().to_owned();
    // An IPv6 address stands in brackets in a URL, and nowhere else.
    let host = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let config: Option<Arc<ClientConfig>> = if url.scheme() == "https" {
        let (dir, options) = (dir.to_owned(), next.tls.clone());
        let read = tokio::task::spawn_blocking(move || tls::config(&dir, &options)).await;
        Some(read.map_err(|error| error.to_string())??)
    } else {
        None
    };
    let stream = tcp(&host, port).await?;
    let Some(config) = config else { return Ok(Box::new(stream)) };
    let server = ServerName::try_from(host.clone());
    let server = server.map_err(|_| format!("{host} is no name that a certificate could be for"))?;
    let stream = TlsConnector::from(config).connect(server, stream).await;
    stream.map(|stream| Box::new(stream) as Box<dyn Stream>).map_err(|error| {
        let advice = match error.to_string().contains("peer certificate") {
            true => "; ca=FILE says whose certificates to believe, insecure=true believes any",
            false => "",
        };
        said(&format!("there is no TLS with {host}:{port}"), &error) + advice
    })
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| format!("the address of {host} can't be found: {error}"))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    let alone = addresses.len() < 2;
    let mut trouble = format!("{host} has no address");
    for address in addresses {
        let limit = if alone { CONNECT_LIMIT } else { ADDRESS_LIMIT };
        trouble = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("{address} can't be reached: {error}"),
            Err(_) => format!("{address} did not answer within {limit:?}"),
        };
    }
    Err(trouble)
}

/// An error with all that is behind it.
pub(super) fn said(what: &str, error: &dyn Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut behind = error.source();
    while let Some(error) = behind {
        let more = error.to_string();
        if !text.contains(&more) {
            // Writing into a string can't fail.
            write!(text, ": {more}").ok();
        }
        behind = error.source();
    }
    text
}
