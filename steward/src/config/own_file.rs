//! Writes `steward.toml` into a node's directory, for the verbs that make a node: `steward run` there needs no flag then.
//! A file that is there is never touched: somebody may have written it.

use std::path::{Path, PathBuf};

use super::options::{Opt, Takes};
use super::sources::OWN_FILE;
use crate::security::secret_file::{self, SecretFileError};

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnFileError {
    /// There is one already.
    #[error("{} is there already, and is not overwritten; remove it, or use another --dir", .0.display())]
    Exists(PathBuf),
    /// It can't be written.
    #[error("{0}")]
    File(#[from] SecretFileError),
}

/// An error if there is such a file in `dir`.
pub(crate) fn check(dir: &Path) -> Result<(), OwnFileError> {
    let path = dir.join(OWN_FILE);
    match path.symlink_metadata() {
        Ok(_) => Err(OwnFileError::Exists(path)),
        Err(_) => Ok(()),
    }
}

/// Writes it: these options, in this order, below a line that says who made it.
pub(crate) fn write(dir: &Path, made_by: &str, options: &[(&Opt, Vec<String>)]) -> Result<(), OwnFileError> {
    check(dir)?;
    let mut text = format!("# Made by `{made_by}`. `steward run` in this directory reads it; flags go before it.\n");
    for (opt, values) in options {
        let quoted = |value: &String| toml::Value::String(value.clone()).to_string();
        let value = match opt.takes {
            Takes::Many => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
            Takes::Flag => values.last().cloned().unwrap_or_default(),
            Takes::One => values.last().map(quoted).unwrap_or_default(),
        };
        text.push_str(&format!("{} = {value}\n", opt.name));
    }
    Ok(secret_file::write(&dir.join(OWN_FILE), text.trim_end())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options as o;
    use crate::config::sources::Sources;

    #[test]
    fn what_is_written_is_what_a_node_reads_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let options = [
            (&o::NODE, vec!["central".to_owned()]),
            (&o::CENTRAL_ERROR_LOGGER, vec!["true".to_owned()]),
            (&o::BROKER_ADDRESS, vec!["tls://a:1".to_owned(), "tls://b:2".to_owned()]),
            (&o::BROKER_TLS_CA, vec!["a \"quoted\"/ca.pem".to_owned()]),
        ];
        write(dir.path(), "steward init", &options).unwrap();
        let flags = [(o::DIR.name, vec![dir.path().to_str().unwrap().to_owned()])].into();
        let sources = Sources { flags, ..Sources::default() }.with_own_file().unwrap();
        let config = crate::config::Config::read(&sources).unwrap();
        assert_eq!(config.node.name.as_str(), "central");
        assert!(config.node.is_error_logger);
        assert_eq!(config.broker.addresses.len(), 2);
        assert_eq!(config.broker.tls.ca, Some(dir.path().join("a \"quoted\"/ca.pem")));
        assert!(matches!(write(dir.path(), "steward init", &[]), Err(OwnFileError::Exists(_))));
    }
}
