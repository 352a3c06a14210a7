//! Files that are copied are there, byte for byte, however often they were cut; in the place of one that is not there lies what was
//! there before, whole.

use super::Audited;
use super::evidence::ask;
use crate::copier::{self, Copied, OLD};
use crate::harness;
use crate::submit::socket_of;
use crate::world::World;

pub(super) fn check(world: &World<'_>, audited: &mut Audited) {
    for copied in &world.copied {
        let what = format!("the copy {}", copied.file.display());
        if let Some(wrong) = &copied.wrong {
            audited.other(wrong.clone());
            continue;
        }
        let Some(id) = &copied.id else {
            audited.other(format!("{what} could not be handed in"));
            continue;
        };
        let (sender, receiver) = (&world.machines[0].past, &world.machines[copied.copy.ship].past);
        let Ok(message) = ask(&world.machines[0], &format!("/v1/messages/{id}")) else {
            match sender.store_lost() || sender.disk_failed {
                true => audited.excuse("a copy that was accepted by a node whose directory was lost"),
                false => audited.lost(format!("{what} ({id}) is not there any more")),
            }
            continue;
        };
        let has_lost = sender.store_lost() || receiver.store_lost() || receiver.twins > 0;
        let is_cut = message["truncated"] == true;
        match message["state"].as_str().unwrap_or_default() {
            "done" if is_cut && has_lost => audited.excuse("a copy whose content was lost with a directory"),
            "done" => is_whole(world, copied, id, audited),
            "interrupted" if has_lost || sender.disk_failed => audited.excuse("a copy whose node lost its store"),
            "failed" if has_lost || is_troubled(world, copied) => {
                audited.excuse("a copy for which a disk had no room, or which was lost with one");
            }
            state => audited.lost(format!("{what} ({id}) ended as {state}: {}", message["reason"])),
        }
        is_old_or_new(world, copied, audited);
    }
}

fn is_troubled(world: &World<'_>, copied: &Copied) -> bool {
    let pasts = [&world.machines[0].past, &world.machines[copied.copy.ship].past];
    pasts.iter().any(|past| past.disk_trouble || past.disk_failed)
}

fn is_whole(world: &World<'_>, copied: &Copied, id: &str, audited: &mut Audited) {
    let expected = copier::content(&copied.copy, &world.payload);
    let got = match copied.copy.is_get {
        false => Ok(copier::there(&copied.file)),
        true => {
            harness::socket(&socket_of(world.machines[0].node.dir()), "GET", &format!("/v1/messages/{id}/stdout"), "")
                .map(|answer| answer.body)
        }
    };
    match got {
        Ok(got) if got == expected => {
            audited.copied += 1;
            audited.bytes += got.len() as u64;
        }
        Ok(got) => {
            let (got, expected, file) = (got.len(), expected.len(), copied.file.display());
            audited.lost(format!("the copy {file} ({id}) has {got} bytes instead of {expected}, or others"));
        }
        Err(error) => audited.other(format!("the copy {id} can't be read: {error}")),
    }
}

/// Nobody ever finds half of a file.
fn is_old_or_new(world: &World<'_>, copied: &Copied, audited: &mut Audited) {
    let there = copier::there(&copied.file);
    if there != OLD && there != copier::content(&copied.copy, &world.payload) {
        audited.other(format!("in the place of {} lies neither the old file nor the new one", copied.file.display()));
    }
}

/// What is left in a node's directory of copies that have ended.
pub(super) fn is_left(name: &str) -> bool {
    name.starts_with("copy-") || name.starts_with("content-")
}
