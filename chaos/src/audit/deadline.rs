//! Nothing starts after its deadline: neither by what its node has written down, nor by the clock of the command itself.
//!
//! A node judges a deadline when it is a message's turn. What it has decided then it stores first, so the command may begin
//! a moment after its deadline; how long that moment may be is known here.

use std::time::Duration;

use super::Audited;
use super::evidence::Evidence;
use crate::orders::What;
use crate::world::World;

/// How long it may take on a busy machine from the decision that a command starts to the start that is written down.
const START_MAX: Duration = Duration::from_millis(500);

/// The same to its first line.
const FIRST_LINE_MAX: Duration = Duration::from_millis(1500);

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for (number, order) in world.orders.iter().enumerate() {
        let (What::Command(command), Some(message)) = (&order.what, evidence.message(number)) else { continue };
        let Some(deadline_ms) = command.deadline_ms else { continue };
        let (sender, receiver) = (&world.machines[order.from].past, &world.machines[order.to].past);
        // A deadline counts from the sender's clock, and the receiver looks at its own.
        if sender.clock_jumped || receiver.clock_jumped {
            continue;
        }
        let Some(created) = message["createdAt"].as_str().and_then(unix_ms) else {
            audited.other(format!("{}: its time of acceptance can't be read: {}", order.tag, message["createdAt"]));
            continue;
        };
        let deadline = created + deadline_ms;
        let finished = message["finishedAt"].as_str().and_then(unix_ms);
        let by_node = finished.zip(message["runMs"].as_u64()).map(|(finished, ran)| finished.saturating_sub(ran));
        let by_itself = evidence.began_ms(world, number);
        for (who, started, moment) in [("its node", by_node, START_MAX), ("its own word", by_itself, FIRST_LINE_MAX)] {
            // A node that stands still, or whose disk is slow, may do so in that moment.
            let moment = (moment + receiver.delayed + world.stood_still).as_millis() as u64;
            if let Some(late) = started.and_then(|at| at.checked_sub(deadline)).filter(|late| *late > moment) {
                let (tag, id) = (&order.tag, &message["id"]);
                audited.other(format!("deadline: {tag} ({id}) started {late} ms after its deadline, by {who}"));
            }
        }
        audited.deadlines += u64::from(by_node.is_some() || by_itself.is_some());
    }
}

/// Milliseconds since 1970 of a time as nodes write it: `2026-11-22T22:31:15.949Z`.
fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.split([':', '.']).map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let millis = time.next()?.ok()?;
    // Years that begin in March have their odd day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::unix_ms;

    #[test]
    fn times_are_read() {
        assert_eq!(unix_ms("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(unix_ms("2000-03-01T00:00:00.001Z"), Some(951_868_800_001));
        assert_eq!(unix_ms("2026-11-22T22:31:15.949Z"), Some(1_795_386_675_949));
        assert_eq!(unix_ms("2026-11-22 22:31:15"), None);
    }
}
