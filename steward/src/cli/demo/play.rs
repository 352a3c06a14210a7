//! The scenes, in their order. Each shows something and notes what was promised and what was seen of it.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::outcome::Final;

use super::cast::{Cast, since};
use super::errands;
use super::members;
use super::stage::{self, Stage, millis};
use crate::view::MessageView;

/// The seed's examples as they stand there: name of the file, whose `inmsg.txt`, text.
const EXAMPLES: [(&str, &str, &str); 4] = [
    (
        "one command",
        "central",
        r#"[ { "toNode": "ship1", "data": ["bash","-c","ls -l ../"], "commandOrEvent":"CommandACK", "method":"ShellCommand" } ]"#,
    ),
    (
        "two at once",
        "central",
        r#"[ { "toNode": "ship1", "data": ["bash","-c","ls -l ../"], "commandOrEvent":"CommandACK", "method":"ShellCommand" },
  { "toNode": "ship2", "data": ["bash","-c","ls -l ../"], "commandOrEvent":"CommandACK", "method":"ShellCommand" } ]"#,
    ),
    (
        "its own timeout and retries",
        "central",
        r#"[ { "toNode": "ship1", "data": ["bash","-c","netstat -an|grep -i listen"], "commandOrEvent":"CommandACK", "method":"ShellCommand", "timeout":3, "retries":3 } ]"#,
    ),
    (
        "an event",
        "ship1",
        r#"[ { "toNode": "central", "data": ["some message sent from a ship for testing\n"], "commandOrEvent":"EventACK", "method":"TextLogging" } ]"#,
    ),
];

/// Commands for each of two ships that are on their way when central is killed.
const OUTSTANDING: usize = 50;

/// All of it.
pub(super) async fn all(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.title(
        "steward demo: central, ship1 and ship2 around a nats-server, each a process of its own",
        &format!("in {}", cast.folder().display()),
    )?;
    start(cast, stage).await?;
    examples(cast, stage).await?;
    away(cast, stage).await?;
    sender_killed(cast, stage).await?;
    receiver_killed(cast, stage).await?;
    errands::show(cast, stage).await?;
    members::show(cast, stage).await
}

async fn start(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("Start")?;
    let began = stage.now();
    let server = cast.start_broker().await?;
    stage.sees(&format!("{server}, {}", millis(since(stage, began))))?;
    let mut slowest = Duration::ZERO;
    for node in ["central", "ship1", "ship2"] {
        let began = stage.now();
        cast.start_node(node).await?;
        let took = since(stage, began);
        slowest = slowest.max(took);
        stage.sees(&format!("{node:<8} ready, {}", millis(took)))?;
    }
    stage.promise("nodes start", format!("the slowest in {}", millis(slowest)), true);
    Ok(())
}

async fn examples(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("The seed's four examples, appended to inmsg.txt as they stand")?;
    let mut answered = 0;
    let mut sent = 0;
    for (what, from, text) in EXAMPLES {
        let known = cast.messages(from).await?.len();
        stage.does(&format!("cat myfile.json >> {from}/inmsg.txt      # {what}"))?;
        let began = stage.now();
        cast.append(from, text)?;
        let count = text.matches("toNode").count();
        for message in results(cast, stage, from, known, count, began).await? {
            sent += 1;
            answered += usize::from(is_answered(&message));
        }
    }
    let erased = ["central", "ship1"].iter().all(|node| cast.read(node, "inmsg.txt").is_empty());
    let logged = cast.read("central", "textlogging.log");
    stage.sees("central/textlogging.log:")?;
    stage.output(&logged)?;
    let seen = format!("{answered} of {sent} answered");
    stage.promise("the seed's examples run as they stand", seen, answered == sent && sent == 5);
    let is_as_sent = logged == "some message sent from a ship for testing\n";
    stage.promise("the event's text is logged as it is", if is_as_sent { "it is" } else { "it is not" }, is_as_sent);
    stage.promise("inmsg.txt is erased", if erased { "it is empty" } else { "it is not empty" }, erased);
    Ok(())
}

/// Waits for the ends of `count` messages after the first `known`, and shows each as it arrives.
async fn results(
    cast: &Cast,
    stage: &mut Stage,
    from: &str,
    known: usize,
    count: usize,
    began: Duration,
) -> anyhow::Result<Vec<MessageView>> {
    let mut shown = BTreeSet::new();
    let mut ended = Vec::new();
    while ended.len() < count {
        let what = format!("{} messages from {from} end", count);
        let id = stage::eventually(&what, async || {
            let messages = cast.messages(from).await?;
            let mut new = messages.into_iter().skip(known);
            Ok(new.find(|message| message.finished_at.is_some() && !shown.contains(&message.id)).map(|found| found.id))
        })
        .await?;
        let took = since(stage, began);
        let message = cast.message(from, &id).await?;
        show(stage, &message, took)?;
        shown.insert(id);
        ended.push(message);
    }
    Ok(ended)
}

fn show(stage: &mut Stage, message: &MessageView, took: Duration) -> anyhow::Result<()> {
    let exit = message.exit_code.map_or_else(String::new, |code| format!("exit {code}, "));
    stage.state(&message.to_node, &message.state, &format!("{exit}{}", millis(took)))?;
    stage.output(message.stdout.as_deref().unwrap_or_default())?;
    stage.output(message.stderr.as_deref().unwrap_or_default())?;
    Ok(())
}

/// Whether it ran and its result came back. (`netstat` is not on every machine: an answer that says so is an answer.)
fn is_answered(message: &MessageView) -> bool {
    match Final::parse(&message.state) {
        Some(Final::Done) => true,
        Some(Final::Failed) => message.exit_code.is_some(),
        Some(
            Final::TimedOut
            | Final::Refused
            | Final::Expired
            | Final::Interrupted
            | Final::Cancelled
            | Final::Undeliverable
            | Final::Sent,
        )
        | None => false,
    }
}

async fn away(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("A node that is away")?;
    stage.does("kill ship2")?;
    cast.stop_node("ship2").await?;
    let known = cast.messages("central").await?.len();
    stage.does("cat for-ship2.json >> central/inmsg.txt")?;
    cast.append("central", &command("ship2", "echo here I am"))?;
    let (message, because) = stage::eventually("the message waits for ship2", async || {
        let Some(message) = cast.messages("central").await?.into_iter().nth(known) else { return Ok(None) };
        let message = cast.message("central", &message.id).await?;
        let Some(peer) = cast.peer("central", "ship2").await? else { return Ok(None) };
        let is_gone = matches!(&*peer.presence, "away" | "stopped");
        Ok((is_gone && message.reason.is_some()).then_some((message, peer.because)))
    })
    .await?;
    let is_queued = message.state == "queued";
    stage.state("ship2", &message.state, &format!("away, {}: {because}", message.state))?;
    stage.promise("a message for a node that is away is kept", format!("{}, {because}", message.state), is_queued);

    stage.does("steward --node=ship2 &")?;
    let began = stage.now();
    cast.start_node("ship2").await?;
    let ready = since(stage, began);
    let message = results(cast, stage, "central", known, 1, began).await?.remove(0);
    let took = since(stage, began);
    let seen =
        format!("{}, {} after its start, {} after it was ready", message.state, millis(took), millis(took - ready));
    stage.promise("and delivered when the node comes", seen, message.state == "done");
    Ok(())
}

async fn sender_killed(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("kill -9 of the sender, with messages outstanding")?;
    let known = cast.messages("central").await?.len();
    let ships = ["ship1", "ship2"];
    let batch = |numbers: std::ops::Range<usize>| -> String {
        let of_ship = |ship| numbers.clone().map(move |number| effect(ship, number));
        ships.iter().flat_map(|ship| of_ship(ship)).collect::<Vec<_>>().join("\n")
    };
    let before = OUTSTANDING * 4 / 5;
    stage.does(&format!("cat {}-commands.json >> central/inmsg.txt", 2 * before))?;
    cast.append("central", &batch(0..before))?;
    stage::eventually("some have run", async || {
        Ok(ships.iter().all(|ship| effects(cast, ship).len() >= 5).then_some(()))
    })
    .await?;
    stage.does(&format!("cat {}-more.json >> central/inmsg.txt; kill -9 central", 2 * (OUTSTANDING - before)))?;
    cast.append("central", &batch(before..OUTSTANDING))?;
    cast.kill_node("central")?;
    let ran: usize = ships.iter().map(|ship| effects(cast, ship).len()).sum();
    let total = 2 * OUTSTANDING;
    stage.sees(&format!("{ran} of {total} had run when central died"))?;
    stage.does("steward --node=central &")?;
    let began = stage.now();
    cast.start_node("central").await?;
    stage.sees(&format!("central is back, {}", millis(since(stage, began))))?;
    let messages = stage::eventually("all messages end", async || {
        let messages: Vec<MessageView> = cast.messages("central").await?.into_iter().skip(known).collect();
        let ended = messages.iter().filter(|message| message.finished_at.is_some()).count();
        Ok((messages.len() >= total && ended == messages.len()).then_some(messages))
    })
    .await?;
    let done = messages.iter().filter(|message| message.state == "done").count();
    stage.sees(&format!("{done} of {total} done, {} later", millis(since(stage, began))))?;
    let expected: Vec<usize> = (0..OUTSTANDING).collect();
    let all: Vec<Vec<usize>> = ships.iter().map(|ship| effects(cast, ship)).collect();
    let executions: usize = all.iter().map(Vec::len).sum();
    stage.sees(&format!("ship1/effects and ship2/effects count {executions} executions"))?;
    let is_killed_in_time = ran < total;
    stage.promise(
        "nothing that was accepted is lost",
        format!("{done} of {total} done, {} outstanding at the kill", total - ran.min(total)),
        done == total && messages.len() == total && is_killed_in_time,
    );
    stage.promise("nothing runs twice", format!("{executions} executions of {total}"), executions == total);
    let is_ordered = all.iter().all(|ran| *ran == expected);
    stage.promise(
        "a lane keeps its order",
        if is_ordered { "0, 1, 2 … on both ships" } else { "it did not" },
        is_ordered,
    );
    Ok(())
}

async fn receiver_killed(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("kill -9 of the receiver, in the middle of a command")?;
    let known = cast.messages("central").await?.len();
    stage.does("cat slow.json >> central/inmsg.txt; kill -9 ship1")?;
    cast.append("central", &command("ship1", "echo begun >> slow; sleep 60; echo ended >> slow"))?;
    stage::eventually("the command runs", async || Ok((!cast.read("ship1", "slow").is_empty()).then_some(()))).await?;
    cast.kill_node("ship1")?;
    stage.does("steward --node=ship1 &")?;
    let began = stage.now();
    cast.start_node("ship1").await?;
    let message = results(cast, stage, "central", known, 1, began).await?.remove(0);
    let reason = message.reason.unwrap_or_default();
    stage.sees(&reason)?;
    stage.promise("a command cut short is reported as such", &*message.state, message.state == "interrupted");
    let ran = cast.read("ship1", "slow");
    let is_once = ran == "begun\n";
    stage.promise("and not run again", if is_once { "it began once" } else { "it did" }, is_once);
    Ok(())
}

/// A shell command as it stands in `inmsg.txt`.
pub(super) fn command(to: &str, script: &str) -> String {
    let data = ["bash", "-c", script];
    serde_json::json!({ "toNode": to, "data": data, "commandOrEvent": "CommandACK", "method": "ShellCommand" })
        .to_string()
}

/// A command that takes a moment and writes its number down.
fn effect(to: &str, number: usize) -> String {
    command(to, &format!("sleep 0.01; echo {number} >> effects"))
}

/// The numbers that a ship wrote down.
fn effects(cast: &Cast, ship: &str) -> Vec<usize> {
    cast.read(ship, "effects").lines().filter_map(|line| line.parse().ok()).collect()
}
