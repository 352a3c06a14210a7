//! The supervisor against tasks that fail in every way that a task can, and people who stop and start them.

use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn quick() -> Rule {
    Rule { pause_first: Duration::from_micros(10), pause_max: Duration::from_millis(1), failures_max: 4, ..Rule::NODE }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it should have happened by now")
}

fn task(supervisor: &Supervisor, name: &str) -> Option<ProcessView> {
    supervisor.list().into_iter().find(|task| task.name == name)
}

fn state(supervisor: &Supervisor, name: &str) -> String {
    task(supervisor, name).map(|task| task.state).unwrap_or_default()
}

async fn until(mut fact: impl FnMut() -> bool) {
    soon(async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A task that listens to its end, and counts its runs.
fn listens(supervisor: &Supervisor, spec: Spec) -> Arc<AtomicUsize> {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    supervisor.keep(spec, move |end| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            end.cancelled().await;
            Ok(())
        }
    });
    runs
}

#[tokio::test]
async fn a_kept_task_runs_again_after_errors_and_panics_and_then_stays_down() {
    let supervisor = Supervisor::new(quick());
    let mut run = 0;
    supervisor.keep("worker", move |_| {
        run += 1;
        async move {
            assert!(run != 2, "run {run} panics");
            anyhow::bail!("run {run} fails")
        }
    });
    until(|| state(&supervisor, "worker") == "down").await;
    let worker = task(&supervisor, "worker").unwrap();
    assert_eq!((worker.restarts, worker.note.as_deref()), (3, Some("failed: run 4 fails")));
    assert_eq!(supervisor.resting(), [worker]);
    assert_eq!((supervisor.panics(), supervisor.restarts()), (1, vec![("worker".into(), 3)]));
    assert!(soon(supervisor.stop(SOON)).await.is_empty());
}

#[tokio::test]
async fn a_factory_that_panics_is_caught_too() {
    let supervisor = Supervisor::new(quick());
    supervisor.keep("factory", |_| -> std::future::Ready<anyhow::Result<()>> { panic!("no task today") });
    until(|| state(&supervisor, "factory") == "down").await;
    assert_eq!(task(&supervisor, "factory").unwrap().note.as_deref(), Some("panicked: no task today"));
    assert_eq!(supervisor.panics(), 4);
}

#[tokio::test]
async fn a_task_that_fails_leaves_its_neighbours_alone() {
    let supervisor = Supervisor::new(quick());
    let runs = listens(&supervisor, Spec::new("good"));
    supervisor.keep("bad", |_| async { panic!("on purpose") });
    until(|| state(&supervisor, "bad") == "down").await;
    assert_eq!((state(&supervisor, "good").as_str(), runs.load(Ordering::Relaxed)), ("running", 1));
}

#[tokio::test]
async fn a_task_that_is_done_is_not_run_again_unless_somebody_starts_it() {
    let supervisor = Supervisor::new(Rule::NODE);
    let (tell, mut told) = mpsc::channel(1);
    supervisor.keep("done", move |_| {
        let tell = tell.clone();
        async move { Ok(tell.send(()).await?) }
    });
    soon(told.recv()).await.unwrap();
    until(|| state(&supervisor, "done") == "ended").await;
    assert!(told.try_recv().is_err());
    soon(supervisor.start("done")).await.unwrap();
    soon(told.recv()).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_single_run_ends_it_alone() {
    let supervisor = Supervisor::new(Rule::NODE);
    let (tell, mut told) = mpsc::channel(1);
    supervisor.once("bad", async { panic!("{}", String::from("on purpose")) });
    supervisor.once("good", async move { tell.send(7).await.unwrap() });
    assert_eq!(soon(told.recv()).await, Some(7));
    until(|| supervisor.list().is_empty()).await;
    assert_eq!(supervisor.panics(), 1);
}

#[tokio::test]
async fn what_is_stopped_stays_stopped_until_it_is_started() {
    let supervisor = Supervisor::new(Rule::NODE);
    let runs = listens(&supervisor, Spec::new("a task"));
    let stopped = soon(supervisor.halt("a task", Whence::Afar)).await.unwrap();
    assert_eq!((stopped.state.as_str(), supervisor.resting().len()), ("stopped", 1));
    assert_eq!(
        soon(supervisor.halt("a task", Whence::Here)).await.unwrap().state,
        "stopped",
        "once more changes nothing"
    );
    until(|| runs.load(Ordering::Relaxed) == 1).await;
    assert_eq!(soon(supervisor.start("a task")).await.unwrap().state, "running");
    until(|| runs.load(Ordering::Relaxed) == 2).await;
    soon(supervisor.start("a task")).await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2, "one that runs is left alone");
    assert_eq!(task(&supervisor, "a task").unwrap().restarts, 0, "that was no failure");
    soon(supervisor.halt("a task", Whence::Here)).await.unwrap();
    assert!(soon(supervisor.stop(SOON)).await.is_empty(), "the node stops whatever is stopped already");
}

#[tokio::test]
async fn a_task_that_does_not_listen_is_dropped_where_it_stands() {
    let supervisor = Supervisor::new(Rule { halt: Duration::from_millis(10), ..Rule::NODE });
    let dropped = CancellationToken::new();
    let guard = dropped.clone();
    supervisor.keep("deaf", move |_| {
        let guard = guard.clone().drop_guard();
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(())
        }
    });
    assert_eq!(soon(supervisor.halt("deaf", Whence::Here)).await.unwrap().state, "stopped");
    soon(dropped.cancelled()).await;
}

#[tokio::test]
async fn a_task_that_is_down_can_be_started_and_has_all_its_tries_again() {
    let supervisor = Supervisor::new(quick());
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    supervisor.keep("mended", move |end| {
        let run = counted.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            anyhow::ensure!(run > 6, "run {run} fails");
            end.cancelled().await;
            Ok(())
        }
    });
    until(|| state(&supervisor, "mended") == "down").await;
    assert_eq!(runs.load(Ordering::Relaxed), 4);
    soon(supervisor.start("mended")).await.unwrap();
    until(|| state(&supervisor, "mended") == "running" && runs.load(Ordering::Relaxed) == 7).await;
    assert!(supervisor.resting().is_empty());
}

#[tokio::test]
async fn what_nobody_could_start_from_afar_is_tried_again_after_a_while() {
    let supervisor = Supervisor::new(Rule { failures_max: 1, rescue: Duration::from_millis(50), ..Rule::NODE });
    let mut run = 0;
    let spec = Spec::new("link").stops(Stops::Here("nobody could start it again"));
    supervisor.keep(spec, move |end| {
        run += 1;
        async move {
            anyhow::ensure!(run > 1, "the first run fails");
            end.cancelled().await;
            Ok(())
        }
    });
    supervisor.keep("metrics", |_| async { anyhow::bail!("always") });
    until(|| state(&supervisor, "link") == "down").await;
    until(|| state(&supervisor, "link") == "running").await;
    assert_eq!(task(&supervisor, "link").unwrap().note.as_deref(), Some("failed: the first run fails"));
    assert_eq!(state(&supervisor, "metrics"), "down");
}

#[tokio::test]
async fn who_may_stop_what_is_said_with_the_reason() {
    let supervisor = Supervisor::new(Rule::NODE);
    for (name, stops) in [
        ("link", Stops::Here("nobody there could start it again")),
        ("api", Stops::FromAfar("nobody here could start it again")),
        ("runner", Stops::Never("messages would not come to an end")),
    ] {
        listens(&supervisor, Spec::new(name).stops(stops));
    }
    let why = async |name, whence| soon(supervisor.halt(name, whence)).await.unwrap_err().to_string();
    assert!(why("link", Whence::Afar).await.contains("another node, because nobody there"));
    assert!(why("api", Whence::Here).await.contains("--node"));
    for whence in [Whence::Here, Whence::Afar] {
        assert!(why("runner", whence).await.contains("because messages would not come to an end"));
    }
    assert!(why("nothing", Whence::Here).await.contains("link, api, runner"));
    assert!(soon(supervisor.start("nothing")).await.is_err());
    assert!(supervisor.list().iter().all(|task| task.state == "running"));
    assert_eq!(soon(supervisor.halt("link", Whence::Here)).await.unwrap().state, "stopped");
    assert_eq!(soon(supervisor.halt("api", Whence::Afar)).await.unwrap().state, "stopped");
}

#[tokio::test]
async fn a_task_can_end_before_the_others_and_is_not_started_again() {
    let supervisor = Supervisor::new(Rule::NODE);
    let doors = supervisor.token().child_token();
    let runs = listens(&supervisor, Spec::new("intake").within(doors.clone()));
    until(|| runs.load(Ordering::Relaxed) == 1).await;
    doors.cancel();
    until(|| state(&supervisor, "intake") == "ended").await;
    soon(supervisor.start("intake")).await.unwrap();
    until(|| state(&supervisor, "intake") == "ended").await;
}

#[tokio::test]
async fn stop_asks_first_and_aborts_what_does_not_listen() {
    let supervisor = Supervisor::new(Rule::NODE);
    listens(&supervisor, Spec::new("listens"));
    supervisor.once("deaf", std::future::pending());
    let late = soon(supervisor.stop(Duration::from_millis(20))).await;
    assert_eq!(late, [Arc::from("deaf")]);
}

#[tokio::test]
async fn neither_stopping_the_node_nor_the_task_waits_for_a_pause_to_end() {
    let supervisor = Supervisor::new(Rule { pause_first: Duration::from_secs(3600), ..Rule::NODE });
    for name in ["one", "other"] {
        supervisor.keep(name, |_| async { anyhow::bail!("at once") });
    }
    until(|| supervisor.list().iter().all(|task| task.state == "restarting")).await;
    assert_eq!(soon(supervisor.halt("one", Whence::Here)).await.unwrap().state, "stopped");
    assert!(soon(supervisor.stop(SOON)).await.is_empty());
}
