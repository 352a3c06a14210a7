//! `steward export`: writes commands and what was signed of their ends into one file that another machine can check.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, RenameFlags};

use super::exit::Exit;
use super::output::{self, Output};
use super::{Context, Verb, verify, wait_for};
use crate::evidence::bundle::{COMMANDS_MAX, Writer};
use crate::evidence::kept::{Case, Kept};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Ids of messages that were sent from here, or their beginnings or ends
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// The file to write; it must not be there. Default: the first id, with .bundle, in the current directory
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Verb for Export {
    const NAME: &'static str = "export";
    const ABOUT: &'static str =
        "Write commands, their outputs and their nodes' signatures into a file that others can check";
    const MORE: &'static str = "\
Everything is checked first; what does not hold is not written, and the exit code is that of `steward verify`. The file holds \
data and outputs as they are, and nothing else of the node; whoever checks it needs the key of the fleet, no node and no \
directory: steward verify --bundle FILE --fleet A… At most 1000 messages go into one file.
Examples:
  steward export 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b
  steward export $(steward messages --node ship1 --json | jq -r .id) --out ship1.bundle";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        ensure!(self.ids.len() <= COMMANDS_MAX, "a bundle has at most {COMMANDS_MAX} messages; make several");
        let mut ids = wait_for(verify::resolve(&dir, &self.ids))?;
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(*id));
        let kept = Kept::open(&dir)?;
        // All of them are looked at before anything is written; an output is read once more while it is copied.
        for id in &ids {
            let (verdict, case) = kept.look(*id)?;
            if case.is_none() {
                let why = verdict.why.unwrap_or_default();
                output::note_as("error", &format!("message {id} is not exported: {why}"));
                return Ok(Exit(verdict.answer.exit_code()));
            }
        }
        let Some(first) = ids.first() else { bail!("no message is named") };
        let path = self.out.unwrap_or_else(|| PathBuf::from(format!("{first}.bundle")));
        let bytes =
            write(&kept, &ids, &path).with_context(|| format!("the bundle {} is not written", path.display()))?;
        let mut output = Output::stdout();
        let (size, shown) = (output::size(bytes), path.display());
        let count = if ids.len() == 1 { "one message".to_owned() } else { format!("{} messages", ids.len()) };
        output.line(&format!("{shown}: {count}, {size}"))?;
        if let Some((fleet, _)) = kept.fleet() {
            output.line(&format!("to check it anywhere: steward verify --bundle {shown} --fleet {fleet}"))?;
        }
        output.flush()?;
        Ok(Exit::OK)
    }
}

/// Writes it aside, for us only, and gives it its name when it is whole. Answers with its length in bytes.
fn write(kept: &Kept, ids: &[protocol::message::MessageId], path: &Path) -> anyhow::Result<u64> {
    let name = path.file_name().context("its name is none of a file")?;
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let written = fill(kept, ids, file).and_then(|file| {
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        // What is there already is somebody's evidence: it is not replaced.
        let placed = rustix::fs::renameat_with(CWD, &part, CWD, path, RenameFlags::NOREPLACE);
        placed.map_err(io::Error::from)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(bytes)
    });
    if written.is_err()
        && let Err(error) = fs::remove_file(&part)
    {
        output::note(&format!("{} is left behind: {error}", part.display()));
    }
    written
}

fn fill(kept: &Kept, ids: &[protocol::message::MessageId], file: File) -> anyhow::Result<File> {
    let (fleet, revoked) = kept.fleet().context("this node is in no fleet")?;
    let mut writer = Writer::new(BufWriter::new(file), &fleet, &revoked)?;
    for id in ids {
        let (verdict, Some(case)) = kept.look(*id)? else { bail!("message {id} has changed meanwhile") };
        drop(verdict);
        let Case { command, .. } = &case;
        writer.add(&case, |stream| kept.output(command.id, stream))?;
    }
    let mut to = writer.finish()?;
    to.flush()?;
    Ok(to.into_inner().map_err(io::IntoInnerError::into_error)?)
}
