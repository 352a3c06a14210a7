//! How messages start and end.

use std::os::unix::fs::PermissionsExt;

use super::rig::*;
use crate::methods::runner::running::execute;
use crate::methods::{AfterCrash, MethodError};
use crate::methods::{Method, MethodCtx};

#[tokio::test]
async fn a_command_knows_its_message_and_has_no_input() {
    let mut rig = Rig::new();
    let run = rig.run("ShellCommand", &["sh", "-c", "cat; echo $STEWARD_MESSAGE_ID $STEWARD_NODE $STEWARD_FROM"]);
    let id = run.message.id;
    let ticket = rig.perform(run).await;
    assert_eq!(text(&rig.end(ticket).await.stdout), format!("{id} ship1 central\n"));
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let mut rig = Rig::new();
    let ticket = rig.start("ShellCommand", &["printf", "[%s]", "a b", "", "$HOME", "ä\n"]).await;
    assert_eq!(text(&rig.end(ticket).await.stdout), "[a b][][$HOME][ä\n]");
}

#[tokio::test]
async fn a_signal_is_told() {
    let mut rig = Rig::new();
    let outcome = rig.sh("kill -KILL $$").await;
    assert_eq!((outcome.state, outcome.exit_code, outcome.signal), (Final::Failed, None, Some(9)));
    assert!(outcome.reason.unwrap().contains("signal 9"));
}

async fn why(rig: &mut Rig, program: &str) -> String {
    let ticket = rig.start("ShellCommand", &[program]).await;
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, outcome.exit_code), (Final::Failed, None));
    outcome.reason.unwrap().to_string()
}

#[tokio::test]
async fn what_cant_be_started_says_why() {
    let mut rig = Rig::new();
    let script = rig.path("script");
    assert!(why(&mut rig, "no-such-program").await.contains("not in the PATH"));
    assert!(why(&mut rig, "/no/such/program").await.contains("there is no such file"));
    std::fs::write(&script, "echo no first line\n").unwrap();
    assert!(why(&mut rig, &script).await.contains("not executable"));
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(why(&mut rig, &script).await.contains("a script that begins with #!"));
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    assert!(why(&mut rig, &script).await.contains("interpreter is missing"));
    assert!(why(&mut rig, "/").await.contains("Permission denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_run_side_by_side() {
    let mut rig = Rig::new();
    // All of them have to be there before any of them may go.
    let go = rig.path("go");
    let script = format!("until [ -e {go} ]; do sleep 0.1; done; echo $0");
    let mut tickets = Vec::new();
    for number in 0..300 {
        tickets.push(rig.start("ShellCommand", &["sh", "-c", &script, &number.to_string()]).await);
    }
    until("300 run", || (rig.runner.counts().running == 300).then_some(())).await;
    std::fs::write(&go, "").unwrap();
    for (number, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(text(&rig.end(ticket).await.stdout), format!("{number}\n"));
    }
    until("none runs", || (rig.runner.counts().running == 0).then_some(())).await;
}

#[tokio::test]
async fn say_hello_answers_with_one_line() {
    let mut rig = Rig::new();
    let ticket = rig.start("SayHello", &[]).await;
    let outcome = rig.end(ticket).await;
    let hello = text(&outcome.stdout);
    let expected = format!("hello, I'm ship1, steward {}, up since 20", env!("CARGO_PKG_VERSION"));
    assert!(hello.starts_with(&expected), "{hello}");
    assert_eq!((outcome.state, hello.lines().count()), (Final::Done, 1));
}

#[tokio::test]
async fn a_batch_of_lines_is_written_in_order_and_ends_in_one_event() {
    let mut rig = Rig::new();
    let runs: Vec<Run> = (0..500).map(|number| rig.run("TextLogging", &[&format!("line {number}\n")])).collect();
    let tickets: Vec<Ticket> = runs.iter().map(|run| run.ticket).collect();
    rig.effects.send(vec![Effect::Start(runs)]).await.unwrap();
    assert_eq!(rig.event().await, tickets);
    let expected: String = (0..500).map(|number| format!("line {number}\n")).collect();
    assert_eq!(std::fs::read_to_string(rig.path("textlogging.log")).unwrap(), expected);
    assert_eq!(rig.end(tickets[0]).await.state, Final::Done);
}

#[tokio::test]
async fn an_error_is_one_line_whatever_it_holds() {
    let mut rig = Rig::new();
    let ticket = rig.start("ErrorLog", &["disk full\n", "two\nlines \x1b[31m\ttab ä"]).await;
    assert_eq!(rig.end(ticket).await.state, Final::Done);
    let log = std::fs::read_to_string(rig.path("errorlog.log")).unwrap();
    let head = "2023-11-14T22:13:21.000Z central";
    assert_eq!(log, format!("{head} disk full\n{head} two\\nlines \\u{{1b}}[31m\ttab ä\n"));
    let noted: Vec<_> = rig.noted.iter().map(|row| (row.item, &*row.node, row.at, &*row.text)).collect();
    let at = Wall(1_700_000_001_000);
    assert_eq!(noted, [(0, "central", at, "disk full"), (1, "central", at, "two\\nlines \\u{1b}[31m\ttab ä")]);
}

#[tokio::test]
async fn the_table_of_errors_gets_the_beginning_of_what_is_too_much() {
    let mut rig = Rig::new();
    let errors: Vec<String> = (0..1000).map(|number| format!("{number} {}", "ä".repeat(4000))).collect();
    let ticket = rig.start("ErrorLog", &errors.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(rig.end(ticket).await.state, Final::Done);
    assert_eq!(std::fs::read_to_string(rig.path("errorlog.log")).unwrap().lines().count(), 1000);
    assert_eq!(rig.noted.len(), 65);
    assert!(rig.noted.iter().all(|row| row.text.len() < 3000));
    assert!(rig.noted[64].text.starts_with("and 936 more errors"), "{}", rig.noted[64].text);
}

#[tokio::test]
async fn a_body_that_is_only_in_the_store_is_read_from_there() {
    let there = |ticket: Ticket| (ticket == Ticket(1)).then(|| message(ticket, "ShellCommand", &["echo", "stored"]));
    let mut rig = Rig::with(|setup| setup.bodies = Arc::new(there));
    for (ticket, state, output) in [(1, Final::Done, "stored\n"), (2, Final::Failed, "")] {
        let mut run = rig.run("ShellCommand", &[]);
        (run.stored, run.message.body) = (true, "".into());
        let started = rig.perform(run).await;
        let outcome = rig.end(started).await;
        assert_eq!((started, outcome.state, text(&outcome.stdout)), (Ticket(ticket), state, output));
    }
}

#[tokio::test]
async fn a_method_that_is_gone_or_data_that_makes_no_sense_fails_with_a_reason() {
    let mut rig = Rig::new();
    let gone = rig.start("Gone", &[]).await;
    assert!(rig.end(gone).await.reason.unwrap().contains("there is no method Gone"));
    let empty = rig.start("ShellCommand", &[]).await;
    assert!(rig.end(empty).await.reason.unwrap().contains("data is empty"));
}

struct Panics;

impl Method for Panics {
    const NAME: &'static str = "Panics";
    const AFTER_CRASH: AfterCrash = AfterCrash::Interrupt;
    const EVENT: bool = false;
    type Args = ();

    fn parse(_data: &[String]) -> Result<(), String> {
        Ok(())
    }

    async fn run((): (), ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        ctx.answer("so far").await;
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_panic_ends_its_message_and_nothing_else() {
    let mut rig = Rig::new();
    let run = rig.run("Panics", &[]);
    let ticket = run.ticket;
    let batch = Batch { runs: vec![run], stop: Arc::default(), recorded: true };
    execute::<Panics>(&rig.runner.shared.host, batch).await;
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::Failed, "so far"));
    assert!(outcome.reason.unwrap().contains("on purpose"));
    assert_eq!(rig.supervisor.panics(), 1);
    assert_eq!(text(&rig.sh("echo alive").await.stdout), "alive\n");
}

#[tokio::test]
async fn too_many_messages_without_a_record_are_dropped_and_counted() {
    let mut rig = Rig::new();
    let wait = rig.fifo("wait");
    let effects = (0..2 * UNRECORDED_MAX)
        .map(|_| {
            let run = rig.run("ShellCommand", &["sh", "-c", &format!("exec cat {wait}")]);
            Effect::StartUnrecorded { from: run.message.from.clone(), run }
        })
        .collect();
    rig.effects.send(effects).await.unwrap();
    until("some are dropped", || (rig.runner.counts().dropped > 0).then_some(())).await;
    // What has a record is not held up by them.
    assert_eq!(text(&rig.sh("echo alive").await.stdout), "alive\n");
    let counts = rig.runner.counts();
    assert!(counts.dropped as usize <= UNRECORDED_MAX, "{counts:?}");
    assert!(counts.running as usize <= UNRECORDED_RUNNING_MAX + 1, "{counts:?}");
    rig.runner.stop(Duration::ZERO).await;
}

/// Prints how many commands a second run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a measurement: cargo test --release -p steward commands_a_second -- --ignored --nocapture"]
async fn commands_a_second() {
    let mut rig = Rig::new();
    for parallel in [1_u32, 4, 16, 64] {
        let (clock, count) = (crate::clock::Clock::start(), if parallel == 1 { 500 } else { 5000 });
        let (mut started, mut ended) = (0, 0);
        while ended < count {
            while started < count && started - ended < parallel {
                rig.start("ShellCommand", &["true"]).await;
                started += 1;
            }
            ended += rig.event().await.len() as u32;
        }
        let seconds = clock.elapsed().as_secs_f64();
        let (rate, each) = (f64::from(count) / seconds, seconds * 1e3 * f64::from(parallel) / f64::from(count));
        println!("{parallel} in parallel: {rate:.0}/s, {each:.2} ms each");
    }
}

/// Between two looks at the folder, the file itself is what counts.
#[tokio::test]
async fn a_method_of_the_nodes_own_is_looked_at_again_before_it_runs() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut rig = Rig::with(|setup| {
        let folder = setup.dir.join("methods.d");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [("Fine", "#!/bin/sh\ncat\nexit 4\n"), ("Open", "#!/bin/sh\n"), ("Gone", "#!/bin/sh\n")] {
            std::fs::write(folder.join(name), text).unwrap();
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        setup.own = OwnMethods::open(&setup.dir);
        std::fs::set_permissions(folder.join("Open"), std::fs::Permissions::from_mode(0o757)).unwrap();
        std::fs::remove_file(folder.join("Gone")).unwrap();
    });
    let mut ended = Vec::new();
    for method in ["Fine", "Open", "Gone", "Never"] {
        let ticket = rig.start(method, &["a"]).await;
        ended.push(rig.end(ticket).await);
    }
    assert_eq!((ended[0].state, ended[0].exit_code), (Final::Failed, Some(4)));
    for (outcome, why) in
        ended[1..].iter().zip(["others than its owner can write it", "can't be used here now", "any more"])
    {
        assert_eq!(outcome.state, Final::Refused);
        assert!(outcome.reason.as_ref().unwrap().contains(why), "{outcome:?}");
    }
}
