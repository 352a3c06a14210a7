//! What a message asks for: its data, understood. Nothing is looked up or opened here.

use crate::config::units;
use crate::copies;
use crate::copies::attributes::Attributes;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Bring the content of a file back.
    Get(Get),
    /// Make what goes along with the message a file.
    Put(Put),
}

/// The content of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Get {
    pub(super) path: String,
    /// A longer one is not copied, in bytes.
    pub(super) limit: Option<u64>,
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
}

/// What may stand in `data[0]`.
const VERBS: &str = "get, put";

/// The longest file, in bytes (8 EiB less one): what a file system can tell.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;

impl Order {
    /// Understands the data of a message, or says why it makes no sense.
    pub(super) fn parse(data: &[String]) -> Result<Self, String> {
        let [verb, path, options @ ..] = data else {
            return Err(format!("data has no two items; give what to do ({VERBS}) and the path"));
        };
        copies::check(path).map_err(|why| format!("data[1]: {why}"))?;
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
                Self::Get(Get { path, limit, is_bare: is_bare.unwrap_or(false) })
            }
            "put" => Self::Put(Put::read(path, &mut options)?),
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
        let name = options.take("name", |name| match copies::check(name) {
            Ok(()) if !name.contains('/') => Ok(name.to_owned()),
            Ok(()) => Err("it has a slash".to_owned()),
            Err(why) => Err(why),
        })?;
        let bytes = options.take("bytes", |text| {
            let number = text.parse().ok().filter(|bytes| *bytes <= FILE_BYTES_MAX);
            number.ok_or_else(|| format!("{text:?} is no length of a file"))
        })?;
        let hash = options.take("blake3", |text| {
            blake3::Hash::from_hex(text).map_err(|_| "it is no hash of 64 hexadecimal digits".to_owned())
        })?;
        let (mode, modified) = (options.take("mode", text)?, options.take("modified", text)?);
        let (mode, modified) = (mode.ok_or_else(|| missing("mode"))?, modified.ok_or_else(|| missing("modified"))?);
        let attributes = Attributes::read(&mode, &modified)
            .ok_or("data: mode is no octal number up to 777, or modified no time like 1795363200.000000000")?;
        let (bytes, hash) = (bytes.ok_or_else(|| missing("bytes"))?, hash.ok_or_else(|| missing("blake3"))?);
        Ok(Self { path, name, bytes, hash, attributes })
    }
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
