//! What lies in a folder and below it, as JSON, one entry a line: for copies of whole folders. Links are told as what they are, and
//! never followed; what is neither file, folder nor link is told as well, and copied by nobody.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attributes::Attributes;

/// Entries of one folder and all below it; of more nothing is copied.
const ENTRIES_MAX: usize = 1_000_000;

/// Something that lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryView {
    /// From the folder on; empty for the folder itself.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// The length of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// The mode of a file or a folder, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    /// When a file was last written, in seconds since 1970 with nine places behind the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) modified: Option<String>,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Why it can't be copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// What can't be copied, see [`EntryView::why`].
    Other,
}

impl EntryView {
    fn blank(path: String, kind: EntryKind) -> Self {
        Self { path, kind, bytes: None, mode: None, modified: None, to: None, why: None }
    }

    fn other(path: String, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..Self::blank(path, EntryKind::Other) }
    }

    /// Whether two entries are the same file, as far as length and time say.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.kind == EntryKind::File
            && (self.kind, self.bytes, &self.modified, &self.mode)
                == (other.kind, other.bytes, &other.modified, &other.mode)
    }
}

/// Tells of everything in a folder, each folder before what is in it. Where `root` is a file, of that alone.
pub(crate) fn walk(root: &Path, tell: &mut dyn FnMut(EntryView) -> io::Result<()>) -> io::Result<()> {
    let mut left = vec![(root.to_owned(), String::new())];
    let mut told = 0;
    while let Some((path, below)) = left.pop() {
        told += 1;
        if told > ENTRIES_MAX {
            return Err(io::Error::other(format!("there are more than {ENTRIES_MAX} entries; copy parts of it")));
        }
        // The folder itself may be named by a link; nothing in it is followed.
        let is = if below.is_empty() { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        let is = match is {
            Ok(is) => is,
            Err(error) if below.is_empty() => return Err(error),
            Err(error) => {
                tell(EntryView::other(below, error.to_string()))?;
                continue;
            }
        };
        let attributes = Attributes::of(&is);
        if is.is_dir() {
            let children = match fs::read_dir(&path) {
                Ok(children) => children,
                Err(error) if below.is_empty() => return Err(error),
                Err(error) => {
                    tell(EntryView::other(below, error.to_string()))?;
                    continue;
                }
            };
            tell(EntryView {
                mode: Some(attributes.mode_text()),
                ..EntryView::blank(below.clone(), EntryKind::Folder)
            })?;
            for child in children {
                let name = child?.file_name();
                let Some(text) = name.to_str() else {
                    tell(EntryView::other(join(&below, &name.to_string_lossy()), "its name is no text (UTF-8)"))?;
                    continue;
                };
                left.push((path.join(text), join(&below, text)));
            }
        } else if is.is_file() {
            let (mode, modified) = (Some(attributes.mode_text()), Some(attributes.modified_text()));
            tell(EntryView { bytes: Some(is.len()), mode, modified, ..EntryView::blank(below, EntryKind::File) })?;
        } else if is.is_symlink() {
            tell(match fs::read_link(&path)?.to_str() {
                Some(to) => EntryView { to: Some(to.to_owned()), ..EntryView::blank(below, EntryKind::Link) },
                None => EntryView::other(below, "it is a link to what is no text (UTF-8)"),
            })?;
        } else {
            tell(EntryView::other(below, "it is a pipe, a socket or a device"))?;
        }
    }
    Ok(())
}

fn join(below: &str, name: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }
}

/// Says what is wrong with a list of entries that somebody else has made: each path stays below the folder, and each lies in a
/// folder of the list, so that no link of it leads out.
pub(crate) fn check(entries: &[EntryView]) -> Result<(), String> {
    let folders: BTreeSet<&str> =
        entries.iter().filter(|entry| entry.kind == EntryKind::Folder).map(|entry| entry.path.as_str()).collect();
    for entry in entries.iter().filter(|entry| entry.kind != EntryKind::Other && !entry.path.is_empty()) {
        super::check(&entry.path)?;
        if entry.path.starts_with('/') {
            return Err(format!("{:?} is no path below the folder", entry.path));
        }
        let parent = entry.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if !folders.contains(parent) {
            return Err(format!("{:?} lies in no folder of the list", entry.path));
        }
    }
    Ok(())
}

/// Makes the folder that others go into, where it is missing.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes folders and links below `root`, where they are missing; those that are there get their mode. A link on the way to one is
/// refused, and so is what is no folder in the place of one.
pub(crate) fn make(root: &Path, entries: &[EntryView]) -> io::Result<()> {
    for entry in entries {
        let path = if entry.path.is_empty() { root.to_owned() } else { root.join(&entry.path) };
        let made = match entry.kind {
            EntryKind::Folder => folder(&path, entry),
            EntryKind::Link => link(&path, entry.to.as_deref().unwrap_or_default()),
            EntryKind::File | EntryKind::Other => Ok(()),
        };
        made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

fn folder(path: &Path, entry: &EntryView) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Only the folder itself may be named by a link.
            let is = if entry.path.is_empty() { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
            if !is.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    "something else stands where a folder should be",
                ));
            }
        }
        Err(error) => return Err(error),
    }
    let mode = entry.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    match mode {
        // Its owner has to be able to put something in it.
        Some(mode) => fs::set_permissions(path, fs::Permissions::from_mode((mode & 0o777) | 0o700)),
        None => Ok(()),
    }
}

fn link(path: &Path, to: &str) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|there| there == Path::new(to)) {
        return Ok(());
    }
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(to, &aside)?;
    fs::rename(&aside, path).inspect_err(|_| drop(fs::remove_file(&aside)))
}

/// What a link is called before it is in its place.
fn aside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(root: &Path) -> Vec<EntryView> {
        let mut entries = Vec::new();
        walk(root, &mut |entry| {
            entries.push(entry);
            Ok(())
        })
        .unwrap();
        entries
    }

    #[test]
    fn a_folder_is_told_and_made_again_without_following_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/file"), "x").unwrap();
        symlink("/etc", from.join("a/link")).unwrap();
        symlink("nowhere", from.join("broken")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, from.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
        let entries = list(&from);
        check(&entries).unwrap();
        assert_eq!(entries.len(), 7);
        assert!(entries.iter().any(|entry| entry.kind == EntryKind::Other && entry.path == "pipe"));
        make(&to, &entries).unwrap();
        make(&to, &entries).unwrap();
        let made = list(&to);
        assert_eq!(made.len(), 5, "{made:?}");
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("/etc"));
        assert!(to.join("a/b").is_dir());
    }

    #[test]
    fn no_list_leads_out_of_its_folder() {
        let entry = |path: &str, kind| EntryView::blank(path.to_owned(), kind);
        let root = entry("", EntryKind::Folder);
        for bad in ["../a", "/etc/passwd", "link/passwd", "no/such"] {
            let list = [root.clone(), entry("link", EntryKind::Link), entry(bad, EntryKind::File)];
            assert!(check(&list).is_err(), "{bad}");
        }
        assert!(check(&[root.clone(), entry("a", EntryKind::File)]).is_ok());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        symlink("../outside", dir.path().join("root/a")).unwrap();
        let below = [root, entry("a", EntryKind::Folder), entry("a/b", EntryKind::Folder)];
        assert!(make(&dir.path().join("root"), &below).is_err());
        assert!(!dir.path().join("outside/b").exists());
    }
}
