//! Commands that have to stop, and what they leave behind.

use rustix::process::{Pid, Signal, kill_process};

use super::rig::*;

#[tokio::test]
async fn what_is_left_in_the_background_ends_with_the_command() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    // It holds the pipe of the output, so waiting for the end of that would be for ever.
    let outcome = rig.sh(&format!("sleep 1000 & echo $! > {pid}; echo hi")).await;
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::Done, "hi\n"));
    gone(rig.number("pid").await).await;

    let outcome = rig.sh(&format!("sleep 1000 > /dev/null 2>&1 & echo $! > {pid}")).await;
    assert_eq!(outcome.state, Final::Done);
    gone(rig.number("pid").await).await;
}

#[tokio::test]
async fn what_floods_the_output_from_the_background_ends_too() {
    let mut rig = Rig::new();
    let outcome = rig.sh("yes & exit 0").await;
    assert_eq!(outcome.state, Final::Done);
}

#[tokio::test]
async fn a_session_of_its_own_outlives_a_command_that_ends_well() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    let script = format!("setsid sh -c 'echo $$ > {pid}; exec sleep 1000' & until [ -s {pid} ]; do :; done; echo hi");
    let outcome = rig.sh(&script).await;
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::Done, "hi\n"));
    let pid = Pid::from_raw(rig.number("pid").await).unwrap();
    kill_process(pid, Signal::KILL).expect("it still runs");
}

#[tokio::test]
async fn a_limit_ends_everything_even_what_has_left_the_group() {
    let mut rig = Rig::new();
    let (inner, outer, go) = (rig.path("inner"), rig.path("outer"), rig.path("go"));
    let script = format!(
        "echo partial; setsid sh -c 'echo $$ > {inner}; exec sleep 1000' & \
         sh -c 'echo $$ > {outer}; sleep 1000; true' & until [ -s {inner} -a -s {outer} ]; do :; done; echo 1 > {go}; wait"
    );
    let mut run = rig.run("ShellCommand", &["sh", "-c", &script]);
    run.limit = Some(Duration::from_secs(1));
    let ticket = rig.perform(run).await;
    let (inner, outer) = (rig.number("inner").await, rig.number("outer").await);
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::TimedOut, "partial\n"));
    assert_eq!(outcome.signal, Some(15));
    assert!(outcome.reason.unwrap().contains("limit of 1s"));
    gone(inner).await;
    gone(outer).await;
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    let script = format!("trap '' TERM; echo $$ > {pid}; while :; do sleep 0.1; done");
    let ticket = rig.start("ShellCommand", &["sh", "-c", &script]).await;
    let pid = rig.number("pid").await;
    rig.effects.send(vec![Effect::Kill(ticket)]).await.unwrap();
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, outcome.signal), (Final::Cancelled, Some(9)));
    gone(pid).await;
}

#[tokio::test]
async fn what_cleans_up_on_sigterm_has_the_time_for_it() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    let script = format!("trap 'echo cleaned; exit 5' TERM; echo $$ > {pid}; while :; do sleep 0.01; done");
    let ticket = rig.start("ShellCommand", &["sh", "-c", &script]).await;
    rig.number("pid").await;
    rig.effects.send(vec![Effect::Kill(ticket)]).await.unwrap();
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, outcome.exit_code), (Final::Cancelled, Some(5)));
    assert_eq!(text(&outcome.stdout), "cleaned\n");
}

#[tokio::test]
async fn a_command_that_is_frozen_can_be_cancelled() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    let ticket = rig.start("ShellCommand", &["sh", "-c", &format!("echo $$ > {pid}; kill -STOP $$; sleep 1000")]).await;
    rig.number("pid").await;
    rig.effects.send(vec![Effect::Kill(ticket)]).await.unwrap();
    assert_eq!(rig.end(ticket).await.state, Final::Cancelled);
}

#[tokio::test]
async fn a_kill_for_what_does_not_run_is_nothing() {
    let mut rig = Rig::new();
    rig.effects.send(vec![Effect::Kill(Ticket(77))]).await.unwrap();
    assert_eq!(rig.sh("true").await.state, Final::Done);
}

#[tokio::test]
async fn a_stop_waits_for_what_can_finish() {
    let mut rig = Rig::new();
    let (pid, go) = (rig.path("pid"), rig.path("go"));
    let script = format!("echo $$ > {pid}; until [ -e {go} ]; do :; done; echo done");
    let ticket = rig.start("ShellCommand", &["sh", "-c", &script]).await;
    rig.number("pid").await;
    let runner = rig.runner.clone();
    let finish = async {
        until("the runner stops", || runner.shared.stopping.is_cancelled().then_some(())).await;
        std::fs::write(&go, "").unwrap();
        rig.end(ticket).await
    };
    let ((), outcome) = tokio::join!(runner.stop(SOON), finish);
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::Done, "done\n"));
}

#[tokio::test]
async fn a_stop_ends_what_takes_too_long_and_starts_nothing_more() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    let script = format!("echo partial; echo $$ > {pid}; sleep 1000; true");
    let ticket = rig.start("ShellCommand", &["sh", "-c", &script]).await;
    let pid = rig.number("pid").await;
    rig.runner.stop(Duration::ZERO).await;
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::Interrupted, "partial\n"));
    gone(pid).await;

    // An end of what is next would make room for what is behind it, and so on, until the whole lane is gone.
    let marker = rig.path("marker");
    rig.start("ShellCommand", &["touch", &marker]).await;
    until("the start is held", || (rig.runner.shared.host.held.load(Ordering::Relaxed) == 1).then_some(())).await;
    assert!(rig.supervisor.stop(SOON).await.is_empty());
    assert!(!std::path::Path::new(&marker).exists());
    assert!(rig.is_quiet());
}

#[tokio::test]
async fn what_may_run_again_is_held_by_a_stop_as_if_the_node_had_been_killed() {
    let mut rig = Rig::new();
    let pid = rig.path("pid");
    let mut run = rig.run("ShellCommand", &["sh", "-c", &format!("echo $$ > {pid}; sleep 1000; true")]);
    run.message.options.rerun = true;
    rig.perform(run).await;
    let pid = rig.number("pid").await;
    rig.runner.stop(Duration::ZERO).await;
    gone(pid).await;
    assert_eq!(rig.runner.shared.host.held.load(Ordering::Relaxed), 1);
    assert!(rig.supervisor.stop(SOON).await.is_empty());
    assert!(rig.is_quiet());
}
