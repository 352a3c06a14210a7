//! Handing orders in: one thread for each node that sends, so that a node that is frozen or stuck holds up nobody else.
//!
//! What is certainly not accepted is handed in again until it is; what may be accepted never is, because a second copy
//! would be a second message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness;
use crate::ledger::{Fate, Ledger};
use crate::timer::Timer;

/// The pause before what was not accepted is handed in again.
const AGAIN: Duration = Duration::from_millis(100);

/// How orders come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The API on the node's socket.
    Socket,
    /// Appended to `inmsg.txt`.
    File,
    /// Moved into `messages.d/`, as a file of their own.
    Spool,
}

/// Orders that are handed in together.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    /// When.
    pub(crate) at: Duration,
    /// How.
    pub(crate) way: Way,
    /// The machine that sends them.
    pub(crate) from: usize,
    /// Their numbers.
    pub(crate) orders: Vec<usize>,
}

/// Who hands in at one node.
pub(crate) struct Submitter<'a> {
    /// The node's directory.
    pub(crate) dir: PathBuf,
    /// What to hand in, in this order.
    pub(crate) submissions: Vec<Submission>,
    /// The message of each order, and how long after its acceptance it is taken back.
    pub(crate) messages: &'a [(Value, Option<Duration>)],
    /// Where it is written down.
    pub(crate) ledger: &'a Ledger,
    /// The world's time.
    pub(crate) timer: Timer,
    /// Nothing is of use any more.
    pub(crate) given_up: &'a AtomicBool,
}

/// What came of one try.
enum Tried {
    /// It is settled.
    Settled,
    /// It was certainly not accepted.
    NotTaken,
    /// It should have been accepted: this is wrong.
    Refused(String),
}

impl Submitter<'_> {
    /// Hands everything in. An error is a refusal that should not have been.
    pub(crate) fn run(mut self) -> Result<(), String> {
        let mut cancels: BinaryHeap<Reverse<(Duration, String)>> = BinaryHeap::new();
        for submission in std::mem::take(&mut self.submissions) {
            self.cancel_until(submission.at, &mut cancels);
            self.timer.wait_until(submission.at);
            loop {
                let tried = match submission.way {
                    Way::Socket => self.post(&submission.orders, &mut cancels),
                    Way::File => self.append(&submission.orders),
                    Way::Spool => self.put(&submission.orders),
                };
                match tried {
                    Tried::Settled => break,
                    Tried::Refused(why) => return Err(why),
                    Tried::NotTaken if self.given_up.load(Ordering::Acquire) => return Ok(()),
                    Tried::NotTaken => {
                        let again = self.timer.elapsed() + AGAIN;
                        self.cancel_until(again, &mut cancels);
                        self.timer.wait_until(again);
                    }
                }
            }
        }
        self.cancel_until(Duration::MAX, &mut cancels);
        Ok(())
    }

    fn text(&self, orders: &[usize]) -> String {
        Value::from(orders.iter().map(|order| self.messages[*order].0.clone()).collect::<Vec<_>>()).to_string()
    }

    fn note(&self, orders: &[usize], fate: &Fate) -> Tried {
        orders.iter().for_each(|order| self.ledger.note(*order, fate.clone()));
        Tried::Settled
    }

    fn post(&self, orders: &[usize], cancels: &mut BinaryHeap<Reverse<(Duration, String)>>) -> Tried {
        let answer = match harness::socket(&self.socket(), "POST", "/v1/messages", &self.text(orders)) {
            Ok(answer) => answer,
            Err(error) if is_nobody(&error) => return Tried::NotTaken,
            Err(error) => return self.note(orders, &Fate::Unknown(error.to_string())),
        };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => {}
            503 => return Tried::NotTaken,
            // The disk did not take it so far; it may still do.
            507 if text.contains("is held") => return self.note(orders, &Fate::Unknown(text)),
            507 => return Tried::NotTaken,
            status => return Tried::Refused(format!("{status} for {orders:?}: {text}")),
        }
        let ids: Option<Vec<String>> = serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .and_then(|answer| serde_json::from_value(answer["ids"].clone()).ok())
            .filter(|ids: &Vec<String>| ids.len() == orders.len());
        let Some(ids) = ids else { return Tried::Refused(format!("no ids for {orders:?}: {text}")) };
        let now = self.timer.elapsed();
        for (order, id) in orders.iter().zip(ids) {
            if let Some(after) = self.messages[*order].1 {
                cancels.push(Reverse((now + after, id.clone())));
            }
            self.ledger.note(*order, Fate::Accepted(id));
        }
        Tried::Settled
    }

    /// One write at the end of the file, as `cat >>` makes it, and a sync: what was only written may go with a file system
    /// that fails. What it writes may be taken from then on.
    fn append(&self, orders: &[usize]) -> Tried {
        let file = OpenOptions::new().append(true).open(self.dir.join("inmsg.txt"));
        let Ok(mut file) = file else { return Tried::NotTaken };
        match file.write_all(self.text(orders).as_bytes()).and_then(|()| file.sync_all()) {
            Ok(()) => self.note(orders, &Fate::Written),
            // Part of it may be there.
            Err(error) => self.note(orders, &Fate::Unknown(error.to_string())),
        }
    }

    /// Written and synced under a name that the node leaves alone, and renamed from it: taken as a whole or not at all.
    fn put(&self, orders: &[usize]) -> Tried {
        let folder = self.dir.join("messages.d");
        let name = format!("{:05}.json", orders.first().copied().unwrap_or_default());
        let aside = folder.join(format!("{name}.part"));
        let write = |mut file: File| file.write_all(self.text(orders).as_bytes()).and_then(|()| file.sync_all());
        if File::create(&aside).and_then(write).is_err() {
            return Tried::NotTaken;
        }
        let renamed = fs::rename(&aside, folder.join(name));
        match renamed.and_then(|()| File::open(&folder)).and_then(|folder| folder.sync_all()) {
            Ok(()) => self.note(orders, &Fate::Written),
            Err(error) => self.note(orders, &Fate::Unknown(error.to_string())),
        }
    }

    /// Takes back what is due until then. Whether that comes in time is a matter of chance.
    fn cancel_until(&self, until: Duration, cancels: &mut BinaryHeap<Reverse<(Duration, String)>>) {
        while let Some(Reverse((at, id))) = cancels.peek().cloned() {
            if at > until {
                return;
            }
            cancels.pop();
            self.timer.wait_until(at);
            // Whoever can't be asked now is not asked again.
            harness::socket(&self.socket(), "POST", &format!("/v1/messages/{id}/cancel"), "").ok();
        }
    }

    fn socket(&self) -> PathBuf {
        socket_of(&self.dir)
    }
}

/// Where a node listens.
pub(crate) fn socket_of(dir: &Path) -> PathBuf {
    dir.join("steward.sock")
}

/// Whether nobody was there to hear it.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
