//! Forwarded ports: TCP connections through two nodes and a broker, whatever is cut, stopped or killed meanwhile, for those whom
//! a rule lets in, and for nobody else.

mod dying;
mod strangers;
mod tcp;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use self::tcp::{Service, dial, is_reset, noise, pass};
use crate::harness::{Fleet, Node, Port, Process, SOON, eventually, get, stays, until};

/// `steward forward` that runs.
struct Forwarding {
    process: Process,
    out: PathBuf,
}

impl Forwarding {
    fn start(fleet: &Fleet, node: &Node<'_>, args: &[&str]) -> Self {
        let number = fs::read_dir(fleet.dir()).unwrap().count();
        let out = fleet.dir().join(format!("forward-{number}.out"));
        let steward = node.command();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" forward --json \"$@\" >{}", out.display())]);
        command.arg(steward.get_program()).args(args).current_dir(node.dir()).env_remove("STEWARD_DIR");
        Self { process: Process::start(&format!("forward-{number}"), fleet.dir(), &mut command), out }
    }

    /// One that is ready.
    #[track_caller]
    fn open(fleet: &Fleet, node: &Node<'_>, args: &[&str]) -> Self {
        let mut forwarding = Self::start(fleet, node, args);
        forwarding.is_open(1);
        forwarding
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until it has been ready so many times.
    #[track_caller]
    fn is_open(&mut self, times: usize) {
        until(SOON, "the other node is ready", || {
            let lines = self.lines();
            let ready = lines.iter().filter(|line| line["open"] == true).count();
            if ready >= times { Ok(()) } else { Err(format!("{lines:?}, {:?}", self.process.ended())) }
        });
    }

    /// Where it listens.
    fn port(&self) -> u16 {
        let lines = self.lines();
        let last = lines.iter().rev().find_map(|line| line["listening"].as_str().map(str::to_owned)).unwrap();
        last.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn id(&self) -> String {
        self.lines()[0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until it has said something about a connection.
    #[track_caller]
    fn says(&self, text: &str) {
        until(SOON, &format!("{text:?} is said"), || {
            let lines = self.lines();
            let said = lines.iter().any(|line| line["note"].as_str().unwrap_or_default().contains(text));
            if said { Ok(()) } else { Err(format!("{lines:?}")) }
        });
    }

    /// How it ends: its exit code, and the reason that it gives.
    #[track_caller]
    fn ends(&mut self) -> (i32, String) {
        let code = self.process.wait(SOON).code().unwrap();
        let reason = self.lines().last().map(|line| line["reason"].as_str().unwrap_or_default().to_owned());
        (code, reason.unwrap_or_default())
    }
}

/// Lets central forward to these places.
fn allow(node: &Node<'_>, keys: &str) {
    let rule = format!("otherwise = \"standard\"\n[[rule]]\nfrom = \"central\"\nmethod = \"PortForward\"\n{keys}\n");
    fs::write(node.dir().join("rules.toml"), rule).unwrap();
    eventually("the rules are followed", || {
        let shown = node.ask("GET", "/v1/rules", "");
        (shown["state"] == "good" && shown["text"].as_str()?.contains(keys)).then_some(())
    });
}

/// Central and ship1, which forwards to this service.
fn pair<'f>(fleet: &'f Fleet, service: &Service) -> (Node<'f>, Node<'f>) {
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    allow(&ship1, &format!("forward = [\"{}\"]", service.address()));
    (central, ship1)
}

/// The forwards of a node, as `steward ps` shows them.
fn forwards(node: &Node<'_>) -> Vec<Value> {
    node.json(&["ps"]).into_iter().filter(|row| row["kind"] == "forward").collect()
}

fn to(service: &Service) -> String {
    format!("ship1:{}", service.address())
}

#[test]
fn bytes_pass_both_ways_and_one_direction_ends_before_the_other() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, ship1) = pair(&fleet, &echo);
    let mut forwarding = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    for size in [0, 1, 100_000, 1_000_000] {
        let all = noise(size, size);
        assert!(pass(dial(forwarding.port()), &all) == all, "{size}");
    }
    // What is asked comes before the end, what is answered behind it.
    let mut late = dial(forwarding.port());
    late.write_all(b"ping").unwrap();
    let mut four = [0; 4];
    late.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");
    late.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(late.read(&mut four).unwrap(), 0);
    drop(late);
    eventually("nothing is open", || forwards(&central)[0]["note"].as_str()?.starts_with("0 of 5").then_some(()));
    assert_eq!(forwards(&ship1)[0]["state"], "open");
    forwarding.process.signal(Signal::INT);
    assert_eq!(forwarding.ends().0, 130);
    let ended = central.ended(&forwarding.id());
    assert_eq!(ended["state"], "cancelled");
    let counted: Value = serde_json::from_str(ended["stdout"].as_str().unwrap()).unwrap();
    assert_eq!((&counted["connections"], &counted["bytesSent"]), (&json!(5), &json!(1_100_005)), "{counted}");
    assert_eq!((forwards(&central), forwards(&ship1)), (vec![], vec![]));
    assert!(TcpStream::connect(("127.0.0.1", forwarding.port())).is_err(), "nobody listens any more");
}

#[test]
fn a_real_web_server_is_reached_and_its_own_words_come_back() {
    let fleet = Fleet::new();
    let (pages, central) = (Port::reserve(), fleet.node("central"));
    let ship1 = fleet.node_with("ship1", &[&format!("--prom-host-and-port={}", pages.address())]);
    // By its name, which ship1 looks up.
    allow(&ship1, &format!("forward = [\"localhost:{}\"]", pages.number()));
    let forwarding = Forwarding::open(&fleet, &central, &["0", &format!("ship1:localhost:{}", pages.number())]);
    let page = get(&format!("127.0.0.1:{}", forwarding.port()), "/metrics");
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("steward_forward_open_connections 1"), "{page}");
    assert!(page.contains("steward_forwards 1"), "{page}");
}

#[test]
fn nobody_is_let_in_unless_a_rule_names_the_place() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--allow=*:*"]));
    let ship2 = fleet.node("ship2");
    let refused = |node: &Node<'_>, args: &[&str]| {
        let mut forwarding = Forwarding::start(&fleet, node, args);
        let (code, why) = forwarding.ends();
        assert!(code == 126 && why.contains("no rule of ship1 names this place"), "{code} {why}");
        assert!(!why.contains("127.0.0.1"), "a refusal says nothing of what rules look for: {why}");
    };
    let target = to(&echo);
    let port = Port::reserve();
    let listen = port.address();
    for node in [&central, &ship1, &ship2] {
        refused(node, &["0", &target]);
    }
    refused(&central, &["-R", &listen, &target]);
    // Whatever else is let in, by whomever.
    let anything = "otherwise = \"accept\"\n[[rule]]\nfrom = \"*\"\nmethod = [\"*\", \"PortForward\"]\n\
        [[rule]]\nname = \"b\"\nfrom = \"*\"\nmethod = \"PortForward\"\nregex = [\"...\"]\n";
    fs::write(ship1.dir().join("rules.toml"), anything).unwrap();
    eventually("the rules are followed", || (ship1.ask("GET", "/v1/rules", "")["state"] == "good").then_some(()));
    refused(&central, &["0", &target]);
    // Another place, another port, another sender, the other direction.
    allow(
        &ship1,
        &format!(
            "forward = [\"localhost:{}\", \"{}1\"]",
            echo.port(),
            echo.address().trim_end_matches(char::is_numeric)
        ),
    );
    refused(&central, &["0", &target]);
    allow(&ship1, &format!("forward = [\"{}\"]", echo.address()));
    refused(&ship2, &["0", &target]);
    refused(&central, &["-R", &listen, &target]);
    allow(&ship1, &format!("listen = [\"{}\"]", echo.address()));
    refused(&central, &["0", &target]);
    assert_eq!(echo.connections(), 0);
    // The command line there says the same before anybody asks.
    let tried = |place: &str| {
        ship1.cli(&["rules", "try", "--from", "central", "--method", "PortForward", "--", "listen", place]).code
    };
    assert_eq!((tried(&echo.address()), tried(&listen)), (0, 126));
    // An event never opens anything.
    let event = json!({ "toNode": "ship1", "commandOrEvent": "EventACK", "method": "PortForward", "data": ["listen", echo.address()] });
    assert_eq!(central.send_and_wait(&event)["state"], "refused");
}

#[test]
fn a_rule_that_is_taken_away_ends_what_it_had_let_in() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, ship1) = pair(&fleet, &echo);
    let mut forwarding = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    let mut open = dial(forwarding.port());
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    allow(&ship1, "forward = [\"localhost:1\"]");
    assert!(is_reset(dial(forwarding.port())), "no connection is made any more");
    assert_eq!(echo.connections(), 1);
    let (code, why) = forwarding.ends();
    assert!(code != 0 && why.contains("no rule of ship1 names this place"), "{code} {why}");
    assert!(is_reset(open));
}

#[test]
fn the_other_node_listens_and_connections_come_out_here() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, ship1, port) = (fleet.node("central"), fleet.node("ship1"), Port::reserve());
    allow(&ship1, &format!("listen = [\"127.0.0.1:{}\"]", port.number()));
    let listen = port.number().to_string();
    let mut forwarding = Forwarding::open(&fleet, &central, &["-R", &listen, &to(&echo)]);
    let all = noise(7, 300_000);
    assert!(pass(dial(port.number()), &all) == all);
    // A second one finds the port taken, and says so.
    let mut second = Forwarding::start(&fleet, &central, &["-R", &listen, &to(&echo)]);
    let (code, why) = second.ends();
    assert!(code == 1 && why.contains("another program listens there"), "{code} {why}");
    // Whoever takes the message back has closed the port.
    let open = dial(port.number());
    central.cli(&["cancel", &forwarding.id()]).ok();
    assert_eq!(forwarding.ends().0, 1);
    assert!(is_reset(open));
    assert!(TcpStream::connect(port.address()).is_err());
}

#[test]
fn a_target_that_nobody_listens_on_breaks_the_connection_off_and_is_told() {
    let fleet = Fleet::new();
    let (central, ship1, port) = (fleet.node("central"), fleet.node("ship1"), Port::reserve());
    allow(&ship1, &format!("forward = [\"127.0.0.1:{}\"]", port.number()));
    let forwarding = Forwarding::open(&fleet, &central, &["0", &format!("ship1:127.0.0.1:{}", port.number())]);
    assert!(is_reset(dial(forwarding.port())));
    forwarding.says("Connection refused");
    let busy = Forwarding::start(&fleet, &central, &[&forwarding.port().to_string(), "ship1:localhost:1"]).ends();
    assert_eq!(busy.0, 1);
}

#[test]
fn a_hundred_connections_pass_at_the_same_time() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, _ship1) = pair(&fleet, &echo);
    let forwarding = Forwarding::open(&fleet, &central, &["0", &to(&echo)]);
    let port = forwarding.port();
    let open: Vec<TcpStream> = (0..100).map(|_| dial(port)).collect();
    eventually("all are open", || (echo.connections() == 100).then_some(()));
    std::thread::scope(|scope| {
        for (number, stream) in open.into_iter().enumerate() {
            scope.spawn(move || {
                let all = noise(number, 20_000 + number);
                assert!(pass(stream, &all) == all, "{number}");
            });
        }
    });
}

#[test]
fn a_reader_that_is_slow_stops_the_writer_and_nobody_else() {
    let fleet = Fleet::new();
    let flood = Service::flood();
    let (central, ship1) = pair(&fleet, &flood);
    let forwarding = Forwarding::open(&fleet, &central, &["0", &to(&flood)]);
    let before = (central.memory_peak_kib(), ship1.memory_peak_kib());
    let slow: Vec<TcpStream> = (0..3).map(|_| dial(forwarding.port())).collect();
    eventually("the writers stand still", || {
        let written = flood.written();
        stood(&flood, written).then_some(())
    });
    let written = flood.written();
    assert!(written < 3 * 24 * 1024 * 1024, "{written} bytes were taken that nobody reads");
    let more = (central.memory_peak_kib() - before.0, ship1.memory_peak_kib() - before.1);
    assert!(more.0 < 24 * 1024 && more.1 < 24 * 1024, "{more:?} KiB");
    let mut quick = dial(forwarding.port());
    let mut got = vec![0; 4 * 1024 * 1024];
    quick.read_exact(&mut got).unwrap();
    drop(slow);
    eventually("the writers know", || (flood.open() == 1).then_some(()));
}

/// Whether nothing more is written for a while.
fn stood(flood: &Service, written: u64) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(700) {
        if flood.written() != written {
            return false;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    written > 0
}

#[test]
fn nothing_waits_for_ever_when_nothing_is_heard() {
    let fleet = Fleet::new();
    let echo = Service::echo();
    let (central, ship1) = pair(&fleet, &echo);
    let mut forwarding = Forwarding::open(&fleet, &central, &["--hold=2s", "0", &to(&echo)]);
    let open = dial(forwarding.port());
    eventually("it is connected", || (echo.connections() == 1).then_some(()));
    stays("it is held while something is heard", &1, || echo.open());
    fleet.broker.stop();
    let (code, why) = forwarding.ends();
    assert!(code == 1 && why.contains("nothing was heard of ship1 for 2s"), "{code} {why}");
    assert!(is_reset(open));
    eventually("neither does ship1 wait", || forwards(&ship1).is_empty().then_some(()));
    eventually("nor its service", || (echo.open() == 0).then_some(()));
}
