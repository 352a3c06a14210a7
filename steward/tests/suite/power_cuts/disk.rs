//! What a disk may hold after the power went: everything that was synced, and of the rest whatever chance leaves.
//!
//! * The content of a file is sure as it was when an `fsync` or `fdatasync` of the file began that has ended. What was
//!   written since is there, is missing, or is there in part: each sector for itself. What is missing is what was there
//!   before, or zeros.
//! * The length of a file changes in order: after a change of length that is lost, none is kept.
//! * The names in a folder are sure as they were when an `fsync` of the folder began that has ended. Later changes are
//!   kept in order up to some point, and lost from there on; in each folder for itself.
//! * What the index of the store's log holds was never written to a file, so it is garbage, or gone.
//!
//! This is less than any file system promises: most keep the order between files and folders as well.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::trace::{Form, Inode, Moment, Op, Trace, What};
use crate::harness::Dice;

/// What a disk writes in one piece, in bytes.
const SECTOR_BYTES: usize = 512;

/// The ends of names of files whose content nobody has seen being written.
const UNSEEN: &str = "-shm";

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// All of it is lost.
    Lost,
    /// All of it is there, as after a SIGKILL.
    Kept,
    /// Chance decides, for each piece.
    Torn,
}

/// Which syncs the disk does not obey, by the path of the file or folder in the node's directory: to see that somebody
/// notices.
pub(super) type Deaf = fn(&str) -> bool;

/// A disk that obeys.
pub(super) fn to_nothing(_: &str) -> bool {
    false
}

/// Whether nobody has seen what was written to a file.
pub(super) fn is_unseen(path: &Path) -> bool {
    path.to_string_lossy().ends_with(UNSEEN)
}

/// A node's directory, by path.
pub(super) type Tree = BTreeMap<PathBuf, (Inode, Content)>;

/// See [`Tree`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    File(Vec<u8>),
    Folder,
    Socket,
}

/// What a file holds so far.
#[derive(Default)]
struct Image {
    /// What lies on the disk; zeros behind its end.
    bytes: Vec<u8>,
    len: u64,
    /// A change of the length was lost.
    is_stuck: bool,
}

/// What the names in a folder are so far.
#[derive(Default)]
struct Names {
    entries: BTreeMap<String, Inode>,
    is_stuck: bool,
}

/// A disk at one moment.
struct Disk<'t> {
    trace: &'t Trace,
    moment: Moment,
    /// When the last sync began that was done by then.
    synced: BTreeMap<Inode, Moment>,
    /// How each file and folder fares.
    rests: BTreeMap<Inode, Rest>,
    dice: Dice,
}

/// What `node`'s directory may hold if the power goes at `moment`.
pub(super) fn rebuild(trace: &Trace, node: &str, moment: Moment, rest: Rest, deaf: Deaf, seed: u64) -> Tree {
    let paths = paths(trace, node);
    let mut disk = Disk { trace, moment, synced: BTreeMap::new(), rests: BTreeMap::new(), dice: Dice(seed) };
    let own = || trace.ops.iter().filter(|op| op.begin < moment);
    for op in own().filter(|op| op.is_done(moment)) {
        let What::Sync(inode) = op.what else { continue };
        if paths.get(&inode).is_some_and(|paths| paths.iter().any(|path| deaf(path))) {
            continue;
        }
        let last = disk.synced.entry(inode).or_default();
        *last = (*last).max(op.begin);
    }
    let (mut images, mut folders): (BTreeMap<Inode, Image>, BTreeMap<Inode, Names>) = Default::default();
    // Those that have not ended when the power goes come last: nobody knows about them.
    let (done, open): (Vec<&Op>, Vec<&Op>) = own().partition(|op| op.is_done(moment));
    for op in done.into_iter().chain(open) {
        if let Some(inode) = op.content_of() {
            disk.content(images.entry(inode).or_default(), inode, op, rest);
        } else if let Some(folder) = op.names_of() {
            disk.names(folders.entry(folder).or_default(), folder, op, rest);
        }
    }
    let mut tree = Tree::new();
    disk.list(&folders, &mut images, trace.dirs[node], Path::new(""), rest, &mut tree);
    tree
}

/// The paths that each inode of a node's directory ever had.
fn paths(trace: &Trace, node: &str) -> BTreeMap<Inode, Vec<String>> {
    let mut found: BTreeMap<Inode, Vec<String>> = BTreeMap::from([(trace.dirs[node], vec![".".to_owned()])]);
    let mut now: BTreeMap<(Inode, String), Inode> = BTreeMap::new();
    for op in &trace.ops {
        let named = match &op.what {
            What::Link { folder, name, inode } => vec![(*folder, name, Some(*inode))],
            What::Rename { folder, from, to } => vec![(*folder, to, now.get(&(*folder, from.clone())).copied())],
            What::Exchange { folder, one, other } => vec![
                (*folder, one, now.get(&(*folder, other.clone())).copied()),
                (*folder, other, now.get(&(*folder, one.clone())).copied()),
            ],
            _ => Vec::new(),
        };
        for (folder, name, inode) in named {
            let (Some(inode), Some(above)) = (inode, found.get(&folder)) else { continue };
            let path = if above[0] == "." { name.clone() } else { format!("{}/{name}", above[0]) };
            found.entry(inode).or_default().push(path);
            now.insert((folder, name.clone()), inode);
        }
    }
    found
}

impl Disk<'_> {
    /// Whether an operation on this inode is there whatever happens.
    fn is_sure(&self, inode: Inode, op: &Op) -> bool {
        op.is_done(self.moment) && self.synced.get(&inode).is_some_and(|synced| op.end.is_some_and(|end| end < *synced))
    }

    /// How a file or folder fares: of what is torn, some are lost or kept as a whole.
    fn rest_of(&mut self, inode: Inode, rest: Rest) -> Rest {
        if rest != Rest::Torn {
            return rest;
        }
        let dice = &mut self.dice;
        *self.rests.entry(inode).or_insert_with(|| match dice.throw(4) {
            0 => Rest::Lost,
            1 => Rest::Kept,
            _ => Rest::Torn,
        })
    }

    /// Whether chance keeps a piece.
    fn keeps(&mut self, rest: Rest) -> bool {
        match rest {
            Rest::Lost => false,
            Rest::Kept => true,
            Rest::Torn => self.dice.throw(2) == 0,
        }
    }

    fn content(&mut self, image: &mut Image, inode: Inode, op: &Op, rest: Rest) {
        let sure = self.is_sure(inode, op);
        let rest = if sure { Rest::Kept } else { self.rest_of(inode, rest) };
        let len = match &op.what {
            What::Write { at, bytes, .. } => {
                let mut at = usize::try_from(*at).unwrap();
                let mut left = bytes.as_slice();
                while !left.is_empty() {
                    let (piece, behind) = left.split_at(left.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                    if self.keeps(rest) {
                        image.put(at, piece);
                    }
                    at += piece.len();
                    left = behind;
                }
                image.len.max(at as u64)
            }
            What::Length { len, .. } => *len,
            _ => return,
        };
        if len == image.len {
            return;
        }
        if sure {
            image.is_stuck = false;
        } else if image.is_stuck || (rest == Rest::Torn && self.dice.throw(8) == 0) || rest == Rest::Lost {
            image.is_stuck = true;
            return;
        }
        image.len = len;
        image.bytes.truncate(usize::try_from(len).unwrap());
    }

    fn names(&mut self, names: &mut Names, folder: Inode, op: &Op, rest: Rest) {
        let sure = self.is_sure(folder, op);
        let rest = self.rest_of(folder, rest);
        if !sure && (names.is_stuck || rest == Rest::Lost || (rest == Rest::Torn && self.dice.throw(4) == 0)) {
            names.is_stuck = true;
            return;
        }
        let entries = &mut names.entries;
        match &op.what {
            What::Link { name, inode, .. } => {
                entries.insert(name.clone(), *inode);
            }
            What::Unlink { name, .. } => {
                entries.remove(name);
            }
            What::Rename { from, to, .. } => {
                if let Some(inode) = entries.remove(from) {
                    entries.insert(to.clone(), inode);
                }
            }
            What::Exchange { one, other, .. } => {
                if let (Some(first), Some(second)) = (entries.get(one).copied(), entries.get(other).copied()) {
                    entries.insert(one.clone(), second);
                    entries.insert(other.clone(), first);
                }
            }
            _ => {}
        }
    }

    fn list(
        &mut self,
        folders: &BTreeMap<Inode, Names>,
        images: &mut BTreeMap<Inode, Image>,
        folder: Inode,
        path: &Path,
        rest: Rest,
        tree: &mut Tree,
    ) {
        for (name, inode) in folders.get(&folder).into_iter().flat_map(|names| &names.entries) {
            let path = path.join(name);
            match self.trace.inodes[inode.0].0 {
                Form::Folder => {
                    tree.insert(path.clone(), (*inode, Content::Folder));
                    self.list(folders, images, *inode, &path, rest, tree);
                }
                Form::Socket => {
                    tree.insert(path, (*inode, Content::Socket));
                }
                Form::File => {
                    let mut bytes = images.remove(inode).map_or_else(Vec::new, Image::whole);
                    if is_unseen(&path) && rest != Rest::Kept {
                        bytes.fill_with(|| self.dice.throw(256) as u8);
                    }
                    tree.insert(path, (*inode, Content::File(bytes)));
                }
            }
        }
    }
}

/// Puts a rebuilt directory where a node can find it.
pub(super) fn put(trace: &Trace, tree: &Tree, dir: &Path) {
    for (path, (_, content)) in tree {
        let path = dir.join(path);
        match content {
            Content::Folder => fs::create_dir(path).unwrap(),
            Content::File(bytes) => fs::write(path, bytes).unwrap(),
            Content::Socket => drop(UnixListener::bind(path).unwrap()),
        }
    }
    // Another disk gives other numbers, by which the journal of a log knows the log.
    let numbers: BTreeMap<u64, u64> = tree
        .iter()
        .map(|(path, (inode, _))| (trace.inodes[inode.0].1, fs::symlink_metadata(dir.join(path)).unwrap().ino()))
        .collect();
    for path in tree.keys().filter(|path| path.extension().is_some_and(|extension| extension == "journal")) {
        renumber(&dir.join(path), &numbers);
    }
}

/// Puts other inodes into the journal of a log; `methods/append/journal.rs` says what it looks like.
fn renumber(path: &Path, numbers: &BTreeMap<u64, u64>) {
    let (inode, sum) = (24..32, 40..48);
    let mut journal = fs::read(path).unwrap();
    for slot in journal.chunks_exact_mut(64).skip(1) {
        let known = u64::from_le_bytes(slot[inode.clone()].try_into().unwrap());
        let hash = |slot: &[u8]| blake3::hash(&slot[..sum.start]);
        if let Some(number) = numbers.get(&known).filter(|_| slot[sum.clone()] == hash(slot).as_bytes()[..8]) {
            slot[inode.clone()].copy_from_slice(&number.to_le_bytes());
            let hash = hash(slot);
            slot[sum.clone()].copy_from_slice(&hash.as_bytes()[..8]);
        }
    }
    fs::write(path, journal).unwrap();
}

impl Image {
    fn put(&mut self, at: usize, piece: &[u8]) {
        let end = at + piece.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(piece);
    }

    fn whole(mut self) -> Vec<u8> {
        self.bytes.resize(usize::try_from(self.len).unwrap(), 0);
        self.bytes
    }
}

/// A node's directory in which `file` is made and written, as these operations say, with their beginnings and ends.
fn small(ops: Vec<(Moment, Moment, What)>) -> Trace {
    let ops = ops.into_iter().map(|(begin, end, what)| Op { begin, end: Some(end), node: "n".to_owned(), what });
    let inodes = vec![(Form::Folder, 1), (Form::File, 2), (Form::File, 3)];
    Trace { ops: ops.collect(), inodes, dirs: BTreeMap::from([("n".to_owned(), DIR)]) }
}

const DIR: Inode = Inode(0);
const FILE: Inode = Inode(1);

fn made(name: &str) -> What {
    What::Link { folder: DIR, name: name.to_owned(), inode: FILE }
}

fn written(at: u64, bytes: &[u8]) -> What {
    What::Write { inode: FILE, at, bytes: bytes.to_vec() }
}

/// What is left of the one file.
fn left(trace: &Trace, moment: Moment, rest: Rest, seed: u64) -> Option<Vec<u8>> {
    match rebuild(trace, "n", moment, rest, to_nothing, seed).into_values().next()?.1 {
        Content::File(bytes) => Some(bytes),
        Content::Folder | Content::Socket => None,
    }
}

#[test]
fn a_content_is_sure_after_its_sync_and_a_name_after_the_sync_of_its_folder() {
    let ops = vec![
        (1, 2, made("file")),
        (3, 4, written(0, b"first")),
        (5, 6, What::Sync(FILE)),
        (7, 8, What::Sync(DIR)),
        (9, 10, written(5, b"second")),
    ];
    let trace = small(ops);
    assert_eq!(left(&trace, 7, Rest::Lost, 0), None, "the name is not sure");
    assert_eq!(left(&trace, 8, Rest::Lost, 0), None, "a sync that has not ended is none");
    assert_eq!(left(&trace, 9, Rest::Lost, 0).unwrap(), b"first");
    assert_eq!(left(&trace, 11, Rest::Lost, 0).unwrap(), b"first");
    assert_eq!(left(&trace, 11, Rest::Kept, 0).unwrap(), b"firstsecond");
    assert_eq!(left(&trace, 10, Rest::Kept, 0).unwrap(), b"firstsecond", "it had begun");
}

#[test]
fn a_sync_covers_what_had_ended_when_it_began() {
    let ops =
        vec![(1, 2, made("file")), (3, 4, What::Sync(DIR)), (5, 8, written(0, b"late")), (7, 9, What::Sync(FILE))];
    assert_eq!(left(&small(ops), 10, Rest::Lost, 0).unwrap(), b"");
}

#[test]
fn what_is_torn_is_torn_between_sectors() {
    let ops = vec![
        (1, 2, made("file")),
        (3, 4, What::Sync(DIR)),
        (5, 6, written(0, &[1; 4 * SECTOR_BYTES])),
        (7, 8, What::Sync(FILE)),
        (9, 10, written(100, &[2; 3 * SECTOR_BYTES])),
    ];
    let trace = small(ops);
    let found: std::collections::BTreeSet<Vec<u8>> =
        (0..200).map(|seed| left(&trace, 11, Rest::Torn, seed).unwrap()).collect();
    assert_eq!(found.len(), 16, "each of four sectors is new or old");
    for bytes in found {
        assert!(bytes[..100].iter().all(|byte| *byte == 1), "what was not written is as it was");
        for sector in bytes[..3 * SECTOR_BYTES + 100].chunks(SECTOR_BYTES) {
            assert!(sector[100..].windows(2).all(|two| two[0] == two[1]) || sector.len() == 100, "a torn sector");
        }
    }
}

#[test]
fn names_and_lengths_are_lost_from_some_point_on() {
    let rename = |from: &str, to: &str| What::Rename { folder: DIR, from: from.to_owned(), to: to.to_owned() };
    let trace = small(vec![(1, 2, made("a")), (3, 4, rename("a", "b")), (5, 6, rename("b", "c"))]);
    let names = |seed| rebuild(&trace, "n", 7, Rest::Torn, to_nothing, seed).into_keys().next();
    let found: std::collections::BTreeSet<_> = (0..200).map(names).collect();
    assert_eq!(found, [None, Some("a".into()), Some("b".into()), Some("c".into())].into());

    let grown = |len| What::Length { inode: FILE, len };
    let ops = vec![(1, 2, made("a")), (3, 4, What::Sync(DIR)), (5, 6, grown(3)), (7, 8, grown(0)), (9, 10, grown(9))];
    let trace = small(ops);
    let found: std::collections::BTreeSet<_> =
        (0..500).map(|seed| left(&trace, 11, Rest::Torn, seed).unwrap().len()).collect();
    assert_eq!(found, [0, 3, 9].into());
}
