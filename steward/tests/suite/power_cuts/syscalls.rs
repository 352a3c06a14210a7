//! System calls by their numbers, as x86_64 has them: which change files, move what a file descriptor stands for, or send
//! something. Addresses are left as they are; only what is of interest is read from the process's memory.

use nix::libc;

/// The directory that stands for "the current one".
pub(super) const HERE: i32 = libc::AT_FDCWD;

/// A call at its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Open {
        dir: i32,
        path: u64,
        flags: i32,
    },
    Close(i32),
    CloseRange(i32, i32),
    /// The new descriptor is what it returns.
    Duplicate(i32),
    Read(i32),
    Write {
        fd: i32,
        bytes: Bytes,
        at: Option<u64>,
    },
    Seek(i32),
    Truncate {
        fd: i32,
        len: u64,
    },
    Allocate {
        fd: i32,
        mode: i32,
        end: u64,
    },
    Sync(i32),
    Rename {
        from: (i32, u64),
        to: (i32, u64),
        flags: u32,
    },
    Unlink {
        dir: i32,
        path: u64,
    },
    MakeDir {
        dir: i32,
        path: u64,
    },
    Bind {
        address: u64,
        len: u64,
    },
    Connection,
    Map {
        fd: i32,
        protection: i32,
        flags: i32,
    },
    /// Changes a file in a way that is not followed.
    ChangesFile(i32),
    /// The same, by its name.
    ChangesPath(i32, u64),
    /// Changes anything, unseen.
    Hides,
    Other,
}

/// Where the bytes of a write lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bytes {
    At {
        address: u64,
        len: u64,
    },
    /// An array of addresses and lengths.
    Vector {
        address: u64,
        count: u64,
    },
    /// A `msghdr`.
    Message(u64),
}

/// What call this is.
pub(super) fn decode(number: u64, args: [u64; 6]) -> Call {
    let [a, b, c, d, ..] = args;
    // Descriptors and flags are C integers: the upper half of a register means nothing.
    let int = |value: u64| value as u32 as i32;
    let at = |address, len| Bytes::At { address, len };
    match i64::try_from(number).unwrap_or(-1) {
        libc::SYS_open => Call::Open { dir: HERE, path: a, flags: int(b) },
        libc::SYS_creat => Call::Open { dir: HERE, path: a, flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC },
        libc::SYS_openat => Call::Open { dir: int(a), path: b, flags: int(c) },
        libc::SYS_close => Call::Close(int(a)),
        libc::SYS_close_range => Call::CloseRange(int(a), i32::try_from(b as u32).unwrap_or(i32::MAX)),
        libc::SYS_dup | libc::SYS_dup2 | libc::SYS_dup3 => Call::Duplicate(int(a)),
        libc::SYS_fcntl if [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&int(b)) => Call::Duplicate(int(a)),
        libc::SYS_read | libc::SYS_readv => Call::Read(int(a)),
        libc::SYS_write => Call::Write { fd: int(a), bytes: at(b, c), at: None },
        libc::SYS_pwrite64 => Call::Write { fd: int(a), bytes: at(b, c), at: Some(d) },
        libc::SYS_writev => Call::Write { fd: int(a), bytes: Bytes::Vector { address: b, count: c }, at: None },
        libc::SYS_pwritev => Call::Write { fd: int(a), bytes: Bytes::Vector { address: b, count: c }, at: Some(d) },
        libc::SYS_sendto => Call::Write { fd: int(a), bytes: at(b, c), at: None },
        libc::SYS_sendmsg => Call::Write { fd: int(a), bytes: Bytes::Message(b), at: None },
        libc::SYS_lseek => Call::Seek(int(a)),
        libc::SYS_ftruncate => Call::Truncate { fd: int(a), len: b },
        libc::SYS_fallocate => Call::Allocate { fd: int(a), mode: int(b), end: c.saturating_add(d) },
        libc::SYS_fsync | libc::SYS_fdatasync => Call::Sync(int(a)),
        libc::SYS_rename => Call::Rename { from: (HERE, a), to: (HERE, b), flags: 0 },
        libc::SYS_renameat => Call::Rename { from: (int(a), b), to: (int(c), d), flags: 0 },
        libc::SYS_renameat2 => Call::Rename { from: (int(a), b), to: (int(c), d), flags: args[4] as u32 },
        libc::SYS_unlink | libc::SYS_rmdir => Call::Unlink { dir: HERE, path: a },
        libc::SYS_unlinkat => Call::Unlink { dir: int(a), path: b },
        libc::SYS_mkdir => Call::MakeDir { dir: HERE, path: a },
        libc::SYS_mkdirat => Call::MakeDir { dir: int(a), path: b },
        libc::SYS_bind => Call::Bind { address: b, len: c },
        libc::SYS_socket | libc::SYS_accept | libc::SYS_accept4 => Call::Connection,
        libc::SYS_mmap => Call::Map { fd: int(args[4]), protection: int(c), flags: int(d) },
        libc::SYS_pwritev2 | libc::SYS_sendfile | libc::SYS_sendmmsg => Call::ChangesFile(int(a)),
        libc::SYS_splice | libc::SYS_copy_file_range => Call::ChangesFile(int(c)),
        libc::SYS_truncate | libc::SYS_symlink | libc::SYS_mknod => Call::ChangesPath(HERE, a),
        libc::SYS_mknodat | libc::SYS_openat2 => Call::ChangesPath(int(a), b),
        libc::SYS_link => Call::ChangesPath(HERE, b),
        libc::SYS_linkat => Call::ChangesPath(int(c), d),
        libc::SYS_symlinkat => Call::ChangesPath(int(b), c),
        libc::SYS_io_uring_setup => Call::Hides,
        // Also `sync` and its kin: a node that relied on them would be asking too much of other nodes' disks.
        _ => Call::Other,
    }
}
