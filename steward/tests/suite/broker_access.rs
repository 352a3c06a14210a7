//! How a node gets in at the broker, and what it says when it does not (R18, R19): TLS, logins and permissions, each with
//! the real nats-server. A failure is a state in `ps` and `/v1/info` and one line in the log that says what to do; the node
//! goes on trying, and comes in once somebody has mended it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::harness::{Fleet, Node, SOON, event, eventually, shell, until};

/// A certificate authority that belongs to a test.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

/// From when to when a certificate holds, in years.
const NOW: (i32, i32) = (2000, 4000);

impl Authority {
    fn new(fleet: &Fleet, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = fleet.dir().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Has a certificate and its key in files, and answers with their paths.
    fn issue(&self, host: &str, (from, to): (i32, i32)) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_file, key_file) = (self.dir.join("cert.pem"), self.dir.join("key.pem"));
        fs::write(&cert_file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }

    /// What a nats-server that has a certificate of this authority is told; `more` is for its block `tls`.
    fn tls(&self, host: &str, years: (i32, i32), more: &str) -> String {
        let (cert, key) = self.issue(host, years);
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, {more} }}\n")
    }
}

/// A flag with a path.
fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn node<'f>(fleet: &'f Fleet, flags: &[String]) -> Node<'f> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    fleet.node_with("ship1", &flags)
}

/// The link as `ps` shows it.
fn link(node: &Node<'_>) -> Value {
    let all = node.ask("GET", "/v1/ps", "");
    all.as_array().unwrap().iter().find(|process| process["kind"] == "link").unwrap().clone()
}

/// Waits until `ps` says so of the link. `/v1/info` says the same, and the log has a line with what to do.
#[track_caller]
fn becomes(node: &Node<'_>, state: &str, advice: &str) {
    until(SOON, &format!("the link becomes {state}, with {advice:?}"), || {
        let link = link(node);
        let note = link["note"].as_str().unwrap_or_default();
        if link["state"] == state && note.contains(advice) { Ok(()) } else { Err(link.to_string()) }
    });
    eventually("/v1/info says so, too", || {
        let info = node.ask("GET", "/v1/info", "");
        (info["linkState"] == state && info["link"] == if state == "up" { "up" } else { "down" }).then_some(())
    });
    if !advice.is_empty() {
        eventually("the log says what to do", || node.log().contains(advice).then_some(()));
    }
}

/// It is connected, and messages go through.
#[track_caller]
fn works(node: &Node<'_>) {
    becomes(node, "up", "");
    delivers(node);
}

#[track_caller]
fn delivers(node: &Node<'_>) {
    assert_eq!(node.send_and_wait(&event("ship1", "TextLogging", &["to myself\n"]))["state"], "done");
}

#[test]
fn a_node_speaks_tls_with_a_broker_of_its_ca_and_with_no_other() {
    let fleet = Fleet::without_broker();
    let (ours, others) = (Authority::new(&fleet, "ours"), Authority::new(&fleet, "others"));
    fleet.broker.configure(&ours.tls("127.0.0.1", NOW, ""));
    fleet.broker.start();
    let trusted = fleet.dir().join("trusted.pem");
    fs::copy(others.ca(), &trusted).unwrap();
    let node = node(&fleet, &[flag("--broker-tls-ca", &trusted)]);
    becomes(&node, "untrusted", "--broker-tls-ca");
    // Told once, however often it is tried.
    assert_eq!(node.log().matches("signed by no CA that this node trusts").count(), 1, "{}", node.log());
    // The file is read anew each time, so mending it is enough.
    fs::copy(ours.ca(), &trusted).unwrap();
    works(&node);
}

#[test]
fn a_node_that_knows_nothing_of_tls_is_told_which_ca_it_misses() {
    let fleet = Fleet::without_broker();
    fleet.broker.configure(&Authority::new(&fleet, "ours").tls("127.0.0.1", NOW, ""));
    fleet.broker.start();
    becomes(&node(&fleet, &[]), "untrusted", "--broker-tls-ca");
}

#[test]
fn a_certificate_that_has_expired_or_is_for_another_name_is_refused() {
    let fleet = Fleet::without_broker();
    let ours = Authority::new(&fleet, "ours");
    let node = |name| fleet.node_with(name, &[&flag("--broker-tls-ca", &ours.ca())]);
    for (name, host, years, state, advice) in [
        ("ship1", "127.0.0.1", (2000, 2010), "expired", "has expired"),
        ("ship2", "127.0.0.1", (3000, 4000), "not-yet-valid", "clock"),
        ("ship3", "elsewhere.example", NOW, "misnamed", "elsewhere.example"),
    ] {
        fleet.broker.configure(&ours.tls(host, years, ""));
        fleet.broker.start();
        let node = node(name);
        becomes(&node, state, advice);
        fleet.broker.stop();
        fleet.broker.configure(&ours.tls("127.0.0.1", NOW, ""));
        fleet.broker.start();
        becomes(&node, "up", "");
        fleet.broker.stop();
    }
}

#[test]
fn whoever_wants_tls_says_nothing_to_a_broker_without() {
    let fleet = Fleet::new();
    let ours = Authority::new(&fleet, "ours");
    becomes(&node(&fleet, &[flag("--broker-tls-ca", &ours.ca())]), "plain", "speaks no TLS");
    let address = format!("--broker-address=tls://{}", fleet.broker.address());
    becomes(&fleet.node_with("ship2", &[&address]), "plain", "speaks no TLS");
    let ca = flag("--broker-tls-ca", &ours.ca());
    becomes(&fleet.node_with("ship3", &[&ca, "--broker-tls-first"]), "plain", "speaks no TLS");
}

#[test]
fn a_broker_that_wants_tls_first_is_recognised() {
    let fleet = Fleet::without_broker();
    let ours = Authority::new(&fleet, "ours");
    fleet.broker.configure(&ours.tls("127.0.0.1", NOW, "handshake_first: true, timeout: 1"));
    fleet.broker.start();
    let ca = flag("--broker-tls-ca", &ours.ca());
    becomes(&fleet.node_with("ship2", &[&ca]), "mute", "--broker-tls-first");
    works(&node(&fleet, &[ca, "--broker-tls-first".to_owned()]));
}

#[test]
fn a_broker_that_wants_a_certificate_gets_it_or_says_so() {
    let fleet = Fleet::without_broker();
    let (ours, clients) = (Authority::new(&fleet, "ours"), Authority::new(&fleet, "clients"));
    fleet.broker.configure(&ours.tls("127.0.0.1", NOW, &format!("verify: true, ca_file: {:?}", clients.ca())));
    fleet.broker.start();
    let (cert, key) = clients.issue("ship1", NOW);
    let ca = flag("--broker-tls-ca", &ours.ca());
    becomes(&fleet.node_with("ship2", &[&ca]), "certificate-refused", "--broker-tls-cert");
    works(&node(&fleet, &[ca, flag("--broker-tls-cert", &cert), flag("--broker-tls-key", &key)]));
}

#[test]
fn each_login_is_taken_and_none_is_shown() {
    let fleet = Fleet::without_broker();
    let file = |name: &str, text: &str| {
        let path = fleet.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    // An nkey of the NATS documentation, and another one.
    let known = (
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
    );
    let unknown = "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY";
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }}, {{ user: me, password: \"hush-hush\" }} ], timeout: 5 }}\n",
        known.1
    );
    fleet.broker.configure(&users);
    fleet.broker.start();
    let seed = file("ship1.nk", unknown);
    let ship1 = node(&fleet, &[flag("--broker-nkey", &seed)]);
    becomes(&ship1, "unauthorized", "does not let this node in");
    fs::write(&seed, known.0).unwrap();
    works(&ship1);

    let password = file("password", "hush-hush\n");
    let ship2 = fleet.node_with("ship2", &["--broker-user=me", &flag("--broker-password-file", &password)]);
    becomes(&ship2, "up", "");
    let mut ship3 = fleet.absent("ship3", &["--broker-user=me"]);
    ship3.set_variable("STEWARD_BROKER_PASSWORD", "hush-hush");
    ship3.start();
    becomes(&ship3, "up", "");
    // Neither a command nor anybody who looks at the processes sees it.
    let environment = ship3.send_and_wait(&shell("ship3", "env; cat /proc/self/cmdline"));
    for node in [&ship1, &ship2, &ship3] {
        let cmdline = fs::read_to_string(format!("/proc/{}/cmdline", node.pid())).unwrap();
        let shown = [node.log(), cmdline, link(node).to_string(), environment["stdout"].to_string()].concat();
        for secret in ["hush-hush", known.0, unknown] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let ship4 = fleet.node_with("ship4", &[&flag("--broker-nkey", &fleet.dir().join("missing.nk"))]);
    becomes(&ship4, "unusable", "missing.nk can't be read");
}

#[test]
fn a_context_of_the_nats_tool_says_where_and_how() {
    let fleet = Fleet::without_broker();
    fleet.broker.configure("authorization { token: \"hush-hush\" }\n");
    fleet.broker.start();
    let folder = fleet.dir().join("xdg/nats/context");
    fs::create_dir_all(&folder).unwrap();
    let context = serde_json::json!({ "url": format!("nats://{}", fleet.broker.address()), "token": "hush-hush" });
    fs::write(folder.join("fleet.json"), context.to_string()).unwrap();
    fs::write(folder.parent().unwrap().join("context.txt"), "fleet").unwrap();
    for (name, which) in [("ship1", "fleet"), ("ship2", "selected")] {
        // The address comes from the context: with one on the command line it would not.
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_steward"));
        let dir = fleet.dir().join(name);
        command.args([&format!("--node={name}"), "--prom-host-and-port=none", &format!("--broker-context={which}")]);
        command.arg(flag("--dir", &dir)).env("XDG_CONFIG_HOME", fleet.dir().join("xdg"));
        let _process = crate::harness::Process::start(name, fleet.dir(), &mut command);
        eventually("the node is connected", || {
            let log = fs::read_to_string(fleet.dir().join(format!("{name}.log"))).unwrap_or_default();
            log.contains("connected to the broker").then_some(())
        });
    }
}

#[test]
fn what_the_broker_does_not_permit_is_told_in_words() {
    let fleet = Fleet::without_broker();
    let user =
        |name: &str, permissions: &str| format!("{{ user: {name}, password: p, permissions: {{ {permissions} }} }}");
    let users = [
        user("narrow", "publish: \">\", subscribe: [\"other.>\"]"),
        user("quiet", "publish: { deny: [\"ship9.>\"] }, subscribe: \">\""),
    ];
    fleet.broker.configure(&format!("authorization {{ users: [ {} ] }}\n", users.join(", ")));
    fleet.broker.start();
    let login = |user: &str| format!("--broker-address=nats://{user}:p@{}", fleet.broker.address());
    let ship2 = fleet.node_with("ship2", &[&login("narrow")]);
    becomes(&ship2, "forbidden", "Permissions Violation for Subscription to");
    let ship1 = fleet.node_with("ship1", &[&login("quiet")]);
    becomes(&ship1, "up", "");
    ship1.send(&shell("ship9", "true"));
    becomes(&ship1, "up", "does not permit this node to publish to");
    // What may not go to one node does not keep others waiting.
    delivers(&ship1);
}

#[test]
fn an_address_that_does_not_exist_is_no_reason_to_give_up() {
    let fleet = Fleet::without_broker();
    let ship1 = fleet.node_with("ship1", &["--broker-address=no-such-host.invalid:4222"]);
    becomes(&ship1, "unreachable", "can't be resolved");
    let ship2 = fleet.node("ship2");
    becomes(&ship2, "unreachable", "refused");
    fleet.broker.start();
    becomes(&ship2, "up", "");
}
