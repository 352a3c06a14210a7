//! What has become of files while nobody looked: renamed, removed, emptied, copied, come anew. It decides which file is which, so
//! that no line is missed and none is read twice, and reads no lines itself.
//!
//! * **Renamed**: another file, or none, has the path. The old one is read to its end by its open handle; after a restart of the node it
//!   is looked for in its folder.
//! * **Rotated more than once** meanwhile: the files in between were never seen. They are those in the folder whose names begin with that of the
//!   path, that are younger than the one that was read last, and no copies of what was read.
//! * **Emptied** (or written anew from its beginning): the same file is shorter than it was read, or does not begin any more as it
//!   did. If it was copied before (`copytruncate`), the copy begins as the file did; what was not read yet is read there.
//! * **Gone**: nobody knows where it is. What is known to be lost is said and counted.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::follower::{DONE_MAX, FILES_MAX, Follower, LINGER, Role, Tracked};
use super::identity::{self, Identity, Print, is_copy, is_rotated, number};
use super::lines::Place;

/// Names in a folder that are looked at to find a file that was renamed.
const ENTRIES_MAX: usize = 50_000;

/// How often a folder is listed until two lists are the same: names may change while they are read.
const LISTS_MAX: usize = 4;

/// How soon a file that was not found is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Looks which files are there now, and which of them are new.
pub(super) fn look(follower: &mut Follower, now: Duration) {
    let found = follower.ask.pattern.find(follower.ask.links);
    (follower.over, follower.folders) = (found.over, found.folders);
    for tracked in &mut follower.files {
        (tracked.is_there, tracked.has_path) = (false, false);
    }
    // Those that are known go first: what a new one is depends on where they are.
    let mut new = Vec::new();
    for (path, meta) in found.files {
        match follower.known(&Identity::of(&meta)) {
            Some(index) => is_there(follower, index, &path, &meta, now),
            None => new.push((path, meta)),
        }
    }
    for tracked in follower.files.iter_mut().filter(|tracked| tracked.role == Role::Current && !tracked.has_path) {
        (tracked.role, tracked.grown) = (Role::Rotated, now);
    }
    for (path, meta) in new {
        come(follower, &path, &meta, now);
    }
    search(follower, now);
    follower.has_begun = true;
}

/// While no file has a path: others may have come and gone there since the last one.
fn search(follower: &mut Follower, now: Duration) {
    let mut index = follower.files.len();
    while let Some(tracked) = index.checked_sub(1).and_then(|last| follower.files.get(last)) {
        index -= 1;
        let is_last = || {
            !follower
                .files
                .iter()
                .skip(index + 1)
                .any(|younger| younger.label == tracked.label && younger.role != Role::Copy)
        };
        let is_due = tracked.searched.is_none_or(|searched| now >= searched + LOOK_AGAIN);
        if tracked.role != Role::Rotated || !is_due || !is_last() {
            continue;
        }
        let between = between(follower, index, &tracked.identity, now);
        if let Some(tracked) = follower.files.get_mut(index) {
            tracked.searched = Some(now);
        }
        follower.files.splice(index + 1..index + 1, between);
    }
}

/// Takes notice of a file that is known and still there.
fn is_there(follower: &mut Follower, index: usize, path: &str, meta: &Metadata, now: Duration) {
    let of_path = follower.files.iter().rev().find(|tracked| tracked.label == path && tracked.role != Role::Copy);
    let place = of_path.map(|tracked| tracked.place.clone());
    let Some(tracked) = follower.files.get_mut(index) else { return };
    let has_path = tracked.label == path;
    tracked.is_there = true;
    tracked.has_path |= has_path;
    // Nothing of it was read, so it can't be told by its beginning whether it was emptied meanwhile.
    let is_unread = tracked.role == Role::Current && tracked.place.offset == 0;
    if is_unread && changed(meta) != tracked.changed {
        return emptied_unread(follower, index, meta, now);
    }
    tracked.changed = changed(meta);
    match tracked.role {
        Role::Copy if has_path => {
            // It stands where the file was from which it was copied.
            tracked.place = place.unwrap_or_default();
            tracked.role = Role::Current;
        }
        Role::Rotated | Role::Done if has_path => tracked.role = Role::Current,
        // Somebody writes into it again.
        Role::Done if meta.len() > tracked.place.offset => (tracked.role, tracked.grown) = (Role::Rotated, now),
        Role::Current | Role::Rotated | Role::Done | Role::Copy => {}
    }
    if tracked.role == Role::Current && meta.len() < tracked.place.offset {
        emptied(follower, index);
    }
}

/// Takes notice of a file that was not there before.
fn come(follower: &mut Follower, path: &str, meta: &Metadata, now: Duration) {
    let identity = Identity::of(meta);
    if follower.known(&identity).is_some() {
        return;
    }
    let (mut tracked, open) =
        (Tracked::new(path, identity, meta, now), follower.files.iter().filter(|tracked| tracked.is_open()));
    if open.count() >= FILES_MAX || !forget_some(follower) {
        follower.over = Some(format!("more than {FILES_MAX} files fit"));
        return;
    }
    if let Some(label) = copied_from(follower, path) {
        follower.files.push(Tracked { label, role: Role::Copy, ..tracked });
        return;
    }
    if let Some(elder) = follower.files.iter().rposition(|tracked| tracked.label == path && tracked.role != Role::Copy)
    {
        find_again(follower, elder);
        let between = between(follower, elder, &identity, now);
        // Behind the one that they follow, so that they are read in their order.
        follower.files.splice(elder + 1..elder + 1, between);
    }
    tracked.place = Place::at(follower.begin_at(meta.len()));
    (tracked.is_there, tracked.has_path) = (true, true);
    follower.files.push(tracked);
}

/// Makes room for one more to be known. False if all of them are there.
fn forget_some(follower: &mut Follower) -> bool {
    let files = &mut follower.files;
    if files.iter().filter(|tracked| !tracked.is_open()).count() < DONE_MAX {
        return true;
    }
    let oldest = files.iter().position(|tracked| !tracked.is_open() && !tracked.is_there);
    oldest.map(|index| files.remove(index)).is_some()
}

/// The path of the file of which this is a copy that somebody has made beside it.
fn copied_from(follower: &Follower, path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let copy = identity::open(Path::new(path), follower.ask.links).ok()?;
    let of = follower.files.iter().find(|tracked| {
        let beside =
            tracked.label.rsplit_once('/').filter(|(beside, base)| *beside == folder && is_rotated(base, name));
        let original = beside.and(tracked.file.as_ref());
        original.is_some_and(|original| is_copy(original, &copy).unwrap_or(false))
    });
    of.map(|tracked| tracked.label.clone())
}

/// Has a file open that another one has followed, if it can be found; says what is lost if not.
fn find_again(follower: &mut Follower, index: usize) {
    let links = follower.ask.links;
    let Some(tracked) = follower.files.get_mut(index).filter(|tracked| tracked.is_open() && tracked.file.is_none())
    else {
        return;
    };
    tracked.file = locate(tracked, links);
    if tracked.file.is_some() {
        return;
    }
    tracked.role = Role::Done;
    let (label, offset) = (tracked.label.clone(), tracked.place.offset);
    let lost = tracked.seen.saturating_sub(offset);
    let text = match lost {
        0 => format!(
            "the file before this one is gone; what was written behind its byte {offset} is lost, if there was anything"
        ),
        lost => format!("the file before this one is gone; at least {lost} bytes behind its byte {offset} are lost"),
    };
    follower.lose(&label, lost, text);
}

/// Files that were rotated without ever having been seen: what came behind a file and before another one, the oldest first.
fn between(follower: &Follower, elder: usize, current: &Identity, now: Duration) -> Vec<Tracked> {
    let Some(elder) = follower.files.get(elder) else { return Vec::new() };
    let home = Home::of(&elder.label, follower.ask.links);
    let all = home.settled();
    let elder_number =
        all.iter().find(|one| one.identity.is(&elder.identity)).and_then(|one| number(&home.base, &one.name));
    let mut found = Vec::new();
    for one in all {
        let is_younger = match (elder_number, number(&home.base, &one.name)) {
            (Some(elder), Some(number)) => number < elder,
            _ => changed(&one.meta) > elder.changed,
        };
        let is_news = is_younger && is_rotated(&home.base, &one.name) && !one.identity.is(current);
        if !is_news || follower.known(&one.identity).is_some() {
            continue;
        }
        let Some(file) = one.open(follower.ask.links) else { continue };
        if elder.file.as_ref().is_some_and(|elder| is_copy(elder, &file).unwrap_or(false)) {
            continue;
        }
        let mut tracked = Tracked::new(&elder.label, one.identity, &one.meta, now);
        (tracked.role, tracked.file) = (Role::Rotated, Some(file));
        found.push((number(&home.base, &one.name), tracked));
    }
    found.sort_by(|(a, one), (b, other)| match (a, b) {
        (Some(a), Some(b)) => b.cmp(a),
        _ => one.changed.cmp(&other.changed),
    });
    found.into_iter().map(|(_, tracked)| tracked).collect()
}

/// Begins anew in a file that was emptied, and goes on in the copy that was made of it, if there is one.
fn emptied(follower: &mut Follower, index: usize) {
    let copy = follower.files.get(index).and_then(|tracked| copy_of(follower, tracked));
    let Some(tracked) = follower.files.get_mut(index) else { return };
    let (label, identity, now) = (tracked.label.clone(), tracked.identity, tracked.grown);
    let (place, print) = (std::mem::take(&mut tracked.place), std::mem::take(&mut tracked.print));
    let seen = std::mem::take(&mut tracked.seen);
    let Some((copy, meta, file)) = copy else {
        let lost = seen.saturating_sub(place.offset);
        if lost > 0 {
            let text = format!("the file was emptied; at least {lost} bytes behind byte {} are lost", place.offset);
            follower.lose(&label, lost, text);
        }
        return;
    };
    // It may be known already, as a copy that is not to be read.
    let known = follower.known(&copy);
    known.map(|known| follower.files.remove(known));
    let index = index - usize::from(known.is_some_and(|known| known < index));
    let mut elder = Tracked::new(&label, copy, &meta, now);
    (elder.role, elder.file, elder.place, elder.print) = (Role::Rotated, Some(file), place, print);
    follower.files.insert(index, elder);
    let between = between(follower, index, &identity, now);
    follower.files.splice(index + 1..index + 1, between);
}

/// The same for one of which nothing was read: what was in it is in younger copies, if there are any.
fn emptied_unread(follower: &mut Follower, index: usize, meta: &Metadata, now: Duration) {
    let Some(tracked) = follower.files.get(index) else { return };
    let (label, lost, identity) = (tracked.label.clone(), tracked.seen.saturating_sub(meta.len()), tracked.identity);
    let between = between(follower, index, &identity, now);
    if between.is_empty() && lost > 0 {
        follower.lose(&label, lost, format!("the file was emptied; at least {lost} bytes of it are lost"));
    }
    if let Some(tracked) = follower.files.get_mut(index) {
        (tracked.seen, tracked.changed, tracked.grown) = (meta.len(), changed(meta), now);
    }
    follower.files.splice(index..index, between);
}

/// The youngest file beside this one that begins as it did and is at least as long as it was read.
fn copy_of(follower: &Follower, tracked: &Tracked) -> Option<(Identity, Metadata, File)> {
    let home = Home::of(&tracked.label, follower.ask.links);
    let mut copies: Vec<Listed> = home.settled();
    copies.retain(|one| {
        let known = follower.known(&one.identity).and_then(|index| follower.files.get(index));
        is_rotated(&home.base, &one.name)
            && one.meta.len() >= tracked.place.offset
            && known.is_none_or(|known| known.role == Role::Copy)
    });
    copies.sort_by_key(|one| std::cmp::Reverse(changed(&one.meta)));
    copies.into_iter().find_map(|one| {
        let file = one.open(follower.ask.links)?;
        let is_one = tracked.print.len > 0 && tracked.print.is_of(&file).unwrap_or(false);
        is_one.then_some((one.identity, one.meta, file))
    })
}

/// Whether a file can be read on.
pub(super) enum Opened {
    Yes,
    /// It is not there now.
    No,
    /// It was emptied, or written anew: what is at its place in the list is to be looked at once more.
    Anew,
}

/// Has a file open, and sees whether it is still what was read.
pub(super) fn open(follower: &mut Follower, index: usize, now: Duration) -> io::Result<Opened> {
    let links = follower.ask.links;
    let Some(tracked) = follower.files.get_mut(index) else { return Ok(Opened::No) };
    if tracked.file.is_none() && tracked.role == Role::Current {
        let file = identity::open(Path::new(&tracked.label), links)?;
        // Another one that has come to this name since is found in the next look.
        tracked.file = Some(file).filter(|file| is_still(file, &tracked.identity));
    } else if tracked.file.is_none() && tracked.looked.is_none_or(|looked| now >= looked + LOOK_AGAIN) {
        tracked.looked = Some(now);
        tracked.file = locate(tracked, links);
    }
    let Some(file) = &tracked.file else {
        if tracked.role == Role::Rotated && now >= tracked.grown + LINGER {
            find_again(follower, index);
        }
        return Ok(Opened::No);
    };
    let meta = file.metadata()?;
    let size = meta.len();
    // Also where it is as long as it was read: it may have been emptied, and written anew up to just there.
    let is_same = size >= tracked.place.offset && tracked.print.is_of(file)?;
    match is_same {
        true => {
            // While nothing of it is read, it has to be known since when.
            if tracked.place.offset > 0 {
                tracked.changed = changed(&meta);
            }
            Ok(Opened::Yes)
        }
        false => {
            emptied(follower, index);
            Ok(Opened::Anew)
        }
    }
}

/// A file that was renamed, in the folder where it was.
fn locate(tracked: &Tracked, links: bool) -> Option<File> {
    let home = Home::of(&tracked.label, links);
    let one = home.settled().into_iter().find(|one| one.identity.is(&tracked.identity))?;
    // One that is named as if it had been rotated is the same one, even if it was emptied.
    let is_named = one.name == home.base || is_rotated(&home.base, &one.name);
    one.open(links).filter(|file| is_named || tracked.print.is_of(file).unwrap_or(false))
}

fn is_still(file: &File, identity: &Identity) -> bool {
    file.metadata().is_ok_and(|meta| Identity::of(&meta).is(identity))
}

/// When a file was changed last, in nanoseconds since 1970.
fn changed(meta: &Metadata) -> i128 {
    let Ok(time) = meta.modified() else { return 0 };
    let nanos = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    }
}

/// Where a file lies: where it is rotated to.
struct Home {
    folder: PathBuf,
    base: String,
}

/// A file in it.
struct Listed {
    name: String,
    path: PathBuf,
    meta: Metadata,
    identity: Identity,
}

impl Listed {
    fn open(&self, links: bool) -> Option<File> {
        identity::open(&self.path, links).ok().filter(|file| is_still(file, &self.identity))
    }
}

impl Home {
    fn of(label: &str, links: bool) -> Self {
        let real = links.then(|| fs::canonicalize(label).ok()).flatten();
        let path = real.unwrap_or_else(|| PathBuf::from(label));
        let base = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
        Self { folder: path.parent().map(Path::to_path_buf).unwrap_or_default(), base }
    }

    /// The files in it, from a list that has not changed while it was made.
    fn settled(&self) -> Vec<Listed> {
        let names = |all: &[Listed]| all.iter().map(|one| (one.name.clone(), one.identity)).collect::<Vec<_>>();
        let mut last = self.list();
        for _ in 1..LISTS_MAX {
            let next = self.list();
            if names(&next) == names(&last) {
                break;
            }
            last = next;
        }
        last
    }

    fn list(&self) -> Vec<Listed> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let listed = entries.flatten().take(ENTRIES_MAX).filter_map(|entry| {
            let (name, path) = (entry.file_name().into_string().ok()?, entry.path());
            let meta = fs::symlink_metadata(&path).ok().filter(Metadata::is_file)?;
            Some(Listed { name, path, identity: Identity::of(&meta), meta })
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        listed
    }
}

impl Tracked {
    fn new(label: &str, identity: Identity, meta: &Metadata, now: Duration) -> Self {
        Self {
            label: label.to_owned(),
            role: Role::Current,
            identity,
            place: Place::default(),
            print: Print::default(),
            seen: meta.len(),
            changed: changed(meta),
            file: None,
            grown: now,
            is_there: false,
            has_path: false,
            looked: None,
            searched: None,
        }
    }
}

impl Follower {
    /// Which of the known files it is.
    fn known(&self, identity: &Identity) -> Option<usize> {
        self.files.iter().position(|tracked| tracked.identity.is(identity))
    }
}
