//! Contexts of the `nats` tool (ADR-21 of NATS): where a broker is and how to log in there, in one JSON file a context,
//! `~/.config/nats/context/NAME.json`. The one that `nats context select` chose stands in `~/.config/nats/context.txt`.
//!
//! They are only read. What steward can't do with one (a password manager, a proxy) is refused rather than left out.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::broker::{Login, Secret};
use super::sources::ConfigError;

/// The name that stands for the context that the `nats` tool has selected.
const SELECTED: &str = "selected";

/// The largest file of a context, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A context; what it does not say is empty.
#[derive(Default)]
pub(super) struct Context {
    /// The file that it was read from.
    pub(super) path: PathBuf,
    /// Servers, with commas between.
    pub(super) url: Option<String>,
    /// See [`Tls`](super::broker::Tls).
    pub(super) ca: Option<PathBuf>,
    /// See `ca`.
    pub(super) cert: Option<PathBuf>,
    /// See `ca`.
    pub(super) key: Option<PathBuf>,
    /// See `ca`.
    pub(super) tls_first: bool,
    user: String,
    password: String,
    token: String,
    creds: Option<PathBuf>,
    nkey: Option<PathBuf>,
    user_jwt: String,
    user_seed: String,
}

/// The file. Everything may be missing or empty, and what is unknown is of no use to us.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    url: String,
    token: String,
    user: String,
    password: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    nsc: String,
    user_jwt: String,
    user_seed: String,
    socks_proxy: String,
    tls_first: bool,
}

impl Context {
    /// The context of this name, in the folder of whoever runs us.
    pub(super) fn read(name: &str) -> Result<Self, ConfigError> {
        let home = std::env::home_dir();
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
        let folder = config.or_else(|| home.as_ref().map(|home| home.join(".config"))).ok_or_else(|| {
            ConfigError::new("brokerContext: there is neither $HOME nor $XDG_CONFIG_HOME to look in".to_owned())
        })?;
        Self::read_in(&folder.join("nats"), home.as_deref(), name)
            .map_err(|why| ConfigError::new(format!("brokerContext {name:?}: {why}")))
    }

    /// The same in this folder; `home` is what `~` stands for in paths.
    fn read_in(folder: &Path, home: Option<&Path>, name: &str) -> Result<Self, String> {
        let name = match name {
            SELECTED => selected(folder)?,
            name => name.to_owned(),
        };
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
            return Err(format!("{name:?} is no name of a context"));
        }
        let path = folder.join("context").join(format!("{name}.json"));
        let text = read_text(&path).map_err(|why| format!("{why}; `nats context ls` lists those that there are"))?;
        let file: File = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::of(path, home, file)
    }

    fn of(path: PathBuf, home: Option<&Path>, file: File) -> Result<Self, String> {
        for (value, what) in [(&file.nsc, "nsc"), (&file.socks_proxy, "socks_proxy")] {
            if !value.is_empty() {
                return Err(format!("{} uses {what}, which steward can't do", path.display()));
            }
        }
        let file_of = |value: &str, what: &str| match value {
            "" => Ok(None),
            value if value.contains("://") => {
                let path = path.display();
                Err(format!(
                    "{what} in {path} is in a password manager, which steward can't ask; export it into a file"
                ))
            }
            value => Ok(Some(match (value.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                (Some(_), None) | (None, _) => PathBuf::from(value),
            })),
        };
        if file.password.starts_with("op://") {
            return Err(format!(
                "the password in {} is in a password manager, which steward can't ask",
                path.display()
            ));
        }
        Ok(Self {
            url: Some(file.url).filter(|url| !url.is_empty()),
            ca: file_of(&file.ca, "ca")?,
            cert: file_of(&file.cert, "cert")?,
            key: file_of(&file.key, "key")?,
            creds: file_of(&file.creds, "creds")?,
            nkey: file_of(&file.nkey, "nkey")?,
            tls_first: file.tls_first,
            user: file.user,
            password: file.password,
            token: file.token,
            user_jwt: file.user_jwt,
            user_seed: file.user_seed,
            path,
        })
    }

    /// Its login. Of several, the first in the order in which the `nats` tool looks.
    pub(super) fn login(&self) -> Result<Login, ConfigError> {
        let text = |text: &str| Secret::Text(text.into());
        if !self.user.is_empty() {
            return Ok(Login::Password { user: self.user.clone(), password: text(&self.password) });
        }
        if let Some(creds) = &self.creds {
            return Ok(Login::Jwt { jwt: Secret::File(creds.clone()), seed: None });
        }
        if let Some(nkey) = &self.nkey {
            return Ok(Login::Nkey(Secret::File(nkey.clone())));
        }
        if !self.token.is_empty() {
            return Ok(Login::Token(text(&self.token)));
        }
        match (self.user_jwt.as_str(), self.user_seed.as_str()) {
            ("", _) => Ok(Login::Address),
            (_, "") => Err(ConfigError::new(format!("{} has a user_jwt, but no user_seed", self.path.display()))),
            (jwt, seed) => Ok(Login::Jwt { jwt: text(jwt), seed: Some(text(seed)) }),
        }
    }
}

fn selected(folder: &Path) -> Result<String, String> {
    let text = read_text(&folder.join("context.txt"))
        .map_err(|why| format!("{why}; `nats context select NAME` selects one, or give its name here"))?;
    Ok(text.trim().to_owned())
}

fn read_text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{} can't be read: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{} has {bytes} bytes; a context has at most {FILE_BYTES_MAX}", path.display()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(contexts: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        for (name, text) in contexts {
            std::fs::write(dir.path().join("context").join(format!("{name}.json")), text).unwrap();
        }
        dir
    }

    fn error(dir: &tempfile::TempDir, name: &str) -> String {
        Context::read_in(dir.path(), None, name).err().unwrap()
    }

    #[test]
    fn a_context_says_where_and_how() {
        let home = Path::new("/home/me");
        let dir = folder(&[(
            "fleet",
            r#"{"description": "x", "url": "tls://a:4222,tls://b:4222", "creds": "~/a.creds", "ca": "/ca.pem",
                "cert": "", "key": "", "tls_first": true, "color_scheme": "", "inbox_prefix": ""}"#,
        )]);
        std::fs::write(dir.path().join("context.txt"), "fleet\n").unwrap();
        for name in ["fleet", "selected"] {
            let context = Context::read_in(dir.path(), Some(home), name).unwrap();
            assert_eq!(context.url.as_deref(), Some("tls://a:4222,tls://b:4222"));
            assert_eq!((context.ca.as_deref(), context.tls_first), (Some(Path::new("/ca.pem")), true));
            let jwt = Secret::File("/home/me/a.creds".into());
            assert_eq!(context.login().unwrap(), Login::Jwt { jwt, seed: None });
        }
    }

    #[test]
    fn each_login_is_understood() {
        let text = |text: &str| Secret::Text(text.into());
        let cases = [
            (r#"{"user": "me", "password": "p"}"#, Login::Password { user: "me".to_owned(), password: text("p") }),
            (r#"{"token": "t"}"#, Login::Token(text("t"))),
            (r#"{"nkey": "/n.nk"}"#, Login::Nkey(Secret::File("/n.nk".into()))),
            (r#"{"user_jwt": "j", "user_seed": "s"}"#, Login::Jwt { jwt: text("j"), seed: Some(text("s")) }),
            (r#"{"url": "nats://a"}"#, Login::Address),
        ];
        for (file, login) in cases {
            let dir = folder(&[("x", file)]);
            assert_eq!(Context::read_in(dir.path(), None, "x").unwrap().login().unwrap(), login);
        }
    }

    #[test]
    fn what_can_not_be_followed_is_refused_aloud() {
        let dir = folder(&[
            ("nsc", r#"{"nsc": "nsc://operator/account/user"}"#),
            ("manager", r#"{"creds": "op://vault/creds"}"#),
            ("broken", "{"),
        ]);
        assert!(error(&dir, "nsc").contains("uses nsc"));
        assert!(error(&dir, "manager").contains("password manager"));
        assert!(error(&dir, "broken").contains("broken.json"));
        assert!(error(&dir, "missing").contains("nats context ls"));
        assert!(error(&dir, "selected").contains("nats context select"));
        for name in ["../x", ".x", "a/b", ""] {
            assert!(error(&dir, name).contains("no name of a context"));
        }
    }
}
