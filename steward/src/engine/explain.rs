//! Why a message is where it is, in words.

use protocol::inspect::{MessageNow, PeerNow};
use protocol::outcome::State;
use protocol::step::Presence;
use protocol::time::Wall;

/// Why a message that has not ended is in its state.
pub(super) fn waiting(peer: &PeerNow, link: bool, now: &MessageNow) -> String {
    let name = &peer.row.name;
    let reason = match now.state {
        State::Queued | State::Sent if !link => "the broker can't be reached; queued".to_owned(),
        State::Queued | State::Sent => match peer.presence {
            Presence::Online(_) if now.state == State::Sent => format!("sent; {name} has not confirmed it yet"),
            Presence::Online(_) => format!("{name} is online; waiting for its turn"),
            Presence::Away(_) | Presence::Stopped(_) | Presence::Silent(_) | Presence::Unknown => {
                format!("{}; queued", presence(peer))
            }
        },
        State::Stored => format!("{name} has it; waiting for its turn there"),
        State::Running => format!("{name} runs it"),
        State::Fetching => format!("{name} is done; its output is on its way"),
        State::Final(_) => String::new(),
    };
    if now.cancel { format!("{reason}; cancellation asked for") } else { reason }
}

/// What is known of a node, and from what.
pub(super) fn presence(peer: &PeerNow) -> String {
    let name = &peer.row.name;
    match peer.presence {
        Presence::Unknown => match peer.row.seen {
            Some(seen) => format!("{name} was last heard of at {}", clock_time(seen)),
            None => format!("{name} was never heard of"),
        },
        Presence::Online(_) => format!("{name} is online"),
        Presence::Away(since) => format!("{name} is away since {}, nobody listens", clock_time(since)),
        Presence::Stopped(since) => format!("{name} was stopped at {}", clock_time(since)),
        Presence::Silent(since) => {
            format!("{name} does not answer since {}, though somebody listens", clock_time(since))
        }
    }
}

/// From what it is known whether a node is there, beside its name.
pub(super) fn because(peer: &PeerNow) -> String {
    match peer.presence {
        Presence::Unknown => match peer.row.seen {
            Some(seen) => format!("last heard of at {}", clock_time(seen)),
            None => "never heard of".to_owned(),
        },
        Presence::Online(seen) => {
            let seconds = crate::clock::wall().0.saturating_sub(seen.0) / 1000;
            format!("last proof of life {seconds} s ago")
        }
        Presence::Away(since) => format!("away since {}, nobody listens", clock_time(since)),
        Presence::Stopped(since) => format!("stopped at {}", clock_time(since)),
        Presence::Silent(since) => format!("no answer since {}, though somebody listens", clock_time(since)),
    }
}

/// Presence in one word.
pub(super) fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Unknown => "unknown",
        Presence::Online(_) => "online",
        Presence::Away(_) => "away",
        Presence::Stopped(_) => "stopped",
        Presence::Silent(_) => "silent",
    }
}

/// `10:42` today, `2026-11-20 10:42` on another day, in the zone of this machine.
pub(super) fn clock_time(at: Wall) -> String {
    let zoned = |wall: Wall| {
        let millis = i64::try_from(wall.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        time.to_zoned(jiff::tz::TimeZone::system())
    };
    let (at, now) = (zoned(at), zoned(crate::clock::wall()));
    let format = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}
