//! The supervisor against tasks that fail in every way that a task can.

use tokio::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn quick() -> Rule {
    Rule { pause_first: Duration::from_micros(10), pause_max: Duration::from_millis(1), failures_max: 4, ..Rule::NODE }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it should have happened by now")
}

fn state(supervisor: &Supervisor, name: &str) -> Option<String> {
    supervisor.list().into_iter().find(|task| task.name == name).map(|task| task.state)
}

async fn until(mut fact: impl FnMut() -> bool) {
    soon(async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_kept_task_runs_again_after_errors_and_panics_and_then_stays_down() {
    let supervisor = Supervisor::with_rule(quick());
    let mut alarms = supervisor.alarms();
    let mut run = 0;
    supervisor.keep("worker", move || {
        run += 1;
        async move {
            assert!(run != 2, "run {run} panics");
            anyhow::bail!("run {run} fails")
        }
    });
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(soon(alarms.recv()).await.unwrap());
    }
    assert_eq!(heard[0].trouble, Trouble::Failed("run 1 fails".into()));
    assert_eq!(heard[1].trouble, Trouble::Panicked("run 2 panics".into()));
    assert_eq!(heard[3].answer, Answer::Down);
    assert!(heard[3].to_string().contains("stays down"), "{}", heard[3]);
    let task = supervisor.list().remove(0);
    assert_eq!((task.state.as_str(), task.restarts), ("down", 3));
    assert_eq!(task.note.as_deref(), Some("failed: run 4 fails"));
    assert_eq!(supervisor.counts(), Counts { restarts: 3, panics: 1, down: 1 });
    assert!(soon(supervisor.stop(SOON)).await.is_empty());
}

#[tokio::test]
async fn a_factory_that_panics_is_caught_too() {
    let supervisor = Supervisor::with_rule(quick());
    let mut alarms = supervisor.alarms();
    supervisor.keep("factory", || -> std::future::Ready<anyhow::Result<()>> { panic!("no task today") });
    assert_eq!(soon(alarms.recv()).await.unwrap().trouble, Trouble::Panicked("no task today".into()));
}

#[tokio::test]
async fn a_task_that_is_done_is_not_run_again() {
    let supervisor = Supervisor::new();
    supervisor.keep("done", || async { Ok(()) });
    until(|| state(&supervisor, "done").as_deref() == Some("ended")).await;
}

#[tokio::test]
async fn a_panic_in_a_single_run_ends_it_alone() {
    let supervisor = Supervisor::new();
    let mut alarms = supervisor.alarms();
    let (tell, mut told) = mpsc::channel(1);
    supervisor.once("bad", async { panic!("{}", String::from("on purpose")) });
    supervisor.once("good", async move { tell.send(7).await.unwrap() });
    assert_eq!(soon(told.recv()).await, Some(7));
    let alarm = soon(alarms.recv()).await.unwrap();
    assert_eq!((&*alarm.task, alarm.trouble), ("bad", Trouble::Panicked("on purpose".into())));
    until(|| supervisor.list().is_empty()).await;
}

#[tokio::test]
async fn stop_asks_first_and_aborts_what_does_not_listen() {
    let supervisor = Supervisor::new();
    let end = supervisor.token();
    supervisor.keep("listens", move || {
        let end = end.clone();
        async move {
            end.cancelled().await;
            Ok(())
        }
    });
    supervisor.once("deaf", std::future::pending());
    let late = soon(supervisor.stop(Duration::from_millis(20))).await;
    assert_eq!(late, [Arc::from("deaf")]);
}

#[tokio::test]
async fn stop_does_not_wait_for_a_pause_to_end() {
    let supervisor = Supervisor::with_rule(Rule { pause_first: Duration::from_secs(3600), ..Rule::NODE });
    supervisor.keep("fails", || async { anyhow::bail!("at once") });
    until(|| state(&supervisor, "fails").as_deref() == Some("restarting")).await;
    assert!(soon(supervisor.stop(SOON)).await.is_empty());
}

#[test]
fn pauses_double_begin_anew_after_health_and_end_when_failures_come_too_often() {
    let at = Duration::from_secs;
    let mut failures = Failures::new(Rule::NODE);
    for expected in [100, 200, 400, 800] {
        assert_eq!(failures.failed(at(0), at(1)), Some(Duration::from_millis(expected)));
    }
    assert_eq!(failures.failed(at(2), at(62)), Some(Duration::from_millis(100)), "after a minute of health");
    for _ in 0..4 {
        assert!(failures.failed(at(62), at(63)).is_some());
    }
    assert_eq!(failures.failed(at(63), at(64)), None, "the tenth within five minutes");

    let mut rare = Failures::new(Rule::NODE);
    for run in 0..100 {
        assert!(rare.failed(at(run * 40), at(run * 40 + 39)).is_some(), "one in 40 s is not too often");
    }
    assert_eq!(rare.pause, Rule::NODE.pause_max);
}
