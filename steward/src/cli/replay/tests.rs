//! What is taken from a message log, and what is left out.

use super::*;

const LOG: &str = r#"{"id":"01930000-0000-7000-8000-000000000001","fromNode":"central","toNode":"ship1","commandOrEvent":"CommandACK","method":"ShellCommand","data":["ls"],"timeout":10.0,"retries":0,"createdAt":"2026-11-22T10:00:00.000Z"}
{"id":"01930000-0000-7000-8000-000000000002","fromNode":"central","toNode":"ship2","commandOrEvent":"CommandACK","method":"ShellCommand","data":["id"],"createdAt":"2026-11-22T11:00:00.000Z"}
{"id":"01930000-0000-7000-8000-000000000001","state":"undeliverable","exitCode":null,"reason":null,"finishedAt":"2026-11-22T10:42:00.120Z","attempts":1}
nonsense
{"id":"01930000-0000-7000-8000-000000000002","fromNode":"central","toNode":"ship2","commandOrEvent":"CommandACK","method":"ShellCommand","data":["id"],"createdAt":"2026-11-22T11:00:00.000Z"}
{"id":"01930000-0000-7000-8000-000000000003","fromNode":"central","toNode":"ship2","commandOrEvent":"EventACK","method":"TextLogging","data":["x"],"deadline":"2020-11-22T11:00:00Z","createdAt":"2026-11-22T12:00:00.000Z"}
"#;

fn replay(line: &str) -> (Vec<String>, usize) {
    use clap::{Args as _, FromArgMatches as _};
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("messages.jsonl"), LOG).unwrap();
    let command = Replay::augment_args(clap::Command::new("replay"));
    let words = std::iter::once("replay").chain(line.split_whitespace());
    let replay = Replay::from_arg_matches(&command.get_matches_from(words)).unwrap();
    let selection = replay.select(dir.path()).unwrap();
    let chosen: Vec<Accepted> = replay.chosen(dir.path(), &selection.ids).collect();
    assert_eq!(chosen.len(), selection.ids.len(), "each once");
    (chosen.into_iter().map(|accepted| accepted.input.data.join(" ")).collect(), selection.expired)
}

#[test]
fn what_fits_is_chosen_once_and_in_order() {
    assert_eq!(replay("--since 2026-11-01"), (vec!["ls".to_owned(), "id".to_owned()], 1));
    assert_eq!(replay("--since 2026-11-22T10:30:00Z"), (vec!["id".to_owned()], 1));
    assert_eq!(replay("--state undeliverable"), (vec!["ls".to_owned()], 0));
    assert_eq!(replay("--state open"), (vec!["id".to_owned()], 1));
    assert_eq!(replay("--node ship1"), (vec!["ls".to_owned()], 0));
    assert_eq!(replay("--id 01930000-0000-7000-8000-000000000002"), (vec!["id".to_owned()], 0));
    assert_eq!(replay("01930000-0000-7000-8000-000000000001"), (vec!["ls".to_owned()], 0));
    assert_eq!(replay("--state done"), (vec![], 0));
}
