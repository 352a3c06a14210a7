//! Work that goes on by itself on a node while the one who ordered it is away.

use super::cast::{Cast, since};
use super::stage::{self, Stage, millis};

/// How often the order runs. It is the shortest time between two runs that there is.
const EVERY: &str = "1s";

/// Runs that have to be seen while nobody is there to hear of them.
const RUNS_ALONE: usize = 2;

/// All of it.
pub(super) async fn show(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    by_schedule(cast, stage).await
}

/// A command that runs again and again on its node, while central is dead and when it is back.
async fn by_schedule(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("A schedule that goes on while central is dead")?;
    stage.does(&format!("cat every-{EVERY}.json >> central/inmsg.txt; kill -9 central"))?;
    let order = serde_json::json!({
        "toNode": "ship1", "commandOrEvent": "CommandACK", "method": "ShellCommand", "schedule": { "every": EVERY },
        "data": ["bash", "-c", "wc -l < beats | tee -a beats"],
        "replyMethod": "fileAppend", "fileName": "beats",
    });
    cast.write("ship1", "beats", "")?;
    cast.append("central", &order.to_string())?;
    stage::eventually("it has run once", async || Ok((beats(cast, "ship1/beats") > 0).then_some(()))).await?;
    cast.kill_node("central")?;
    let began = stage.now();
    let before = beats(cast, "ship1/beats");
    stage::eventually("it runs without central", async || {
        Ok((beats(cast, "ship1/beats") >= before + RUNS_ALONE).then_some(()))
    })
    .await?;
    stage.sees(&format!("ship1 went on: {RUNS_ALONE} runs in {}", millis(since(stage, began))))?;
    stage.does("steward --node=central &")?;
    let began = stage.now();
    cast.start_node("central").await?;
    let id = stage::eventually("the order is known", async || {
        let mut messages = cast.messages("central").await?.into_iter();
        Ok(messages.find(|message| message.method == "Schedule").map(|message| message.id))
    })
    .await?;
    let central = cast.folder().join("central");
    cast.runs(&central, &["schedules", "remove", &id]).await?;
    let ran = beats(cast, "ship1/beats");
    stage::eventually("all results are there", async || {
        Ok((beats(cast, "central/results/ship1/beats") >= ran).then_some(()))
    })
    .await?;
    let took = since(stage, began);
    let expected: String = (0..ran).map(|run| format!("{run}\n")).collect();
    let results = cast.read("central", "results/ship1/beats");
    stage.output(&results)?;
    let is_whole = results == expected;
    stage.promise(
        "a schedule runs on while its sender is dead",
        format!("{ran} results, in order, {} after central's start", millis(took)),
        is_whole,
    );
    Ok(())
}

/// Lines of a file in the demo's folder.
fn beats(cast: &Cast, path: &str) -> usize {
    let (node, file) = path.split_once('/').unwrap_or_default();
    cast.read(node, file).lines().count()
}
