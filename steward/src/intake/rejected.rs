//! `rejected/`: what came in and can't be read as a message, beside the reason. For people; nothing here reads it again.
//!
//! `<time>-<tag>-<n>.json` holds the bytes as they came, `<time>-<tag>-<n>.reason` says line, column and reason. The names
//! follow from the file that was read and the place in it: reading it again after a crash writes the same files again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::time::Wall;

use super::ids::FileId;
use super::split::Place;
use crate::clock;

/// Parts of one file that get a file each; what is beyond is appended to the last.
const PARTS_MAX: u64 = 1000;

/// Files in the folder; the oldest go when there are more.
const FILES_MAX: usize = 4000;

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
    if !dir.is_dir() {
        // What stands in a message is nobody else's business.
        DirBuilder::new().mode(0o700).create(&dir)?;
        File::open(node_dir)?.sync_all()?;
    }
    for part in parts {
        let path = path(&dir, file, part.number);
        // The files of a run before this one are written anew, those of this run are added to.
        let append = part.number > PARTS_MAX;
        put(&path.with_extension("json"), append, &[&part.text, b"\n"])?;
        put(&path.with_extension("reason"), append, &[describe(part).as_bytes()])?;
    }
    File::open(&dir)?.sync_all()?;
    prune(&dir)?;
    Ok(Some(path(&dir, file, first.number).with_extension("reason")))
}

fn path(dir: &Path, file: FileId, number: u64) -> PathBuf {
    let time = clock::rfc3339(Wall(file.millis())).replace([':', '.'], "-");
    dir.join(format!("{time}-{:06x}-{}", file.tag(), number.min(PARTS_MAX)))
}

fn put(path: &Path, append: bool, contents: &[&[u8]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.mode(0o600).create(true).write(true).truncate(!append).append(append).open(path)?;
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
fn prune(dir: &Path) -> io::Result<()> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    if names.len() > FILES_MAX {
        names.sort();
        let gone = names.len() - FILES_MAX;
        for path in &names[..gone] {
            fs::remove_file(path)?;
        }
        tracing::warn!(files = gone, folder = %dir.display(), "the oldest rejected messages are removed");
    }
    Ok(())
}
