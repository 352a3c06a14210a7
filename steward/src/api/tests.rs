//! The API over a real socket, with the tests' own end of the engine's channel.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use protocol::message::{Kind, MessageId};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::State as MessageState;
use protocol::step::Report;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};

use super::*;
use crate::broker::LinkBoard;
use crate::engine::Filter;
use crate::intake::tests::central;
use crate::view::MessageView;

const ID: &str = "0193f2a0-0000-7000-8000-000000000001";

fn view(state: &str) -> MessageView {
    MessageView {
        id: ID.into(),
        from_node: "central".into(),
        to_node: "ship1".into(),
        command_or_event: "CommandACK".into(),
        method: "ShellCommand".into(),
        data: vec!["ls".into()],
        state: state.into(),
        reason: None,
        attempts: 1,
        next_attempt_at: None,
        created_at: "2026-11-22T10:42:00.000Z".into(),
        started_at: None,
        finished_at: (state == "done").then(|| "2026-11-22T10:42:01.000Z".into()),
        run_ms: None,
        exit_code: None,
        signal: None,
        stdout: None,
        stderr: (state == "done").then(|| "trouble".into()),
        stdout_bytes: 3_000_000,
        stderr_bytes: 7,
        moved_bytes: None,
        truncated: false,
        sealed: false,
        wire_out_bytes: None,
        wire_in_bytes: None,
        reply: None,
        history: Vec::new(),
    }
}

struct World {
    dir: TempDir,
    supervisor: Supervisor,
    engine: EngineHandle,
    /// The states that the message has, one look after the other; the last one stays.
    states: mpsc::Sender<&'static str>,
    filters: mpsc::Receiver<Filter>,
}

impl World {
    async fn new() -> Self {
        Self::with_info(|| InfoView { node: "central".into(), ..InfoView::default() }).await
    }

    async fn with_info(info: impl Fn() -> InfoView + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (inputs, receiver) = mpsc::channel(16);
        let (reports, _) = broadcast::channel(4);
        let engine = EngineHandle { inputs, reports };
        let (states, states_receiver) = mpsc::channel(16);
        let (filters_sender, filters) = mpsc::channel(16);
        tokio::spawn(answer(receiver, states_receiver, filters_sender));
        let supervisor = Supervisor::new(crate::supervise::Rule::NODE);
        let api = Api {
            contents: crate::results::Contents::new(crate::blobs::Blobs::new(dir.path())),
            intake: Intake::new(engine.clone(), central()),
            engine: engine.clone(),
            supervisor: supervisor.clone(),
            link: LinkBoard::default(),
            rules: crate::security::rules::Rules::standard(
                NodeName::new("central").unwrap(),
                NodeName::new("central").unwrap(),
                Vec::new(),
            ),
            syslog: crate::syslog::Desk::default(),
            renewal: None,
            forwards: crate::forward::Forwards::new(NodeName::new("central").unwrap(), supervisor.clone()),
            audience: Audience::nobody(),
            dir: dir.path().to_owned(),
            info: Arc::new(info),
        };
        supervisor.keep("api", move |end| api.clone().run(end));
        let world = Self { dir, supervisor, engine, states, filters };
        let there = async {
            while UnixStream::connect(world.dir.path().join(client::SOCKET)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), there).await.unwrap();
        world
    }

    /// Status and body of the answer.
    async fn ask(&self, request: &str, body: &str) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(self.dir.path().join(client::SOCKET)).await.unwrap();
        let length = body.len();
        let head = format!("{request} HTTP/1.0\r\nhost: steward\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap_or_default();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    async fn json(&self, request: &str, body: &str) -> (u16, serde_json::Value) {
        let (status, body) = self.ask(request, body).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn report(&self) {
        let lane = Lane {
            peer: NodeName::new("ship1").unwrap(),
            kind: Kind::CommandAck,
            method: MethodName::new("ShellCommand").unwrap(),
        };
        let id = ID.parse().unwrap();
        let report = Report::Out { id, lane, state: MessageState::Running, attempts: 1, outcome: None, sealed: false };
        self.engine.reports.send(Arc::new(report)).unwrap();
    }
}

async fn answer(
    mut inputs: mpsc::Receiver<Input>,
    mut states: mpsc::Receiver<&'static str>,
    filters: mpsc::Sender<Filter>,
) {
    let mut state = "queued";
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Submit(messages, reply) => {
                reply.send(Ok(messages.iter().map(|message| message.id).collect())).unwrap_or_default();
            }
            Input::Keep(..) => {}
            Input::Show(id, reply) | Input::Cancel(id, reply) => {
                state = states.try_recv().unwrap_or(state);
                let known = id == ID.parse::<MessageId>().unwrap();
                let shown = if known { Ok(view(state)) } else { Err(EngineError::Unknown(id)) };
                reply.send(shown).unwrap_or_default();
            }
            Input::List(filter, reply) => {
                filters.send(filter).await.unwrap();
                reply.send(Ok(vec![view(state)])).unwrap_or_default();
            }
            Input::Nodes(reply) => reply.send(Ok(Vec::new())).unwrap_or_default(),
            Input::Lanes(reply) => reply.send(Err(EngineError::Store("the disk is full".into()))).unwrap_or_default(),
            Input::Event(_) | Input::Waiting(..) | Input::Identity(_) | Input::Note(..) | Input::Stop(_) => {}
            Input::Process(_, reply) => reply.send(Ok(None)).unwrap_or_default(),
        }
    }
}

fn write_output(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(dir.join("blobs")).unwrap();
    std::fs::write(dir.join("blobs").join(name), bytes).unwrap();
}

#[tokio::test]
async fn messages_are_accepted_or_refused_one_by_one() {
    let world = World::new().await;
    let good = r#"{"toNode":"ship1","data":["ls"],"commandOrEvent":"CommandACK","method":"ShellCommand"}"#;
    let (status, body) = world.json("POST /v1/messages", &format!("[{good},{good}]")).await;
    assert_eq!((status, body["ids"].as_array().unwrap().len()), (200, 2));
    let (status, body) = world.json("POST /v1/messages", good).await;
    assert_eq!((status, body["ids"].as_array().unwrap().len()), (200, 1));

    let bad = good.replace("ship1", "ship 1");
    let (status, body) = world.json("POST /v1/messages", &format!("[{good},{bad},{{\"tonode\":1}},1]")).await;
    assert_eq!(status, 422);
    let errors: Vec<(u64, &str)> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["index"].as_u64().unwrap(), fault["error"].as_str().unwrap()))
        .collect();
    assert_eq!(errors.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(errors[1].1.contains("did you mean \"toNode\""), "{errors:?}");

    for (body, expected) in [("", 400), ("[", 400), ("\"x\"", 400), ("{\"a\"", 400)] {
        let (status, answer) = world.json("POST /v1/messages", body).await;
        assert_eq!(status, expected, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains("no JSON array of messages"));
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_before_it_is_read() {
    let world = World::new().await;
    let mut stream = UnixStream::connect(world.dir.path().join(client::SOCKET)).await.unwrap();
    let head = format!("POST /v1/messages HTTP/1.0\r\ncontent-length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[9..], b"413");
}

#[tokio::test]
async fn lists_are_filtered() {
    let mut world = World::new().await;
    let path = "GET /v1/messages?node=ship1&state=done&since=2026-11-22T10:42:00.000Z&limit=7";
    assert_eq!(world.json(path, "").await.0, 200);
    let filter = world.filters.recv().await.unwrap();
    assert_eq!(filter.node.as_deref(), Some("ship1"));
    assert_eq!(filter.state.as_deref(), Some("done"));
    assert_eq!((filter.since_ms, filter.limit), (Some(1_795_344_120_000), 7));
    assert_eq!(world.json("GET /v1/messages", "").await.0, 200);
    assert_eq!(world.filters.recv().await.unwrap().limit, LIST_DEFAULT_SEEN);
    for bad in ["state=finished", "since=yesterday", "limit=x", "nodes=a"] {
        let (status, body) = world.json(&format!("GET /v1/messages?{bad}"), "").await;
        assert_eq!(status, 400, "{bad}: {body}");
    }
}

const LIST_DEFAULT_SEEN: usize = 50;

#[tokio::test]
async fn outputs_come_whole_and_as_they_are() {
    let world = World::new().await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    write_output(world.dir.path(), &format!("out-{ID}.stdout.part"), &bytes[..1000]);
    let path = format!("GET /v1/messages/{ID}/stdout");
    assert_eq!(world.ask(&path, "").await.0, 409);
    write_output(world.dir.path(), &format!("out-{ID}.stdout"), &bytes);
    assert_eq!(world.ask(&path, "").await, (200, bytes));
    world.states.send("done").await.unwrap();
    assert_eq!(world.ask(&format!("GET /v1/messages/{ID}/stderr"), "").await, (200, b"trouble".to_vec()));
    let (status, body) = world.json(&format!("GET /v1/messages/{ID}"), "").await;
    assert_eq!((status, body["state"].as_str()), (200, Some("done")));
    assert!(body["stdout"].as_str().unwrap().len() >= 1024 * 1024);
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let world = World::new().await;
    let other = ID.replace('1', "2");
    let cases = [
        (format!("GET /v1/messages/{other}"), 404),
        (format!("GET /v1/messages/{other}/events"), 404),
        (format!("POST /v1/messages/{other}/cancel"), 404),
        (format!("GET /v1/messages/{ID}/stdin"), 404),
        ("GET /v1/messages/x".to_owned(), 400),
        ("GET /v2".to_owned(), 404),
        ("GET /v1/ps".to_owned(), 507),
    ];
    for (request, expected) in cases {
        let (status, body) = world.json(&request, "").await;
        assert_eq!(status, expected, "{request}: {body}");
        assert!(!body["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(world.json("GET /v1/info", "").await.1["node"], "central");
    assert_eq!(world.json("GET /v1/nodes", "").await.0, 200);
}

#[tokio::test]
async fn a_message_is_followed_until_it_ends() {
    let world = World::new().await;
    let mut stream = UnixStream::connect(world.dir.path().join(client::SOCKET)).await.unwrap();
    let head = format!("GET /v1/messages/{ID}/events HTTP/1.0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for (state, reports) in [("queued", 0), ("sent", 1), ("sent", 1), ("running", 20), ("done", 1)] {
        world.states.send(state).await.unwrap();
        (0..reports).for_each(|_| world.report());
        let arrived = async {
            while !seen.contains(&format!("\"state\":\"{state}\"")) {
                let mut block = [0; 4096];
                let count = stream.read(&mut block).await.unwrap();
                assert!(count > 0, "{seen}");
                seen.push_str(std::str::from_utf8(&block[..count]).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.unwrap();
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(seen.lines().filter(|line| line.starts_with('{')).count(), 4, "{seen}");
}

#[tokio::test]
async fn the_socket_is_ours_alone_and_a_dead_one_is_replaced() {
    let world = World::new().await;
    let path = world.dir.path().join(client::SOCKET);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = socket::listen(world.dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("another process answers"), "{error}");
    world.supervisor.stop(Duration::from_secs(5)).await;
    assert!(!path.exists());

    // A listener that is gone, as after a crash, leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let deep = world.dir.path().join("d".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    for dir in [world.dir.path(), &deep] {
        let (socket, listener) = socket::listen(dir).await.unwrap();
        drop((socket, listener));
        assert_eq!(std::fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().path() != deep).count(), 0);
    }
}

#[tokio::test]
async fn a_stop_ends_connections_that_wait() {
    let world = World::new().await;
    let mut idle = UnixStream::connect(world.dir.path().join(client::SOCKET)).await.unwrap();
    let mut follows = UnixStream::connect(world.dir.path().join(client::SOCKET)).await.unwrap();
    follows.write_all(format!("GET /v1/messages/{ID}/events HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    follows.read_exact(&mut [0; 12]).await.unwrap();
    assert!(world.supervisor.stop(Duration::from_secs(5)).await.is_empty());
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    follows.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_request_that_panics_ends_its_connection_alone() {
    let world = World::with_info(|| panic!("on purpose")).await;
    let mut stream = UnixStream::connect(world.dir.path().join(client::SOCKET)).await.unwrap();
    stream.write_all(b"GET /v1/info HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap_or_default();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(world.json("GET /v1/nodes", "").await.0, 200);
    assert_eq!((world.supervisor.panics(), world.supervisor.restarts()), (1, vec![("api".into(), 0)]));
}

#[tokio::test]
async fn tasks_are_stopped_and_started_by_their_names() {
    let world = World::new().await;
    let supervisor = world.supervisor.clone();
    supervisor.keep("a task", |end| async move {
        end.cancelled().await;
        Ok(())
    });
    let (status, task) = world.json("POST /v1/ps/stop", r#"{"name":"a task"}"#).await;
    assert_eq!((status, &task["state"]), (200, &"stopped".into()), "{task}");
    let (status, task) = world.json("POST /v1/ps/start", r#"{"name":"a task"}"#).await;
    assert_eq!((status, &task["state"]), (200, &"running".into()), "{task}");
    for (body, expected) in
        [(r#"{"name":"engine"}"#, 409), (r#"{"name":"no such"}"#, 404), (r#"{"process":"a task"}"#, 400), ("", 400)]
    {
        let (status, answer) = world.json("POST /v1/ps/stop", body).await;
        assert_eq!(status, expected, "{body}: {answer}");
    }
}
