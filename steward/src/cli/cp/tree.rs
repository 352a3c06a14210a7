//! A folder that is copied with all that is in it: the folders first, then each file as a copy of its own, then the links. What is
//! there already, by length, time and mode, is not copied again, so the same command goes on where one has ended.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use super::end::End;
use super::job::{Job, Terms};
use super::meter::Meter;
use super::waiting;
use crate::api::client::Client;
use crate::cli::output;
use crate::copies::tree::{self, EntryKind, EntryView};

/// Folders and links of one message.
const MADE_AT_ONCE: usize = 500;

/// A folder whose files are to be copied.
pub(super) struct Tree {
    entries: Vec<EntryView>,
    from: End,
    to: End,
}

impl Tree {
    /// Looks at what is there, and makes the folders where they go.
    pub(super) async fn begin(
        client: &Client,
        from: &End,
        to: &End,
        terms: &Terms,
        meter: &Meter,
    ) -> anyhow::Result<Self> {
        let mut entries = list(client, from, terms, meter).await?;
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let is_folder = entries.first().is_some_and(|first| first.path.is_empty() && first.kind == EntryKind::Folder);
        anyhow::ensure!(is_folder, "it is no folder; copy it without -r");
        tree::check(&entries).map_err(|why| anyhow::anyhow!("what the node tells of it makes no sense: {why}"))?;
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Other) {
            meter.clear();
            let why = entry.why.as_deref().unwrap_or_default();
            output::note(&format!("{from}/{}: not copied: {why}", entry.path));
        }
        let name = from.folder_name().context("the folder has no name that its copy could have")?;
        let folders: Vec<EntryView> = of_kind(&entries, EntryKind::Folder);
        let to = make(client, to, Some(&name), &folders, terms, meter).await?;
        Ok(Self { entries, from: from.clone(), to })
    }

    /// The copies of its files that are not there yet.
    pub(super) async fn jobs(&self, client: &Client, terms: &Terms, meter: &Meter) -> anyhow::Result<Vec<Job>> {
        let there = list(client, &self.to, terms, meter).await?;
        let there: BTreeMap<&str, &EntryView> = there.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let files = self.entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let missing = files.filter(|file| !there.get(file.path.as_str()).is_some_and(|other| other.is_same_file(file)));
        Ok(missing
            .map(|file| Job {
                from: Some(self.from.below(&file.path)),
                to: self.to.below(&file.path),
                is_exact: true,
                resume: None,
                terms: terms.clone(),
            })
            .collect())
    }

    /// Makes its links, once all its files are there.
    pub(super) async fn links(&self, client: &Client, terms: &Terms, meter: &Meter) -> anyhow::Result<()> {
        let links = of_kind(&self.entries, EntryKind::Link);
        if !links.is_empty() {
            make(client, &self.to, None, &links, terms, meter).await?;
        }
        Ok(())
    }
}

fn of_kind(entries: &[EntryView], kind: EntryKind) -> Vec<EntryView> {
    entries.iter().filter(|entry| entry.kind == kind).cloned().collect()
}

/// What lies in a folder.
async fn list(client: &Client, folder: &End, terms: &Terms, meter: &Meter) -> anyhow::Result<Vec<EntryView>> {
    let mut entries = Vec::new();
    match folder {
        End::Here(path) => {
            let mut tell = |entry| -> io::Result<()> {
                entries.push(entry);
                Ok(())
            };
            tree::walk(path, &mut tell).with_context(|| path.display().to_string())?;
        }
        End::There(node, path) => {
            let view = terms.command(client, node, vec!["list".to_owned(), path.clone()], folder, meter).await?;
            let path = format!("/v1/messages/{}/stdout", view.id);
            let mut lines = waiting::again(meter, async || client.stream(&path).await).await?;
            while let Some(entry) = lines.line::<EntryView>().await? {
                entries.push(entry);
            }
            terms.placed(client, &view.id, meter).await?;
        }
    }
    Ok(entries)
}

/// Makes folders or links; with a name in the folder of that name in `to`. Says where that is.
async fn make(
    client: &Client,
    to: &End,
    name: Option<&str>,
    entries: &[EntryView],
    terms: &Terms,
    meter: &Meter,
) -> anyhow::Result<End> {
    match to {
        End::Here(path) => {
            let root = match name {
                Some(name) => {
                    tree::make_folder(path).with_context(|| path.display().to_string())?;
                    path.join(name)
                }
                None => path.clone(),
            };
            tree::make(&root, entries)?;
            Ok(End::Here(root))
        }
        End::There(node, path) => {
            let mut root = path.clone();
            for (index, some) in entries.chunks(MADE_AT_ONCE).enumerate() {
                let mut data = vec!["make".to_owned(), root.clone()];
                // The answer says where that is.
                data.extend(name.filter(|_| index == 0).map(|name| format!("name={name}")));
                for entry in some {
                    data.push(serde_json::to_string(entry)?);
                }
                let view = terms.command(client, node, data, to, meter).await?;
                let said: Made = serde_json::from_str(view.stdout.as_deref().unwrap_or_default())?;
                root = said.path;
            }
            Ok(End::There(node.clone(), root))
        }
    }
}

#[derive(serde::Deserialize)]
struct Made {
    path: String,
}

impl End {
    /// What a folder is called, also where it is typed as `.`.
    fn folder_name(&self) -> Option<String> {
        let real = match self {
            Self::Here(path) => path.canonicalize().ok()?,
            Self::There(_, path) => path.into(),
        };
        Some(real.file_name()?.to_str()?.to_owned())
    }

    /// What lies below it.
    fn below(&self, path: &str) -> Self {
        match self {
            Self::Here(root) => Self::Here(root.join(Path::new(path))),
            Self::There(node, root) => Self::There(node.clone(), format!("{}/{path}", root.trim_end_matches('/'))),
        }
    }
}
