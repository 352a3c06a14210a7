//! The files in which lines of a tail lie here, and what is new in them. They only grow, or somebody has moved them away.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use protocol::name::NodeName;

use crate::cli::output::Output;
use crate::intake::MessageInput;
use crate::methods::PathPattern;
use crate::own_file;
use crate::tails::{FOLDER, names};
use crate::view::MessageView;

/// Files that are looked at; of a tail there are fewer, but its folder may hold what others have left.
const FILES_MAX: usize = 10_000;

/// How deep folders are looked into.
const DEPTH_MAX: usize = 64;

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Which files they are.
enum Which {
    /// This one, from the node's directory on.
    One(String),
    /// Those of this node whose paths there fit.
    Fitting(String, PathPattern),
}

/// Files of a tail.
pub(super) struct Files {
    dir: PathBuf,
    which: Which,
    open: BTreeMap<String, Open>,
}

/// A file that was found.
struct Open {
    file: File,
    inode: u64,
    at: u64,
}

/// What was shown last.
pub(super) struct Shown {
    json: bool,
    last: Option<String>,
}

impl Shown {
    pub(super) fn new(json: bool) -> Self {
        Self { json, last: None }
    }
}

impl Files {
    /// Those of an order that is not given yet.
    pub(super) fn of_order(dir: &Path, order: &MessageInput) -> anyhow::Result<Self> {
        let folder = order.directory.clone().unwrap_or_else(|| order.to_node.clone());
        let named = order.reply_method.as_ref().map(|_| {
            let name = order.file_name.clone().unwrap_or_else(|| format!("{}.out", order.method));
            format!("{FOLDER}/{folder}/{name}")
        });
        Self::new(dir, named, &order.to_node, &order.data)
    }

    /// Those of an order that was given.
    pub(super) fn of(dir: &Path, order: &MessageView) -> anyhow::Result<Self> {
        let named = order.reply.as_ref().and_then(|reply| reply.file.clone());
        Self::new(dir, named, &order.to_node, &order.data)
    }

    fn new(dir: &Path, named: Option<String>, node: &str, data: &[String]) -> anyhow::Result<Self> {
        let path = data.first().map(String::as_str).unwrap_or_default();
        let which = match named {
            Some(named) => Which::One(named),
            None => {
                let pattern = PathPattern::parse(path).map_err(anyhow::Error::msg)?;
                let node = NodeName::new(node)?;
                match pattern.literal() {
                    Some(path) => Which::One(names::place(&node, &path)),
                    None => Which::Fitting(format!("{FOLDER}/{node}"), pattern),
                }
            }
        };
        Ok(Self { dir: dir.to_owned(), which, open: BTreeMap::new() })
    }

    /// Begins so many lines before the end of what is there.
    pub(super) fn begin(&mut self, lines: usize) {
        for place in self.places() {
            let Ok(Some(mut open)) = Open::new(&self.dir, &place) else { continue };
            open.at = open.file.metadata().map_or(0, |meta| meta.len());
            if lines > 0 {
                open.at = before(&open.file, open.at, lines).unwrap_or(open.at);
            }
            self.open.insert(place, open);
        }
    }

    /// Where files are, from the node's directory on.
    fn places(&self) -> Vec<String> {
        let (folder, pattern) = match &self.which {
            Which::One(place) => return vec![place.clone()],
            Which::Fitting(folder, pattern) => (folder, pattern),
        };
        let (mut found, mut looked, mut folders) = (Vec::new(), 0, vec![(String::new(), 0)]);
        while let Some((at, depth)) = folders.pop() {
            let Ok(entries) = fs::read_dir(self.dir.join(folder).join(&at)) else { continue };
            for entry in entries.flatten() {
                looked += 1;
                let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else { continue };
                let path = if at.is_empty() { name } else { format!("{at}/{name}") };
                if kind.is_dir() && depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                } else if kind.is_file() && names::path(&path).is_some_and(|path| pattern.fits(&path)) {
                    found.push(format!("{folder}/{path}"));
                }
            }
            if looked > FILES_MAX {
                break;
            }
        }
        found.sort_unstable();
        found
    }

    /// Shows what is new.
    pub(super) fn show(&mut self, shown: &mut Shown, output: &mut Output) -> io::Result<()> {
        for place in self.places() {
            let now = Open::new(&self.dir, &place)?;
            // One that was moved away is shown to its end first.
            if let Some(open) = self.open.get_mut(&place) {
                open.show(&place, shown, output)?;
            }
            let is_known = |now: &Open| self.open.get(&place).is_some_and(|open| open.inode == now.inode);
            if let Some(mut now) = now.filter(|now| !is_known(now)) {
                now.show(&place, shown, output)?;
                self.open.insert(place, now);
            }
        }
        output.flush()
    }
}

impl Open {
    fn new(dir: &Path, place: &str) -> io::Result<Option<Self>> {
        match own_file::open(&dir.join(place), OpenOptions::new().read(true)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self { file, inode, at: 0 }))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Shows the whole lines that are new.
    fn show(&mut self, place: &str, shown: &mut Shown, output: &mut Output) -> io::Result<()> {
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
        }
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = self.file.read_at(&mut block, self.at)?;
            let bytes = block.get(..read).unwrap_or_default();
            let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
            let lines = bytes.get(..=end).unwrap_or_default();
            self.at += lines.len() as u64;
            lines_of(place, lines, shown, output)?;
        }
    }
}

fn lines_of(place: &str, lines: &[u8], shown: &mut Shown, output: &mut Output) -> io::Result<()> {
    let path = place.splitn(3, '/').nth(2).and_then(names::path).unwrap_or_else(|| place.to_owned());
    if shown.json {
        for line in lines.strip_suffix(b"\n").unwrap_or(lines).split(|byte| *byte == b'\n') {
            output.json(&serde_json::json!({ "file": path, "line": String::from_utf8_lossy(line) }))?;
        }
        return Ok(());
    }
    if shown.last.as_deref().is_some_and(|last| last != place) {
        output.line(&format!("==> {path} <=="))?;
    }
    shown.last = Some(place.to_owned());
    output.bytes(lines)
}

/// Where so many lines before the end begin.
fn before(file: &File, end: u64, lines: usize) -> io::Result<u64> {
    let (mut left, mut at) = (lines, end);
    let mut block = vec![0; BLOCK_BYTES];
    while at > 0 {
        let len = usize::try_from(at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        at -= len as u64;
        let bytes = block.get_mut(..len).unwrap_or_default();
        file.read_exact_at(bytes, at)?;
        for (index, byte) in bytes.iter().enumerate().rev() {
            // The end of the last line begins nothing.
            if *byte == b'\n' && at + (index as u64) + 1 < end {
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok(at + index as u64 + 1);
                }
            }
        }
    }
    Ok(0)
}
