//! A small disk of a node's own, that can be filled and can fail without anybody else noticing.
//!
//! It is mounted in a mount namespace that a process of its own holds, and ends with it, whatever happens to us. The
//! nodes on it enter that namespace, so the disk outlives them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SOON;
use super::process::{self, Process};

/// What a small disk is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// Memory (tmpfs). Any user may have one where user namespaces are allowed.
    Memory,
    /// A file with an ext4 on it, by a loop device: it can fail while it is in use. Only root may have one.
    Loop,
}

/// A small disk at a node's directory.
pub struct Disk {
    fleet: PathBuf,
    /// Where it is mounted, as those see it who live in its namespace.
    inside: PathBuf,
    /// The file that a loop device makes a disk of.
    image: PathBuf,
    holder: Process,
}

/// How such a disk is mounted.
const LOOP_OPTIONS: &str = "loop,errors=remount-ro";

impl Disk {
    /// Mounts a disk of so many MiB at `dir`; an error says why that can't be done here.
    pub(crate) fn mount(fleet: &Path, label: &str, dir: &Path, kind: DiskKind, mebibytes: u32) -> Result<Self, String> {
        let image = fleet.join(format!("{label}.img"));
        let mount = match kind {
            DiskKind::Memory => format!("mount -t tmpfs -o size={mebibytes}m none {}", dir.display()),
            DiskKind::Loop => {
                if !is_root() {
                    return Err("only root may have a loop device".to_owned());
                }
                let file = fs::File::create(&image).and_then(|file| file.set_len(u64::from(mebibytes) << 20));
                file.map_err(|error| error.to_string())?;
                let (image, dir) = (image.display(), dir.display());
                format!("mkfs.ext4 -q -F -m 0 {image} && mount -o {LOOP_OPTIONS} {image} {dir}")
            }
        };
        let mut command = Command::new("unshare");
        command.arg(if is_root() { "-m" } else { "-rm" });
        command.args(["sh", "-c", &format!("PATH=$PATH:/usr/sbin:/sbin; {mount} && exec sleep infinity")]);
        let name = format!("{label}-disk");
        let mut holder = Process::start(&name, fleet, &mut command);
        let outside = outside(holder.id(), dir);
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
        let mounted = super::within(SOON, || {
            let is_there = device(&outside).is_some_and(|inside| Some(inside) != device(dir));
            if is_there { Some(true) } else { holder.ended().map(|_| false) }
        });
        if mounted != Some(true) {
            let why = fs::read_to_string(fleet.join(format!("{name}.log"))).unwrap_or_default();
            return Err(format!("mounting is not possible here: {}", why.trim()));
        }
        Ok(Self { fleet: fleet.to_owned(), inside: dir.to_owned(), image, holder })
    }

    /// The disk as it is seen from outside.
    pub(crate) fn dir(&self) -> PathBuf {
        outside(self.holder.id(), &self.inside)
    }

    /// A command that runs in the disk's namespace and in its folder.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.holder.id().to_string());
        if !is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.args(["-m", "sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(&self.inside).arg(program);
        command
    }

    /// Runs a line of shell there; what it said if it failed.
    pub fn run(&self, line: &str) -> Result<(), String> {
        let line = format!("PATH=$PATH:/usr/sbin:/sbin; cd /; {line}");
        let ran = process::run(&self.fleet, self.command(Path::new("sh")).args(["-c", &line]));
        if ran.code == 0 { Ok(()) } else { Err(format!("{line}: {}{}", ran.stdout, ran.stderr)) }
    }

    /// Looks an ext4 over that had an error, and mounts it again; waits for the last of those who still use it.
    pub fn remount(&self) -> Result<(), String> {
        let (dir, image) = (self.inside.display(), self.image.display());
        let gone = super::within(SOON, || self.run(&format!("umount {dir}")).ok());
        gone.ok_or_else(|| format!("{dir} is still in use"))?;
        // 1 is: there was something to mend, and it is mended.
        self.run(&format!("e2fsck -fp {image} >/dev/null; test $? -le 1 && mount -o {LOOP_OPTIONS} {image} {dir}"))
    }

    /// Where it is mounted, for whoever lives in its namespace.
    pub fn inside(&self) -> &Path {
        &self.inside
    }
}

fn outside(holder: u32, dir: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{holder}/root")).join(dir.strip_prefix("/").unwrap_or(dir))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
