//! `steward cp`: copies files between this machine and nodes. What travels is up to the node here, as soon as it has accepted
//! a copy; this command shows how far it is, and puts what has come in its place.

mod beside;
mod end;
mod job;
mod meter;
mod tree;
mod waiting;

use anyhow::Context as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use self::end::End;
use self::job::{Failed, Job, Terms};
use self::meter::Meter;
use self::tree::Tree;
use super::exit::{self, Exit, UsageError};
use super::output;
use super::source::Source;
use super::{Context, Verb, wait_for};
use crate::api::InfoView;
use crate::api::client::Client;
use crate::config::units;

/// Files that are copied at the same time.
const AT_ONCE: usize = 16;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Cp {
    /// What to copy: PATH on this machine, NODE:PATH on a node
    #[arg(value_name = "FROM", required_unless_present = "resume")]
    paths: Vec<String>,
    /// Go on with a copy that was left to the node here: wait for it, and put what has come in its place (TO)
    #[arg(long, value_name = "ID")]
    resume: Option<String>,
    /// Copy folders with all that is in them; what is there already, by length, time and mode, does not travel again
    #[arg(long, short = 'r', conflicts_with = "resume")]
    recursive: bool,
    /// How many bytes of each file may travel in a second: 512KiB, 2MiB
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    limit: Option<u64>,
    /// Send files whole, also where the other side has an older version of which parts could be taken
    #[arg(long)]
    whole: bool,
    /// Encrypt it to the other node: the broker's operator can't read it
    #[arg(long)]
    seal: bool,
}

impl Verb for Cp {
    const NAME: &'static str = "cp";
    const ABOUT: &'static str = "Copy files between this machine and nodes";
    const MORE: &'static str = "\
The last argument is where the copy goes: a file, or a folder that is there.

Examples:
  steward cp ship1:/var/log/engine.log .            # from a node
  steward cp ship1:/etc/hosts ship1:/etc/motd ship1/
  steward cp engine.conf ship1:/etc/                # to a node
  steward cp ship1:/etc/motd ship2:/etc/            # from one to another, through the node here
  steward cp -r --limit 64KiB ship1:/srv/charts .   # a folder, slowly

A path on a node is absolute, or below the folder files/ in the node's directory. A path on this machine with a colon in it
is written ./a:b.
Content, mode and time are kept. A copy is written aside and gets its name when it is whole and its hash (BLAKE3) is right,
so that whoever looks finds the old file or the new one. What has travelled does not travel again, whatever is restarted or
cut in the middle.
Where the other side has an older version of a file of more than 128 KiB, only what has changed travels.
With -r a folder goes into the last argument under its own name, so that the same command goes on where one has ended; the folder that
it goes into is made where it is missing. Links stay links and are not followed; what is no file, folder or link is told and left out.
Folders keep their mode, and not their time.
Ctrl-C leaves a copy with the node, which goes on with it; `steward cp --resume ID TO` looks on again and puts it in its
place, `steward cancel ID` takes it back.

Exit codes: 0 all is copied, 1 something is not, 2 the command line makes no sense, 126 refused by the node, 130 Ctrl-C.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let jobs = self.jobs()?;
        wait_for(async {
            let client = Client::new(&dir);
            let meter = Meter::default();
            // One that was never there is not waited for.
            client.get::<InfoView>("/v1/info").await?;
            let jobs = match &self.resume {
                None => jobs,
                Some(typed) => {
                    let id = Source::Node(client.clone()).resolve(typed).await?;
                    jobs.into_iter().map(|job| Job { resume: Some(id.clone()), ..job }).collect()
                }
            };
            tokio::select! {
                done = self.all(&client, jobs, &meter) => done,
                _ = tokio::signal::ctrl_c() => {
                    meter.left();
                    Ok(Exit(exit::CTRL_C))
                }
            }
        })
    }
}

impl Cp {
    /// What is to be copied where.
    fn jobs(&self) -> Result<Vec<Job>, UsageError> {
        let usage =
            |text: &str| UsageError(format!("{text}: `steward cp FROM… TO`, as in `steward cp ship1:/etc/motd .`"));
        let Some((to, from)) = self.paths.split_last() else {
            return Err(usage("say where the copy is to go"));
        };
        let to: End = to.parse().map_err(UsageError)?;
        if self.resume.is_some() {
            return match from {
                [] => Ok(vec![Job { from: None, to, is_exact: false, resume: None, terms: self.terms() }]),
                [..] => Err(usage("with --resume, say only where the copy is to go")),
            };
        }
        if from.is_empty() {
            return Err(usage("say what to copy, and where to"));
        }
        let job = |text: &String| {
            let from: End = text.parse().map_err(UsageError)?;
            job::check(&from, &to)?;
            Ok(Job { from: Some(from), to: to.clone(), is_exact: false, resume: None, terms: self.terms() })
        };
        from.iter().map(job).collect()
    }

    fn terms(&self) -> Terms {
        Terms { seal: self.seal, rate: self.limit.map(|limit| limit.max(1)), whole: self.whole }
    }

    async fn all(&self, client: &Client, jobs: Vec<Job>, meter: &Meter) -> anyhow::Result<Exit> {
        if !self.recursive {
            return files(client, jobs, meter).await;
        }
        let terms = self.terms();
        for Job { from, to, .. } in jobs {
            let Some(from) = from else { continue };
            let drawn = async {
                let tree = Tree::begin(client, &from, &to, &terms, meter).await?;
                let jobs = tree.jobs(client, &terms, meter).await?;
                anyhow::Ok((tree, jobs))
            };
            let (tree, jobs) = with_line(drawn, meter).await.with_context(|| from.to_string())?;
            let exit = files(client, jobs, meter).await?;
            if exit != Exit::OK {
                return Ok(exit);
            }
            with_line(tree.links(client, &terms, meter), meter).await.with_context(|| from.to_string())?;
        }
        Ok(Exit::OK)
    }
}

/// Redraws the line while something is done.
async fn with_line<T>(work: impl Future<Output = anyhow::Result<T>>, meter: &Meter) -> anyhow::Result<T> {
    let mut redraw = tokio::time::interval(meter::REDRAW);
    redraw.tick().await;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                meter.clear();
                return done;
            }
            _ = redraw.tick() => meter.draw(),
        }
    }
}

/// Copies all of them, and says of each that fails why.
async fn files(client: &Client, jobs: Vec<Job>, meter: &Meter) -> anyhow::Result<Exit> {
    let many = jobs.len();
    let mut waiting = jobs.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut failed = Vec::new();
    let mut redraw = tokio::time::interval(meter::REDRAW);
    // The first tick comes at once; what is over before the second needs no line.
    redraw.tick().await;
    loop {
        while under_way.len() < AT_ONCE
            && let Some(job) = waiting.next()
        {
            under_way.push(async {
                let label = job.label();
                job.run(client, meter).await.with_context(|| label)
            });
        }
        tokio::select! {
            done = under_way.next() => match done {
                None => break,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    meter.clear();
                    failed.push(error.downcast_ref::<Failed>().map_or(exit::FAILED, |failed| failed.exit));
                    output::note_as("error", &format!("{error:#}"));
                }
            },
            _ = redraw.tick() => meter.draw(),
        }
    }
    meter.finish(many - failed.len());
    Ok(match failed.as_slice() {
        [] => Exit::OK,
        [one] if many == 1 => Exit(*one),
        [..] => Exit(exit::FAILED),
    })
}

#[cfg(test)]
mod tests;
