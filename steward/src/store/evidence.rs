//! What nodes have signed of the ends of messages of the outbox: one row an end, with the number of its row there, in the
//! transaction that writes the end. The certificate of a signer is kept once, for as long as one of its ends is.

use protocol::message::{Message, MessageId};
use protocol::outcome::Outcome;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{OPEN, final_state, id, id_bytes, kind, options, outcome, wall};
use super::error::ReadError;
use super::names::Interned;
use crate::evidence::{self, Evidence};

/// A message of the outbox, how it has ended, and what its receiver has signed of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The message.
    pub(crate) message: Message,
    /// How it has ended; none if it has not.
    pub(crate) outcome: Option<Outcome>,
    /// What was signed.
    pub(crate) evidence: Signed,
}

/// What is kept of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signed {
    /// Nothing was signed, or it was not kept.
    Nothing,
    /// There is something, and it is not what was kept.
    Damaged,
    /// This.
    Evidence(Evidence),
}

/// Keeps what was signed of the end of the message in this row.
pub(super) fn put(connection: &Connection, row: i64, proof: &[u8]) -> rusqlite::Result<()> {
    // What passes through the core is of our own making; should it not be, the message ends all the same.
    let Some((certificate, proof)) = evidence::split(proof) else { return Ok(()) };
    let digest = blake3::hash(certificate.as_bytes());
    let mut find = connection.prepare_cached("SELECT id FROM signers WHERE digest = ?1")?;
    let known: Option<i64> = find.query_row([digest.as_bytes()], |row| row.get(0)).optional()?;
    let signer = match known {
        Some(signer) => signer,
        None => {
            let sql = "INSERT INTO signers (digest, certificate) VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute(params![digest.as_bytes(), certificate])?;
            connection.last_insert_rowid()
        }
    };
    let sql = "INSERT OR REPLACE INTO evidence (row, signer, proof) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![row, signer, proof])?;
    Ok(())
}

/// Removes what was kept for this row, and the certificate that nothing else needs.
pub(super) fn remove(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    let mut remove = connection.prepare_cached("DELETE FROM evidence WHERE row = ?1 RETURNING signer")?;
    let signer: Option<i64> = remove.query_row([row], |row| row.get(0)).optional()?;
    if let Some(signer) = signer {
        let sql = "DELETE FROM signers WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM evidence WHERE signer = ?1)";
        connection.prepare_cached(sql)?.execute([signer])?;
    }
    Ok(())
}

/// A message of the outbox with what is kept of its end.
pub(super) fn get(connection: &Connection, message: MessageId) -> Result<Option<Kept>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT o.id, n.name, l.peer, l.kind, l.method, o.created, o.timeout_ms, o.retries, o.method_timeout_ms,
             o.deadline, o.flags, o.body, o.state, p.reason, p.exit_code, p.signal, p.started, p.finished, p.out_len,
             p.out_hash, p.out_cut, p.out_text, p.err_len, p.err_hash, p.err_cut, p.err_text, s.certificate, e.proof
         FROM outbox o CROSS JOIN out_lanes l ON l.id = o.lane CROSS JOIN names n ON n.id = o.sender
             LEFT JOIN progress p ON p.row = o.row LEFT JOIN evidence e ON e.row = o.row
             LEFT JOIN signers s ON s.id = e.signer
         WHERE o.id = ?1",
    )?;
    let mut names = Interned::default();
    let found = statement.query_row([id_bytes(message)], |row| {
        let message = Message {
            id: id(row, 0)?,
            from: names.node(row, 1)?,
            to: names.node(row, 2)?,
            kind: kind(row, 3)?,
            method: names.method(row, 4)?,
            created: wall(row, 5)?,
            options: options(row, 6)?,
            body: row.get(11)?,
        };
        let state: i64 = row.get(12)?;
        let ended = if state == OPEN { None } else { final_state(state) };
        let proof: Option<Vec<u8>> = row.get(27)?;
        let certificate: Option<String> = row.get(26)?;
        let evidence = match (proof, certificate) {
            (None, _) => Signed::Nothing,
            (Some(proof), Some(certificate)) => {
                evidence::join(&certificate, &proof).map_or(Signed::Damaged, Signed::Evidence)
            }
            (Some(_), None) => Signed::Damaged,
        };
        Ok(Kept { message, outcome: ended.map(|state| outcome(row, 13, state)).transpose()?, evidence })
    });
    Ok(found.optional()?)
}
