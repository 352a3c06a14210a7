//! Reads the audit log: all lines, oldest first, and whether the chain is whole. One line in memory at a time. It never
//! changes anything.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::Head;
use super::chain::files;
use super::line::{self, LINE_BYTES_MAX, LineView};

/// A line that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, line {line}: {why}", file.display())]
pub(crate) struct Broken {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line in it, from 1.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) why: String,
}

/// A chain that is whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verified {
    /// How many lines it has.
    pub(crate) lines: u64,
    /// In how many files.
    pub(crate) files: usize,
    /// The number of the first; more than 1 where older files are gone.
    pub(crate) first: u64,
    /// When the first was written.
    pub(crate) from: String,
    /// When the last was written.
    pub(crate) to: String,
    /// The last.
    pub(crate) head: Head,
}

/// All lines.
#[derive(Debug)]
pub(crate) struct Lines {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, BufReader<File>, u64)>,
}

/// The lines of the log in `dir`, oldest first. Each is checked by itself; that they belong together is checked by
/// [`verify`].
pub(crate) fn lines(dir: &Path) -> Lines {
    Lines { files: files(dir).into_iter(), open: None }
}

impl Iterator for Lines {
    /// Where it stands, and the line.
    type Item = Result<(PathBuf, u64, LineView), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((file, reader, number)) = &mut self.open else {
                let file = self.files.next()?;
                match File::open(&file) {
                    Ok(reader) => self.open = Some((file, BufReader::new(reader), 0)),
                    Err(error) => return Some(Err(Broken { file, line: 0, why: error.to_string() })),
                }
                continue;
            };
            *number += 1;
            let broken = |why: String| Some(Err(Broken { file: file.clone(), line: *number, why }));
            match next_line(reader) {
                Ok(None) => self.open = None,
                Ok(Some(text)) => {
                    return match line::read(&text) {
                        Ok(view) => Some(Ok((file.clone(), *number, view))),
                        Err(why) => broken(why),
                    };
                }
                Err(error) => {
                    let told = broken(error.to_string());
                    self.open = None;
                    return told;
                }
            }
        }
    }
}

/// A line without its end; none at the end of the file. A line that is being written just now counts as not there.
fn next_line(reader: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut text)?;
    match text.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(text)),
        Some(_) if text.len() + 1 >= LINE_BYTES_MAX => Err(io::Error::other(format!(
            "a line longer than {LINE_BYTES_MAX} bytes; the rest of the file is not read"
        ))),
        Some(_) => Ok(None),
    }
}

/// Whether the log in `dir` is one whole chain. `known` is a line that is known from elsewhere, which has to be in it.
pub(crate) fn verify(dir: &Path, known: Option<&Head>) -> Result<Verified, Broken> {
    let count = files(dir).len();
    let mut verified: Option<Verified> = None;
    let mut seen = None;
    for line in lines(dir) {
        let (file, line, view) = line?;
        if let Some(before) = &verified {
            let why = if view.prev != before.head.hash {
                Some(format!(
                    "a line is missing before it, or was altered: it does not go with line {} of the chain",
                    before.head.n
                ))
            } else if view.n != before.head.n + 1 {
                Some(format!("it has the number {}, behind {}", view.n, before.head.n))
            } else {
                None
            };
            if let Some(why) = why {
                return Err(Broken { file, line, why });
            }
        }
        let head = Head { n: view.n, hash: view.hash };
        if known.is_some_and(|known| known.n == head.n) {
            seen = Some((file, line, head.hash.clone()));
        }
        let so_far = verified.get_or_insert_with(|| Verified {
            lines: 0,
            files: count,
            first: view.n,
            from: view.at.clone(),
            to: String::new(),
            head: Head::default(),
        });
        (so_far.lines, so_far.to, so_far.head) = (so_far.lines + 1, view.at, head);
    }
    let nothing = || Broken { file: dir.join("audit.jsonl"), line: 0, why: "there is no audit log".to_owned() };
    let verified = verified.ok_or_else(nothing)?;
    match (known, seen) {
        (None, _) => Ok(verified),
        (Some(known), Some((_, _, hash))) if hash == known.hash => Ok(verified),
        (Some(known), Some((file, line, _))) => {
            let why =
                format!("it is line {} of the chain, and not the one that is known: the log was written anew", known.n);
            Err(Broken { file, line, why })
        }
        (Some(known), None) => {
            let why = format!("line {} is not there: the chain has {} to {}", known.n, verified.first, verified.head.n);
            Err(Broken { file: dir.join("audit.jsonl"), line: 0, why })
        }
    }
}
