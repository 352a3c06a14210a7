//! What is done to the disk of a machine that has one of its own.

use std::fs::{self, File};
use std::io::{self, Write as _};

use super::machine::Machine;

/// What fills it.
const FILLER: &str = "filler";

impl Machine<'_> {
    /// Fills its disk to the last byte; how many there were.
    pub(crate) fn fill_disk(&mut self) -> io::Result<u64> {
        let mut file = File::create(self.node.dir().join(FILLER))?;
        let mut block = vec![0x5a; 1024 * 1024];
        let mut bytes = 0;
        while !block.is_empty() {
            match file.write(&block) {
                Ok(0) | Err(_) => block.truncate(block.len() / 2),
                Ok(count) => bytes += count as u64,
            }
        }
        // Some file systems find out only now that there is no room.
        file.sync_all().ok();
        Ok(bytes)
    }

    /// Makes room again.
    pub(crate) fn free_disk(&mut self) {
        // It may have been deleted with everything else.
        fs::remove_file(self.node.dir().join(FILLER)).ok();
    }

    /// An error of the file system: it becomes read-only while files are open in it.
    pub(crate) fn break_disk(&mut self) -> Result<(), String> {
        let disk = self.node.disk().ok_or("there is no disk")?;
        let dir = disk.inside().display().to_string();
        let device = format!("$(basename $(findmnt -nro SOURCE {dir}))");
        disk.run(&format!("echo 1 > /sys/fs/ext4/{device}/trigger_fs_error"))?;
        self.disk_is_broken = true;
        Ok(())
    }

    /// What an operator does: looks it over and mounts it again. Nobody may use it meanwhile.
    pub(crate) fn repair_disk(&mut self) {
        let Some(disk) = self.node.disk().filter(|_| self.disk_is_broken) else { return };
        let repaired = disk.remount();
        assert!(repaired.is_ok(), "the disk of {} can't be repaired: {repaired:?}", self.name);
        self.disk_is_broken = false;
    }
}
