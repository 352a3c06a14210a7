//! Looking on while commands run: what whoever follows an output gets to see, kept for the audit. It does what the
//! command line does, by the documented API alone: it says what it has seen, and comes again whenever the answer breaks off.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::ledger::{Fate, Ledger};
use crate::orders::Order;
use crate::submit::socket_of;
use crate::timer::Timer;
use crate::world::World;

/// The pause before it is looked again for a node that does not answer, or a message that is not accepted.
const AGAIN: Duration = Duration::from_millis(100);

/// How long to wait for a line before looking whether it is all over.
const LINE_LIMIT: Duration = Duration::from_millis(500);

/// How long an onlooker stays when everything has come to its end, to hear of it.
const LAST_LIMIT: Duration = Duration::from_secs(5);

/// Whoever looks on at one order.
pub(crate) struct Onlooker<'a> {
    /// The directory of the node that sends it.
    pub(crate) dir: PathBuf,
    /// Its number.
    pub(crate) order: usize,
    /// Where its id will stand.
    pub(crate) ledger: &'a Ledger,
    /// The world's time.
    pub(crate) timer: Timer,
    /// Nothing is of use any more.
    pub(crate) given_up: &'a AtomicBool,
}

/// What was seen of the output of an order.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The number of the order.
    pub(crate) order: usize,
    /// Standard output and standard error of each run, in their order.
    pub(crate) runs: Vec<[Vec<u8>; 2]>,
    /// How the message ended, as far as it was heard.
    pub(crate) state: Option<String>,
    /// How often the answer broke off.
    pub(crate) breaks: u64,
    /// What must not be, in words.
    pub(crate) wrong: Vec<String>,
    run: u64,
}

/// How an answer ended.
enum Ended {
    /// Nothing more will come.
    All,
    /// It broke off, or did not begin.
    Broken,
}

/// Those who look on in a world.
pub(crate) fn of<'a>(world: &World<'_>, ledger: &'a Ledger, given_up: &'a AtomicBool) -> Vec<Onlooker<'a>> {
    let followed = world.orders.iter().enumerate().filter(|(_, order)| order.is_followed());
    let onlooker = |(number, order): (usize, &Order)| {
        let dir = world.machines[order.from].node.dir().to_owned();
        Onlooker { dir, order: number, ledger, timer: world.timer, given_up }
    };
    followed.map(onlooker).collect()
}

impl Onlooker<'_> {
    /// Looks on until the message has ended, or all is over.
    pub(crate) fn run(self) -> Seen {
        let mut seen = Seen { order: self.order, ..Seen::default() };
        let mut over_at = None;
        let mut is_over = || {
            let now = self.timer.elapsed();
            self.given_up.load(Ordering::Acquire) && *over_at.get_or_insert(now + LAST_LIMIT) <= now
        };
        let id = loop {
            match self.ledger.of(self.order) {
                Fate::Accepted(id) => break id,
                Fate::Open if !is_over() => self.timer.wait_until(self.timer.elapsed() + AGAIN),
                Fate::Open | Fate::Written | Fate::Unknown(_) => return seen,
            }
        };
        while !is_over() {
            match self.look(&id, &mut seen, &mut is_over) {
                Ok(Ended::All) => break,
                Ok(Ended::Broken) | Err(_) => seen.breaks += 1,
            }
            self.timer.wait_until(self.timer.elapsed() + AGAIN);
        }
        seen
    }

    fn look(&self, id: &str, seen: &mut Seen, is_over: &mut dyn FnMut() -> bool) -> std::io::Result<Ended> {
        let mut stream = UnixStream::connect(socket_of(&self.dir))?;
        stream.set_read_timeout(Some(LINE_LIMIT))?;
        let [stdout, stderr] = seen.runs.last().map_or([0, 0], |run| run.each_ref().map(Vec::len));
        let query = format!("follow=true&run={}&stdout={stdout}&stderr={stderr}", seen.run);
        write!(stream, "GET /v1/messages/{id}/output?{query} HTTP/1.0\r\nHost: steward\r\n\r\n")?;
        let (mut reader, mut line, mut is_head) = (BufReader::new(stream), Vec::new(), true);
        loop {
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(Ended::Broken),
                Ok(_) if line.last() != Some(&b'\n') => return Ok(Ended::Broken),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if is_over() {
                        return Ok(Ended::Broken);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            let text = std::mem::take(&mut line);
            match text.as_slice() {
                head if is_head => {
                    is_head = head != b"\r\n";
                    // The store in which it stood is gone, and with it whatever there was to see.
                    if head.starts_with(b"HTTP/1.0 404") || head.starts_with(b"HTTP/1.1 404") {
                        return Ok(Ended::All);
                    }
                }
                body => {
                    if seen.take(&serde_json::from_slice(body).unwrap_or_default()) {
                        return Ok(Ended::All);
                    }
                }
            }
        }
    }
}

impl Seen {
    /// Of somebody who has panicked.
    pub(crate) fn lost() -> Self {
        Self { wrong: vec!["a panic, which is the tool's fault".to_owned()], ..Self::default() }
    }

    /// Takes a line. True: it was the last.
    fn take(&mut self, line: &Value) -> bool {
        if let Some(state) = line["state"].as_str() {
            self.state = Some(state.to_owned());
            return true;
        }
        let run = line["run"].as_u64().unwrap_or(0);
        if line["again"] == true {
            self.run = run;
            self.runs.push(Default::default());
            return false;
        }
        let (Some(offset), Some(text), place) = (line["offset"].as_u64(), line["text"].as_str(), &line["stream"])
        else {
            self.wrong.push(format!("a line makes no sense: {line}"));
            return false;
        };
        if self.run != run && self.run != 0 {
            self.wrong.push(format!("run {run} goes on where run {} was, without a word", self.run));
        }
        self.run = run;
        if self.runs.is_empty() {
            self.runs.push(Default::default());
        }
        if let Some(shown) = self.runs.last_mut().map(|streams| &mut streams[usize::from(place == "stderr")]) {
            if offset != shown.len() as u64 {
                self.wrong.push(format!("a piece of {place} begins at {offset} behind {} bytes", shown.len()));
            }
            shown.extend_from_slice(text.as_bytes());
        }
        false
    }
}
