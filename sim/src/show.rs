//! How the trace names things: messages by their number, not by their id. Changes nothing.

use std::fmt::{self, Display};

use protocol::event::{Control, Hello, Item};
use protocol::outcome::{Outcome, Progress, Receipt};
use protocol::step::{InState, Report, Write};

use crate::model::Model;
use crate::network::Load;
use crate::world::World;

/// Something that is shown with the numbers of its messages.
pub(crate) struct Shown<'a, T>(&'a Model, &'a T);

impl World {
    pub(crate) fn show<'a>(&'a self, load: &'a Load) -> Shown<'a, Load> {
        Shown(&self.model, load)
    }

    pub(crate) fn show_report<'a>(&'a self, report: &'a Report) -> Shown<'a, Report> {
        Shown(&self.model, report)
    }

    pub(crate) fn show_write<'a>(&'a self, write: &'a Write) -> Shown<'a, Write> {
        Shown(&self.model, write)
    }
}

impl Display for Shown<'_, Load> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.0;
        match self.1 {
            Load::Envelope(envelope) => {
                write!(f, "{}.{} from {}", envelope.kind, envelope.method, envelope.from)?;
                if let Some(to) = envelope.to {
                    write!(f, " to {:04x}", to.0 >> 48)?;
                }
                write!(f, " floor {}:", short(envelope.floor.0))?;
                for Item { id, seq, prev, .. } in &envelope.items {
                    write!(f, " #{} ({} after {})", model.number(*id), short(seq.0), short(prev.0))?;
                }
                Ok(())
            }
            Load::Receipts(receipts) => {
                write!(f, "receipts from {} at {}:", receipts.from, receipts.commits)?;
                for (ticket, Receipt { id, progress }) in &receipts.receipts {
                    write!(f, " #{} t{} ", model.number(*id), ticket.0)?;
                    match progress {
                        Progress::Stored => f.write_str("stored")?,
                        Progress::Running => f.write_str("running")?,
                        Progress::Final(outcome) => write!(f, "{}", Shown(model, outcome))?,
                    }
                }
                Ok(())
            }
            Load::Control { from, to, control } => {
                write!(f, "{} from {from}", Shown(model, control))?;
                to.map_or(Ok(()), |to| write!(f, " to {:04x}", to.0 >> 48))
            }
            Load::Hello(hello) => write!(f, "announcement: {}", Shown(model, hello)),
            Load::Chunk(chunk) => {
                let (ticket, stream) = (chunk.ticket.0, chunk.stream.as_str());
                write!(f, "chunk t{ticket} {stream} {}+{}", chunk.offset, chunk.len)
            }
            Load::Echo { lane, seqs } => {
                write!(f, "echo {lane}")?;
                seqs.iter().try_for_each(|seq| write!(f, " {}", short(seq.0)))
            }
            Load::NoResponders(name) => write!(f, "nobody listens as {name}"),
        }
    }
}

impl Display for Shown<'_, Control> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Control::Probe { nonce, known, .. } => {
                write!(f, "probe {:04x} known {:04x}", nonce >> 48, known.map_or(0, |known| known.0 >> 48))
            }
            Control::Hello(hello) => Display::fmt(&Shown(self.0, hello), f),
            Control::Confirm(tickets) => {
                f.write_str("confirm")?;
                tickets.iter().try_for_each(|ticket| write!(f, " t{}", ticket.0))
            }
            Control::Cancel { id, .. } => write!(f, "cancel #{}", self.0.number(*id)),
            Control::Ask { ticket, stream, offset, len } => {
                write!(f, "ask t{} {} {offset}+{len}", ticket.0, stream.as_str())
            }
        }
    }
}

impl Display for Shown<'_, Hello> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hello { from, epoch, incarnation, commits_at_start, occasion, .. } = self.1;
        let (epoch, incarnation) = (epoch.0 >> 47, incarnation.0 >> 48);
        write!(f, "hello {occasion:x?} {from} {incarnation:04x} store {epoch:04x} at {commits_at_start}")
    }
}

impl Display for Shown<'_, Outcome> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { state, stdout, stderr, .. } = self.1;
        write!(f, "{state}")?;
        if stdout.len + stderr.len > 0 {
            write!(f, "({}+{})", stdout.len, stderr.len)?;
        }
        Ok(())
    }
}

impl Display for Shown<'_, Report> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Report::Out { id, state, attempts, .. } => {
                write!(f, "#{} out {state} after {attempts}", self.0.number(*id))
            }
            Report::In { id, outcome, .. } => write!(f, "#{} in {}", self.0.number(*id), Shown(self.0, &**outcome)),
            Report::Presence { peer, presence } => write!(f, "{peer} {presence:?}"),
            Report::Conflict { peer, known, other } => {
                write!(f, "conflict: {peer} is {:04x}, not {:04x}", known.0 >> 48, other.0 >> 48)
            }
            Report::StoreLost { peer } => write!(f, "{peer} lost its store"),
            Report::Dropped { peer, why } => write!(f, "dropped from {peer}: {why}"),
        }
    }
}

impl Display for Shown<'_, Write> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.0;
        match self.1 {
            Write::Submit { message, seq } => {
                let (number, to) = (model.number(message.id), &message.to);
                write!(f, "submit #{number} to {to} {}.{} {}", message.kind, message.method, short(seq.0))
            }
            Write::Progress { id, state, .. } => write!(f, "progress #{} {state}", model.number(*id)),
            Write::CancelWanted(id) => write!(f, "cancel #{}", model.number(*id)),
            Write::End { id, outcome, .. } => write!(f, "end #{} {}", model.number(*id), Shown(model, &**outcome)),
            Write::OutLane(row) => {
                write!(f, "lane {} sent {} lost {}", row.lane, short(row.sent.0), short(row.lost.0))
            }
            Write::Peer(row) => write!(f, "peer {} at {}", row.name, row.commits),
            Write::Accept(row) => {
                write!(f, "accept #{} t{} {}", model.number(row.message.id), row.ticket.0, state(&row.state))
            }
            Write::Started { ticket, .. } => write!(f, "started t{}", ticket.0),
            Write::Ended { ticket, outcome } => write!(f, "ended t{} {}", ticket.0, Shown(model, &**outcome)),
            Write::Forget(ticket) => write!(f, "forget t{}", ticket.0),
            Write::InLane(row) => {
                write!(f, "in-lane {} floor {} {} ranges", row.lane, short(row.floor.0), row.seen.len())
            }
            Write::DropInLane { lane, .. } => write!(f, "drop in-lane {lane}"),
        }
    }
}

fn state(state: &InState) -> &'static str {
    match state {
        InState::Stored => "stored",
        InState::Running(_) => "running",
        InState::Finished(_) => "finished",
    }
}

/// A number of a lane as seconds and count, without what all of them have in common.
fn short(seq: u64) -> impl Display {
    std::fmt::from_fn(move |f| match seq >> 20 {
        0 => write!(f, "{seq}"),
        second => write!(f, "{}:{}", second % 100_000, seq & 0xF_FFFF),
    })
}
