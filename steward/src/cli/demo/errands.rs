//! Work that goes on by itself on a node while the one who ordered it is away.

use std::fs::{self, File};
use std::io::Write as _;

use super::cast::{Cast, since};
use super::stage::{self, Stage, millis};

/// How often the order runs. It is the shortest time between two runs that there is.
const EVERY: &str = "1s";

/// Runs that have to be seen while nobody is there to hear of them.
const RUNS_ALONE: usize = 2;

/// All of it.
pub(super) async fn show(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    by_schedule(cast, stage).await?;
    followed(cast, stage).await
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

/// A file that is followed while its node is killed and the file is rotated.
async fn followed(cast: &mut Cast, stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene("A log file that is followed, its node killed and the file rotated meanwhile")?;
    let (folder, central) = (cast.folder().join("ship1"), cast.folder().join("central"));
    let path = folder.join("app.log");
    let lines = |range: std::ops::Range<usize>| range.map(|line| format!("line {line}\n")).collect::<String>();
    cast.write("ship1", "app.log", &lines(0..1000))?;
    let what = format!("ship1:{}", path.display());
    stage.does(&format!("steward tail {what} --from-start"))?;
    let args = ["tail", &*what, "--from-start", "--detach", "--directory", "demo", "--file-name", "app.log"];
    let id = cast.runs(&central, &args).await?;
    stage::eventually("lines come", async || Ok((beats(cast, "central/tails/demo/app.log") > 0).then_some(()))).await?;
    stage.does("kill -9 ship1; mv app.log app.log.1; echo … > app.log")?;
    File::options().append(true).open(&path)?.write_all(lines(1000..1500).as_bytes())?;
    cast.kill_node("ship1")?;
    fs::rename(&path, folder.join("app.log.1"))?;
    cast.write("ship1", "app.log", &lines(1500..2000))?;
    stage.does("steward --node=ship1 &")?;
    let began = stage.now();
    cast.start_node("ship1").await?;
    stage::eventually("all lines are there", async || {
        Ok((beats(cast, "central/tails/demo/app.log") >= 2000).then_some(()))
    })
    .await?;
    let took = since(stage, began);
    let is_whole = cast.read("central", "tails/demo/app.log") == lines(0..2000);
    cast.runs(&central, &["cancel", id.trim()]).await?;
    let seen = format!("2000 of 2000, in order, {} after ship1's start", millis(took));
    stage.promise("a file that is followed loses no line", seen, is_whole);
    Ok(())
}

/// Lines of a file in the demo's folder.
fn beats(cast: &Cast, path: &str) -> usize {
    let (node, file) = path.split_once('/').unwrap_or_default();
    cast.read(node, file).lines().count()
}
