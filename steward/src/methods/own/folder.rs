//! Which files of `methods.d/` are methods, and why the others are none. Nothing is run by looking at it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use protocol::name::MethodName;
use rustix::fs::{Access, StatVfsMountFlags};

use super::description::{Description, FILE_BYTES_MAX};
use super::{FOLDER, Good, Own, TABLE};
use crate::own_file;
use crate::replies;

/// Methods of a node's own; files beyond are not used.
const METHODS_MAX: usize = 64;

/// Files of the folder that are looked at; what is beyond is not used, and that is told.
const FILES_MAX: usize = 1024;

/// What the name of a description ends with.
const DESCRIPTION: &str = ".toml";

/// What stands for the folder itself, where that can't be used.
const WHOLE: &str = "methods.d/";

/// How the folder and its files are, as far as that can be seen from outside; while it is the same, so are the methods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Signature(Vec<(OsString, [u64; 6])>);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Methods by their names.
    pub(super) good: Good,
    /// Files that can't be used, with the reason.
    pub(super) bad: BTreeMap<String, String>,
}

/// How the folder is now. Blocks.
pub(super) fn signature(dir: &Path) -> Signature {
    let of = |meta: &Metadata| {
        let (seconds, nanos) = (meta.ctime().cast_unsigned(), meta.ctime_nsec().cast_unsigned());
        [meta.ino(), meta.size(), u64::from(meta.mode()), u64::from(meta.uid()), seconds, nanos]
    };
    let Ok(folder) = fs::symlink_metadata(dir) else { return Signature::default() };
    let mut all = vec![(OsString::new(), of(&folder))];
    for name in names(dir).unwrap_or_default().0 {
        // What is gone meanwhile has changed the folder.
        all.extend(fs::symlink_metadata(dir.join(&name)).ok().map(|meta| (name, of(&meta))));
    }
    Signature(all)
}

/// The names in the folder that could be meant, in their order, and whether there are more files than are looked at.
fn names(dir: &Path) -> io::Result<(Vec<OsString>, bool)> {
    let is_meant = |name: &OsString| {
        let name = name.as_encoded_bytes();
        !name.starts_with(b".") && !name.ends_with(b"~")
    };
    let mut entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
    let mut names: Vec<OsString> = entries.by_ref().take(FILES_MAX).collect::<io::Result<_>>()?;
    names.retain(is_meant);
    names.sort();
    Ok((names, entries.next().is_some()))
}

/// What there is. Blocks.
pub(super) fn look(dir: &Path) -> Looked {
    let mut looked = Looked::default();
    let (names, is_cut) = match check_folder(dir).and_then(|()| names(dir).map_err(|error| unreadable(&error))) {
        Ok(names) => names,
        Err(_) if matches!(fs::symlink_metadata(dir), Err(error) if error.kind() == ErrorKind::NotFound) => {
            return looked;
        }
        Err(why) => {
            looked.bad.insert(WHOLE.to_owned(), why);
            return looked;
        }
    };
    if is_cut {
        let why = format!(
            "it has more than {FILES_MAX} files, and the others are not looked at; move away what is no method"
        );
        looked.bad.insert(WHOLE.to_owned(), why);
    }
    for name in &names {
        let shown = name.to_string_lossy().into_owned();
        if let Some(described) = shown.strip_suffix(DESCRIPTION) {
            if !names.iter().any(|name| *name == *described) {
                looked.bad.insert(shown.clone(), format!("it describes {described}, and there is no such file"));
            }
            continue;
        }
        match in_folder(dir, &shown) {
            Ok(_) if looked.good.len() == METHODS_MAX => {
                looked
                    .bad
                    .insert(shown, format!("there are {METHODS_MAX} methods before it, which is all there may be"));
            }
            Ok(own) => drop(looked.good.insert(shown, own)),
            Err(why) => drop(looked.bad.insert(shown, why)),
        }
    }
    looked
}

/// The method that this file is. The error says why it is none. Blocks.
pub(super) fn usable(dir: &Path, name: &str) -> Result<Own, String> {
    check_folder(dir)?;
    in_folder(dir, name)
}

/// The same in a folder that can be used.
fn in_folder(dir: &Path, name: &str) -> Result<Own, String> {
    check_name(name)?;
    let path = dir.join(name);
    own_file::check(&path).map_err(|error| unreadable(&error))?;
    let meta = fs::symlink_metadata(&path).map_err(|error| unreadable(&error))?;
    check_owner(&meta, &format!("{FOLDER}/{name}"))?;
    if rustix::fs::access(&path, Access::EXEC_OK).is_err() {
        return Err(format!("it is not executable for the node's user; run: chmod +x {FOLDER}/{name}"));
    }
    let Description { description, event, rerun, timeout } = described(dir, name)?;
    Ok(Own { path, description, event, rerun, timeout })
}

fn check_name(name: &str) -> Result<(), String> {
    MethodName::new(name).map_err(|error| format!("it can't be called so: {error}"))?;
    if let Some(entry) = TABLE.iter().find(|entry| entry.name().eq_ignore_ascii_case(name)) {
        return Err(format!("{} is a method of steward's own; call it otherwise", entry.name()));
    }
    if replies::spec::WORDS.iter().any(|word| word.eq_ignore_ascii_case(name)) {
        return Err(format!("\"replyMethod\" has another meaning for {name}; call it otherwise"));
    }
    Ok(())
}

fn check_folder(dir: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(dir).map_err(|error| unreadable(&error))?;
    if !meta.is_dir() {
        return Err(format!("it is {}", if meta.is_symlink() { "a link" } else { "no folder" }));
    }
    check_owner(&meta, FOLDER)?;
    let mounted = rustix::fs::statvfs(dir).map_err(|error| unreadable(&error.into()))?;
    if mounted.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err("its file system is mounted noexec, so nothing in it can be run".to_owned());
    }
    Ok(())
}

/// Nobody but the node's user and root may have a say in what runs.
fn check_owner(meta: &Metadata, shown: &str) -> Result<(), String> {
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us && meta.uid() != 0 {
        return Err(format!("it belongs to user {}; run: chown {us} {shown}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("others than its owner can write it; run: chmod go-w {shown}"));
    }
    Ok(())
}

fn described(dir: &Path, name: &str) -> Result<Description, String> {
    let file = format!("{name}{DESCRIPTION}");
    let read = || {
        let open = own_file::read(&dir.join(&file))?;
        let meta = open.metadata()?;
        let mut text = Vec::new();
        open.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok::<_, io::Error>((meta, text))
    };
    let (meta, text) = match read() {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Description::default()),
        Err(error) => return Err(format!("{file}: {}", unreadable(&error))),
    };
    check_owner(&meta, &format!("{FOLDER}/{file}")).map_err(|why| format!("{file}: {why}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{file} has more than {FILE_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(text).map_err(|_| format!("{file} is no UTF-8 text"))?;
    Description::parse(&text).map_err(|why| format!("{file}: {why}"))
}

fn unreadable(error: &io::Error) -> String {
    if own_file::is_foreign(error) { error.to_string() } else { format!("it can't be read: {error}") }
}

impl Looked {
    /// Whether something is there that can't be used.
    pub(super) fn has_bad(&self) -> bool {
        !self.bad.is_empty()
    }

    /// Says in the log what is other than before.
    pub(super) fn tell(&self, before: &Self) {
        for (name, why) in self.bad.iter().filter(|(name, why)| before.bad.get(*name) != Some(*why)) {
            let file = if name == WHOLE { WHOLE.to_owned() } else { format!("{FOLDER}/{name}") };
            tracing::error!(file, error = why, "what lies there is no method of this node");
        }
        if self.good != before.good {
            let methods: Vec<&str> = self.good.keys().map(String::as_str).collect();
            tracing::info!(methods = methods.join(", "), "methods of the node's own");
        }
    }
}
