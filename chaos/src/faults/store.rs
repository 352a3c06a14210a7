//! Directories that are gone, or older than they were.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::{Fault, Struck, nothing};
use crate::audit::tag_of;
use crate::world::World;
use crate::world::members::is_papers;

/// The directory is gone.
pub(super) const GONE: Fault = Fault {
    name: "store-gone",
    does: "a ship's directory is deleted while it is down",
    prepare: nothing,
    strike: |world, dice| {
        let (ship, kill) = (world.a_ship(dice), dice.chance(50));
        let name = world.machines[ship].name.clone();
        if world.has_guest(ship) {
            return Err(format!("somebody else is on the directory of {name}"));
        }
        world.with_stopped(ship, kill, |world, ship| {
            if world.machines[ship].disk_is_broken {
                return world.tell("its directory stays: the disk is broken");
            }
            world.keep_text_log(ship);
            world.machines[ship].past.store_gone += 1;
            let emptied = empty(world.machines[ship].node.dir());
            world.check(emptied, "deleting a directory");
            world.tell("its directory is deleted");
        })?;
        Ok(name.into())
    },
};

/// The directory is replaced by an older copy.
pub(super) const RESTORED: Fault = Fault {
    name: "store-restored",
    does: "a ship's directory is copied while it is down, and that copy takes its place some time later",
    prepare: nothing,
    strike: |world, dice| {
        let (ship, kill, later) = (world.a_ship(dice), dice.chance(50), dice.millis(300, 2500));
        let name = world.machines[ship].name.clone();
        if world.has_guest(ship) {
            return Err(format!("somebody else is on the directory of {name}"));
        }
        world.with_stopped(ship, kill, move |world, ship| put_aside(world, ship, later))?;
        Ok(Struck::Armed(format!("{name} is to be copied")))
    },
};

/// Copies the directory of a ship that is down, and plans its return.
fn put_aside(world: &mut World<'_>, ship: usize, later: std::time::Duration) {
    let (machine, number) = (&world.machines[ship], world.chronicle.len());
    let place = world.fleet.dir().join(format!("copy-{number}"));
    let copied = fs::create_dir(&place).and_then(|()| copy_all(machine.node.dir(), &place));
    world.check(copied, "copying a directory");
    world.tell("its directory is copied");
    let (in_copy, out_copy) = open_in(world, ship, &place);
    world.later(later, move |world| {
        let place = place.clone();
        if world.has_guest(ship) {
            return world.tell("the copy is not used: somebody else is on that directory");
        }
        let again = world.with_stopped(ship, true, move |world, ship| {
            if world.machines[ship].disk_is_broken {
                return world.tell("the copy is not used: the disk is broken");
            }
            world.keep_text_log(ship);
            let machine = &mut world.machines[ship];
            machine.past.store_restored += 1;
            machine.past.in_copy.extend(in_copy);
            machine.past.out_copy.extend(out_copy);
            let dir = machine.node.dir();
            let restored = empty(dir).and_then(|()| copy(&place, dir, &|name| !is_papers(name)));
            world.check(restored, "restoring a directory");
            world.tell("its directory is replaced by the copy");
            world.count(RESTORED.name);
        });
        if let Err(why) = again {
            world.tell(format_args!("the copy is not used: {why}"));
        }
    });
}

/// The tags of what has not ended in the inbox of a ship whose directory was copied to `place`, and in its outbox. The copy
/// is asked, because the ship's own disk may be broken just now.
fn open_in(world: &mut World<'_>, ship: usize, place: &Path) -> (Vec<String>, Vec<String>) {
    let machine = &world.machines[ship];
    let ran = machine.node.cli_in(place, &["messages", "--json", "--limit", "10000"]);
    // A store that was being made when its node was killed has nothing in it, and can't be read before a node has run on it.
    if ran.code != 0 && !place.join("steward.db-journal").exists() {
        world.wrong.push(format!("a copy can't be read: {}", ran.stderr));
    }
    let machine = &world.machines[ship];
    let messages = ran.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let open: Vec<Value> = messages.filter(|message| message["finishedAt"].is_null()).collect();
    let tags = |end: &str| {
        let of_it = open.iter().filter(|message| message[end] == *machine.name);
        of_it.filter_map(tag_of).collect()
    };
    (tags("toNode"), tags("fromNode"))
}

/// Deletes everything in a folder but what a member carries, for good: what is not synced may be there again when the file
/// system fails.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if is_papers(&entry.file_name()) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    fs::File::open(dir)?.sync_all()
}

/// Copies everything in a folder but sockets, into one that is there, for good: a file system that fails takes nothing of it.
pub(crate) fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    copy(from, to, &|_| true)
}

/// Copies what a member carries, as it is now.
pub(crate) fn copy_papers(from: &Path, to: &Path) -> io::Result<()> {
    copy(from, to, &is_papers)
}

/// Copies what has a wanted name.
fn copy(from: &Path, to: &Path, is_wanted: &dyn Fn(&OsStr) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if !is_wanted(&entry.file_name()) {
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target)?;
            // A folder with keys is for its owner only, and a node takes no other.
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
            copy_all(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    fs::File::open(to)?.sync_all()
}

impl World<'_> {
    /// Remembers what stands in a machine's text log before it goes with the directory.
    pub(crate) fn keep_text_log(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let log = machine.node.read("textlogging.log");
        machine.past.old_logs.push(log);
    }

    fn check(&mut self, result: io::Result<()>, what: &str) {
        if let Err(error) = result {
            self.wrong.push(format!("{what} failed, which is the tool's fault: {error}"));
        }
    }
}
