//! What the arguments of `send` become.

use clap::{Args as _, FromArgMatches as _};

use super::*;

fn messages(line: &str) -> anyhow::Result<Vec<MessageInput>> {
    let command = Send::augment_args(clap::Command::new("send"));
    let matches = command.try_get_matches_from(std::iter::once("send").chain(line.split_whitespace()))?;
    Ok(Send::from_arg_matches(&matches)?.messages()?)
}

#[test]
fn a_command_for_several_nodes() {
    let sent =
        messages("ship1 --to ship2,ship1 --timeout 3 --retries 4 --method-timeout 1m --parallel -- ls -l").unwrap();
    assert_eq!(sent.len(), 2);
    assert_eq!((&*sent[0].to_node, &*sent[1].to_node), ("ship2", "ship1"));
    assert_eq!(sent[0].data, ["ls", "-l"]);
    assert_eq!((&*sent[0].command_or_event, &*sent[0].method), ("CommandACK", "ShellCommand"));
    assert_eq!((sent[0].timeout, sent[0].retries, sent[0].method_timeout), (Some(3.0), Some(4), Some(60.0)));
    assert_eq!((sent[0].parallel, sent[0].rerun), (Some(true), None));
}

#[test]
fn an_event_is_a_line_of_text_unless_a_method_is_named() {
    let sent = messages("central --event -- hello").unwrap();
    assert_eq!((&*sent[0].command_or_event, &*sent[0].method), ("EventACK", "TextLogging"));
    assert_eq!(sent[0].data, ["hello\n"]);
    let sent = messages("central --event --no-ack --method SayHello").unwrap();
    assert_eq!((&*sent[0].command_or_event, &*sent[0].method), ("EventNACK", "SayHello"));
    let sent = messages("central --event --method TextLogging -- hello").unwrap();
    assert_eq!(sent[0].data, ["hello"]);
}

#[test]
fn what_is_missing_is_said() {
    assert!(messages("-- ls").unwrap_err().to_string().contains("for whom"));
    assert!(messages("ship1").unwrap_err().to_string().contains("behind --"));
    assert!(messages("ship.1 -- ls").unwrap_err().to_string().contains("'.' at position 5"));
    assert!(messages("ship1 --deadline tomorrow -- ls").unwrap_err().to_string().contains("+10m"));
}
