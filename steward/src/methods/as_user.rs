//! Runs a program as another user, where a rule says so and the node runs as root. It is this program once more
//! (`steward as-user`), which takes on the user's groups, group and user, and then becomes the program: in the node itself
//! that would take a fork of the whole process, which costs ten times as much as starting this.
//!
//! Users and groups are looked up in `/etc/passwd` and `/etc/group` and nowhere else. For a user of a directory service,
//! the rule names both numbers (`user = "1000:1000"`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::IntoRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Gid, Uid};
use rustix::thread;

/// The hidden verb.
pub(crate) const VERB: &str = "as-user";

/// Stands where no word names a file.
const NO_FILE: &str = "-";

/// What a program is told to be that can't be started, as shells have it.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// Its name and its home, where `/etc/passwd` has them.
    known: Option<(String, PathBuf)>,
}

impl Account {
    /// The account of a rule's `user`: a name, a number, or UID:GID. The error is a reason in words.
    pub(super) fn find(user: &str) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path} can't be read: {error}"));
        Self::among(user, &read("/etc/passwd")?, &read("/etc/group")?)
    }

    fn among(user: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
        if let Some((uid, gid)) = user.split_once(':') {
            let numbers = number(uid).zip(number(gid));
            let (uid, gid) = numbers.ok_or_else(|| format!("{user:?} is not UID:GID, two numbers"))?;
            return Ok(Self { uid, gid, groups: Vec::new(), known: None });
        }
        let entries = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some((name, number(uid)?, number(gid)?, fields.nth(1)?))
        });
        let found = entries.into_iter().find(|(name, uid, ..)| *name == user || number(user) == Some(*uid));
        let (name, uid, gid, home) = found.ok_or_else(|| {
            format!("there is no user {user:?} in /etc/passwd; a rule can also name both numbers, as in user = \"1000:1000\"")
        })?;
        let mut groups = vec![gid];
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, gid, members] = fields[..]
                && members.split(',').any(|member| member == name)
                && let Some(gid) = number(gid)
                && !groups.contains(&gid)
            {
                groups.push(gid);
            }
        }
        Ok(Self { uid, gid, groups, known: Some((name.to_owned(), PathBuf::from(home))) })
    }

    /// Whether this process has that user already.
    pub(super) fn is_ours(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }

    /// The command that runs `argv` as this user. None: this process has that user already. The word at the place `file`
    /// is the path of a file that the user may not reach; it is given to the program open. The error is a reason in words.
    pub(super) fn command(&self, argv: &[OsString], file: Option<usize>) -> Result<Option<Command>, String> {
        let us = rustix::process::geteuid();
        if self.is_ours() {
            return Ok(None);
        }
        if !us.is_root() {
            return Err(format!(
                "the rule that lets it in runs it as user {}, and only a node that runs as root can do that",
                self.uid
            ));
        }
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let mut command = Command::new("/proc/self/exe");
        command.args([VERB, &self.uid.to_string(), &self.gid.to_string(), &groups.join(",")]);
        // The node's own directory is for the node alone.
        let home = self.known.as_ref().map(|(_, home)| home.clone()).filter(|home| home.is_dir());
        command.arg(home.unwrap_or_else(|| PathBuf::from("/")));
        command.arg(file.map_or_else(|| NO_FILE.to_owned(), |place| place.to_string())).args(argv);
        for name in ["HOME", "USER", "LOGNAME", "MAIL", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        if let Some((name, home)) = &self.known {
            command.env("USER", name).env("LOGNAME", name).env("HOME", home);
        }
        Ok(Some(command))
    }
}

/// `steward as-user UID GID GROUP,… DIR FILE PROGRAM ARGUMENT…`: becomes the program. FILE is the place of a word, counted
/// from PROGRAM, that names a file which is to be opened before, or `-`. Starts no runtime and no thread, so that what it
/// takes on holds for all of it.
pub(crate) fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(2);
    let mut next = || args.next().unwrap_or_default();
    let (uid, gid, groups, dir, file) = (next(), next(), next(), next(), next());
    let mut argv: Vec<OsString> = args.collect();
    let shown = argv.first().cloned().unwrap_or_default();
    if let Err(error) = open(&mut argv, &file) {
        told(&format!("{} can't be started: {error}", shown.display()));
        return ExitCode::from(NOT_STARTED);
    }
    let Err(error) = take_on(&uid, &gid, &groups).and_then(|()| {
        // A home that the user may not enter is no reason not to run.
        std::env::set_current_dir(&dir).or_else(|_| std::env::set_current_dir("/"))
    }) else {
        let (program, rest) = argv.split_first().map_or((&shown, &[][..]), |(program, rest)| (program, rest));
        let error = Command::new(program).args(rest).exec();
        told(&format!("{} can't be started: {error}", shown.display()));
        return ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED });
    };
    told(&format!("the user of the rule can't be taken on: {error}"));
    ExitCode::from(NOT_STARTED)
}

/// Opens the file that one of the words names, as who we still are, and has the word name the open file instead, which the
/// program inherits. The user still has to be allowed to read it, and to run it if it is the program.
fn open(argv: &mut [OsString], file: &OsString) -> io::Result<()> {
    let place = file.to_str().and_then(|place| place.parse::<usize>().ok());
    let Some(word) = place.and_then(|place| argv.get_mut(place)) else { return Ok(()) };
    // A second number for the same file, because the first one is closed where a program takes the place of this one.
    let inherited = rustix::io::dup(File::open(&*word)?)?;
    *word = format!("/proc/self/fd/{}", inherited.into_raw_fd()).into();
    Ok(())
}

fn take_on(uid: &OsString, gid: &OsString, groups: &OsString) -> io::Result<()> {
    let number = |text: &str| text.parse::<u32>().map_err(io::Error::other);
    let text = |text: &OsString| text.to_str().map(str::to_owned).ok_or(io::Error::from(io::ErrorKind::InvalidInput));
    let groups: io::Result<Vec<Gid>> =
        text(groups)?.split(',').filter(|part| !part.is_empty()).map(|part| Ok(Gid::from_raw(number(part)?))).collect();
    let (uid, gid) = (Uid::from_raw(number(&text(uid)?)?), Gid::from_raw(number(&text(gid)?)?));
    thread::set_thread_groups(&groups?)?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "it stands in the place of the program, whose standard error goes to the sender"
)]
fn told(why: &str) {
    eprintln!("steward: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann,,,:/home/ann:/bin/sh\nbroken:x\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\nadm:x:4:bob,ann\nwheel:x:10:annabel\n";

    #[test]
    fn a_user_comes_with_all_its_groups() {
        let find = |user: &str| Account::among(user, PASSWD, GROUP);
        let ann = Account {
            uid: 1000,
            gid: 1001,
            groups: vec![1001, 4],
            known: Some(("ann".to_owned(), PathBuf::from("/home/ann"))),
        };
        assert_eq!(find("ann"), Ok(ann.clone()));
        assert_eq!(find("1000"), Ok(ann));
        assert_eq!(find("5:6"), Ok(Account { uid: 5, gid: 6, groups: Vec::new(), known: None }));
        for bad in ["annabel", "broken", "7", "5:", "x:1", "4294967295:1"] {
            assert!(find(bad).is_err(), "{bad}");
        }
    }
}
