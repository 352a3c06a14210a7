//! Where values come from, and which source wins: flag, environment, file, the directory's own file, default. What a value
//! means is not decided here; every error says which source the bad value stands in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file::{self, File};
use super::options::{self, DIR, Opt, Takes};

/// Why a configuration can't be used, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(why: String) -> Self {
        Self(why)
    }
}

/// Everything that may hold a value, before the defaults.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Values of flags by the options' names.
    pub(crate) flags: BTreeMap<&'static str, Vec<String>>,
    /// The environment's `STEWARD_…` variables.
    pub(crate) environment: BTreeMap<String, String>,
    /// The configuration file.
    pub(crate) file: Option<File>,
    /// The one that lies in the node's directory.
    pub(crate) own: Option<File>,
}

/// The configuration file that a node reads by itself, because it lies in its directory.
pub(crate) const OWN_FILE: &str = "steward.toml";

/// What the first source that says anything about an option says.
struct Found<'s> {
    /// How to point at it.
    place: String,
    /// The values.
    values: Vec<String>,
    /// The file that it stands in.
    file: Option<&'s File>,
}

impl Sources {
    /// Flags as given, this process's environment, and the file that one of the two names.
    pub(crate) fn gather(
        flags: BTreeMap<&'static str, Vec<String>>,
        config: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let mut environment = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let (Some(name), value) = (name.to_str(), value.to_string_lossy()) else { continue };
            // A variable that is there but empty is how many tools say "not given".
            if name.starts_with("STEWARD_") && !value.is_empty() {
                environment.insert(name.to_owned(), value.into_owned());
            }
        }
        let path = config.map(str::to_owned).or_else(|| environment.get("STEWARD_CONFIG").cloned());
        let file = path.map(|path| File::read(path.as_ref())).transpose()?;
        Ok(Self { flags, environment, file, own: None })
    }

    /// The same with the file in the node's directory, if there is one.
    pub(crate) fn with_own_file(mut self) -> Result<Self, ConfigError> {
        let path = self.dir()?.join(OWN_FILE);
        if path.exists() {
            let own = File::read(&path)?;
            if own.get(&DIR).is_some() {
                let path = path.display();
                return Err(ConfigError(format!("{path} lies in the node's directory, so it can't say which that is")));
            }
            self.own = Some(own);
        }
        Ok(self)
    }

    /// The node's directory, which every verb needs.
    pub(crate) fn dir(&self) -> Result<PathBuf, ConfigError> {
        self.one(&DIR, |text| if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) })
    }

    /// The value of an option, which has a default.
    pub(crate) fn one<T>(&self, opt: &Opt, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        match self.given(opt, &parse)? {
            Some(value) => Ok(value),
            None => parse(opt.default).map_err(|why| ConfigError(format!("the default of {}: {why}", opt.name))),
        }
    }

    /// The value of an option, if any source has one.
    pub(crate) fn given<T>(
        &self,
        opt: &Opt,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(Found { place, values, file: _ }) = self.find(opt) else { return Ok(None) };
        let Some(text) = values.last() else { return Ok(None) };
        parse(text).map(Some).map_err(|why| bad(&place, text, &why))
    }

    /// A file that an option names, if any source does. In a configuration file, a relative path begins where that lies.
    pub(crate) fn path(&self, opt: &Opt) -> Result<Option<PathBuf>, ConfigError> {
        let Some(Found { place, values, file }) = self.find(opt) else { return Ok(None) };
        let Some(text) = values.last().filter(|text| !text.is_empty()) else { return Ok(None) };
        let path = match file.and_then(|file| file.path().parent()) {
            Some(folder) => folder.join(text),
            None => PathBuf::from(text),
        };
        // A node goes into its directory, so what is relative now would be something else then.
        std::path::absolute(path).map(Some).map_err(|error| bad(&place, text, &error.to_string()))
    }

    /// The values of an option that takes many.
    pub(crate) fn many<T>(&self, opt: &Opt, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, ConfigError> {
        let (place, values) = match self.find(opt) {
            Some(found) => (found.place, found.values),
            None => (opt.name.to_owned(), split(opt.default)),
        };
        values.iter().map(|text| parse(text).map_err(|why| bad(&place, text, &why))).collect()
    }

    /// Whether any source says something about an option.
    pub(crate) fn says(&self, opt: &Opt) -> bool {
        self.find(opt).is_some()
    }

    /// What is said by the first source that says anything, and how to point at it.
    fn find(&self, opt: &Opt) -> Option<Found<'_>> {
        let listed = |text: &String| if opt.takes == Takes::Many { split(text) } else { vec![text.clone()] };
        if let Some(values) = self.flags.get(opt.name) {
            let values = values.iter().flat_map(listed).collect();
            return Some(Found { place: format!("--{}", opt.flag()), values, file: None });
        }
        let variable = opt.variable();
        if let Some(value) = self.environment.get(&variable) {
            return Some(Found { values: listed(value), place: variable, file: None });
        }
        let said = |file: &'_ File| file.get(opt).map(|setting| (file.place(setting, opt), setting.values.clone()));
        [&self.file, &self.own].into_iter().flatten().find_map(|file| {
            let (place, values) = said(file)?;
            Some(Found { place, values, file: Some(file) })
        })
    }

    /// Variables that look like a misspelt option: not an error, because some container runtimes set variables that
    /// begin with the name of a service, but worth a word.
    pub(crate) fn suspects(&self) -> Vec<String> {
        let known: Vec<String> = options::all().map(|opt| opt.variable()).collect();
        let is_known = |name: &str| {
            known.iter().any(|known| known == name)
                || name == "STEWARD_CONFIG"
                || options::SECRET_VARIABLES.contains(&name)
        };
        let unknown = self.environment.keys().filter(|name| !is_known(name));
        unknown
            .filter_map(|name| {
                let near =
                    file::nearest(&name["STEWARD_".len()..], known.iter().map(|name| &name["STEWARD_".len()..]))?;
                Some(format!("{name} is set, but means nothing; did you mean STEWARD_{near}?"))
            })
            .collect()
    }
}

fn bad(place: &str, text: &str, why: &str) -> ConfigError {
    ConfigError(format!("{place} is {:?}: {why}", without_login(text)))
}

/// A value as it may be shown: of `nats://user:password@host`, what is before the `@` is nobody's business.
fn without_login(text: &str) -> String {
    match text.rsplit_once('@') {
        None => text.to_owned(),
        Some((login, rest)) => {
            let scheme = login.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}...@{rest}")
        }
    }
}

/// Values with commas between.
pub(super) fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
