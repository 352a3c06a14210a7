//! `get`: the content of a file becomes the output of the message, taken as it is at one moment.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::event::Ticket;
use protocol::outcome::{Final, Output, Stream};

use super::super::capture::{self, INLINE_BYTES_MAX};
use super::super::{Ending, MethodCtx, MethodError};
use super::order::Get;
use crate::blobs::Blobs;
use crate::copies::attributes::FileView;
use crate::copies::{self, delta, snapshot};

/// So much of what travels in the receipt is left for what is told of the file.
const VIEW_BYTES: usize = 1024;

/// What was taken of a file.
struct Taken {
    content: Output,
    view: FileView,
    is_torn: bool,
}

impl Get {
    pub(super) async fn run(self, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(ticket) = ctx.ticket() else {
            return Err(MethodError("nothing comes back of a CommandNACK; send it as CommandACK".to_owned()));
        };
        let limit = self.limit.unwrap_or(u64::MAX).min(ctx.limits().max_output.unwrap_or(u64::MAX));
        let (dir, blobs, stop) = (ctx.dir().to_owned(), ctx.blobs().clone(), Arc::new(AtomicBool::new(false)));
        let (path, is_bare, stopped) = (self.path.clone(), self.is_bare, Arc::clone(&stop));
        let mut taking = tokio::task::spawn_blocking(move || self.take(dir, &blobs, ticket, limit, &stopped));
        let taken = tokio::select! {
            taken = &mut taking => taken,
            why = ctx.stopped() => {
                // It looks at this with each block.
                stop.store(true, Ordering::Relaxed);
                // What it had is gone with its file; how it ended says nothing more.
                drop(taking.await);
                return Ok(why.ending());
            }
        };
        let taken = taken.map_err(io::Error::other).flatten();
        let Taken { content, view, is_torn } = taken.map_err(|error| MethodError(format!("{path}: {error}")))?;
        let view = serde_json::to_string(&view).map_err(|error| MethodError(error.to_string()))?;
        ctx.output.stdout = content;
        if !is_bare {
            ctx.output.stderr = capture::text(&view);
        }
        Ok(match is_torn {
            false => Ending::DONE,
            true => Ending::because(
                Final::Done,
                "it was written while it was copied: this may be half of before and half of after",
            ),
        })
    }

    fn take(self, dir: PathBuf, blobs: &Blobs, ticket: Ticket, limit: u64, stop: &AtomicBool) -> io::Result<Taken> {
        let (mut file, is) = snapshot::open(&copies::locate(&dir, &self.path))?;
        if copies::is_own(&dir, &snapshot::real_path(&file)?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is the node's own, which is not copied"));
        }
        if is.len() > limit {
            let said = format!("it has {} bytes, and {limit} is the limit", is.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, said));
        }
        let mut writing = blobs.write(ticket, Stream::Stdout)?;
        let mut go_on = || match stop.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::Interrupted)),
            false => Ok(()),
        };
        let snapshot::Taken { attributes, is_torn, beside } = match &self.have {
            Some(have) if is.len() >= delta::BYTES_MIN => {
                snapshot::take_beside(&mut file, have, &mut writing, blobs.dir(), &mut go_on)?
            }
            Some(_) | None => snapshot::take(&mut file, &mut writing, blobs.dir(), &mut go_on)?,
        };
        let content = match writing.short(INLINE_BYTES_MAX - VIEW_BYTES)? {
            // It goes with the receipt, and no file is left for it.
            Some(text) => capture::text(&text),
            None => {
                let (len, hash) = writing.finish()?;
                Output { len, hash, truncated: false, inline: None }
            }
        };
        let hash = if content.len == 0 { *blake3::hash(b"").as_bytes() } else { content.hash };
        let (bytes, hash) = beside.unwrap_or((content.len, blake3::Hash::from(hash)));
        let view = FileView {
            path: self.path,
            bytes,
            blake3: hash.to_hex().to_string(),
            delta: beside.is_some(),
            mode: attributes.mode_text(),
            modified: attributes.modified_text(),
        };
        Ok(Taken { content, view, is_torn })
    }
}
