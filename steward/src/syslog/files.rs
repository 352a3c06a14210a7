//! Lines of nodes in files, by the node that sent them, the host and the day: `syslog/NODE/HOST/2026-11-23.log`. All calls block.
//!
//! Exactly once, in these steps, each durable before the next: how long the files are that lines will be added to (the marks, in the
//! store, in the name of the run), then the lines, then the end of the run. Whoever runs the same message again after a crash
//! cuts the files back to the marks first. Only one run at a time adds to the files of a node, because its lane has an order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::name::NodeName;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::batch::{Lines, day};
use crate::crash_points::{self, Point};
use crate::engine::little_room;
use crate::own_file::{self, Folder};

/// The folder below the node's directory.
pub(crate) const FOLDER: &str = "syslog";

/// Hosts of a node that have folders of their own; lines of further ones are in [`OTHERS`], so that nobody can fill the disk
/// with names.
const HOSTS_MAX: usize = 1000;

/// See [`HOSTS_MAX`].
const OTHERS: &str = "_others";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is added to one file.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    host: String,
    bytes: Vec<u8>,
}

/// What is added to files: of one node and one day.
#[derive(Debug)]
pub(crate) struct Plan {
    folder: PathBuf,
    day: String,
    parts: Vec<Part>,
}

/// How long a file was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    host: String,
    day: String,
    inode: u64,
    len: u64,
}

/// A line as it is in a file: its bytes, and a line feed within it as `#012`, so that it stays one line.
pub(super) fn one_line(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&b'\n') {
        return Cow::Borrowed(line);
    }
    Cow::Owned(line.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(b"#012".as_slice()))
}

/// The day under which lines are kept: theirs, unless that is far from ours, because the clock of their node is wrong. Days
/// that would be removed at once are none either.
pub(crate) fn day_here(theirs: Option<&str>, sent: Wall, now: Wall, keep: Option<Duration>) -> String {
    let theirs = theirs.map_or_else(|| day(sent), str::to_owned);
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let tomorrow = day(Wall(now.0.saturating_add(millis(DAY))));
    let oldest = keep.map_or_else(String::new, |keep| day(Wall(now.0.saturating_sub(millis(keep)))));
    if theirs <= tomorrow && theirs >= oldest { theirs } else { day(now) }
}

impl Plan {
    /// Where these lines go. Makes the folders.
    pub(crate) fn new(dir: &Path, node: &NodeName, lines: &Lines, day: String) -> io::Result<Self> {
        let all = own_file::below(dir, FOLDER)?;
        let own = own_file::below(&all.path(), node.as_str())?;
        let mut known: usize = fs::read_dir(own.path())?.count();
        let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (host, line) in &lines.lines {
            let host = host.as_deref().unwrap_or(node.as_str());
            let bytes = match parts.get_mut(host) {
                Some(bytes) => bytes,
                None => {
                    let is_new = !own.path().join(host).exists();
                    let host = if is_new && known >= HOSTS_MAX { OTHERS } else { host };
                    known += usize::from(is_new && own_file::make_folder(&own.path().join(host))?);
                    parts.entry(host.to_owned()).or_default()
                }
            };
            bytes.extend_from_slice(&one_line(line));
            bytes.push(b'\n');
        }
        own.sync()?;
        let parts = parts.into_iter().map(|(host, bytes)| Part { host, bytes }).collect();
        Ok(Self { folder: dir.join(FOLDER).join(node.as_str()), day, parts })
    }

    /// How long the files are now; those that are missing are made, durably.
    pub(crate) fn marks(&self) -> io::Result<Vec<Mark>> {
        let mark = |part: &Part| {
            let folder = Folder::open(&self.folder.join(&part.host))?;
            let file = open(&folder, &self.day, true)?;
            folder.sync()?;
            let is = file.metadata()?;
            Ok(Mark { host: part.host.clone(), day: self.day.clone(), inode: is.ino(), len: is.len() })
        };
        self.parts.iter().map(mark).collect()
    }

    /// Adds the lines, durably. After an error nothing of them is there.
    pub(crate) fn write(&self, marks: &[Mark]) -> io::Result<()> {
        crash_points::reach(Point::BeforeAppend);
        let written = self.parts.iter().try_for_each(|part| self.add(part));
        if let Err(error) = written {
            cut_back(&self.folder, marks)?;
            return Err(error);
        }
        crash_points::reach(Point::AfterAppend);
        Ok(())
    }

    fn add(&self, part: &Part) -> io::Result<()> {
        if let Some(why) = little_room(&self.folder) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let mut file = open(&Folder::open(&self.folder.join(&part.host))?, &self.day, true)?;
        file.write_all(&part.bytes)?;
        crash_points::sync();
        file.sync_data()
    }
}

/// Takes back what a run that was killed has added to files of this node.
pub(crate) fn take_back(dir: &Path, node: &NodeName, marks: &[Mark]) -> io::Result<()> {
    cut_back(&dir.join(FOLDER).join(node.as_str()), marks)
}

fn cut_back(folder: &Path, marks: &[Mark]) -> io::Result<()> {
    for mark in marks {
        let file = match Folder::open(&folder.join(&mark.host)).and_then(|folder| open(&folder, &mark.day, false)) {
            Ok(file) => file,
            // Somebody has moved it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is = file.metadata()?;
        if is.ino() == mark.inode && is.len() > mark.len {
            file.set_len(mark.len)?;
            file.sync_all()?;
        }
    }
    Ok(())
}

fn open(folder: &Folder, day: &str, create: bool) -> io::Result<File> {
    let options = &mut OpenOptions::new();
    folder.file(format!("{day}.log").as_ref(), options.append(true).create(create).mode(0o600))
}

/// Removes files of days that are over for longer than `keep`, and folders that are empty then. Says how many files.
pub(super) fn clean(dir: &Path, now: Wall, keep: Duration) -> io::Result<usize> {
    let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let oldest = day(Wall(now.0.saturating_sub(keep)));
    let mut removed = 0;
    for node in folders(&dir.join(FOLDER))? {
        for host in folders(&node)? {
            for entry in fs::read_dir(&host)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                // Also what somebody has packed: 2026-11-23.log.gz.
                let is_old = name.split_once(".log").is_some_and(|(day, _)| day.len() == 10 && *day < *oldest);
                if is_old {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
            // It is empty, or it stays.
            fs::remove_dir(&host).ok();
        }
    }
    Ok(removed)
}

/// The folders in a folder, links left out.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_795_409_999_000);

    fn ship1() -> NodeName {
        NodeName::new("ship1").unwrap()
    }

    fn lines(all: &[(&str, &str)]) -> Lines {
        let line = |(host, text): &(&str, &str)| (Some((*host).to_owned()), text.as_bytes().to_vec());
        Lines { day: None, lines: all.iter().map(line).collect() }
    }

    fn plan(dir: &Path, all: &[(&str, &str)]) -> Plan {
        Plan::new(dir, &ship1(), &lines(all), "2026-11-23".to_owned()).unwrap()
    }

    fn read(dir: &Path, host: &str) -> String {
        fs::read_to_string(dir.join("syslog/ship1").join(host).join("2026-11-23.log")).unwrap()
    }

    #[test]
    fn lines_are_there_once_however_far_a_killed_run_came() {
        let dir = tempfile::tempdir().unwrap();
        let first = plan(dir.path(), &[("a", "<1>1"), ("b", "<1>2\nof it"), ("a", "<1>3")]);
        first.write(&first.marks().unwrap()).unwrap();
        assert_eq!(
            (read(dir.path(), "a"), read(dir.path(), "b")),
            ("<1>1\n<1>3\n".to_owned(), "<1>2#012of it\n".to_owned())
        );
        let second = plan(dir.path(), &[("a", "<1>4"), ("c", "<1>5")]);
        let marks = second.marks().unwrap();
        let file = dir.path().join("syslog/ship1/a/2026-11-23.log");
        for torn in ["", "<1", "<1>4\n"] {
            File::options().append(true).open(&file).unwrap().write_all(torn.as_bytes()).unwrap();
            take_back(dir.path(), &ship1(), &marks).unwrap();
            assert_eq!(read(dir.path(), "a"), "<1>1\n<1>3\n", "after {torn:?}");
        }
        second.write(&marks).unwrap();
        assert_eq!((read(dir.path(), "a").as_str(), read(dir.path(), "c").as_str()), ("<1>1\n<1>3\n<1>4\n", "<1>5\n"));
        // Somebody has moved it away since: another file is left alone.
        fs::rename(&file, dir.path().join("moved")).unwrap();
        fs::write(&file, "a file of somebody else, longer than ours\n").unwrap();
        take_back(dir.path(), &ship1(), &marks).unwrap();
        assert_eq!(read(dir.path(), "a"), "a file of somebody else, longer than ours\n");
        fs::remove_file(&file).unwrap();
        take_back(dir.path(), &ship1(), &marks).unwrap();
    }

    #[test]
    fn a_link_is_not_followed_and_names_take_no_more_room_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        plan(dir.path(), &[("a", "x")]);
        std::os::unix::fs::symlink(outside.path(), dir.path().join("syslog/ship1/b")).unwrap();
        assert!(plan(dir.path(), &[("b", "x")]).marks().is_err());
        let hosts: Vec<String> = (0..HOSTS_MAX + 20).map(|n| format!("host{n}")).collect();
        let all: Vec<(&str, &str)> = hosts.iter().map(|host| (host.as_str(), "x")).collect();
        let plan = plan(dir.path(), &all);
        assert_eq!(plan.parts.iter().find(|part| part.host == OTHERS).unwrap().bytes, b"x\n".repeat(22));
        assert!(fs::read_dir(dir.path().join("syslog/ship1")).unwrap().count() <= HOSTS_MAX + 1);
    }

    #[test]
    fn a_day_that_can_not_be_is_today() {
        let month = Some(30 * DAY);
        for (theirs, keep, kept) in [
            (Some("2026-11-23"), month, "2026-11-23"),
            (Some("2026-11-24"), month, "2026-11-24"),
            (Some("2026-10-30"), month, "2026-10-30"),
            (Some("1970-01-01"), month, "2026-11-23"),
            (Some("2027-11-23"), None, "2026-11-23"),
            (Some("1970-01-01"), None, "1970-01-01"),
            (None, month, "2026-11-23"),
        ] {
            assert_eq!(day_here(theirs, NOW, NOW, keep), kept, "{theirs:?}");
        }
    }

    #[test]
    fn old_days_go_and_what_is_no_day_stays() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a/2026-11-20.log", "a/2026-11-21.log.gz", "a/2026-11-22.log", "a/notes.log", "b/2026-01-01.log"] {
            let path = dir.path().join("syslog/ship1").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        assert_eq!(clean(dir.path(), NOW, DAY).unwrap(), 3);
        assert_eq!(fs::read_dir(dir.path().join("syslog/ship1/a")).unwrap().count(), 2);
        assert!(!dir.path().join("syslog/ship1/b").exists());
        assert_eq!(clean(&dir.path().join("nothing"), NOW, DAY).unwrap(), 0);
    }
}
