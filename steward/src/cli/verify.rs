//! `steward verify`: whether what is known of the end of a command is what its node has signed. It only looks, at what
//! is kept here or at a bundle, and needs no node to run.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::exit::{Exit, UsageError};
use super::output::{self, Output};
use super::source::Source;
use super::{Context, Verb, wait_for, when};
use crate::evidence::bundle;
use crate::evidence::kept::Kept;
use crate::evidence::verdict::{Answer, OutputView, SignedView, Verdict};
use crate::own_file;
use crate::security::identity::Identity;
use crate::security::keys::{KeyKind, PublicKey};
use crate::security::revocations::{self, LIST_BYTES_MAX, Revoked};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Ids of messages that were sent from here, or their beginnings or ends
    #[arg(value_name = "ID", required_unless_present = "bundle", conflicts_with = "bundle")]
    ids: Vec<String>,
    /// Check this file of `steward export` instead
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The key of the fleet to believe (A…), where this directory has none. Get it from somebody whom you trust
    #[arg(long, value_name = "KEY", requires = "bundle", value_parser = fleet)]
    fleet: Option<PublicKey>,
    /// A list of the fleet's revoked keys that may be newer than the one in the bundle: revoked.jwt of any node
    #[arg(long, value_name = "FILE", requires = "bundle")]
    revoked: Option<PathBuf>,
    /// One JSON object for each message, on a line of its own
    #[arg(long)]
    json: bool,
}

fn fleet(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text, KeyKind::Account).map_err(|error| error.to_string())
}

impl Verb for Verify {
    const NAME: &'static str = "verify";
    const ABOUT: &'static str = "Check that a node has signed how a command ended, and that nothing was altered since";
    const MORE: &'static str = "\
In a fleet, nodes sign how each CommandACK ended. Checked again are the certificate of the node, its signature, that it is for \
this very message and its data, the end that is stored here, and the output on the disk.
Exit codes: 0 everything holds, 10 it has not ended, 11 nothing was signed or kept, 12 what was signed was altered or is \
of somebody else, 13 the end or the output was altered since, 14 the output is gone, 15 the key was revoked before the \
command ended; of several messages, that of the first that does not hold.
Examples:
  steward verify 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b
  steward verify --bundle 0193a1b2.bundle --fleet ADVLIZ…";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let mut report = Report { json: self.json, output: Output::stdout(), exit: Exit::OK, told: 0 };
        match &self.bundle {
            Some(path) => self.bundle(path, &dir, &mut report)?,
            None => {
                let kept = Kept::open(&dir)?;
                for id in wait_for(resolve(&dir, &self.ids))? {
                    report.tell(&kept.look(id)?.0)?;
                }
            }
        }
        report.output.flush()?;
        Ok(report.exit)
    }
}

/// Whole ids for what was typed.
pub(super) async fn resolve(dir: &Path, typed: &[String]) -> anyhow::Result<Vec<protocol::message::MessageId>> {
    let mut ids = Vec::with_capacity(typed.len());
    for typed in typed {
        let id = match typed.parse() {
            Ok(id) => id,
            Err(_) => Source::open(dir).await?.resolve(typed).await?.parse()?,
        };
        ids.push(id);
    }
    Ok(ids)
}

impl Verify {
    fn bundle(&self, path: &Path, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
        let fleet = match self.fleet {
            Some(fleet) => fleet,
            None => Identity::load(dir)?.map(|identity| identity.fleet).ok_or_else(|| {
                UsageError("whom to believe is not known here: give the key of the fleet with --fleet A…".to_owned())
            })?,
        };
        let revoked = self.revoked.as_deref().map_or(Ok(Vec::new()), |path| newer(path, &fleet))?;
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("the bundle {shown} can't be read"))?;
        bundle::read(file, &fleet, &revoked, |verdict| report.tell(&verdict))
            .with_context(|| format!("the bundle {shown} is not believed"))
    }
}

fn newer(path: &Path, fleet: &PublicKey) -> anyhow::Result<Vec<Revoked>> {
    use std::io::Read as _;
    let shown = path.display();
    let mut token = String::new();
    let read = own_file::read(path).and_then(|file| file.take(LIST_BYTES_MAX as u64 + 1).read_to_string(&mut token));
    read.with_context(|| format!("the list {shown} can't be read"))?;
    revocations::read_list(token.trim_end(), fleet).with_context(|| format!("the list {shown}"))
}

/// What is printed, and how the verb ends.
struct Report {
    json: bool,
    output: Output,
    exit: Exit,
    told: usize,
}

impl Report {
    fn tell(&mut self, verdict: &Verdict) -> std::io::Result<()> {
        if self.exit == Exit::OK {
            self.exit = Exit(verdict.answer.exit_code());
        }
        self.told += 1;
        if self.json {
            return self.output.json(verdict);
        }
        if self.told > 1 {
            self.output.line("")?;
        }
        print(verdict, &mut self.output)
    }
}

fn heading(answer: Answer) -> (&'static str, anstyle::Style) {
    match answer {
        Answer::Holds => ("holds", output::GOOD),
        Answer::NotEnded => ("has not ended", output::WAITS),
        Answer::NoEvidence => ("there is no evidence", output::WAITS),
        Answer::EvidenceBroken => ("does not hold", output::BAD),
        Answer::Altered => ("was altered", output::BAD),
        Answer::OutputMissing => ("the output is gone", output::BAD),
        Answer::Revoked => ("signed by a revoked key", output::BAD),
    }
}

fn print(verdict: &Verdict, output: &mut Output) -> std::io::Result<()> {
    let (text, style) = heading(verdict.answer);
    let answer = output.paint(style, text);
    output.line(&format!("{} {answer}", label(output, "verdict")))?;
    if let Some(why) = &verdict.why {
        field(output, "note", why)?;
    }
    field(output, "id", &verdict.id)?;
    let data = serde_json::to_string(&verdict.data)?;
    field(output, "message", &format!("{} {} {data}", verdict.command_or_event, verdict.method))?;
    field(output, "asked by", &verdict.from_node)?;
    field(output, "node", &verdict.to_node)?;
    verdict.signed.as_ref().map_or(Ok(()), |signed| print_signed(signed, output))
}

fn print_signed(signed: &SignedView, output: &mut Output) -> std::io::Result<()> {
    field(
        output,
        "signed by",
        &format!("{}, certificate {} of the fleet {}", signed.key, signed.serial, signed.fleet),
    )?;
    let mut end = signed.state.clone();
    if let Some(code) = signed.exit_code {
        end.push_str(&format!(", exit code {code}"));
    }
    if let Some(signal) = signed.signal {
        end.push_str(&format!(", ended by signal {signal}"));
    }
    field(output, "state", &end)?;
    if let Some(reason) = &signed.reason {
        field(output, "reason", reason)?;
    }
    if let Some(started) = &signed.started_at {
        field(output, "started", &when::local_in_full(started))?;
    }
    field(output, "ended", &format!("{}, by the clock of the node", when::local_in_full(&signed.finished_at)))?;
    print_output("stdout", &signed.stdout, output)?;
    print_output("stderr", &signed.stderr, output)
}

fn print_output(name: &str, view: &OutputView, output: &mut Output) -> std::io::Result<()> {
    let cut = if view.truncated { ", the rest was not kept" } else { "" };
    match &view.hash {
        None if view.truncated => field(output, name, "nothing of it was kept")?,
        None => return Ok(()),
        Some(hash) => field(output, name, &format!("{}{cut}, BLAKE3 {hash}", output::size(view.bytes)))?,
    }
    for line in view.text.iter().flat_map(|text| text.lines()) {
        output.line(&format!("  {}", output::plain(line)))?;
    }
    Ok(())
}

fn label(output: &Output, name: &str) -> String {
    output.paint(output::FAINT, &format!("{name:9}"))
}

fn field(output: &mut Output, name: &str, value: &str) -> std::io::Result<()> {
    output.line(&format!("{} {}", label(output, name), output::plain(value)))
}
