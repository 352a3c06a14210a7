//! The configuration file: TOML, with the options' names as keys. It only reads: which source wins is decided elsewhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::options::{self, Opt};
use super::sources::ConfigError;

/// The largest file that is read, in bytes; what is larger is no configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a configuration file says.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    values: BTreeMap<&'static str, Setting>,
}

/// What it says about one option.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The values as text; more than one only for an option that takes many.
    pub(crate) values: Vec<String>,
    /// The line in which they begin, from 1.
    pub(crate) line: usize,
}

impl File {
    /// Reads a file; every key in it must be an option's name.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |error: std::io::Error| {
            ConfigError::new(format!("the configuration file {} can't be read: {error}", path.display()))
        };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(ConfigError::new(format!(
                "{} has {bytes} bytes; a configuration file has at most {FILE_BYTES_MAX}",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let at = |line: usize, why: String| ConfigError::new(format!("{}:{line}: {why}", path.display()));
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, &span));
            at(line, error.message().to_owned())
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table.get_ref() {
            let line = line_of(text, &key.span());
            let name = key.get_ref().as_ref();
            let opt = find(name).ok_or_else(|| at(line, unknown(name)))?;
            let found = texts(opt, value.get_ref()).map_err(|why| at(line, format!("{name}: {why}")))?;
            if values.insert(opt.name, Setting { values: found, line }).is_some() {
                return Err(at(line, format!("{name} stands there twice, in two spellings")));
            }
        }
        Ok(Self { path: path.to_owned(), values })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about an option, if anything.
    pub(crate) fn get(&self, opt: &Opt) -> Option<&Setting> {
        self.values.get(opt.name)
    }

    /// How to point at a line of it.
    pub(crate) fn place(&self, setting: &Setting, opt: &Opt) -> String {
        format!("{}:{}: {}", self.path.display(), setting.line, opt.name)
    }
}

/// An option by its name in camel or kebab case.
fn find(name: &str) -> Option<&'static Opt> {
    options::all().find(|opt| opt.name == name || opt.flag() == name)
}

fn unknown(name: &str) -> String {
    let near = nearest(name, options::all().map(|opt| opt.name));
    match near {
        Some(near) => format!("there is no option {name:?}; did you mean {near:?}?"),
        None => format!("there is no option {name:?}; `steward --help` lists them all"),
    }
}

/// The name that is most like `name`, if one is.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let name = plain(name);
    names
        .map(|other| (strsim::jaro_winkler(&name, &plain(other)), other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other)
}

fn texts(opt: &Opt, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    if let DeValue::Array(values) = value {
        if opt.takes != options::Takes::Many {
            return Err("takes one value, not a list".to_owned());
        }
        return values.iter().map(|value| scalar(value.get_ref())).collect();
    }
    let text = scalar(value)?;
    Ok(match opt.takes {
        options::Takes::Many => super::sources::split(&text),
        options::Takes::One | options::Takes::Flag => vec![text],
    })
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Datetime(_) => Err("takes no date".to_owned()),
        DeValue::Array(_) => Err("takes no list within a list".to_owned()),
        DeValue::Table(_) => Err("takes no table".to_owned()),
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.get(..span.start).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}
