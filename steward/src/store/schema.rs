//! The tables, and how a file from an older steward becomes one of this steward. A released migration never changes:
//! a new shape is a new entry at the end of [`MIGRATIONS`].
//!
//! What is not ours is left alone: a file of another program, of a newer steward, or a damaged one is reported and never
//! written to.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{OpenError, damaged};
use crate::own_file;

/// The file in the node's directory.
pub(super) const FILE: &str = "steward.db";

/// Marks a SQLite file as ours: "stwd" in ASCII.
const APPLICATION_ID: i64 = 0x7374_7764;

/// Pages of the write-ahead log after which it is carried over into the database file (16 MiB). More spreads the cost
/// over more commits; less makes the file that a start has to read shorter.
const CHECKPOINT_PAGES: u32 = 4096;

/// What the write-ahead log is cut down to after it has grown, in bytes.
const WAL_BYTES_KEPT: u32 = 64 * 1024 * 1024;

/// Page cache of the writing connection, in KiB. It fills as it is used.
const CACHE_KIB_WRITER: u32 = 8 * 1024;

/// Page cache of a reading connection, in KiB.
const CACHE_KIB_READER: u32 = 1024;

/// How long to wait for a lock that another process holds for a moment (a reader that recovers the log).
const BUSY: Duration = Duration::from_secs(5);

/// Statements that a connection keeps prepared; there are fewer.
const STATEMENTS: usize = 64;

/// Entry `n` brings a file from version `n` to `n + 1`.
///
/// Why it looks like this: what is accepted (`outbox`) is written once and only its state byte changes afterwards, in
/// place, because all its values take one byte. What is learned about it (`progress`) is appended beside it, so that a
/// message that ends never makes a full page split. `outbox_lane` is all at once the queue of each lane, its length, and the
/// way to the messages of a node or in a state. Integers stand for names of nodes and methods (`names`), lanes
/// (`out_lanes.id`) and states (see `columns.rs`).
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch INTEGER NOT NULL,
        commits INTEGER NOT NULL,
        last_ticket INTEGER NOT NULL
    );
    CREATE TABLE names (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    );
    CREATE TABLE out_lanes (
        id INTEGER PRIMARY KEY,
        peer TEXT NOT NULL,
        kind INTEGER NOT NULL,
        method TEXT NOT NULL,
        last INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        lost INTEGER NOT NULL,
        UNIQUE (peer, kind, method)
    );
    CREATE TABLE outbox (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        lane INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        state INTEGER NOT NULL,
        cancel INTEGER NOT NULL,
        sender INTEGER NOT NULL,
        created INTEGER NOT NULL,
        timeout_ms INTEGER NOT NULL,
        retries INTEGER NOT NULL,
        method_timeout_ms INTEGER,
        deadline INTEGER,
        flags INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE UNIQUE INDEX outbox_id ON outbox (id);
    CREATE INDEX outbox_lane ON outbox (lane, state, seq);
    CREATE INDEX outbox_limited ON outbox (lane) WHERE state = 10 AND retries > 0;
    CREATE INDEX outbox_deadline ON outbox (deadline) WHERE state = 10 AND deadline IS NOT NULL;
    CREATE TABLE progress (
        row INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        history BLOB,
        reason TEXT,
        exit_code INTEGER,
        signal INTEGER,
        started INTEGER,
        finished INTEGER,
        out_len INTEGER, out_hash BLOB, out_cut INTEGER, out_text TEXT,
        err_len INTEGER, err_hash BLOB, err_cut INTEGER, err_text TEXT
    );
    CREATE INDEX progress_open ON progress (state) WHERE state < 10;
    CREATE INDEX progress_bulk ON progress (out_len, err_len)
        WHERE (out_len IS NOT NULL AND out_text IS NULL) OR (err_len IS NOT NULL AND err_text IS NULL);
    CREATE TABLE inbox (
        ticket INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        prev INTEGER NOT NULL,
        sender INTEGER NOT NULL,
        receiver INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        method INTEGER NOT NULL,
        state INTEGER NOT NULL,
        created INTEGER NOT NULL,
        timeout_ms INTEGER NOT NULL,
        retries INTEGER NOT NULL,
        method_timeout_ms INTEGER,
        deadline INTEGER,
        flags INTEGER NOT NULL,
        reason TEXT,
        exit_code INTEGER,
        signal INTEGER,
        started INTEGER,
        finished INTEGER,
        out_len INTEGER, out_hash BLOB, out_cut INTEGER, out_text TEXT,
        err_len INTEGER, err_hash BLOB, err_cut INTEGER, err_text TEXT,
        body TEXT NOT NULL
    );
    CREATE TABLE in_lanes (
        peer TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        method TEXT NOT NULL,
        floor INTEGER NOT NULL,
        seen BLOB NOT NULL,
        PRIMARY KEY (peer, epoch, kind, method)
    ) WITHOUT ROWID;
    CREATE TABLE peers (
        name TEXT PRIMARY KEY,
        epoch INTEGER,
        commits INTEGER NOT NULL,
        incarnation INTEGER,
        seen INTEGER,
        info TEXT NOT NULL
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE errors (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        item INTEGER NOT NULL,
        node TEXT NOT NULL,
        at INTEGER NOT NULL,
        received INTEGER NOT NULL,
        text TEXT NOT NULL
    );
    CREATE UNIQUE INDEX errors_id ON errors (id, item, node);
",
    "
    CREATE TABLE starts (
        number INTEGER PRIMARY KEY,
        incarnation INTEGER NOT NULL
    );
",
    "
    CREATE TABLE identities (
        row INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        key TEXT NOT NULL,
        serial INTEGER NOT NULL,
        certificate TEXT NOT NULL
    );
    CREATE INDEX identities_key ON identities (key);
",
    "
    CREATE TABLE signers (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        certificate TEXT NOT NULL
    );
    CREATE TABLE evidence (
        row INTEGER PRIMARY KEY,
        signer INTEGER NOT NULL,
        proof BLOB NOT NULL
    );
    CREATE INDEX evidence_signer ON evidence (signer);
",
    "
    CREATE TABLE replies (
        row INTEGER PRIMARY KEY,
        spec TEXT NOT NULL,
        state INTEGER NOT NULL,
        note TEXT,
        inode INTEGER,
        len INTEGER
    );
    CREATE INDEX replies_open ON replies (state, row) WHERE state < 3;
",
    "
    CREATE TABLE cursors (
        name TEXT PRIMARY KEY,
        text TEXT NOT NULL
    ) WITHOUT ROWID;
",
    "
    ALTER TABLE starts ADD COLUMN commits INTEGER;
",
    "
    ALTER TABLE progress ADD COLUMN wire_out INTEGER;
    ALTER TABLE progress ADD COLUMN wire_in INTEGER;
",
    "
    CREATE TABLE schedules (
        row INTEGER PRIMARY KEY,
        serial INTEGER NOT NULL,
        received INTEGER NOT NULL,
        next INTEGER,
        runs INTEGER NOT NULL,
        missed INTEGER NOT NULL,
        paused INTEGER NOT NULL
    );
    CREATE TABLE schedule_results (
        row INTEGER PRIMARY KEY,
        of INTEGER NOT NULL,
        run INTEGER NOT NULL,
        due INTEGER NOT NULL,
        started INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        received INTEGER NOT NULL,
        state INTEGER NOT NULL,
        reason TEXT,
        exit_code INTEGER,
        signal INTEGER,
        cut INTEGER NOT NULL,
        out BLOB,
        err BLOB
    );
    CREATE UNIQUE INDEX schedule_results_of ON schedule_results (of, run);
",
];

/// Opens the file in `dir` for writing; makes it where there is none, and brings an older one up to date.
/// `epoch` is used for a new one only.
pub(super) fn open_writer(dir: &Path, epoch: i64) -> Result<Connection, OpenError> {
    let path = dir.join(FILE);
    let made = create(dir, &path)?;
    let mut connection = connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY).map_err(|error| opening(&path, error))?;
    let version = judge(&connection, &path)?;
    let mut prepare = || -> rusqlite::Result<()> {
        if version == 0 {
            // Before the write-ahead log and before any table, else it has no effect.
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")?;
        }
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            tracing::warn!(mode, "the store can't use a write-ahead log here; commits will be slow");
        }
        connection.execute_batch(&format!(
            "PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
             PRAGMA journal_size_limit = {WAL_BYTES_KEPT};
             PRAGMA cache_size = -{CACHE_KIB_WRITER};
             PRAGMA temp_store = MEMORY;"
        ))?;
        for_tests(&connection)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        migrate(&mut connection, version, epoch)?;
        if version == 0 {
            // The file itself says whose store it is from now on: should its log be lost, it is an old copy, which
            // others notice, and not a new store.
            checkpoint(&connection)?;
        }
        Ok(())
    };
    prepare().map_err(|error| opening(&path, error))?;
    if made {
        sync(dir)?;
    }
    Ok(connection)
}

/// A build for tests can be given other settings: the test of power cuts must be seen to fail with a store that syncs
/// less. A build that is shipped has no such switch.
fn for_tests(connection: &Connection) -> rusqlite::Result<()> {
    if cfg!(debug_assertions)
        && let Ok(settings) = std::env::var("STORE_SETTINGS_IN_TESTS")
    {
        connection.execute_batch(&settings)?;
    }
    Ok(())
}

/// Brings everything in the write-ahead log into the file, and empties the log.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Opens the file in `dir` for reading, beside a process that writes or without one.
pub(super) fn open_reader(dir: &Path) -> Result<Connection, OpenError> {
    let path = dir.join(FILE);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::Missing(path)),
        Err(source) => return Err(OpenError::Directory { path: dir.to_owned(), source }),
    }
    let connection = connect(dir, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY).map_err(|error| opening(&path, error))?;
    let version = judge(&connection, &path)?;
    if version != MIGRATIONS.len() {
        return Err(OpenError::Older { path, found: version, known: MIGRATIONS.len() });
    }
    let settings = format!("PRAGMA query_only = ON; PRAGMA cache_size = -{CACHE_KIB_READER};");
    connection.execute_batch(&settings).map_err(|error| opening(&path, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens the file in `dir`, which must not be a link; the files that SQLite puts beside it are none anyway.
fn connect(dir: &Path, access: OpenFlags) -> Result<Connection, OpenError> {
    let path = dir.join(FILE);
    // Looked at without being opened: whoever closes a file lets go of all locks that this process has on it.
    own_file::check(&path).map_err(OpenError::Link)?;
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // The directory itself may be called by a name that is a link.
    let real = dir.canonicalize().map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
    Connection::open_with_flags(real.join(FILE), flags).map_err(|error| opening(&path, error))
}

/// Makes an empty file that only we may read, if there is none. SQLite gives its other files the same mode.
fn create(dir: &Path, path: &Path) -> Result<bool, OpenError> {
    if !dir.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(OpenError::Directory { path: dir.to_owned(), source });
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(OpenError::Directory { path: dir.to_owned(), source }),
    }
}

/// Says which version the file has, 0 for an empty one, or why it is not for us. Writes nothing.
fn judge(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let read = |sql: &str| -> Result<i64, OpenError> {
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| opening(path, error))
    };
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    let application = read("PRAGMA application_id")?;
    let version = usize::try_from(read("PRAGMA user_version")?).unwrap_or(usize::MAX);
    if tables == 0 && application == 0 && version == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if version > MIGRATIONS.len() {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: MIGRATIONS.len() });
    }
    Ok(version)
}

/// All missing steps in one transaction, so that a crash leaves the old file or the new one.
fn migrate(connection: &mut Connection, version: usize, epoch: i64) -> rusqlite::Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(version) {
        transaction.execute_batch(migration)?;
    }
    if version == 0 {
        transaction.execute("INSERT INTO meta (id, epoch, commits, last_ticket) VALUES (1, ?1, 0, 0)", [epoch])?;
        transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {}", MIGRATIONS.len()))?;
    transaction.commit()
}

/// Makes a new name in a folder survive a power cut.
fn sync(dir: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Directory { path: dir.to_owned(), source };
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn opening(path: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode;
    let path: PathBuf = path.to_owned();
    match error.sqlite_error_code() {
        _ if damaged(&error) => OpenError::Damaged { path, why: error.to_string() },
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            OpenError::Unwritable { path, why: error.to_string() }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full(path),
        _ => OpenError::Sqlite { path, source: error },
    }
}
