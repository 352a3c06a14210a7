//! What a command writes is seen while it runs: each byte once and in order, whatever is restarted meanwhile, by whoever
//! has sent it, and by nobody else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Fleet, Node, Process, SOON, eventually, shell, stays, until, with};
use crate::http_get::server::Server;

/// `steward logs -f`, or another verb that goes on, and what it has printed.
pub(crate) struct Follower {
    pub(crate) process: Process,
    out: PathBuf,
    notes: PathBuf,
}

impl Follower {
    pub(crate) fn start(fleet: &Fleet, node: &Node<'_>, name: &str, args: &[&str]) -> Self {
        let (out, notes) = (fleet.dir().join(format!("{name}.out")), fleet.dir().join(format!("{name}.notes")));
        let steward = node.command();
        let mut command = Command::new("sh");
        let script = format!("exec \"$0\" \"$@\" >{} 2>{}", out.display(), notes.display());
        command.args(["-c", &script]).arg(steward.get_program()).args(args).current_dir(node.dir());
        command.env_remove("STEWARD_DIR");
        Self { process: Process::start(name, fleet.dir(), &mut command), out, notes }
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub(crate) fn notes(&self) -> String {
        fs::read_to_string(&self.notes).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        let what = format!("{text:?} is shown");
        until(SOON, &what, || {
            let now = self.text();
            if now.contains(text) { Ok(()) } else { Err(format!("{now}\n{}", self.notes())) }
        });
    }

    #[track_caller]
    pub(crate) fn ends(&mut self) -> i32 {
        self.process.wait(SOON).code().unwrap()
    }
}

fn logs<'a>(args: &[&'a str], id: &'a str) -> Vec<&'a str> {
    [&["logs"], args, &[id]].concat()
}

/// Lines with their numbers, a few at a time, so that it takes a while.
fn counting(lines: u32) -> String {
    format!(
        "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i of a command that takes its time; sleep 0.005; done"
    )
}

fn counted(lines: u32) -> String {
    (1..=lines).map(|n| format!("line {n} of a command that takes its time\n")).collect()
}

#[test]
fn output_is_here_before_its_command_ends() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (go, end) = (fleet.file("go"), fleet.file("end"));
    let script = format!("echo begun; echo trouble >&2; {}; echo more; {}; exit 3", go.awaited(), end.awaited());
    let mut send = Follower::start(&fleet, &central, "send", &["send", "ship1", "--", "sh", "-c", &script]);
    send.shows("begun\n");
    eventually("so is the other stream", || send.notes().contains("trouble\n").then_some(()));
    let id = central.messages()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(central.show(&id)["state"], "running");
    let mut late = Follower::start(&fleet, &central, "late", &logs(&["-f"], &id));
    let mut errors = Follower::start(&fleet, &central, "errors", &logs(&["-f", "--stream=stderr"], &id));
    late.shows("begun\n");
    go.create();
    send.shows("more\n");
    late.shows("more\n");
    let now = central.cli(&logs(&[], &id));
    assert_eq!((now.code, &*now.stdout), (0, "begun\nmore\n"), "{now:?}");
    assert!(now.stderr.contains("trouble") && now.stderr.contains("the message is running"), "{now:?}");
    end.create();
    assert_eq!((send.ends(), late.ends(), errors.ends()), (3, 0, 0));
    for text in [send.text(), late.text()] {
        assert_eq!(text, "begun\nmore\n");
    }
    assert_eq!(errors.text(), "");
    assert!(errors.notes().starts_with("trouble\n") && errors.notes().contains("the message is failed"));
    let after = central.cli(&logs(&["--tail=1"], &id));
    assert_eq!(after.stdout, "more\n");
    assert_eq!(central.ended(&id)["stdout"], "begun\nmore\n");
    let left = || fs::read_dir(central.dir().join("blobs")).unwrap().count();
    eventually("nothing is left of what was followed", || (left() == 0).then_some(()));
}

#[test]
fn each_byte_comes_once_and_in_order_through_restarts_of_broker_and_sender() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let id = central.send(&shell("ship1", &counting(1500)));
    let mut follower = Follower::start(&fleet, &central, "follower", &logs(&["-f"], &id));
    follower.shows("line 20 ");
    fleet.broker.stop();
    fleet.broker.start();
    let begun = follower.text().lines().count();
    eventually("it goes on", || (follower.text().lines().count() > begun + 20).then_some(()));
    central.kill();
    central.start();
    let begun = follower.text().lines().count();
    eventually("it goes on", || (follower.text().lines().count() > begun + 20).then_some(()));
    fleet.broker.signal(Signal::STOP);
    stays("nothing comes through a broker that stands still", &(), || ());
    fleet.broker.signal(Signal::CONT);
    assert_eq!(follower.ends(), 0);
    assert!(follower.text() == counted(1500), "{}\n{}", follower.text(), follower.notes());
    assert!(follower.notes().contains("the node here has stopped"), "{}", follower.notes());
    assert_eq!(central.ended(&id)["stdout"], counted(1500));
}

/// What was followed is the beginning of what is fetched: the rest comes, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_followed_does_not_travel_again() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut tape = Tape::begin(&fleet).await;
    let (go, bytes) = (fleet.file("go"), 300_000);
    let noise = format!("head -c {bytes} /dev/urandom");
    let id = central.send(&shell("ship1", &format!("{noise}; {}; {noise}", go.awaited())));
    let mut follower = Follower::start(&fleet, &central, "follower", &logs(&["-f"], &id));
    let got = || fs::metadata(&follower.out).map_or(0, |out| out.len());
    eventually("the first half is here", || (got() == bytes).then_some(()));
    go.create();
    assert_eq!(follower.ends(), 0);
    assert_eq!(central.ended(&id)["stdoutBytes"], 2 * bytes);
    assert!(central.bytes(&format!("/v1/messages/{id}/stdout")) == fs::read(&follower.out).unwrap());
    let travelled: usize = tape.pieces().await.iter().map(|message| message.payload.len()).sum();
    let most = usize::try_from(2 * bytes).unwrap() * 11 / 10;
    assert!(travelled < most, "{travelled} bytes for {}", 2 * bytes);
}

#[test]
fn a_run_that_begins_anew_is_marked_and_one_that_does_not_is_told() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let go = fleet.file("go");
    let script = format!("echo first; {}; echo last", go.awaited());
    let once = central.send(&shell("ship1", &script));
    let mut told = Follower::start(&fleet, &central, "told", &logs(&["-f"], &once));
    told.shows("first\n");
    let again = central.send(&with(shell("ship1", &script), json!({ "rerun": true, "parallel": true })));
    let mut marked = Follower::start(&fleet, &central, "marked", &logs(&["-f"], &again));
    marked.shows("first\n");
    ship1.kill();
    ship1.start();
    assert_eq!(told.ends(), 0);
    assert_eq!(told.text(), "first\n");
    assert!(told.notes().contains("the message is interrupted"), "{}", told.notes());
    assert_eq!(central.ended(&once)["state"], "interrupted");
    marked.shows("first\nfirst\n");
    assert!(marked.notes().contains("runs it again"), "{}", marked.notes());
    go.create();
    assert_eq!(marked.ends(), 0);
    assert_eq!(marked.text(), "first\nfirst\nlast\n");
    assert_eq!(central.ended(&again)["stdout"], "first\nlast\n");
}

#[test]
fn the_last_lines_are_where_it_begins_if_that_is_wanted() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let go = fleet.file("go");
    let id = central.send(&shell("ship1", &format!("seq 5000; echo e >&2; {}; echo end", go.awaited())));
    central.awaits(&id, "running");
    let mut two = Follower::start(&fleet, &central, "two", &logs(&["-f", "--tail=2"], &id));
    let mut none = Follower::start(&fleet, &central, "none", &logs(&["-f", "--tail=0"], &id));
    two.shows("4999\n5000\n");
    assert_eq!(two.text(), "4999\n5000\n");
    // It has said nothing yet, and it must have looked at what is there before there is more.
    let looked = central.cli(&logs(&["--tail=1"], &id));
    assert_eq!(looked.stdout, "5000\n");
    go.create();
    assert_eq!((two.ends(), none.ends()), (0, 0));
    assert_eq!(two.text(), "4999\n5000\nend\n");
    assert!(none.text() == "end\n" || none.text().is_empty(), "{}", none.text());
    assert_eq!(central.cli(&logs(&["--tail=2"], &id)).stdout, "5000\nend\n");
    assert_eq!(central.cli(&logs(&[], &id)).stdout.lines().count(), 5001);
}

#[test]
fn a_reader_that_is_slow_loses_nothing_and_bytes_that_are_no_text_come_as_they_are() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let script = "printf 'a\\0\\377\\303'; sleep 1; printf '\\244'; seq 700000; sleep 1; echo end";
    let id = central.send(&shell("ship1", script));
    let mut follower = Follower::start(&fleet, &central, "follower", &logs(&["-f"], &id));
    let got = |follower: &Follower| fs::read(&follower.out).unwrap_or_default();
    eventually("it has begun", || (!got(&follower).is_empty()).then_some(()));
    follower.process.signal(Signal::STOP);
    assert_eq!(central.ended(&id)["state"], "done");
    follower.process.signal(Signal::CONT);
    assert_eq!(follower.ends(), 0);
    let numbers: String = (1..=700_000).map(|n| format!("{n}\n")).collect();
    let expected = [&b"a\0\xff\xc3\xa4"[..], numbers.as_bytes(), b"end\n"].concat();
    assert!(got(&follower) == expected, "{} bytes instead of {}", got(&follower).len(), expected.len());
}

/// One stream has ended, short enough to lie in memory, and the command goes on.
#[test]
fn what_stands_in_a_stream_that_is_closed_can_be_seen() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (closed, end) = (fleet.file("closed"), fleet.file("end"));
    let script = format!("echo short; exec >&-; touch {}; {}; echo late >&2", closed.path(), end.awaited());
    let id = central.send(&shell("ship1", &script));
    eventually("it is closed", || std::path::Path::new(closed.path()).exists().then_some(()));
    let mut follower = Follower::start(&fleet, &central, "follower", &logs(&["-f"], &id));
    follower.shows("short\n");
    end.create();
    assert_eq!(follower.ends(), 0);
    assert_eq!((&*follower.text(), &*follower.notes()), ("short\n", "late\n"));
}

/// Everything that passes the broker.
struct Tape {
    client: Client,
    all: async_nats::Subscriber,
}

/// So long without a message, and a recording is over.
const QUIET: Duration = Duration::from_millis(400);

impl Tape {
    async fn begin(fleet: &Fleet) -> Self {
        let client = async_nats::connect(fleet.broker.address()).await.unwrap();
        let all = client.subscribe(">").await.unwrap();
        client.flush().await.unwrap();
        Self { client, all }
    }

    async fn recorded(&mut self) -> Vec<Message> {
        let (mut tape, start) = (Vec::new(), std::time::Instant::now());
        // What never ends is looked at from time to time.
        while start.elapsed() < 10 * QUIET
            && let Ok(Some(message)) = tokio::time::timeout(QUIET, self.all.next()).await
        {
            tape.push(message);
        }
        tape
    }

    /// Pieces of outputs, of those that have ended as well.
    async fn pieces(&mut self) -> Vec<Message> {
        let mut tape = self.recorded().await;
        tape.retain(|message| message.subject.contains(".DATA."));
        tape
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_travels_that_nobody_follows_and_nobody_follows_what_is_not_his() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut tape = Tape::begin(&fleet).await;
    let end = fleet.file("end");
    let tick = "echo tick; sleep 0.02; done";
    let id = central.send(&shell("ship1", &format!("until [ -e {} ]; do {tick}", end.path())));
    central.awaits(&id, "running");
    let heard = tape.recorded().await;
    assert!(heard.iter().all(|message| !message.subject.contains(".DATA.")), "nobody follows it");
    let follow = |from: &str, process: &Value| {
        let control = json!({ "v": 1, "fromNode": from, "toNode": "ship1", "toIncarnation": process, "control": "follow",
            "id": id, "again": true });
        (format!("ship1.CTL.{from}"), control.to_string())
    };
    let process = &process_of(&heard);
    for (subject, body) in [follow("ship2", process), follow("central", &"0000000000000001".into())] {
        tape.client.publish(subject, body.into()).await.unwrap();
    }
    let heard = tape.pieces().await;
    assert!(heard.is_empty(), "a stranger, or for another process: {heard:?}");
    // The same of the sender brings it, for as long as it is repeated, which nobody does here.
    let (subject, body) = follow("central", process);
    tape.client.publish(subject, body.into()).await.unwrap();
    let first = tokio::time::timeout(SOON, async {
        loop {
            let message = tape.all.next().await.unwrap();
            if message.subject.contains(".DATA.") {
                return message;
            }
        }
    });
    let first = first.await.unwrap();
    assert_eq!(first.subject.as_str(), "central.DATA.ship1");
    let headers = first.headers.unwrap();
    assert_eq!(headers.get("Steward-Message").unwrap().as_str(), id);
    assert_eq!(
        (headers.get("Steward-Stream").unwrap().as_str(), headers.get("Steward-Offset").unwrap().as_str()),
        ("stdout", "0")
    );
    let start = std::time::Instant::now();
    loop {
        assert!(start.elapsed() < 2 * SOON, "it is still shown to nobody");
        if tape.pieces().await.is_empty() {
            break;
        }
    }
    // Whoever leaves says so.
    let mut follower = Follower::start(&fleet, &central, "follower", &logs(&["-f"], &id));
    follower.shows("tick\ntick\ntick\n");
    follower.process.kill();
    let start = std::time::Instant::now();
    tape.recorded().await;
    assert!(tape.pieces().await.is_empty() && start.elapsed() < SOON / 3, "it is shown to somebody who has left");
    end.create();
    assert_eq!(central.ended(&id)["state"], "done");
}

/// Whoever does not say what has arrived is not sent more than a little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_on_its_way_than_a_mebibyte_that_nobody_has_confirmed() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut tape = Tape::begin(&fleet).await;
    let end = fleet.file("end");
    let id = central.send(&shell("ship1", &format!("head -c 3000000 /dev/zero; {}", end.awaited())));
    central.awaits(&id, "running");
    let heard = tape.recorded().await;
    let process = process_of(&heard);
    let (mut told, mut run) = (0, 0);
    for _ in 0..2 {
        let control = json!({ "v": 1, "fromNode": "central", "toNode": "ship1", "toIncarnation": process,
            "control": "follow", "id": id, "run": run, "stdout": told, "again": true });
        tape.client.publish("ship1.CTL.central", control.to_string().into()).await.unwrap();
        let pieces = tape.pieces().await;
        let last = pieces.iter().map(|piece| number(piece, "Steward-Offset")).max().unwrap();
        assert!(pieces.len() >= 8 && last < told + 1024 * 1024, "{} pieces, the last at {last}", pieces.len());
        (told, run) = (last, number(&pieces[0], "Steward-Run"));
    }
    end.create();
    assert_eq!(central.ended(&id)["state"], "done");
}

/// The process of ship1 to which its commands were addressed.
fn process_of(heard: &[Message]) -> Value {
    let commands = heard.iter().rfind(|message| message.subject.as_str() == "ship1.CommandACK.ShellCommand");
    serde_json::from_slice::<Value>(&crate::harness::unpacked(&commands.unwrap().payload)).unwrap()["toIncarnation"]
        .clone()
}

/// A number in the headers of a message.
fn number(message: &Message, header: &str) -> u64 {
    message.headers.as_ref().unwrap().get(header).unwrap().as_str().parse().unwrap()
}

/// The body of a web server's answer is seen as it comes, too.
#[test]
fn an_answer_of_a_web_server_is_seen_while_it_comes() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let gate = fleet.file("gate");
    let opened = PathBuf::from(gate.path());
    let server = Server::start(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst\n")?;
        stream.flush()?;
        eventually("the gate is opened", || opened.exists().then_some(()));
        stream.write_all(b"last\n")
    });
    let url = server.url("/");
    let id =
        central.send(&json!({ "toNode": "ship1", "data": [url], "commandOrEvent": "CommandACK", "method": "HttpGet" }));
    let mut follower = Follower::start(&fleet, &central, "follower", &logs(&["-f"], &id));
    follower.shows("first\n");
    assert!(!follower.text().contains("last"));
    gate.create();
    assert_eq!(follower.ends(), 0);
    assert_eq!(follower.text(), "first\nlast\n");
    assert_eq!(central.ended(&id)["stdout"], "first\nlast\n");
}
