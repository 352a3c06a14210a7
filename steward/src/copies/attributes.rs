//! What a copy has of its original beside the content: mode and time, as words of a message and as JSON of a result.

use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The bits of a mode that a copy gets: who may read, write and run it. Not those that lend it its owner's rights.
const MODE_MASK: u32 = 0o777;

/// Mode and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Who may read, write and run it.
    pub(crate) mode: u32,
    /// When it was last written: seconds and nanoseconds since 1970.
    pub(crate) modified: (u64, u32),
}

/// What is told of a file that was copied from its node: the standard error of a `CopyFile` that gets one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileView {
    /// Where it lies there.
    pub(crate) path: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// The BLAKE3 hash of its content, 64 hexadecimal digits.
    pub(crate) blake3: String,
    /// Its mode, in octal digits.
    pub(crate) mode: String,
    /// When it was last written, in seconds since 1970 with nine places behind the point.
    pub(crate) modified: String,
    /// Whether only what it has beside the version came that the sender has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) delta: bool,
}

/// What is told of a file of which there may be an older version: the standard output of a `CopyFile` that asks for its chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunksView {
    /// The BLAKE3 hash of the version that is there; absent where none is that has a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blake3: Option<String>,
    /// Its chunks, as one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chunks: Option<String>,
}

impl Attributes {
    /// Those of a file. A time before 1970 is taken for 1970.
    pub(crate) fn of(is: &Metadata) -> Self {
        let modified = match u64::try_from(is.mtime()) {
            Ok(seconds) => (seconds, u32::try_from(is.mtime_nsec()).unwrap_or(0)),
            Err(_) => (0, 0),
        };
        Self { mode: is.mode() & MODE_MASK, modified }
    }

    /// Gives them to a file.
    pub(crate) fn give(&self, file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(self.mode))?;
        let (seconds, nanos) = self.modified;
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
        let modified = modified.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        file.set_times(FileTimes::new().set_modified(modified))
    }

    /// The mode in octal digits.
    pub(crate) fn mode_text(&self) -> String {
        format!("{:03o}", self.mode)
    }

    /// The time in seconds with nine places behind the point.
    pub(crate) fn modified_text(&self) -> String {
        format!("{}.{:09}", self.modified.0, self.modified.1)
    }

    /// From the two texts; none if one makes no sense.
    pub(crate) fn read(mode: &str, modified: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= MODE_MASK)?;
        let (seconds, nanos) = modified.split_once('.')?;
        if !digits(seconds) || !digits(nanos) || nanos.len() != 9 {
            return None;
        }
        let seconds = seconds.parse().ok().filter(|seconds| *seconds < SECONDS_MAX)?;
        Some(Self { mode, modified: (seconds, nanos.parse().ok()?) })
    }
}

/// The year 9999, in seconds since 1970: a time beyond it is none that a file system has.
const SECONDS_MAX: u64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_file_is_what_its_copy_gets() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) =
            (File::create(dir.path().join("one")).unwrap(), File::create(dir.path().join("other")).unwrap());
        let given = Attributes { mode: 0o751, modified: (1_795_363_200, 123_456_789) };
        given.give(&one).unwrap();
        let told = Attributes::of(&one.metadata().unwrap());
        assert_eq!(told, given);
        let read = Attributes::read(&told.mode_text(), &told.modified_text()).unwrap();
        read.give(&other).unwrap();
        assert_eq!(Attributes::of(&other.metadata().unwrap()), given);
    }

    #[test]
    fn texts_that_make_no_sense_are_none() {
        assert!(Attributes::read("644", "1.000000000").is_some());
        for (mode, modified) in [
            ("", "1.000000000"),
            ("888", "1.000000000"),
            ("4755", "1.000000000"),
            ("644", "1"),
            ("644", "1.5"),
            ("644", "-1.000000000"),
            ("644", "+1.000000000"),
            ("644", "999999999999999.000000000"),
        ] {
            assert_eq!(Attributes::read(mode, modified), None, "{mode} {modified}");
        }
    }
}
