//! A real nats-server and the edge of a node around it, for the tests of the broker and of the results.
//! Each wait is for a fact, with a deadline.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::Event;
use protocol::event::{Facts, Verdict};
use protocol::message::{Epoch, Incarnation};
use protocol::name::NodeName;
use protocol::snapshot::Identity;
use protocol::step::Effect;
use protocol::time::Wall;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{Broker, Bulk, Config, NameCheck, Wiring};
use crate::clock::Clock;
use crate::engine::{EngineHandle, Input};
use crate::forward::Forwards;
use crate::security::sealing::Policy;
use crate::security::trust::Trust;
use crate::supervise::{Rule, Supervisor};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A nats-server of our own; gone when it is dropped.
pub(crate) struct NatsServer {
    child: Option<Child>,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    config: Option<PathBuf>,
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // The script looks at NATS_SERVER_BIN, PATH and .tools, and gets one where there is none.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nats-server");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "no nats-server; scripts/nats-server says why");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

impl NatsServer {
    /// A server on a free port.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// A server with this configuration.
    pub(crate) fn start_with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = (!text.is_empty()).then(|| dir.path().join("nats.conf"));
        if let Some(config) = &config {
            std::fs::write(config, text).unwrap();
        }
        let mut server = Self { child: None, port: 0, dir, config };
        server.run();
        server
    }

    /// Starts it, on the port that it had before where there was one.
    pub(crate) fn run(&mut self) {
        let ports = self.dir.path().join("ports");
        drop(std::fs::remove_dir_all(&ports));
        std::fs::create_dir(&ports).unwrap();
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut command = Command::new(binary());
        command.args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"]).arg(&ports);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        self.child = Some(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let start = Clock::start();
        loop {
            assert!(start.elapsed() < PATIENCE, "nats-server wrote no port");
            let file = std::fs::read_dir(&ports).unwrap().find_map(Result::ok);
            let text = file.and_then(|file| std::fs::read_to_string(file.path()).ok()).unwrap_or_default();
            if let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text) {
                let url = ports["nats"][0].as_str().unwrap();
                self.port = url.rsplit(':').next().unwrap().parse().unwrap();
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Ends it, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops or continues it, with its connections open.
    pub(crate) fn freeze(&self, frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A plain client, to look on and to interfere.
    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.address()).await.unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A broker whose engine is the test.
pub(crate) struct Edge {
    pub(crate) broker: Broker,
    pub(crate) board: super::LinkBoard,
    pub(crate) effects: mpsc::Sender<Vec<Effect>>,
    pub(crate) bulk: Option<mpsc::Receiver<Bulk>>,
    pub(crate) name_check: Option<oneshot::Receiver<NameCheck>>,
    pub(crate) engine: EngineHandle,
    inputs: mpsc::Receiver<Input>,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

impl Edge {
    /// A node's edge; `incarnation` also serves as epoch.
    pub(crate) fn new(address: &str, name: &str, incarnation: u64) -> Self {
        Self::with(address, name, incarnation, false)
    }

    pub(crate) fn with(address: &str, name: &str, incarnation: u64, take_over: bool) -> Self {
        Self::trusting(address, incarnation, take_over, Trust::open(node(name), node("central")), name)
    }

    /// A node's edge that believes whom `trust` believes.
    pub(crate) fn trusting(address: &str, incarnation: u64, take_over: bool, trust: Trust, name: &str) -> Self {
        Self::of(address, incarnation, take_over, trust, name, super::Access::default())
    }

    /// A node's edge that gets in at the broker in this way.
    pub(crate) fn getting_in(address: &str, name: &str, access: super::Access) -> Self {
        Self::of(address, 1, false, Trust::open(node(name), node("central")), name, access)
    }

    fn of(address: &str, incarnation: u64, take_over: bool, trust: Trust, name: &str, access: super::Access) -> Self {
        let identity = Identity {
            name: node(name),
            epoch: Epoch(incarnation),
            incarnation: Incarnation(incarnation),
            commits_at_start: 3,
            seed: 0,
        };
        let config = Config {
            address: address.to_owned(),
            access,
            identity,
            central: node("central"),
            take_over,
            host: "here".to_owned(),
            started: Wall(1000),
            trust,
            seal: Policy::default(),
            link_rate: None,
        };
        let (inputs, taken) = mpsc::channel(crate::engine::INPUTS_MAX);
        let (effects, wanted) = mpsc::channel(1024);
        let (bulk, bulk_taken) = mpsc::channel(crate::results::BULK_MAX);
        let engine = EngineHandle { inputs, reports: broadcast::Sender::new(16) };
        let wiring = Wiring {
            engine: engine.clone(),
            effects: wanted,
            commits: Arc::new(AtomicU64::new(9)),
            judge: Arc::new(|_, _, _, _| Verdict::Accept(Facts { rerun: false, batch: 1 })),
            message_of: Arc::new(|_| None),
            info: Arc::new(|| Arc::from(r#"{"version":"test"}"#)),
            clock: Clock::start(),
            bulk,
            forwards: Forwards::new(node(name), Supervisor::new(Rule::NODE)),
            board: super::LinkBoard::default(),
            traffic: crate::traffic::Traffic::default(),
        };
        let board = wiring.board.clone();
        let (broker, name_check) = Broker::new(config, wiring).unwrap();
        let tasks = vec![
            tokio::spawn(broker.clone().link()),
            tokio::spawn(broker.clone().incoming()),
            tokio::spawn(broker.clone().outgoing()),
        ];
        let (bulk, name_check) = (Some(bulk_taken), Some(name_check));
        Self { broker, board, effects, bulk, name_check, engine, inputs: taken, tasks }
    }

    /// The next event, whatever it is.
    pub(crate) async fn next(&mut self) -> Event {
        let input = tokio::time::timeout(PATIENCE, self.inputs.recv()).await;
        match input.expect("an event in time").expect("the engine's queue is open") {
            Input::Event(event) => event,
            other => panic!("the broker only brings events, not {other:?}"),
        }
    }

    /// Passes over events until `wanted` takes one.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    pub(crate) async fn up(&mut self) {
        self.until(|event| (*event == Event::LinkUp).then_some(())).await;
    }

    pub(crate) async fn perform(&self, effects: Vec<Effect>) {
        self.effects.send(effects).await.unwrap();
    }

    pub(crate) async fn name(&mut self) -> NameCheck {
        tokio::time::timeout(PATIENCE, self.name_check.take().unwrap()).await.unwrap().unwrap()
    }
}

/// Waits until `fact` is true.
pub(crate) async fn wait_for(what: &str, fact: impl Fn() -> bool) {
    let clock = Clock::start();
    while !fact() {
        assert!(clock.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A link of so many bytes a second towards `address`, as wide as one likes on the way back. Returns its own address.
pub(crate) async fn slow_link(address: String, bytes_per_second: usize) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = tokio::net::TcpStream::connect(&address).await.unwrap();
            let (mut from_near, mut to_near) = near.into_split();
            let (mut from_far, mut to_far) = far.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
            tokio::spawn(async move {
                let mut piece = vec![0; bytes_per_second / 50];
                while let Ok(count @ 1..) = from_near.read(&mut piece).await {
                    tokio::time::sleep(Duration::from_secs_f64(count as f64 / bytes_per_second as f64)).await;
                    if to_far.write_all(&piece[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    own
}

/// A link to `address` that counts the bytes on their way there, and back. Returns its own address.
pub(crate) async fn counting_link(address: String) -> (String, Arc<[AtomicU64; 2]>) {
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, passed: &AtomicU64) {
        let mut piece = vec![0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            passed.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
            if to.write_all(&piece[..count]).await.is_err() {
                return;
            }
        }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let passed = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counted = passed.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = tokio::net::TcpStream::connect(&address).await.unwrap();
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            let (out, back) = (counted.clone(), counted.clone());
            tokio::spawn(async move { pass(from_near, to_far, &out[0]).await });
            tokio::spawn(async move { pass(from_far, to_near, &back[1]).await });
        }
    });
    (own, passed)
}
