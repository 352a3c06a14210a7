//! `list` and `make`: what lies in a folder of the node, and folders and links that are to be in one; for copies of whole folders.

use std::io;
use std::path::{Path, PathBuf};

use protocol::outcome::{Output, Stream};

use super::super::capture::{self, INLINE_BYTES_MAX};
use super::super::{Ending, MethodCtx, MethodError};
use super::order::{Chunks, List, Make};
use crate::blobs::Blobs;
use crate::copies::attributes::ChunksView;
use crate::copies::placing::Place;
use crate::copies::{self, delta, tree};

/// Bytes of a list that are written at once.
const BLOCK_BYTES: usize = 64 * 1024;

impl List {
    pub(super) async fn run(self, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(ticket) = ctx.ticket() else {
            return Err(MethodError("nothing comes back of a CommandNACK; send it as CommandACK".to_owned()));
        };
        let (dir, blobs, path) = (ctx.dir().to_owned(), ctx.blobs().clone(), self.path.clone());
        let limit = ctx.limits().max_output.unwrap_or(u64::MAX);
        let listing = tokio::task::spawn_blocking(move || self.list(&dir, &blobs, ticket, limit));
        let listed = tokio::select! {
            listed = listing => listed.map_err(io::Error::other).flatten(),
            // What it goes on to write belongs to no message, and goes with the next run or start.
            why = ctx.stopped() => return Ok(why.ending()),
        };
        ctx.output.stdout = listed.map_err(|error| MethodError(format!("{path}: {error}")))?;
        Ok(Ending::DONE)
    }

    fn list(&self, dir: &Path, blobs: &Blobs, ticket: protocol::event::Ticket, limit: u64) -> io::Result<Output> {
        let root = own(dir, &copies::locate(dir, &self.path))?;
        let mut writing = blobs.write(ticket, Stream::Stdout)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        tree::walk(&root, &mut |entry| {
            serde_json::to_writer(&mut block, &entry)?;
            block.push(b'\n');
            if block.len() < BLOCK_BYTES {
                return Ok(());
            }
            if writing.len() + block.len() as u64 > limit {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("the list has more than {limit} bytes"),
                ));
            }
            writing.append(&block)?;
            block.clear();
            Ok(())
        })?;
        writing.append(&block)?;
        match writing.short(INLINE_BYTES_MAX)? {
            Some(text) => Ok(capture::text(&text)),
            None => {
                let (len, hash) = writing.finish()?;
                Ok(Output { len, hash, truncated: false, inline: None })
            }
        }
    }
}

impl Chunks {
    /// A file that is not there, or of a length that has no list, has none: then it is copied whole.
    pub(super) async fn run(self, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let dir = ctx.dir().to_owned();
        let found = tokio::task::spawn_blocking(move || self.find(&dir)).await.map_err(io::Error::other).flatten();
        let view = found.unwrap_or_default();
        ctx.answer_json(&[view]).await
    }

    fn find(&self, dir: &Path) -> io::Result<ChunksView> {
        let place = Place::find(&copies::locate(dir, &self.path), self.name.as_deref().map(std::ffi::OsStr::new))?;
        own(dir, &place.real_folder()?)?;
        let Some(mut file) = place.present() else { return Ok(ChunksView::default()) };
        let list = delta::List::of(&mut file)?;
        Ok(list.map_or_else(ChunksView::default, |(list, hash)| ChunksView {
            blake3: Some(hash.to_hex().to_string()),
            chunks: Some(list.text()),
        }))
    }
}

impl Make {
    pub(super) async fn run(self, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let (dir, path) = (ctx.dir().to_owned(), self.path.clone());
        let made = tokio::task::spawn_blocking(move || self.make(&dir)).await;
        let root = made.map_err(io::Error::other).flatten().map_err(|error| MethodError(format!("{path}: {error}")))?;
        ctx.answer_json(&[serde_json::json!({ "path": root })]).await
    }

    /// Makes them; with a name, in the folder of that name in the one that the path names. Says where.
    fn make(&self, dir: &Path) -> io::Result<String> {
        if !self.path.starts_with('/') {
            crate::own_file::make_folder(&dir.join(copies::FOLDER))?;
        }
        let root = copies::locate(dir, &self.path);
        let parent = root.parent().map_or_else(|| root.clone(), Path::to_path_buf);
        if !parent.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no folder {}", parent.display())));
        }
        own(dir, if root.exists() { &root } else { &parent })?;
        let Some(name) = &self.name else {
            tree::make(&root, &self.entries)?;
            return Ok(self.path.clone());
        };
        tree::make_folder(&root)?;
        tree::make(&root.join(name), &self.entries)?;
        Ok(format!("{}/{name}", self.path.trim_end_matches('/')))
    }
}

/// A path that is not the node's own.
fn own(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = path.canonicalize()?;
    match copies::is_own(dir, &real) {
        true => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is the node's own, which is not copied")),
        false => Ok(path.to_owned()),
    }
}
