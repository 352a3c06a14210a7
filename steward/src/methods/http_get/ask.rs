//! What a message asks for: its data, understood. Nothing is looked up, opened or connected to here.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, header};
use url::Url;

use crate::config::units;

/// The longest URL, in bytes; servers take no more than 8,000 or so either.
const URL_BYTES_MAX: usize = 8192;

/// Headers that may be given.
const HEADERS_MAX: usize = 64;

/// Redirects that may be followed.
const REDIRECTS_MAX: u8 = 20;

/// How long it may take altogether, where the message does not say.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The longest name of a file, in bytes: what is added while it grows has to fit as well.
const FILE_NAME_BYTES_MAX: usize = 150;

/// The options, in the order in which the operator's table has them.
const OPTIONS: &[&str] =
    &["method", "header", "body", "limit", "timeLimit", "redirects", "as", "file", "ca", "cert", "insecure"];

/// Methods that make sense for one request with one answer.
const METHODS: &[Method] =
    &[Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Headers that say how the message is framed on the connection, which is settled here.
const OURS: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
];

/// What comes back of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The body as standard output, the head as standard error.
    Both,
    /// The body alone.
    Body,
    /// The head alone, as standard output.
    Head,
    /// One JSON object.
    Json,
}

/// Whom to believe, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// A file of the folder for them, with the only authorities that are believed.
    pub(super) ca: Option<String>,
    /// A file of the same folder with a certificate of our own, and its key.
    pub(super) cert: Option<String>,
    /// Whether any certificate is believed.
    pub(super) insecure: bool,
}

/// What to ask for, and what to do with the answer.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Bytes of the body that are taken.
    pub(super) limit: Option<u64>,
    pub(super) time: Duration,
    pub(super) redirects: u8,
    pub(super) shape: Shape,
    /// A file of the folder for downloads.
    pub(super) file: Option<String>,
    pub(super) tls: TlsOptions,
}

impl Ask {
    /// Understands the data of a message, or says why it makes no sense.
    pub(super) fn parse(data: &[String]) -> Result<Self, String> {
        let Some((url, options)) = data.split_first() else {
            return Err("data is empty; give the URL, and options like timeLimit=10s behind it".to_owned());
        };
        let mut ask = Self {
            url: url_of(url).map_err(|why| format!("data[0], the URL: {why}"))?,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit: None,
            time: TIME_LIMIT,
            redirects: 0,
            shape: Shape::Both,
            file: None,
            tls: TlsOptions::default(),
        };
        let mut given: Vec<&str> = Vec::new();
        for (index, option) in options.iter().enumerate() {
            let at = |why: String| format!("data[{}]: {why}", index + 1);
            let Some((name, value)) = option.split_once('=') else {
                return Err(at(format!("{option:?} is no option; they are name=value, with {}", OPTIONS.join(", "))));
            };
            if name != "header" && given.contains(&name) {
                return Err(at(format!("{name} is given twice")));
            }
            given.push(name);
            ask.set(name, value).map_err(at)?;
        }
        ask.check()?;
        Ok(ask)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "method" => {
                let known = METHODS.iter().find(|known| known.as_str() == value);
                self.method = known.cloned().ok_or_else(|| {
                    let known: Vec<&str> = METHODS.iter().map(Method::as_str).collect();
                    format!("method={value} is none of {}", known.join(", "))
                })?;
            }
            "header" => self.header(value)?,
            "body" => self.body = Bytes::copy_from_slice(value.as_bytes()),
            "limit" => self.limit = Some(units::size(value)?),
            "timeLimit" => self.time = units::duration(value)?,
            "redirects" => {
                let number = value.parse().ok().filter(|number| *number <= REDIRECTS_MAX);
                self.redirects =
                    number.ok_or_else(|| format!("redirects={value} is no number from 0 to {REDIRECTS_MAX}"))?;
            }
            "as" => {
                self.shape = match value {
                    "both" => Shape::Both,
                    "body" => Shape::Body,
                    "head" => Shape::Head,
                    "json" => Shape::Json,
                    _ => return Err(format!("as={value} is none of both, body, head, json")),
                }
            }
            "file" => self.file = Some(file_name(value)?),
            "ca" => self.tls.ca = Some(file_name(value)?),
            "cert" => self.tls.cert = Some(file_name(value)?),
            "insecure" => {
                self.tls.insecure = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(format!("insecure={value} is neither true nor false")),
                }
            }
            _ => return Err(format!("there is no option {name}; there are {}", OPTIONS.join(", "))),
        }
        Ok(())
    }

    fn header(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once(':').ok_or("a header is `header=Name: value`")?;
        // The value is not repeated: it may be a password.
        let name: HeaderName = name.trim().parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        let value = HeaderValue::from_str(value.trim())
            .map_err(|_| format!("the value of the header {name} has a character that no header can carry"))?;
        if OURS.contains(&name) {
            return Err(format!("the header {name} is set by steward itself"));
        }
        if self.headers.len() >= HEADERS_MAX {
            return Err(format!("more than {HEADERS_MAX} headers"));
        }
        self.headers.append(name, value);
        Ok(())
    }

    /// What only shows once everything is known.
    fn check(&self) -> Result<(), String> {
        if self.time.is_zero() {
            return Err("timeLimit is 0, so that nothing could ever come back".to_owned());
        }
        if self.file.is_some() && self.shape == Shape::Head {
            return Err("as=head reads no body, so there is none for a file".to_owned());
        }
        if self.file.is_some() && self.method == Method::HEAD {
            return Err("method=HEAD brings no body, so there is none for a file".to_owned());
        }
        if self.tls.insecure && self.tls.ca.is_some() {
            return Err("insecure=true believes any certificate, and ca only some; give one of them".to_owned());
        }
        let tls = self.tls.insecure || self.tls.ca.is_some() || self.tls.cert.is_some();
        if tls && self.url.scheme() == "http" && self.redirects == 0 {
            return Err("ca, cert and insecure are for https, and the URL is http".to_owned());
        }
        Ok(())
    }
}

/// A URL that can be asked for, or why it is none.
pub(super) fn url_of(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {URL_BYTES_MAX} are taken", text.len()));
    }
    let url = Url::parse(text).map_err(|error| format!("{text:?} is none: {error}"))?;
    checked(url)
}

/// The same for one that is understood.
pub(super) fn checked(mut url: Url) -> Result<Url, String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{}: is neither http nor https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password, which many can read; use header=Authorization: …".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

/// The name of a file in a folder of the node: no way out of it, nothing hidden, nothing that a terminal would follow.
fn file_name(name: &str) -> Result<String, String> {
    let bad = if name.is_empty() {
        "is empty"
    } else if name.len() > FILE_NAME_BYTES_MAX {
        "is too long"
    } else if name.contains('/') {
        "has a slash: it lies in one folder of the node's directory"
    } else if name.starts_with('.') {
        "begins with a dot"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(name.to_owned());
    };
    Err(format!("the name of a file, {name:?}, {bad}"))
}
