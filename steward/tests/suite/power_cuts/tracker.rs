//! Follows which file each descriptor of each process stands for, and which file has which name, and writes down what
//! changes. It is told of each system call at its beginning and at its end.
//!
//! Only what lies in the nodes' directories counts. A call that would change something there in a way that is not
//! followed is an error: a recording either has everything, or there is none.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use nix::libc;

use super::memory::Memory;
use super::syscalls::{Call, HERE};
use super::trace::{BEFORE, Form, Inode, Moment, Op, Trace, What};

/// What a call means, once it has succeeded.
#[derive(Debug)]
pub(super) enum Pending {
    Open { path: PathBuf, flags: i32 },
    Duplicate(usize),
    Read(usize),
    Write { open: usize, inode: Inode, at: u64, moves: bool, bytes: Vec<u8> },
    Send { connection: usize, bytes: Vec<u8> },
    Seek(usize),
    MakeDir(Place),
    Bind(Place),
    Move { from: Place, to: Place },
    Connection,
    Done(What),
}

/// A name in a folder.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: Inode,
    name: String,
}

/// What a descriptor stands for.
#[derive(Debug)]
struct Open {
    to: To,
    at: u64,
    appends: bool,
}

#[derive(Debug, Clone, Copy)]
enum To {
    Inode(Inode),
    Connection(usize),
}

/// An inode as it is now.
#[derive(Debug, Default)]
struct Now {
    len: u64,
    names: usize,
    entries: BTreeMap<String, Inode>,
}

/// A process, and what its descriptors stand for.
pub(super) struct Process {
    pub(super) node: String,
    pub(super) memory: Memory,
    id: i32,
    descriptors: HashMap<i32, usize>,
}

impl Process {
    pub(super) fn new(node: String, id: i32) -> Result<Self, String> {
        let memory = Memory::of(id).map_err(|error| format!("the memory of process {id}: {error}"))?;
        Ok(Self { node, memory, id, descriptors: HashMap::new() })
    }

    /// It runs another program now: with other memory, and without the descriptors that were not to be handed on.
    pub(super) fn runs_another(&mut self) -> Result<(), String> {
        self.memory = Memory::of(self.id).map_err(|error| format!("the memory of process {}: {error}", self.id))?;
        let id = self.id;
        self.descriptors.retain(|fd, _| Path::new(&format!("/proc/{id}/fd/{fd}")).is_symlink());
        Ok(())
    }

    /// The path that a call means: `dir` and `path` as it gave them.
    fn path(&self, dir: i32, path: u64) -> Result<PathBuf, String> {
        let path = self.memory.text(path).map_err(|error| format!("a path of {}: {error}", self.node))?;
        self.whole(dir, &path)
    }

    fn whole(&self, dir: i32, path: &str) -> Result<PathBuf, String> {
        let own = path.strip_prefix("/proc/self/fd/").and_then(|own| own.split_once('/'));
        let (base, path) = match (own, dir) {
            (Some((fd, path)), _) => (link(&format!("/proc/{}/fd/{fd}", self.id))?, path),
            (None, _) if path.starts_with('/') => (PathBuf::new(), path),
            (None, HERE) => (link(&format!("/proc/{}/cwd", self.id))?, path),
            (None, fd) => (link(&format!("/proc/{}/fd/{fd}", self.id))?, path),
        };
        let mut whole = PathBuf::new();
        for component in base.join(path).components() {
            match component {
                Component::ParentDir => {
                    whole.pop();
                }
                Component::CurDir => {}
                other => whole.push(other),
            }
        }
        Ok(whole)
    }
}

fn link(path: &str) -> Result<PathBuf, String> {
    fs::read_link(path).map_err(|error| format!("{path}: {error}"))
}

/// What is known of all files.
#[derive(Default)]
pub(super) struct Tracker {
    pub(super) trace: Trace,
    /// Where the nodes' directories are.
    dirs: Vec<(PathBuf, Inode)>,
    inodes: Vec<Now>,
    opens: Vec<Open>,
    /// Inodes by their numbers on the disk. A number is given again once nothing has it any more.
    numbers: HashMap<u64, Inode>,
    connections: usize,
}

impl Tracker {
    /// Follows what happens in this directory. What is there already is sure.
    pub(super) fn follow(&mut self, node: &str, dir: &Path) -> io::Result<()> {
        let inode = self.make(Form::Folder, fs::metadata(dir)?.ino());
        self.dirs.push((dir.to_owned(), inode));
        self.trace.dirs.insert(node.to_owned(), inode);
        self.find(node, inode, dir)
    }

    /// Notes everything in a folder as made and synced before the recording begins.
    fn find(&mut self, node: &str, folder: Inode, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))?;
            let meta = fs::symlink_metadata(&entry)?;
            let form = match meta.file_type() {
                kind if kind.is_dir() => Form::Folder,
                kind if kind.is_file() => Form::File,
                _ => Form::Socket,
            };
            let inode = self.make(form, meta.ino());
            self.found(node, What::Link { folder, name, inode });
            match form {
                Form::Folder => self.find(node, inode, &entry)?,
                Form::File => self.found(node, What::Write { inode, at: 0, bytes: fs::read(&entry)? }),
                Form::Socket => {}
            }
            self.synced(node, inode);
        }
        self.synced(node, folder);
        Ok(())
    }

    fn found(&mut self, node: &str, what: What) {
        self.apply(&what);
        self.trace.ops.push(Op { begin: BEFORE - 3, end: Some(BEFORE - 2), node: node.to_owned(), what });
    }

    fn synced(&mut self, node: &str, inode: Inode) {
        let (begin, end) = (BEFORE - 1, Some(BEFORE));
        self.trace.ops.push(Op { begin, end, node: node.to_owned(), what: What::Sync(inode) });
    }

    /// Where a path lies, if it is below a node's directory.
    fn place(&self, path: &Path) -> Option<Place> {
        let (inside, dir) = self.dirs.iter().find_map(|(dir, inode)| Some((path.strip_prefix(dir).ok()?, *inode)))?;
        let mut folder = dir;
        for name in inside.parent()?.iter() {
            folder = *self.inodes[folder.0].entries.get(name.to_str()?)?;
        }
        Some(Place { folder, name: inside.file_name()?.to_str()?.to_owned() })
    }

    fn make(&mut self, form: Form, number: u64) -> Inode {
        let inode = Inode(self.inodes.len());
        self.inodes.push(Now::default());
        self.trace.inodes.push((form, number));
        self.numbers.insert(number, inode);
        inode
    }

    fn open(&self, process: &Process, fd: i32) -> Option<(usize, To)> {
        let open = *process.descriptors.get(&fd)?;
        Some((open, self.opens[open].to))
    }

    fn inode(&self, process: &Process, fd: i32) -> Option<(usize, Inode)> {
        match self.open(process, fd)? {
            (open, To::Inode(inode)) => Some((open, inode)),
            (_, To::Connection(_)) => None,
        }
    }

    /// Whether a process is about to change anything: then it must not be stopped for good, because nobody could say
    /// whether it has.
    pub(super) fn changes(pending: &Pending) -> bool {
        match pending {
            Pending::Duplicate(_) | Pending::Read(_) | Pending::Seek(_) | Pending::Connection => false,
            Pending::Open { .. }
            | Pending::Write { .. }
            | Pending::Send { .. }
            | Pending::MakeDir(_)
            | Pending::Bind(_)
            | Pending::Move { .. }
            | Pending::Done(_) => true,
        }
    }

    /// A call begins. None if it is of no interest.
    pub(super) fn begin(&mut self, process: &mut Process, call: Call) -> Result<Option<Pending>, String> {
        let unreadable = |error: std::io::Error| format!("what {} writes: {error}", process.node);
        Ok(match call {
            Call::Other => None,
            Call::Connection => Some(Pending::Connection),
            Call::Close(fd) => {
                // At its beginning: before its end another thread may be given the same number.
                process.descriptors.remove(&fd);
                None
            }
            Call::CloseRange(first, last) => {
                process.descriptors.retain(|fd, _| !(first..=last).contains(fd));
                None
            }
            Call::Duplicate(fd) => self.open(process, fd).map(|(open, _)| Pending::Duplicate(open)),
            Call::Read(fd) => self.inode(process, fd).map(|(open, _)| Pending::Read(open)),
            Call::Seek(fd) => self.inode(process, fd).map(|(open, _)| Pending::Seek(open)),
            Call::Write { fd, bytes, at } => match self.open(process, fd) {
                None => None,
                Some((open, To::Inode(inode))) => {
                    let bytes = process.memory.bytes(bytes).map_err(unreadable)?;
                    let end = self.inodes[inode.0].len;
                    let here = if self.opens[open].appends { end } else { self.opens[open].at };
                    Some(Pending::Write { open, inode, at: at.unwrap_or(here), moves: at.is_none(), bytes })
                }
                Some((_, To::Connection(connection))) => {
                    let bytes = process.memory.bytes(bytes).map_err(unreadable)?;
                    Some(Pending::Send { connection, bytes })
                }
            },
            Call::Truncate { fd, len } => self.changes_inode(process, fd, |inode| What::Length { inode, len }),
            Call::Sync(fd) => self.changes_inode(process, fd, What::Sync),
            Call::Allocate { fd, mode, end } => match self.inode(process, fd) {
                None => None,
                Some((_, inode)) if mode == 0 => {
                    let len = self.inodes[inode.0].len.max(end);
                    Some(Pending::Done(What::Length { inode, len }))
                }
                Some(_) => return Err(format!("{} makes room in a file in a way that is not followed", process.node)),
            },
            Call::Map { fd, protection, flags } => self.map(process, fd, protection, flags)?,
            Call::ChangesFile(fd) if self.inode(process, fd).is_none() => None,
            Call::ChangesFile(_) => return Err(format!("{} writes in a way that is not followed", process.node)),
            Call::Hides => return Err(format!("{} uses io_uring, which hides what it does", process.node)),
            Call::Open { .. }
            | Call::Rename { .. }
            | Call::Unlink { .. }
            | Call::MakeDir { .. }
            | Call::Bind { .. }
            | Call::ChangesPath(..) => self.begin_with_path(process, call)?,
        })
    }

    fn changes_inode(&self, process: &Process, fd: i32, what: impl FnOnce(Inode) -> What) -> Option<Pending> {
        self.inode(process, fd).map(|(_, inode)| Pending::Done(what(inode)))
    }

    /// Writing through memory is not seen. Only the store's index of its log is written so, and nothing relies on what
    /// stands in that after a power cut.
    fn map(&self, process: &Process, fd: i32, protection: i32, flags: i32) -> Result<Option<Pending>, String> {
        let writes = protection & libc::PROT_WRITE != 0 && flags & libc::MAP_TYPE != libc::MAP_PRIVATE;
        let Some((_, inode)) = self.inode(process, fd).filter(|_| writes) else { return Ok(None) };
        let names = self.inodes.iter().flat_map(|now| &now.entries);
        let mut names = names.filter(|(_, of)| **of == inode).map(|(name, _)| name.as_str());
        match names.find(|name| !name.ends_with("-shm")) {
            Some(name) => Err(format!("{} writes {name} through memory", process.node)),
            None => Ok(None),
        }
    }

    fn begin_with_path(&mut self, process: &Process, call: Call) -> Result<Option<Pending>, String> {
        let at = |dir, path| Ok::<_, String>(self.place(&process.path(dir, path)?));
        Ok(match call {
            Call::Open { dir, path, flags } => Some(Pending::Open { path: process.path(dir, path)?, flags }),
            Call::Unlink { dir, path } => {
                at(dir, path)?.map(|Place { folder, name }| Pending::Done(What::Unlink { folder, name }))
            }
            Call::MakeDir { dir, path } => at(dir, path)?.map(Pending::MakeDir),
            Call::Bind { address, len } => {
                let path = process.memory.socket_path(address, len).map_err(|error| error.to_string())?;
                let path = path.map(|path| process.whole(HERE, &path)).transpose()?;
                path.and_then(|path| self.place(&path)).map(Pending::Bind)
            }
            Call::ChangesPath(dir, path) => match at(dir, path)? {
                Some(place) => return Err(format!("{} makes {place:?} in a way that is not followed", process.node)),
                None => None,
            },
            Call::Rename { from, to, flags } => match (at(from.0, from.1)?, at(to.0, to.1)?) {
                (None, None) => None,
                (Some(from), Some(to)) if from.folder == to.folder => {
                    let folder = from.folder;
                    Some(Pending::Done(match flags {
                        libc::RENAME_EXCHANGE => What::Exchange { folder, one: from.name, other: to.name },
                        _ => What::Rename { folder, from: from.name, to: to.name },
                    }))
                }
                (Some(from), Some(to)) if flags == 0 => Some(Pending::Move { from, to }),
                (from, to) => return Err(format!("a rename from {from:?} to {to:?} is not followed")),
            },
            _ => None,
        })
    }

    /// A call has ended, with this result.
    pub(super) fn end(
        &mut self,
        process: &mut Process,
        (begin, end): (Moment, Moment),
        pending: Pending,
        result: i64,
    ) -> Result<(), String> {
        // An error: nothing has happened. (The store takes up space with writes that fail; those are not there.)
        let Ok(count) = u64::try_from(result) else { return Ok(()) };
        let fd = i32::try_from(count).unwrap_or(-1);
        let what = match pending {
            Pending::Open { path, flags } => self.opened(process, fd, &path, flags)?,
            Pending::Duplicate(open) => {
                process.descriptors.insert(fd, open);
                None
            }
            Pending::Connection => {
                self.opens.push(Open { to: To::Connection(self.connections), at: 0, appends: false });
                self.connections += 1;
                process.descriptors.insert(fd, self.opens.len() - 1);
                None
            }
            Pending::Seek(open) => {
                self.opens[open].at = count;
                None
            }
            Pending::Read(open) => {
                self.opens[open].at += count;
                match self.opens[open].to {
                    To::Inode(inode) => Some(What::Read { inode, to: self.opens[open].at }),
                    To::Connection(_) => None,
                }
            }
            Pending::Write { open, inode, at, moves, mut bytes } => {
                bytes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                if moves {
                    self.opens[open].at = at + count;
                }
                Some(What::Write { inode, at, bytes })
            }
            Pending::Send { connection, mut bytes } => {
                bytes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                Some(What::Sent { connection, bytes })
            }
            Pending::MakeDir(place) => Some(self.made(place, Form::Folder, process)?),
            Pending::Bind(place) => Some(self.made(place, Form::Socket, process)?),
            Pending::Move { from: Place { folder, name }, to } => {
                // Between two folders there is no order: it is two changes.
                let inode = self.inodes[folder.0].entries.get(&name).copied();
                let inode = inode.ok_or_else(|| format!("{} moves {name}, which is not there", process.node))?;
                let link = What::Link { folder: to.folder, name: to.name, inode };
                self.note(process, (begin, end), link);
                Some(What::Unlink { folder, name })
            }
            Pending::Done(what) => Some(what),
        };
        if let Some(what) = what {
            self.note(process, (begin, end), what);
        }
        Ok(())
    }

    fn note(&mut self, process: &Process, (begin, end): (Moment, Moment), what: What) {
        self.apply(&what);
        self.trace.ops.push(Op { begin, end: Some(end), node: process.node.clone(), what });
    }

    fn made(&mut self, Place { folder, name }: Place, form: Form, process: &Process) -> Result<What, String> {
        let mut path = self.path_of(folder).ok_or_else(|| format!("{} makes {name} nowhere", process.node))?;
        path.push(&name);
        let number = fs::symlink_metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.ino();
        let inode = self.make(form, number);
        Ok(What::Link { folder, name, inode })
    }

    fn path_of(&self, folder: Inode) -> Option<PathBuf> {
        if let Some((path, _)) = self.dirs.iter().find(|(_, inode)| *inode == folder) {
            return Some(path.clone());
        }
        let above = |now: &Now| now.entries.iter().find(|(_, inode)| **inode == folder).map(|(name, _)| name.clone());
        let (at, name) = self.inodes.iter().enumerate().find_map(|(at, now)| Some((at, above(now)?)))?;
        Some(self.path_of(Inode(at))?.join(name))
    }

    /// A descriptor is new. Which file it is says the system itself, because another process may have put one in the
    /// place of the other in the same moment.
    fn opened(&mut self, process: &mut Process, fd: i32, path: &Path, flags: i32) -> Result<Option<What>, String> {
        let dir = self.dirs.iter().find(|(dir, _)| dir == path).map(|(_, inode)| *inode);
        let place = self.place(path);
        if dir.is_none() && place.is_none() {
            return Ok(None);
        }
        let opened = format!("/proc/{}/fd/{fd}", process.id);
        let meta = fs::metadata(&opened).map_err(|error| format!("{opened} ({}): {error}", path.display()))?;
        let known = self.numbers.get(&meta.ino()).copied();
        let known = dir.or(known.filter(|inode| self.inodes[inode.0].names > 0));
        let (inode, what) = match (known, place) {
            (Some(inode), _) if flags & libc::O_TRUNC != 0 => (inode, Some(What::Length { inode, len: 0 })),
            (Some(inode), _) => (inode, None),
            (None, Some(Place { folder, name })) if meta.is_file() && flags & libc::O_CREAT != 0 => {
                let inode = self.make(Form::File, meta.ino());
                (inode, Some(What::Link { folder, name, inode }))
            }
            (None, _) => return Err(format!("{} has come from somewhere else", path.display())),
        };
        self.opens.push(Open { to: To::Inode(inode), at: 0, appends: flags & libc::O_APPEND != 0 });
        process.descriptors.insert(fd, self.opens.len() - 1);
        Ok(what)
    }

    /// Keeps what is known up to date.
    fn apply(&mut self, what: &What) {
        match what {
            What::Write { inode, at, bytes } => {
                let len = &mut self.inodes[inode.0].len;
                *len = (*len).max(at + bytes.len() as u64);
            }
            What::Length { inode, len } => self.inodes[inode.0].len = *len,
            What::Link { folder, name, inode } => self.name(*folder, name, Some(*inode)),
            What::Unlink { folder, name } => self.name(*folder, name, None),
            What::Rename { folder, from, to } => {
                let inode = self.inodes[folder.0].entries.get(from).copied();
                self.name(*folder, to, inode);
                self.name(*folder, from, None);
            }
            What::Exchange { folder, one, other } => {
                let entries = &self.inodes[folder.0].entries;
                let (first, second) = (entries.get(one).copied(), entries.get(other).copied());
                self.name(*folder, one, second);
                self.name(*folder, other, first);
            }
            What::Sync(_) | What::Read { .. } | What::Sent { .. } | What::Command(_) => {}
        }
    }

    fn name(&mut self, folder: Inode, name: &str, inode: Option<Inode>) {
        if let Some(inode) = inode {
            self.inodes[inode.0].names += 1;
        }
        let entries = &mut self.inodes[folder.0].entries;
        let before = match inode {
            Some(inode) => entries.insert(name.to_owned(), inode),
            None => entries.remove(name),
        };
        if let Some(before) = before {
            self.inodes[before.0].names -= 1;
        }
    }
}
