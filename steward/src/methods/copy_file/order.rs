//! What a message asks for: its data, understood. Nothing is looked up or opened here.

use crate::config::units;
use crate::copies;
use crate::copies::attributes::Attributes;
use crate::copies::delta;
use crate::copies::tree::{EntryKind, EntryView};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Bring the content of a file back.
    Get(Get),
    /// Make what goes along with the message a file.
    Put(Put),
    /// Tell what lies in a folder.
    List(List),
    /// Tell of which chunks a file consists.
    Chunks(Chunks),
    /// Make folders and links.
    Make(Make),
}

/// The content of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Get {
    pub(super) path: String,
    /// A longer one is not copied, in bytes.
    pub(super) limit: Option<u64>,
    /// What the sender has of an older version.
    pub(super) have: Option<delta::List>,
    /// Whether the content comes back alone.
    pub(super) is_bare: bool,
}

/// A file that is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(super) path: String,
    /// What it is called where the path is a folder.
    pub(super) name: Option<String>,
    /// Its length, in bytes.
    pub(super) bytes: u64,
    /// Of its content.
    pub(super) hash: blake3::Hash,
    pub(super) attributes: Attributes,
    /// So many bytes a second of it may travel.
    pub(super) rate: Option<u64>,
    /// What goes along is no content, but what that has beside an older version.
    pub(super) delta: Option<Delta>,
}

/// What a file has beside an older version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    /// The hash of the older version.
    pub(super) base: blake3::Hash,
    /// What goes along: its length, in bytes, and its hash.
    pub(super) bytes: u64,
    pub(super) hash: blake3::Hash,
}

/// What lies in this folder and below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    pub(super) path: String,
}

/// The chunks of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(super) path: String,
    /// What it is called where the path is a folder.
    pub(super) name: Option<String>,
}

/// Folders and links that are to be in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Make {
    pub(super) path: String,
    /// What the folder is called in the path, where that is there already.
    pub(super) name: Option<String>,
    pub(super) entries: Vec<EntryView>,
}

/// What may stand in `data[0]`.
const VERBS: &str = "get, put, list, chunks, make";

/// The longest file, in bytes (8 EiB less one): what a file system can tell.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;

impl Order {
    /// Understands the data of a message, or says why it makes no sense.
    pub(super) fn parse(data: &[String]) -> Result<Self, String> {
        let [verb, path, options @ ..] = data else {
            return Err(format!("data has no two items; give what to do ({VERBS}) and the path"));
        };
        copies::check(path).map_err(|why| format!("data[1]: {why}"))?;
        if verb == "make" {
            return Make::read(path, options).map(Self::Make);
        }
        let mut options = Options::read(options)?;
        let path = path.clone();
        let order = match verb.as_str() {
            "get" => {
                let limit = options.take("limit", units::size)?;
                let is_bare = options.take("as", |shape| match shape {
                    "both" => Ok(false),
                    "body" => Ok(true),
                    other => Err(format!("{other:?} is neither both nor body")),
                })?;
                // Whoever serves the output reads it from the message.
                options.take("rate", rate)?;
                let have = options.take("have", delta::List::read)?;
                Self::Get(Get { path, limit, have, is_bare: is_bare.unwrap_or(false) })
            }
            "put" => Self::Put(Put::read(path, &mut options)?),
            "list" => Self::List(List { path }),
            "chunks" => Self::Chunks(Chunks { path, name: options.take("name", name)? }),
            other => return Err(format!("data[0]: {other:?} is none of {VERBS}")),
        };
        options.none_left(verb)?;
        Ok(order)
    }
}

impl Put {
    fn read(path: String, options: &mut Options<'_>) -> Result<Self, String> {
        let missing =
            |name: &str| format!("data: put needs the option {name}; `steward cp` sends it together with the content");
        let (name, rate) = (options.take("name", name)?, options.take("rate", rate)?);
        let (bytes, hash) = (options.take("bytes", length)?, options.take("blake3", hash)?);
        let base = options.take("base", self::hash)?;
        let along = (options.take("deltaBytes", length)?, options.take("deltaBlake3", self::hash)?);
        let delta = match (base, along) {
            (None, (None, None)) => None,
            (Some(base), (Some(bytes), Some(hash))) => Some(Delta { base, bytes, hash }),
            _ => return Err("data: base, deltaBytes and deltaBlake3 go together".to_owned()),
        };
        let (mode, modified) = (options.take("mode", text)?, options.take("modified", text)?);
        let (mode, modified) = (mode.ok_or_else(|| missing("mode"))?, modified.ok_or_else(|| missing("modified"))?);
        let attributes = Attributes::read(&mode, &modified)
            .ok_or("data: mode is no octal number up to 777, or modified no time like 1795363200.000000000")?;
        let (bytes, hash) = (bytes.ok_or_else(|| missing("bytes"))?, hash.ok_or_else(|| missing("blake3"))?);
        Ok(Self { path, name, bytes, hash, attributes, rate, delta })
    }
}

impl Make {
    /// Behind the path stand `name=` and entries, each as [`List`] tells them.
    fn read(path: &str, words: &[String]) -> Result<Self, String> {
        let (given, words, at) = match words.split_first() {
            Some((first, rest)) if first.starts_with("name=") => (first.strip_prefix("name="), rest, 3),
            Some(_) | None => (None, words, 2),
        };
        let name = given.map(name).transpose().map_err(|why| format!("data[2]: name: {why}"))?;
        let mut entries = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            let entry: EntryView =
                serde_json::from_str(word).map_err(|error| format!("data[{}]: {error}", at + index))?;
            let is_whole = match entry.kind {
                EntryKind::Folder => entry.mode.is_some(),
                EntryKind::Link => {
                    entry.to.as_deref().is_some_and(|to| !to.is_empty() && !to.contains('\0')) && !entry.path.is_empty()
                }
                EntryKind::File | EntryKind::Other => false,
            };
            if !is_whole {
                return Err(format!(
                    "data[{}]: it is neither a folder with its mode nor a link with where it leads to",
                    at + index
                ));
            }
            if !entry.path.is_empty() {
                copies::check(&entry.path).map_err(|why| format!("data[{}]: {why}", at + index))?;
                if entry.path.starts_with('/') {
                    return Err(format!("data[{}]: {:?} is not below the folder", at + index, entry.path));
                }
            }
            entries.push(entry);
        }
        Ok(Self { path: path.to_owned(), name, entries })
    }
}

/// What a file or a folder is called.
fn name(name: &str) -> Result<String, String> {
    match copies::check(name) {
        Ok(()) if !name.contains('/') => Ok(name.to_owned()),
        Ok(()) => Err("it has a slash".to_owned()),
        Err(why) => Err(why),
    }
}

/// The length of a file.
fn length(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|bytes| *bytes <= FILE_BYTES_MAX);
    number.ok_or_else(|| format!("{text:?} is no length of a file"))
}

fn hash(text: &str) -> Result<blake3::Hash, String> {
    blake3::Hash::from_hex(text).map_err(|_| "it is no hash of 64 hexadecimal digits".to_owned())
}

/// Bytes a second; 0 makes no sense.
fn rate(text: &str) -> Result<u64, String> {
    units::size(text).and_then(|rate| match rate {
        0 => Err("with 0 bytes a second nothing would come".to_owned()),
        rate => Ok(rate),
    })
}

/// The rate that the data of a message asks for, in bytes a second.
pub(crate) fn rate_of(data: &[String]) -> Option<u64> {
    data.iter().skip(2).find_map(|word| rate(word.strip_prefix("rate=")?).ok())
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Options by their names, with their places.
struct Options<'a>(Vec<(usize, &'a str, &'a str)>);

impl<'a> Options<'a> {
    fn read(words: &'a [String]) -> Result<Self, String> {
        let mut options: Vec<(usize, &str, &str)> = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            let place = index + 2;
            let (name, value) = word.split_once('=').ok_or_else(|| {
                format!(
                    "data[{place}]: {:?} is no option; they are name=value",
                    word.chars().take(80).collect::<String>()
                )
            })?;
            if options.iter().any(|(_, known, _)| *known == name) {
                return Err(format!("data[{place}]: {name} is given twice"));
            }
            options.push((place, name, value));
        }
        Ok(Self(options))
    }

    /// The value of an option, if it is given.
    fn take<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let Some(at) = self.0.iter().position(|(_, known, _)| *known == name) else { return Ok(None) };
        let (place, _, value) = self.0.remove(at);
        read(value).map(Some).map_err(|why| format!("data[{place}]: {name}: {why}"))
    }

    fn none_left(&self, verb: &str) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((place, name, _)) => {
                Err(format!("data[{place}]: {verb} has no option {:?}", name.chars().take(80).collect::<String>()))
            }
        }
    }
}
