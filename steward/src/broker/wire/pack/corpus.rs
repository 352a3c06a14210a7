//! Bodies as nodes say them to each other, made by the encoders themselves from a seed: for training a dictionary, and for
//! measuring what it is good for. Nothing in them comes from anybody's fleet.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::{Control, Hello, Item, Occasion, Ticket};
use protocol::message::{Epoch, Incarnation, Kind, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Output, Progress, Receipt, Stream};
use protocol::time::Wall;

use super::super::receipts::{Subject, Teller};
use super::super::{control, envelope, hello, receipts};

/// Numbers that look random and are the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn name(&mut self) -> NodeName {
        let stem = self.one(&["ship", "node", "central", "edge-", "site", "vessel", "unit-", "gw"]);
        let name = if stem == "central" { stem.to_owned() } else { format!("{stem}{}", self.below(400)) };
        NodeName::new(&name).unwrap()
    }

    /// A `UUIDv7` of some day within ten years.
    fn id(&mut self) -> MessageId {
        let millis = u128::from(self.millis());
        let random = (u128::from(self.next()) << 64) | u128::from(self.next());
        let mask: u128 = (0xFFF << 64) | 0x3FFF_FFFF_FFFF_FFFF;
        MessageId((millis << 80) | (0x7 << 76) | (0x2 << 62) | (random & mask))
    }

    fn millis(&mut self) -> u64 {
        1_795_000_000_000 + self.below(10 * 365 * 24 * 3600 * 1000)
    }

    fn hex(&mut self) -> u64 {
        self.next() >> 1
    }

    fn words(&mut self, count: u64) -> String {
        let words = [
            "error",
            "warning",
            "info",
            "connection",
            "started",
            "stopped",
            "failed",
            "to",
            "the",
            "from",
            "user",
            "root",
            "system",
            "service",
            "disk",
            "usage",
            "network",
            "is",
            "not",
            "found",
            "timeout",
            "retry",
            "session",
            "opened",
            "closed",
            "request",
            "response",
            "status",
            "200",
            "ms",
            "bytes",
            "received",
            "sent",
            "update",
            "version",
        ];
        let words: Vec<&str> = (0..count).map(|_| self.one(&words)).collect();
        words.join(" ")
    }

    fn line(&mut self) -> String {
        let (day, hour, minute, second) = (self.below(28) + 1, self.below(24), self.below(60), self.below(60));
        let count = 3 + self.below(12);
        let words = self.words(count);
        match self.below(3) {
            0 => format!("Nov {day:2} {hour:02}:{minute:02}:{second:02} host app[{}]: {words}\n", self.below(30_000)),
            1 => format!("2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z INFO {words}\n", self.below(1000)),
            _ => format!("{words}\n"),
        }
    }

    /// What a command may write.
    fn output(&mut self) -> String {
        match self.below(7) {
            0 => String::new(),
            1 => format!("{}\n", self.below(100_000)),
            2 => (0..1 + self.below(6)).map(|_| self.line()).collect(),
            3 => {
                let mut text = format!("total {}\n", self.below(900));
                for _ in 0..1 + self.below(6) {
                    let kind = self.one(&["-rw-r--r--", "drwxr-xr-x", "-rwxr-xr-x", "lrwxrwxrwx"]);
                    let (size, day) = (self.below(900_000), self.below(28) + 1);
                    text += &format!(
                        "{kind} 1 root root {size:8} Nov {day:2} 10:{:02} file{}\n",
                        self.below(60),
                        self.below(90)
                    );
                }
                text
            }
            4 => format!(
                "Filesystem      Size  Used Avail Use% Mounted on\n/dev/sda1        {}G  {}G  {}G  {}% /\n",
                self.below(900),
                self.below(500),
                self.below(400),
                self.below(100)
            ),
            5 => format!(
                " 10:{:02}:{:02} up {} days,  {}:{:02},  1 user,  load average: 0.{:02}, 0.{:02}, 0.{:02}\n",
                self.below(60),
                self.below(60),
                self.below(300),
                self.below(24),
                self.below(60),
                self.below(99),
                self.below(99),
                self.below(99)
            ),
            _ => {
                "     Active: active (running) since Mon 2026-11-23 04:12:33 UTC; 3 days ago\n   Main PID: 812 (app)\n"
                    .to_owned()
            }
        }
    }

    fn data(&mut self, method: &str) -> Vec<String> {
        match method {
            "ShellCommand" => {
                let script = self.one(&[
                    "ls -l /var/log",
                    "systemctl status app",
                    "df -h",
                    "uptime",
                    "cat /etc/os-release",
                    "journalctl -n 20",
                    "tail -n 100 /var/log/syslog",
                    "systemctl restart app",
                    "ip addr show",
                    "uname -a",
                    "echo hi",
                ]);
                match self.below(4) {
                    0 => script.split(' ').map(str::to_owned).collect(),
                    _ => vec!["bash".to_owned(), "-c".to_owned(), script.to_owned()],
                }
            }
            "HttpGet" => vec![format!("http://localhost:{}/metrics", self.below(9000) + 80)],
            "TailFile" => (0..1 + self.below(8)).map(|_| self.line()).collect(),
            "ErrorLog" => vec![format!("{{\"node\":\"{}\",\"text\":\"{}\"}}", self.name(), self.words(8))],
            _ => vec![self.line()],
        }
    }

    fn envelope(&mut self) -> Vec<u8> {
        let (from, peer) = (self.name(), self.name());
        let (kind, method) = self.one(&[
            (Kind::CommandAck, "ShellCommand"),
            (Kind::CommandAck, "ShellCommand"),
            (Kind::CommandAck, "HttpGet"),
            (Kind::CommandAck, "OpProcessList"),
            (Kind::CommandAck, "Script"),
            (Kind::EventAck, "TextLogging"),
            (Kind::EventAck, "TextLogging"),
            (Kind::EventAck, "ErrorLog"),
            (Kind::EventAck, "TailFile"),
            (Kind::EventAck, "Syslogforwarding"),
            (Kind::EventNack, "TextLogging"),
        ]);
        let lane = Lane { peer, kind, method: MethodName::new(method).unwrap() };
        // A lane's numbers begin with the time in milliseconds.
        let (mut seq, mut created) = (self.millis(), self.millis());
        let floor = Seq(seq + 1);
        let mut parts = Vec::new();
        for number in 0..self.one(&[1, 1, 1, 1, 2, 3, 6]) {
            seq += 1;
            created += self.below(2000);
            let body = serde_json::to_string(&self.data(method)).unwrap().into();
            let mut options = Options::default();
            (options.timeout, options.retries) =
                (Duration::from_secs(self.one(&[3, 10, 10, 30])), self.one(&[0, 0, 3]));
            options.method_timeout = self.one(&[None, None, Some(Duration::from_secs(60))]);
            options.parallel = self.below(8) == 0;
            let item = Item { id: self.id(), seq: Seq(seq), prev: Seq(seq - 1), body, options, created: Wall(created) };
            if number > 0 {
                parts.push(b',');
            }
            envelope::encode_item(&item, &mut parts).unwrap();
        }
        let to = kind.wants_ack().then(|| Incarnation(self.hex()));
        envelope::encode(&from, Epoch(self.hex()), &lane, to, floor, &parts).unwrap()
    }

    fn outcome(&mut self) -> Outcome {
        let state = self.one(&[Final::Done, Final::Done, Final::Done, Final::Failed, Final::Refused, Final::TimedOut]);
        let finished = self.millis();
        let mut outcome = Outcome::bare(state, None, Wall(finished));
        outcome.started = Some(Wall(finished - self.below(900)));
        let inline = |text: String| Output {
            len: text.len() as u64,
            hash: [0; 32],
            truncated: false,
            inline: Some(Arc::from(text)),
        };
        match state {
            Final::Done => (outcome.exit_code, outcome.stdout) = (Some(0), inline(self.output())),
            Final::Failed => {
                (outcome.exit_code, outcome.stderr) = (Some(1), inline(format!("bash: line 1: {}", self.line())));
            }
            _ => outcome.reason = Some(Arc::from(self.words(9))),
        }
        if self.below(8) == 0 {
            let hash = std::array::from_fn(|_| self.next() as u8);
            outcome.stdout = Output { len: self.below(9_000_000) + 5000, hash, truncated: false, inline: None };
        }
        outcome
    }

    fn receipts(&mut self) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut ticket = self.below(200_000);
        for number in 0..self.one(&[1, 1, 1, 1, 2, 3, 8]) {
            ticket += 1;
            let progress = match self.below(5) {
                0 => Progress::Stored,
                1 => Progress::Running,
                _ => Progress::Final(self.outcome()),
            };
            let data_hash = std::array::from_fn(|_| self.next() as u8);
            let method = MethodName::new("ShellCommand").unwrap();
            let of_command = matches!(progress, Progress::Final(_)) && self.below(2) == 0;
            let subject = of_command.then_some(Subject { kind: Kind::CommandAck, method, data_hash });
            if number > 0 {
                parts.push(b',');
            }
            let receipt = Receipt { id: self.id(), progress };
            receipts::encode_receipt(Ticket(ticket), &receipt, subject.as_ref(), &mut parts).unwrap();
        }
        let (from, to) = (self.name(), self.name());
        let (incarnation, epoch) = (Incarnation(self.hex()), Epoch(self.hex()));
        let teller = Teller { from, incarnation, epoch, commits: self.below(5_000_000) };
        receipts::encode(&teller, &to, Epoch(self.hex()), &parts).unwrap()
    }

    fn control(&mut self) -> Vec<u8> {
        let control = match self.below(8) {
            0 => Control::Cancel {
                epoch: Epoch(self.hex()),
                kind: Kind::CommandAck,
                method: MethodName::new("ShellCommand").unwrap(),
                id: self.id(),
                seq: Seq(1_795_000_000_001),
                prev: Seq(1_795_000_000_000),
            },
            1 => {
                let (ticket, stream) = (Ticket(self.below(90_000)), self.one(&Stream::ALL));
                Control::Ask { ticket, stream, offset: self.below(900_000), len: 524_288 }
            }
            _ => {
                let first = self.below(200_000);
                Control::Confirm((0..self.one(&[1, 1, 1, 2, 9])).map(|more| Ticket(first + more)).collect())
            }
        };
        let (from, to) = (self.name(), self.name());
        control::encode(&from, &to, Some(Incarnation(self.hex())), &control).unwrap()
    }

    fn say_hello(&mut self) -> Vec<u8> {
        let from = self.name();
        let info = format!(
            r#"{{"node":"{from}","version":"0.1.0","startedAt":"2026-11-23T04:12:33.{:03}Z","host":"{from}","os":"Debian GNU/Linux 13 (trixie)","kernel":"6.12.{}-amd64","arch":"x86_64","cpus":{},"labels":{{"site":"north"}},"load":[0.{:02},0.{:02},0.{:02}],"diskFreeBytes":{},"memoryTotalBytes":{},"memoryAvailableBytes":{},"queues":{{"outbox":{},"inbox":0,"running":{}}}}}"#,
            self.below(1000),
            self.below(90),
            self.one(&[1, 2, 4, 8]),
            self.below(99),
            self.below(99),
            self.below(99),
            self.next() >> 26,
            self.next() >> 30,
            self.next() >> 31,
            self.below(20),
            self.below(3)
        );
        let hello = Hello {
            from: from.clone(),
            epoch: Epoch(self.hex()),
            incarnation: Incarnation(self.hex()),
            commits_at_start: self.below(900_000),
            occasion: self.one(&[Occasion::Up, Occasion::Interval, Occasion::Interval, Occasion::Interval]),
            info: Arc::from(info),
        };
        let item = super::super::super::unnumbered(hello::encode_data(&hello).unwrap());
        let item = Item { id: self.id(), created: Wall(self.millis()), ..item };
        let mut parts = Vec::new();
        envelope::encode_item(&item, &mut parts).unwrap();
        let lane = super::super::super::say_hello(&NodeName::new("central").unwrap()).unwrap();
        envelope::encode(&from, hello.epoch, &lane, None, Seq(1), &parts).unwrap()
    }
}

/// So many bodies.
pub(super) fn bodies(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(seed);
    let mut body = || match dice.below(12) {
        0..5 => dice.envelope(),
        5..9 => dice.receipts(),
        9..11 => dice.control(),
        _ => dice.say_hello(),
    };
    (0..count).map(|_| body()).collect()
}
