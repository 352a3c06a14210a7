//! The results task of a shell: opens files for outputs that are fetched, appends what fits, checks hashes, and serves
//! the outputs that wait here for their confirmation. It decides nothing: the node says what is fetched and when.

use protocol::Event;
use protocol::event::Ticket;
use protocol::message::{Incarnation, MessageId};
use protocol::name::NodeName;
use protocol::outcome::Stream;

use crate::disk::files::Fetched;
use crate::network::{Chunk, Load};
use crate::world::World;

/// An output that is being fetched.
#[derive(Debug, Clone)]
pub(crate) struct Download {
    id: MessageId,
    stream: Stream,
    /// The index of the name of the node that has it.
    from: usize,
    ticket: Ticket,
    len: u64,
}

impl World {
    /// Opens the file for an output; answers with what is there already.
    pub(crate) fn receive(
        &mut self,
        host: usize,
        id: MessageId,
        stream: Stream,
        from: &NodeName,
        ticket: Ticket,
        len: u64,
    ) {
        let from = self.index(from);
        let machine = &mut self.hosts[host];
        let have = machine.disk.files.fetched.entry((id, stream)).or_default().have;
        let Some(process) = &mut machine.process else { return };
        // A store that is new gives the same tickets again: what they stood for before can't be had any more.
        process.downloads.retain(|download| {
            (download.id, download.stream) != (id, stream)
                && (download.from, download.ticket, download.stream) != (from, ticket, stream)
        });
        process.downloads.push(Download { id, stream, from, ticket, len });
        self.trace(host, format_args!("fetches #{} {} has {have} of {len}", self.model.number(id), stream.as_str()));
        self.bring(host, Event::Fetched { id, stream, have });
    }

    /// Checks and syncs a file that is whole; one that is not is emptied.
    pub(crate) fn seal(&mut self, host: usize, id: MessageId, stream: Stream, hash: [u8; 32]) {
        let machine = &mut self.hosts[host];
        let file = machine.disk.files.fetched.entry((id, stream)).or_default();
        let whole = file.is_whole(hash);
        if whole {
            file.synced = file.have;
            if let Some(process) = &mut machine.process {
                process.downloads.retain(|download| (download.id, download.stream) != (id, stream));
            }
        } else {
            *file = Fetched::default();
        }
        self.trace(host, format_args!("seals   #{} {} whole {whole}", self.model.number(id), stream.as_str()));
        self.bring(host, Event::Sealed { id, stream, whole });
    }

    /// Throws away an output that is confirmed.
    pub(crate) fn discard(&mut self, host: usize, ticket: Ticket) {
        let kept = &mut self.hosts[host].disk.files.kept;
        for stream in Stream::ALL {
            kept.remove(&(ticket, stream));
        }
    }

    /// Answers a request for a piece of an output.
    pub(crate) fn serve(
        &mut self,
        host: usize,
        asker: &NodeName,
        to: Option<Incarnation>,
        (ticket, stream): (Ticket, Stream),
        offset: u64,
        len: u64,
    ) {
        let machine = &self.hosts[host];
        let Some(process) = &machine.process else { return };
        let addressed = to.is_none_or(|to| to == process.identity.incarnation);
        let theirs = machine.disk.tables.inbox.get(&ticket).is_some_and(|row| row.message.from == *asker);
        let Some(&(content, total)) = machine.disk.files.kept.get(&(ticket, stream)).filter(|_| addressed && theirs)
        else {
            return;
        };
        let (from, to) = (machine.name, self.address(asker));
        let end = total.min(offset.saturating_add(len));
        let mut offset = offset;
        while offset < end {
            let len = (end - offset).min(self.plan.chunk_bytes);
            let last = offset + len == end;
            let chunk = Chunk { from, ticket, stream, offset, total, len, last, content };
            self.publish(host, to, Load::Chunk(chunk));
            offset += len;
        }
    }

    /// Appends a piece of an output where it fits without a gap.
    pub(crate) fn take_chunk(&mut self, host: usize, chunk: &Chunk) {
        let damaged = self.strikes(host) && self.rng.chance(self.plan.faults.chunk_damage);
        let machine = &mut self.hosts[host];
        let Some(process) = &machine.process else { return };
        let wanted = |download: &&Download| {
            (download.from, download.ticket, download.stream, download.len)
                == (chunk.from, chunk.ticket, chunk.stream, chunk.total)
        };
        let Some(&Download { id, stream, len, .. }) = process.downloads.iter().find(wanted) else { return };
        let Some(file) = machine.disk.files.fetched.get_mut(&(id, stream)) else { return };
        if file.have != chunk.offset || file.have + chunk.len > len {
            return;
        }
        file.append(chunk.content, chunk.len, damaged);
        let have = file.have;
        let number = self.model.number(id);
        self.model.stories[number].damaged += u32::from(damaged);
        if chunk.last || have == len {
            self.bring(host, Event::Fetched { id, stream, have });
        }
    }
}
