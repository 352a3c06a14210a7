//! Where values come from, and which source wins: flag, environment, file, default. What a value means is not decided
//! here; every error says which source the bad value stands in.

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
        Ok(Self { flags, environment, file })
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
        let Some((place, values)) = self.find(opt) else { return Ok(None) };
        let Some(text) = values.last() else { return Ok(None) };
        parse(text).map(Some).map_err(|why| bad(&place, text, &why))
    }

    /// The values of an option that takes many.
    pub(crate) fn many<T>(&self, opt: &Opt, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, ConfigError> {
        let (place, values) = self.find(opt).unwrap_or_else(|| (opt.name.to_owned(), split(opt.default)));
        values.iter().map(|text| parse(text).map_err(|why| bad(&place, text, &why))).collect()
    }

    /// What is said by the first source that says anything, and how to point at it.
    fn find(&self, opt: &Opt) -> Option<(String, Vec<String>)> {
        let listed = |text: &String| if opt.takes == Takes::Many { split(text) } else { vec![text.clone()] };
        if let Some(values) = self.flags.get(opt.name) {
            return Some((format!("--{}", opt.flag()), values.iter().flat_map(listed).collect()));
        }
        let variable = opt.variable();
        if let Some(value) = self.environment.get(&variable) {
            let values = listed(value);
            return Some((variable, values));
        }
        let file = self.file.as_ref()?;
        let setting = file.get(opt)?;
        Some((file.place(setting, opt), setting.values.clone()))
    }

    /// Variables that look like a misspelt option: not an error, because some container runtimes set variables that
    /// begin with the name of a service, but worth a word.
    pub(crate) fn suspects(&self) -> Vec<String> {
        let known: Vec<String> = options::ALL.iter().map(|opt| opt.variable()).collect();
        let unknown = self.environment.keys().filter(|name| !known.contains(name) && *name != "STEWARD_CONFIG");
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
    ConfigError(format!("{place} is {text:?}: {why}"))
}

/// Values with commas between.
pub(super) fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
