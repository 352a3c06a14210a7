//! `rejected/`: what came in and can't be read as a message, beside the reason. For people; nothing here reads it again.
//!
//! `<time>-<tag>-<n>.json` holds the bytes as they came, `<time>-<tag>-<n>.reason` says line, column and reason. The names
//! follow from the file that was read and the place in it: reading it again after a crash writes the same files again.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::time::Wall;

use super::ids::FileId;
use super::split::Place;
use crate::clock;
use crate::own_file::{self, Folder};

/// Parts of one file that get a file each; what is beyond is appended to the last.
const PARTS_MAX: u64 = 1000;

/// Files in the folder; the oldest go when there are more.
const FILES_MAX: usize = 4000;

/// Bytes of all files in the folder; the oldest go when there are more.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Characters of the text that are repeated in the reason.
const EXCERPT_CHARS_MAX: usize = 400;

/// One thing that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The how-manieth of its file, from 1.
    pub(crate) number: u64,
    /// Where it begins.
    pub(crate) at: Place,
    /// Where it is seen that something is wrong.
    pub(crate) seen: Place,
    /// What is wrong.
    pub(crate) reason: String,
    /// Its bytes.
    pub(crate) text: Vec<u8>,
}

/// Writes parts durably, and returns the path of the first. Blocks.
pub(crate) fn write(node_dir: &Path, file: FileId, parts: &[Part]) -> io::Result<Option<PathBuf>> {
    let Some(first) = parts.first() else {
        return Ok(None);
    };
    let dir = node_dir.join("rejected");
    // For us only: what stands in a message is nobody else's business.
    if own_file::make_folder(&dir)? {
        File::open(node_dir)?.sync_all()?;
    }
    let folder = Folder::open(&dir)?;
    for part in parts {
        let name = name(file, part.number);
        // The files of a run before this one are written anew, those of this run are added to.
        let append = part.number > PARTS_MAX;
        put(&folder, &format!("{name}.json"), append, &[&part.text, b"\n"])?;
        put(&folder, &format!("{name}.reason"), append, &[describe(part).as_bytes()])?;
    }
    folder.sync()?;
    prune(&folder, &dir)?;
    Ok(Some(dir.join(format!("{}.reason", name(file, first.number)))))
}

fn name(file: FileId, number: u64) -> String {
    let time = clock::rfc3339(Wall(file.millis())).replace([':', '.'], "-");
    format!("{time}-{:06x}-{}", file.tag(), number.min(PARTS_MAX))
}

fn put(folder: &Folder, name: &str, append: bool, contents: &[&[u8]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.mode(0o600).create(true).write(true).truncate(!append).append(append);
    let mut file = folder.file(OsStr::new(name), &mut options)?;
    for content in contents {
        file.write_all(content)?;
    }
    file.sync_data()
}

fn describe(part: &Part) -> String {
    let text = String::from_utf8_lossy(&part.text);
    let excerpt: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    let more = if excerpt.len() < text.len() { " …" } else { "" };
    format!(
        "inmsg.txt line {}, column {}: {}\nIt begins in line {}, column {}, and has {} bytes. Correct it, and append it to inmsg.txt again:\n{}{more}\n\n",
        part.seen.line,
        part.seen.column,
        part.reason,
        part.at.line,
        part.at.column,
        part.text.len(),
        excerpt.trim_end(),
    )
}

/// Keeps the folder small. The names sort by time.
fn prune(folder: &Folder, shown: &Path) -> io::Result<()> {
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    // A folder that somebody has made in here can't be removed so, and is not ours.
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    for entry in fs::read_dir(folder.path())?.flatten().filter(|entry| !is_folder(entry)) {
        // One that somebody has removed in between takes no room.
        let bytes = entry.metadata().map_or(0, |meta| meta.len());
        files.push((entry.path(), bytes));
    }
    let mut bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    if files.len() <= FILES_MAX && bytes <= BYTES_MAX {
        return Ok(());
    }
    files.sort();
    let (all, mut gone) = (files.len(), 0);
    for (path, length) in files {
        if all - gone <= FILES_MAX && bytes <= BYTES_MAX {
            break;
        }
        fs::remove_file(path)?;
        (bytes, gone) = (bytes - length, gone + 1);
    }
    tracing::warn!(files = gone, folder = %shown.display(), "the oldest rejected messages are removed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of one file, written one after the other; which of them are left, and how many bytes they have.
    fn left(parts: u64, bytes: usize) -> (Vec<String>, u64) {
        let node = tempfile::tempdir().unwrap();
        let (file, at) = (FileId::next(), Place { offset: 0, line: 1, column: 1 });
        for number in 1..=parts {
            let text = vec![b'x'; bytes];
            let part = Part { number, at, seen: at, reason: "it is nonsense".to_owned(), text };
            write(node.path(), file, &[part]).unwrap();
        }
        let entries = fs::read_dir(node.path().join("rejected")).unwrap().map(Result::unwrap);
        let mut left: Vec<(String, u64)> =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect();
        left.sort();
        let bytes = left.iter().map(|(_, bytes)| bytes).sum();
        (left.into_iter().map(|(name, _)| name).collect(), bytes)
    }

    #[test]
    fn what_is_set_aside_has_a_limit_in_bytes_and_the_oldest_goes_first() {
        let (names, bytes) = left(9, 8 << 20);
        assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&bytes), "{bytes}");
        assert!(names.iter().any(|name| name.ends_with("-9.json")), "{names:?}");
        assert!(!names.iter().any(|name| name.ends_with("-1.json")), "{names:?}");
    }

    #[test]
    fn a_part_that_is_larger_than_all_may_be_does_not_stay() {
        let (names, bytes) = left(1, BYTES_MAX as usize + 1);
        assert!(bytes < 10_000, "{names:?}");
    }
}
