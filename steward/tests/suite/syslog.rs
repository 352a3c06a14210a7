//! Syslog on its way to another node: each line once and as it came, or counted, whatever is killed, cut off or full.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Fleet, Node, Port, Process, event, eventually, get, skipped, until};

/// How long a lot of lines may take.
const LONG: Duration = Duration::from_secs(60);

/// Everything that `central` keeps of `ship1`, all hosts and days.
fn kept(central: &Node<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for host in folders(&central.dir().join("syslog/ship1")) {
        let mut files: Vec<_> = folders(&host).collect();
        files.sort();
        for file in files {
            let bytes = fs::read(file).unwrap();
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
        }
    }
    lines
}

/// The numbers behind `line ` in what is kept, and how many are said to be missing.
fn numbers(central: &Node<'_>) -> (Vec<u64>, u64) {
    let word = |line: &str, before: &str| line.split(before).nth(1)?.split(' ').next()?.parse().ok();
    let lines = kept(central);
    let missing = lines.iter().filter(|line| line.contains("are missing here"));
    let missing = missing.filter_map(|line| word(line, "steward - - - ")).sum();
    (lines.iter().filter_map(|line| word(line, "line ")).collect(), missing)
}

/// Sends numbered lines, as fast as they are taken.
fn write(socket: &Path, numbers: std::ops::Range<u64>, size: usize) {
    let sender = UnixDatagram::unbound().unwrap();
    eventually("the socket is there", || sender.connect(socket).ok());
    for number in numbers {
        let line = format!("<13>Nov 23 05:00:00 test: line {number} {}", "x".repeat(size));
        sender.send(line.as_bytes()).unwrap();
    }
}

#[track_caller]
fn has_all(central: &Node<'_>, expected: std::ops::Range<u64>) {
    let all: Vec<u64> = expected.collect();
    until(LONG, "every line is there, once and in order", || {
        let (numbers, missing) = numbers(central);
        assert!(numbers.len() <= all.len(), "there are {} lines of {}", numbers.len(), all.len());
        if numbers.len() == all.len() { Ok((numbers, missing)) } else { Err(format!("{} lines", numbers.len())) }
    });
    assert_eq!(numbers(central), (all, 0));
}

fn metric(address: &str, name: &str) -> u64 {
    let text = String::from_utf8(get(address, "/metrics")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}")) as u64
}

#[track_caller]
fn spool_is_empty(metrics: &Port) {
    let lines = || metric(&metrics.address(), "steward_syslog_spool_lines ");
    eventually("the spool is empty", || (lines() == 0).then_some(()));
}

fn logger(args: &[&str]) {
    let status = Command::new("logger").args(args).status().unwrap();
    assert!(status.success(), "logger {args:?}");
}

#[test]
fn what_logger_says_is_in_files_by_host_and_day_as_it_came() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let (udp, tcp, metrics) = (Port::reserve(), Port::reserve(), Port::reserve());
    let flags = [
        "--syslog-listen=unix:log.sock",
        &format!("--syslogListen=udp:{}", udp.number()),
        &format!("--syslogListen=tcp:127.0.0.1:{}", tcp.number()),
        &format!("--prom-host-and-port={}", metrics.address()),
    ];
    let ship1 = fleet.node_with("ship1", &flags);
    let socket = ship1.dir().join("log.sock");
    eventually("it listens", || (ship1.log().matches("syslog is taken").count() == 3).then_some(()));
    let (udp, tcp) = (udp.number().to_string(), tcp.number().to_string());
    logger(&["--socket", socket.to_str().unwrap(), "-t", "app", "-p", "local0.err", "by socket"]);
    logger(&["-n", "127.0.0.1", "-P", &udp, "-d", "--rfc3164", "-t", "app", "by udp, old"]);
    logger(&["-n", "127.0.0.1", "-P", &udp, "-d", "--rfc5424", "-t", "app", "by udp, new"]);
    logger(&["-n", "127.0.0.1", "-P", &tcp, "-T", "--rfc5424", "-t", "app", "by tcp"]);
    logger(&["-n", "127.0.0.1", "-P", &tcp, "-T", "--octet-count", "-t", "app", "by tcp, counted"]);
    let mut stream = TcpStream::connect(("127.0.0.1", tcp.parse().unwrap())).unwrap();
    let own = "<13>1 2026-11-23T05:00:00Z web-1.example.org app - - - ";
    let line = format!("{own}two\nlines \u{fc}");
    stream.write_all(format!("{} {line}{own}plain\n", line.len()).as_bytes()).unwrap();
    let mut line = format!("{own}bytes ").into_bytes();
    line.extend([0xff, 0x00, 0x01]);
    line.push(b'\n');
    stream.write_all(&line).unwrap();
    let lines = eventually("all are there", || Some(kept(&central)).filter(|lines| lines.len() == 8));
    for part in ["<131>", "app: by socket", "by udp, old", "by udp, new", "by tcp", "by tcp, counted"] {
        assert!(lines.iter().any(|line| line.contains(part)), "no {part} in {lines:#?}");
    }
    let web = central.dir().join("syslog/ship1/web-1.example.org");
    let file = fs::read_dir(web).unwrap().next().unwrap().unwrap().path();
    let mut expected = format!("{own}two#012lines \u{fc}\n{own}plain\n{own}bytes ").into_bytes();
    expected.extend([0xff, 0x00, 0x01, b'\n']);
    assert_eq!(fs::read(&file).unwrap(), expected);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.len() == "2026-11-23.log".len() && name.ends_with(".log"), "{name}");
    let of = |source: &str| {
        metric(&metrics.address(), &format!("steward_syslog_received_lines_total{{source=\"{source}\"}}"))
    };
    assert_eq!((of("unix"), of("udp"), of("tcp")), (1, 2, 5));
    eventually("the spool is empty", || (metric(&metrics.address(), "steward_syslog_spool_lines ") == 0).then_some(()));
    assert_eq!(metric(&metrics.address(), "steward_syslog_forwarded_lines_total "), 8);
    let shown = ship1.cli(&["ps"]).stdout;
    assert!(shown.contains("syslog") && shown.contains("udp:127.0.0.1"), "{shown}");
    drop(fleet);
    assert!(!socket.exists(), "the socket goes with its node");
}

/// Waits until so many lines are in the spool of the process that runs.
#[track_caller]
fn has_taken(metrics: &Port, many: u64) {
    until(LONG, "all lines are taken", || {
        let taken = metric(&metrics.address(), "steward_syslog_received_lines_total{source=\"unix\"}");
        if taken == many { Ok(()) } else { Err(format!("{taken} of {many}")) }
    });
}

#[test]
fn no_line_is_lost_or_there_twice_while_the_link_is_cut_and_both_ends_are_killed() {
    let fleet = Fleet::new();
    let mut central = fleet.node("central");
    let metrics = Port::reserve();
    let flags = ["--syslogListen=unix:log.sock", &format!("--prom-host-and-port={}", metrics.address())];
    let mut ship1 = fleet.node_with("ship1", &flags);
    let socket = ship1.dir().join("log.sock");
    let mut next = 0;
    for round in 0..6 {
        match round {
            0 => fleet.broker.stop(),
            1 | 3 => central.kill(),
            _ => {}
        }
        write(&socket, next..next + 3000, 50);
        next += 3000;
        has_taken(&metrics, 3000);
        ship1.kill();
        ship1.start();
        match round {
            0 => fleet.broker.start(),
            1 | 3 => central.start(),
            // In the middle of writing what has come.
            _ => {
                let here = numbers(&central).0.len();
                eventually("more has come", || (numbers(&central).0.len() > here).then_some(()));
                central.kill();
                central.start();
            }
        }
    }
    has_all(&central, 0..next);
    let messages = ship1.all_messages();
    assert!(messages.len() < 400, "{} messages for {next} lines", messages.len());
}

#[test]
fn a_full_spool_drops_what_was_chosen_and_says_how_much_where_it_is_missing() {
    for choice in ["oldest", "newest"] {
        let fleet = Fleet::new();
        let mut central = fleet.absent("central", &[]);
        let metrics = Port::reserve();
        let flags = [
            "--syslogListen=unix:log.sock",
            "--syslogSpool=1MiB",
            &format!("--syslogDrop={choice}"),
            &format!("--prom-host-and-port={}", metrics.address()),
        ];
        let mut ship1 = fleet.node_with("ship1", &flags);
        let socket = ship1.dir().join("log.sock");
        write(&socket, 0..4000, 1000);
        has_taken(&metrics, 4000);
        let dropped = metric(&metrics.address(), "steward_syslog_dropped_lines_total ");
        let bytes = metric(&metrics.address(), "steward_syslog_spool_bytes ");
        assert!(dropped > 1000 && bytes <= 1024 * 1024 + 64, "{dropped} dropped, {bytes} bytes");
        // How many that were is known after a kill as well: it is written down once a second.
        eventually("all of it is written down", || {
            let shown = ship1.cli(&["ps"]).stdout;
            shown.contains(&format!("{dropped} lines were dropped")).then_some(())
        });
        if choice == "oldest" {
            ship1.kill();
            ship1.start();
        }
        central.start();
        let (numbers, missing) = until(LONG, "all that is left is there", || {
            let (numbers, missing) = numbers(&central);
            let sum = numbers.len() as u64 + missing;
            if sum == 4000 { Ok((numbers, missing)) } else { Err(format!("{sum}")) }
        });
        assert!(missing > 1000 && missing <= dropped, "{missing} are said to be missing of {dropped}");
        assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] != pair[1]));
        let expected = if choice == "oldest" { 3999 } else { 0 };
        assert!(numbers.contains(&expected), "the {choice} are there: {choice}");
        let told = central.errors_of("ship1").concat();
        assert!(told.contains("the spool of syslog is full"), "{told}");
        spool_is_empty(&metrics);
        write(&socket, 5000..5010, 10);
        until(LONG, "it goes on", || {
            let last = kept(&central).pop().unwrap_or_default();
            if last.contains("line 5009 ") { Ok(()) } else { Err(last) }
        });
    }
}

#[test]
fn a_refused_message_is_sent_again_and_no_line_of_it_is_lost() {
    let fleet = Fleet::new();
    let mut central = fleet.absent("central", &[]);
    let rules = "otherwise = \"standard\"\n[[rule]]\nname = \"no syslog\"\nfrom = \"*\"\nmethod = \"Syslogforwarding\"\naction = \"refuse\"\n";
    fs::create_dir_all(central.dir()).unwrap();
    fs::write(central.dir().join("rules.toml"), rules).unwrap();
    central.start();
    let ship1 = fleet.node_with("ship1", &["--syslogListen=unix:log.sock"]);
    let socket = ship1.dir().join("log.sock");
    write(&socket, 0..5, 10);
    let refused = eventually("it is refused", || {
        ship1
            .all_messages()
            .into_iter()
            .find(|message| message["method"] == "Syslogforwarding" && message["state"] == "refused")
    });
    assert_eq!(refused["toNode"], "central");
    write(&socket, 5..10, 10);
    fs::write(central.dir().join("rules.toml"), "otherwise = \"standard\"\n").unwrap();
    has_all(&central, 0..10);
    let told = central.errors_of("ship1").concat();
    assert!(told.contains("are kept and sent again"), "{told}");
}

#[test]
fn lines_are_passed_on_to_another_syslog_and_wait_until_it_is_there() {
    let fleet = Fleet::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(LONG)).unwrap();
    let to = format!("--syslogForward=udp:{}", udp.local_addr().unwrap());
    let mut central = fleet.node_with("central", &[&to]);
    let ship1 = fleet.node_with("ship1", &["--syslogListen=unix:log.sock"]);
    let socket = ship1.dir().join("log.sock");
    write(&socket, 0..3, 10);
    let mut buffer = [0; 4096];
    for number in 0..3 {
        let length = udp.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert_eq!(text, format!("<13>Nov 23 05:00:00 test: line {number} xxxxxxxxxx"));
    }
    let is_done = |message: &Value| message["method"] == "Syslogforwarding" && message["state"] == "done";
    eventually("it is known that they have left", || ship1.all_messages().iter().any(is_done).then_some(()));
    let tcp = Port::reserve();
    central.set_flags(&[&format!("--syslogForward=tcp:{}", tcp.address())]);
    central.kill();
    central.start();
    write(&socket, 3..6, 10);
    eventually("it is told that nobody is there", || central.log().contains("can't be passed on").then_some(()));
    let listener = TcpListener::bind(tcp.address()).unwrap();
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let lines: Vec<String> =
        std::io::BufRead::lines(std::io::BufReader::new(stream)).take(3).map(Result::unwrap).collect();
    let expected = [3, 4, 5].map(|n| format!("<13>Nov 23 05:00:00 test: line {n} xxxxxxxxxx"));
    assert_eq!(lines, expected);
    assert!(!central.dir().join("syslog").exists());
}

#[test]
fn lines_by_hand_are_taken_and_what_makes_no_sense_is_refused() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let send = |data: &[&str]| central.send_and_wait(&event("ship1", "Syslogforwarding", data));
    let done = send(&["<13>Nov 23 05:00:00 web-1 app: text", "no host"]);
    assert_eq!(done["state"], "done", "{done}");
    let files: Vec<String> = ["web-1", "central"]
        .map(|host| {
            let folder = fleet.dir().join("ship1/syslog/central").join(host);
            let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
            fs::read_to_string(file).unwrap()
        })
        .into();
    assert_eq!(files, ["<13>Nov 23 05:00:00 web-1 app: text\n", "no host\n"]);
    let refused = send(&[]);
    assert!(refused["reason"].as_str().unwrap().contains("has no lines"), "{refused}");
    let mut parallel = event("ship1", "Syslogforwarding", &["x"]);
    parallel["parallel"] = true.into();
    let refused = central.send_and_wait(&parallel);
    assert!(
        refused["state"] == "failed" && refused["reason"].as_str().unwrap().contains("without parallel"),
        "{refused}"
    );
}

#[test]
fn an_address_for_others_and_a_circle_are_refused() {
    let fleet = Fleet::without_broker();
    let mut ship1 = fleet.absent("ship1", &[]);
    for (flags, reason) in [
        (vec!["--syslogListen=udp:0.0.0.0:5514"], "--syslog-open"),
        (vec!["--syslogListen=file:/x"], "must be unix:/PATH"),
        (vec!["--syslogListen=unix:/x", "--syslogForward=unix:/x"], "again and again"),
        (vec!["--syslogSpool=1KiB"], "at least"),
        (vec!["--syslogDrop=none"], "oldest or newest"),
        (vec!["--syslogKeep=1h"], "at least 1d"),
    ] {
        ship1.set_flags(&flags);
        ship1.launch();
        assert_ne!(ship1.ends(), 0);
        assert!(ship1.log().contains(reason), "no {reason} in {}", ship1.log());
    }
}

#[test]
fn while_the_receivers_disk_is_full_lines_wait_and_are_there_once_afterwards() {
    let fleet = Fleet::new();
    let Some(central) = fleet.node_on_small_disk("central", 24) else {
        return skipped(
            "syslog::while_the_receivers_disk_is_full_lines_wait_and_are_there_once_afterwards",
            "mounting is not permitted on this machine",
        );
    };
    let ship1 = fleet.node_with("ship1", &["--syslogListen=unix:log.sock"]);
    let socket = ship1.dir().join("log.sock");
    write(&socket, 0..100, 100);
    has_all(&central, 0..100);
    let filler = central.dir().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 65536]).is_ok() {}
    // Room for what the store has to write, and not for more.
    file.set_len(file.metadata().unwrap().len() - 512 * 1024).unwrap();
    write(&socket, 100..3000, 100);
    eventually("it can't be written", || central.log().contains("can't be written; it is tried again").then_some(()));
    drop(file);
    fs::remove_file(&filler).unwrap();
    has_all(&central, 0..3000);
}

/// A journal of systemd for the tests: its files and sockets lie in a folder of ours. None where that is not possible.
struct Journal {
    dir: std::path::PathBuf,
    _process: Process,
}

impl Journal {
    fn start(fleet: &Fleet) -> Option<Self> {
        let dir = fleet.dir().join("journal");
        let daemon = Path::new("/lib/systemd/systemd-journald");
        let id = fs::read_to_string("/etc/machine-id").ok().filter(|id| !id.trim().is_empty())?;
        if !daemon.exists() {
            return None;
        }
        fs::create_dir_all(dir.join("run/log/journal").join(id.trim())).unwrap();
        fs::create_dir_all(dir.join("bin")).unwrap();
        let script = format!("mount --bind {0}/run /run && exec {1}", dir.display(), daemon.display());
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).env("SYSTEMD_LOG_TARGET", "null");
        let mut process = Process::start("journal", fleet.dir(), &mut command);
        let socket = dir.join("run/systemd/journal/dev-log");
        let is_up = eventually("the journal is up, or can't be", || {
            if process.ended().is_some() { Some(false) } else { socket.exists().then_some(true) }
        });
        // What reads it here is told where it is.
        let program = dir.join("bin/journalctl");
        let text =
            format!("#!/bin/sh\nexec /usr/bin/journalctl --directory={}/run/log/journal \"$@\"\n", dir.display());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        is_up.then_some(Self { dir, _process: process })
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.join("run/systemd/journal/dev-log")
    }
}

#[test]
fn the_journal_is_read_on_where_it_was_read_however_often_the_node_is_killed() {
    let fleet = Fleet::new();
    let Some(journal) = Journal::start(&fleet) else {
        return skipped(
            "syslog::the_journal_is_read_on_where_it_was_read_however_often_the_node_is_killed",
            "a journal can't be started on this machine",
        );
    };
    let (central, mut ship1) = (fleet.node("central"), fleet.absent("ship1", &["--syslogListen=journal"]));
    let path = format!("{}:{}", journal.dir.join("bin").display(), std::env::var("PATH").unwrap());
    ship1.set_variable("PATH", &path);
    ship1.start();
    let begun = UnixDatagram::unbound().unwrap();
    eventually("it is read", || {
        begun.send_to(b"<13>begin: it is begun", journal.socket()).unwrap();
        kept(&central).iter().any(|line| line.ends_with("it is begun")).then_some(())
    });
    let mut next = 0;
    for _ in 0..4 {
        write(&journal.socket(), next..next + 500, 20);
        let here = numbers(&central).0.len();
        eventually("more has come", || (numbers(&central).0.len() > here).then_some(()));
        ship1.kill();
        write(&journal.socket(), next + 500..next + 1000, 20);
        next += 1000;
        ship1.start();
    }
    has_all(&central, 0..next);
    let line = kept(&central).into_iter().find(|line| line.contains("line 7 ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words[0] == "<13>1" && words[1].ends_with('Z') && words[3] == "test", "{line}");
}
