//! The table of methods, and the page that is generated from it.

use std::path::{Path, PathBuf};

use protocol::event::Facts;
use protocol::message::Kind;

use super::*;

#[test]
fn every_method_has_a_name_that_can_stand_in_a_subject_and_only_one_has_it() {
    let names: BTreeSet<_> = known().collect();
    assert_eq!(names.len(), TABLE.len());
    for name in names {
        protocol::name::MethodName::new(name).unwrap();
    }
}

#[test]
fn facts_are_those_of_the_methods() {
    let here = OwnMethods::none();
    assert_eq!(here.facts("ShellCommand"), Facts { rerun: false, batch: 1 });
    assert_eq!(here.facts("TextLogging"), Facts { rerun: true, batch: 512 });
    // What was there when it began, and is not now, may have done anything.
    assert_eq!(here.facts("NoSuchMethod"), Facts { rerun: false, batch: 1 });
    assert_eq!((here.takes_events("ShellCommand"), here.takes_events("TextLogging")), (Some(false), Some(true)));
    assert_eq!(here.takes_events("NoSuchMethod"), None);
}

#[test]
fn lines_are_kept_as_they_are_and_never_run_together() {
    let lines = |data: &[&str]| {
        let data: Vec<String> = data.iter().map(|item| (*item).to_owned()).collect();
        String::from_utf8(text_logging::TextLogging::parse(&data).unwrap()).unwrap()
    };
    assert_eq!(lines(&["some message sent from a ship for testing\n"]), "some message sent from a ship for testing\n");
    assert_eq!(lines(&["a", "b\n", "", "c\r\n", "d\n\n", "\te "]), "a\nb\n\nc\r\nd\n\n\te \n");
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a file tells operators.
fn operators(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

fn source(name: &str) -> String {
    // ShellCommand lies in shell_command.rs.
    let mut file = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !file.is_empty() {
            file.push('_');
        }
        file.push(character.to_ascii_lowercase());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/methods").join(format!("{file}.rs"));
    text_of(&path)
}

fn documentation(name: &str) -> String {
    operators(&source(name))
}

fn page() -> String {
    let mut page = "<!-- Made from steward/src/methods/*.rs by `UPDATE_DOCS=1 cargo test -p steward methods`. -->\n\n\
        # Methods\n\nWhat a node can do for a message. A message is one object of the arrays below, as in `inmsg.txt`; \
        `steward send --to NODE\n--method METHOD -- DATA…` sends the same.\n"
        .to_owned();
    for entry in TABLE {
        let after_crash = if entry.rerun() {
            "runs again after a crash of the node"
        } else {
            "is `interrupted` by a crash of the node"
        };
        let sent_as = if entry.event() { "command or event" } else { "command" };
        page +=
            &format!("\n## {}\n{}\n*Sent as: {sent_as}; {after_crash}.*\n", entry.name(), documentation(entry.name()));
    }
    let own = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/methods/own.rs"));
    page += &format!("\n## Methods of a node's own\n{}", operators(&own));
    let results = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/replies/spec.rs"));
    page += &format!("\n## Where results go\n{}", operators(&results));
    page
}

#[test]
fn the_page_of_the_methods_is_up_to_date() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/methods.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page(),
        "docs/methods.md is not what the methods say; run: UPDATE_DOCS=1 cargo test -p steward methods"
    );
}

/// The messages in a text.
fn examples(text: &str) -> Vec<serde_json::Value> {
    let texts = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    texts.flat_map(|text| serde_json::from_str::<Vec<serde_json::Value>>(text).unwrap()).collect()
}

#[test]
fn the_example_of_where_results_go_is_accepted_as_it_stands() {
    let text = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/replies/spec.rs"));
    let examples = examples(&operators(&text));
    assert_eq!(examples.len(), 3);
    for example in examples {
        let input: crate::intake::MessageInput = serde_json::from_value(example).unwrap();
        check(Kind::parse(&input.command_or_event).unwrap(), &input.method, &input.data).unwrap();
        let defaults = crate::intake::Defaults::new(protocol::name::NodeName::new("central").unwrap());
        let messages = input.check(&defaults, |_| protocol::message::MessageId(1)).unwrap();
        assert!(messages[0].options.reply.is_some());
    }
}

/// A message with a schedule is sent as one of another method.
fn as_sent(message: serde_json::Value) -> serde_json::Value {
    if message.get("schedule").is_none() {
        return message;
    }
    let input: crate::intake::MessageInput = serde_json::from_value(message.clone()).unwrap();
    let defaults = crate::intake::Defaults::new(protocol::name::NodeName::new("central").unwrap());
    let sent = input.check(&defaults, |_| protocol::message::MessageId(1)).unwrap().remove(0);
    let data: serde_json::Value = serde_json::from_str(&sent.body).unwrap();
    serde_json::json!({ "method": sent.method.as_str(), "data": data, "commandOrEvent": message["commandOrEvent"] })
}

#[test]
fn every_example_is_accepted_by_its_method() {
    for name in known() {
        let text = documentation(name);
        let examples = examples(&text);
        assert!(!examples.is_empty(), "{name} has no example");
        for message in examples {
            let message = as_sent(message);
            assert_eq!(message["method"], name);
            let kind = Kind::parse(message["commandOrEvent"].as_str().unwrap()).unwrap();
            check(kind, name, &data(&message["data"].to_string()).unwrap()).unwrap();
            assert!(kind.is_command() || entry(name).unwrap().event(), "{name} takes no events");
        }
    }
}
