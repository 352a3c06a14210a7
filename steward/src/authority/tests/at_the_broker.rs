//! What the real nats-server makes of what a fleet signs: each role may do its own and nothing else, an invitation next to
//! nothing, and whoever is revoked is out within seconds, and stays out.

use std::process::Command;
use std::sync::{Arc, Mutex};

use async_nats::Client;
use chaos::harness::{Port, Process, nats_server};
use protocol::name::NodeName;
use tempfile::TempDir;

use super::*;
use crate::broker::Access;
use crate::broker::harness::{Edge, wait_for};
use crate::clock;
use crate::config::broker::{Login, Secret, Tls};

/// Forbidden to everybody: what comes back for it comes after everything before.
const LAST: &str = "nobody.may.do.this";

/// A fleet with its broker.
struct Hq {
    authority: Authority,
    port: Port,
    server: Option<Process>,
    dir: TempDir,
}

/// A client, and what the server has told it.
struct Visitor {
    client: Client,
    told: Arc<Mutex<Vec<String>>>,
}

impl Hq {
    async fn open() -> Self {
        crate::broker::access::choose_tls();
        let (dir, port) = (tempfile::tempdir().unwrap(), Port::reserve());
        let settings = Settings::own(vec![port.address().parse().unwrap()]).unwrap();
        let authority = Authority::found(dir.path(), &settings, clock::wall()).unwrap();
        let mut hq = Self { authority, port, server: None, dir };
        hq.start().await;
        hq
    }

    async fn start(&mut self) {
        let mut command = Command::new(nats_server());
        command.args(["-c", SERVER_CONFIG]).current_dir(self.authority.folder());
        self.server = Some(Process::start("nats-server", self.dir.path(), &mut command));
        let address = self.port.address();
        wait_for("the server takes connections", || std::net::TcpStream::connect(&address).is_ok()).await;
    }

    fn stop(&mut self) {
        self.server.take().unwrap().kill();
    }

    fn address(&self) -> String {
        format!("tls://{}", self.port.address())
    }

    fn access(&self, jwt: &str, key: &KeyPair) -> Access {
        let (jwt, seed) = (Secret::Text(jwt.into()), Some(Secret::Text(key.seed().as_str().into())));
        let tls = Tls { ca: Some(self.authority.ca_file()), ..Tls::default() };
        Access { tls, login: Login::Jwt { jwt, seed } }
    }

    fn member(&self, name: &str, role: Role) -> (Access, PublicKey) {
        let (name, key) = (NodeName::new(name).unwrap(), KeyPair::generate(KeyKind::User).unwrap());
        let jwt = self.authority.member_jwt(&name, &key.public(), role, clock::wall(), None).unwrap().unwrap();
        (self.access(&jwt, &key), key.public())
    }

    async fn visit(&self, access: &Access) -> Visitor {
        let servers = vec![self.address().parse().unwrap()];
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let options = access.options(&servers).event_callback(move |event| {
            hears.lock().unwrap().push(event.to_string());
            async {}
        });
        Visitor { client: options.connect(servers).await.unwrap(), told }
    }
}

impl Visitor {
    /// Which of these it may not publish to.
    async fn may_not_publish<'s>(&self, subjects: &[&'s str]) -> Vec<&'s str> {
        for subject in subjects.iter().chain([&LAST]) {
            self.client.publish((*subject).to_owned(), "x".into()).await.unwrap();
        }
        self.denied("Publish", subjects).await
    }

    /// Which of these it may not subscribe to.
    async fn may_not_hear<'s>(&self, subjects: &[&'s str]) -> Vec<&'s str> {
        let mut heard = Vec::new();
        for subject in subjects.iter().chain([&LAST]) {
            heard.push(self.client.subscribe((*subject).to_owned()).await.unwrap());
        }
        self.denied("Subscription", subjects).await
    }

    async fn denied<'s>(&self, what: &str, subjects: &[&'s str]) -> Vec<&'s str> {
        let is_told = |subject: &str| {
            let words = format!("Permissions Violation for {what} to \"{subject}\"");
            self.told.lock().unwrap().iter().any(|told| told.contains(&words))
        };
        wait_for("the server says what may not be done", || is_told(LAST)).await;
        subjects.iter().filter(|subject| is_told(subject)).copied().collect()
    }
}

/// What `docs/wire.md` lists for a node.
const OWN: [&str; 8] = [
    "ship1.ECHO.a",
    "ship1.NAME.a",
    "ship1.CTL.ship1",
    "$STEWARD.hello.ship1",
    "central.ACK.ship1",
    "ship2.CTL.ship1",
    "central.DATA.ship1",
    "central.EventACK.TextLogging",
];

/// What only somebody else may say.
const OTHERS: [&str; 9] = [
    "ship2.ECHO.a",
    "ship2.NAME.a",
    "$STEWARD.hello.ship2",
    "central.ACK.ship2",
    "central.CTL.ship2",
    "central.DATA.ship2",
    "$STEWARD.fleet.revoked",
    "$STEWARD.joined.x",
    "$SYS.REQ.CLAIMS.UPDATE",
];

const COMMANDS: [&str; 2] = ["ship2.CommandACK.ShellCommand", "central.CommandNACK.OpProcessStop"];

#[tokio::test]
async fn each_role_says_and_hears_its_own() {
    let hq = Hq::open().await;
    let node = hq.visit(&hq.member("ship1", Role::Node).0).await;
    assert_eq!(node.may_not_publish(&OWN).await, [""; 0]);
    let node = hq.visit(&hq.member("ship1", Role::Node).0).await;
    assert_eq!(node.may_not_publish(&OTHERS).await, OTHERS);
    let node = hq.visit(&hq.member("ship1", Role::Node).0).await;
    assert_eq!(node.may_not_publish(&COMMANDS).await, COMMANDS);
    let mine = ["ship1.>", "ship1.REPLY.*", "$STEWARD.hello.*", "$STEWARD.fleet.>"];
    assert_eq!(node.may_not_hear(&mine).await, [""; 0]);
    let node = hq.visit(&hq.member("ship1", Role::Node).0).await;
    let others = [">", "*.>", "ship2.>", "ship2.CommandACK.*", "$STEWARD.>", "$STEWARD.join.*", "$SYS.>", "_INBOX.>"];
    assert_eq!(node.may_not_hear(&others).await, others);

    let operator = hq.visit(&hq.member("laptop", Role::Operator).0).await;
    assert_eq!(operator.may_not_publish(&COMMANDS).await, [""; 0]);
    let operator = hq.visit(&hq.member("laptop", Role::Operator).0).await;
    assert_eq!(operator.may_not_publish(&OTHERS).await, OTHERS);
    let central = hq.visit(&hq.member("central", Role::Central).0).await;
    let all = [&COMMANDS[..], &["$STEWARD.fleet.revoked", "$STEWARD.joined.x"]].concat();
    assert_eq!(central.may_not_publish(&all).await, [""; 0]);
    assert_eq!(central.may_not_hear(&["$STEWARD.join.*"]).await, [""; 0]);
}

#[tokio::test]
async fn an_invitation_is_good_for_asking_and_nothing_else() {
    let hq = Hq::open().await;
    let (id, key) = (NodeName::new("k7").unwrap(), KeyPair::generate(KeyKind::User).unwrap());
    let expires = Wall(clock::wall().0 + 60_000);
    let jwt = hq.authority.invitation_jwt(&id, &key.public(), clock::wall(), expires).unwrap().unwrap();
    let guest = || hq.access(&jwt, &key);
    assert_eq!(hq.visit(&guest()).await.may_not_hear(&["$STEWARD.joined.k7"]).await, [""; 0]);
    let subjects = ["$STEWARD.join.k8", "$STEWARD.joined.k7", "$STEWARD.hello.k7", "k7.ECHO.a", "central.EventACK.X"];
    assert_eq!(hq.visit(&guest()).await.may_not_publish(&subjects).await, subjects);
    let asked = hq.visit(&hq.member("central", Role::Central).0).await;
    let mut requests = asked.client.subscribe("$STEWARD.join.*").await.unwrap();
    asked.client.flush().await.unwrap();
    let visitor = hq.visit(&guest()).await;
    visitor.client.publish("$STEWARD.join.k7", "let me in".into()).await.unwrap();
    let request = tokio::time::timeout(crate::broker::harness::PATIENCE, futures_util::StreamExt::next(&mut requests));
    assert_eq!(request.await.unwrap().unwrap().subject.as_str(), "$STEWARD.join.k7");
}

#[tokio::test]
async fn whoever_is_revoked_is_out_at_once_and_stays_out() {
    let mut hq = Hq::open().await;
    let (first, second) = (hq.member("ship1", Role::Node), hq.member("ship2", Role::Node));
    let (mut ship1, mut ship2) =
        (Edge::getting_in(&hq.address(), "ship1", first.0), Edge::getting_in(&hq.address(), "ship2", second.0));
    ship1.up().await;
    ship2.up().await;
    let state = |edge: &Edge| edge.board.view().state.as_str();
    hq.authority.revoke(&[first.1], clock::wall()).unwrap();
    hq.authority.push(clock::wall()).await.unwrap();
    wait_for("ship1 knows that it is revoked", || state(&ship1) == "revoked").await;
    assert_eq!(state(&ship2), "up");
    // The server keeps what was pushed; a new one would have it from its configuration.
    hq.stop();
    hq.start().await;
    ship2.up().await;
    wait_for("ship1 is kept out", || ["revoked", "unauthorized"].contains(&state(&ship1))).await;
    hq.stop();
    let error = hq.authority.push(clock::wall()).await.unwrap_err();
    assert!(error.to_string().contains("takes it from its configuration"), "{error:#}");
    hq.authority.revoke(&[second.1], clock::wall()).unwrap();
    hq.start().await;
    wait_for("ship2 is kept out as well", || state(&ship2) == "unauthorized").await;
    let another = hq.member("ship2", Role::Node).0;
    Edge::getting_in(&hq.address(), "ship2", another).up().await;
}

#[tokio::test]
async fn a_login_that_expires_says_so() {
    let hq = Hq::open().await;
    let (name, key) = (NodeName::new("ship1").unwrap(), KeyPair::generate(KeyKind::User).unwrap());
    let soon = Some(Wall(clock::wall().0 + 2_000));
    let jwt = hq.authority.member_jwt(&name, &key.public(), Role::Node, clock::wall(), soon).unwrap().unwrap();
    let mut ship1 = Edge::getting_in(&hq.address(), "ship1", hq.access(&jwt, &key));
    ship1.up().await;
    wait_for("it has expired", || ship1.board.view().state.as_str() == "login-expired").await;
}

/// A certificate that is renewed is taken up by a server that runs, without anybody being hung up on.
#[tokio::test]
async fn a_renewed_certificate_is_taken_up_by_a_server_that_runs() {
    let mut hq = Hq::open().await;
    let mut ship1 = Edge::getting_in(&hq.address(), "ship1", hq.member("ship1", Role::Node).0);
    ship1.up().await;
    let before = hq_certificate(&hq);
    let later = Wall(clock::wall().0 + 300 * 86_400_000);
    assert!(hq.authority.renew_certificate(later).unwrap());
    assert_ne!(hq_certificate(&hq), before);
    hq.server.as_ref().unwrap().signal(rustix::process::Signal::HUP);
    let log = hq.dir.path().join("nats-server.log");
    wait_for("it has read its files anew", || fs::read_to_string(&log).unwrap().contains("Reloaded: tls")).await;
    let _another = hq.visit(&hq.member("ship2", Role::Node).0).await;
    assert_eq!((ship1.board.view().state.as_str(), ship1.board.process().restarts), ("up", 0));
}

fn hq_certificate(hq: &Hq) -> String {
    fs::read_to_string(hq.authority.folder().join(SERVER_CERTIFICATE)).unwrap()
}
