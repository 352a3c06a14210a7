//! What can stand in a file of messages, well and badly written.

use super::*;
use crate::intake::input::Deadline;

fn receivers(text: &str, format: Format) -> Vec<(String, u64, u64)> {
    let entries = read(text.as_bytes(), format).unwrap_or_else(|flaws| panic!("{}", flaws[0]));
    entries.into_iter().map(|entry| (entry.input.to_node, entry.line, entry.column)).collect()
}

fn flaw(text: &str, format: Format) -> String {
    let flaws = read(text.as_bytes(), format).err().unwrap_or_else(|| panic!("{text} can be read"));
    flaws[0].to_string()
}

const REST: &str = "commandOrEvent: EventACK, method: M";

/// One message in YAML with further lines.
fn with(extra: &str) -> String {
    format!("- toNode: ship1\n  commandOrEvent: EventACK\n  method: M\n  {extra}\n")
}

#[test]
fn yaml_says_what_json_says() {
    let yaml = "\
# Every ship.
- toNodes: [ship1, ship2]
  data:
    - bash
    - -c
    - |
      echo a
      echo b
  commandOrEvent: CommandACK
  method: ShellCommand
  timeout: 3
  retries: 3
  methodTimeout: 1.5
  deadline: 2026-11-22T10:42:00Z
  parallel: true
  seal: false
- toNode: ship3
  commandOrEvent: EventACK
  method: M
  deadline: 60
";
    let json = r#"[
{ "toNodes": ["ship1", "ship2"], "data": ["bash","-c","echo a\necho b\n"], "commandOrEvent": "CommandACK", "method": "ShellCommand",
  "timeout": 3, "retries": 3, "methodTimeout": 1.5, "deadline": "2026-11-22T10:42:00Z", "parallel": true, "seal": false },
{ "toNode": "ship3", "commandOrEvent": "EventACK", "method": "M", "deadline": 60 } ]"#;
    let inputs = |text: &str, format| -> Vec<MessageInput> {
        read(text.as_bytes(), format).unwrap().into_iter().map(|entry| entry.input).collect()
    };
    assert_eq!(inputs(yaml, Format::Yaml), inputs(json, Format::Json));
    // JSON is YAML too.
    assert_eq!(inputs(json, Format::Yaml), inputs(json, Format::Json));
    assert_eq!(inputs(yaml, Format::Yaml)[1].deadline, Some(Deadline::In(60.0)));
}

#[test]
fn a_document_is_a_message_or_a_list_of_them() {
    let text = format!("---\n{{toNode: a, {REST}}}\n---\n- {{toNode: b, {REST}}}\n- {{toNode: c, {REST}}}\n---\n");
    let expected = [("a".to_owned(), 2, 1), ("b".to_owned(), 4, 3), ("c".to_owned(), 5, 3)];
    assert_eq!(receivers(&text, Format::Yaml), expected);
    let text = r#"{"toNode":"a","commandOrEvent":"EventACK","method":"M"}
   [{"toNode":"b","commandOrEvent":"EventACK","method":"M"}]"#;
    assert_eq!(receivers(text, Format::Json), [("a".to_owned(), 1, 1), ("b".to_owned(), 2, 5)]);
}

#[test]
fn what_stands_where_a_text_belongs_is_that_text() {
    let text = with("data: [sleep, 5, no, 1.10, 0x10, 2026-11-22, '', \"~\", 'a: b']");
    let entries = read(text.as_bytes(), Format::Yaml).unwrap();
    assert_eq!(entries[0].input.data, ["sleep", "5", "no", "1.10", "0x10", "2026-11-22", "", "~", "a: b"]);
}

#[test]
fn what_is_wrong_has_its_line_and_column() {
    let cases = [
        (with("data: ls"), "line 4, column 9: \"data\": a list belongs here"),
        (with("data: [a, [b]]"), "line 4, column 13: \"data\": a text belongs here"),
        (with("data: [a, ~]"), "line 4, column 13: \"data\": nothing stands where a text belongs; put it in quotes"),
        (with("retries: -1"), "line 4, column 12: \"retries\": invalid u32"),
        (with("parallel: maybe"), "line 4, column 13: \"parallel\": invalid boolean"),
        (with("deadline: true"), "line 4, column 13: \"deadline\": a time as in \"2026"),
        (with("timeout: .inf"), "line 1, column 3: a time is a number of seconds"),
        (with("methd: x"), "line 1, column 3: unknown key \"methd\"; did you mean \"method\"? (case counts)"),
        (with("method: x"), "line 1, column 3: the key \"method\" stands there twice; keep one"),
        (with("toNodes: [a]"), "line 1, column 3: the keys \"toNode\" and \"toNodes\" stand there both; keep one"),
        ("- toNode: a\n".to_owned(), "line 1, column 3: the key \"commandOrEvent\" is missing"),
        ("- a\n- b\n".to_owned(), "line 1, column 3: a message belongs here"),
        ("- toNode: \"a\n".to_owned(), "line 1, column 11: \"toNode\": unclosed quote"),
        ("hello".to_owned(), "invalid type: string \"hello\", expected a message, or a list of messages"),
        (String::new(), "there is no message in it"),
        ("--- \n# nothing\n".to_owned(), "there is no message in it"),
        (
            with(&format!("data: {}a{}", "[".repeat(50), "]".repeat(50))),
            "line 4, column 17: \"data\": it is nested too deeply",
        ),
    ];
    for (text, expected) in cases {
        let flaw = flaw(&text, Format::Yaml);
        assert!(flaw.starts_with(expected), "{text}: {flaw}");
    }
    let text = "[ {\"toNode\":\"a\",\n\"commandOrEvent\":\"EventACK\",\n \"methd\":\"M\"},\n {\"toNode\":";
    let flaws = read(text.as_bytes(), Format::Json).unwrap_err();
    assert_eq!(flaws.len(), 2, "{flaws:?}");
    assert!(flaws[0].to_string().starts_with("line 3, column 8: unknown key \"methd\""), "{}", flaws[0]);
    assert!(flaws[1].to_string().contains("is not complete"), "{}", flaws[1]);
    assert_eq!(flaw("[]", Format::Json), "there is no message in it");
    assert!(read(&[b'-', b' ', 0xff], Format::Yaml).unwrap_err()[0].to_string().contains("UTF-8"));
}

#[test]
fn a_reference_repeats_a_message_and_no_bomb() {
    let text = format!("- &first {{toNode: a, {REST}}}\n- <<: *first\n  toNode: b\n- *first\n");
    assert_eq!(receivers(&text, Format::Yaml).into_iter().map(|(to, ..)| to).collect::<Vec<_>>(), ["a", "b", "a"]);
    // Each line stands for ten times the one before it.
    let mut laughs = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        laughs.push_str(&format!("- &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
    }
    drop(read(laughs.as_bytes(), Format::Yaml).unwrap_err());
    // A long text that is repeated often: 400 KB each time.
    let long = "x".repeat(400_000);
    let mut text = with(&format!("data: &long [{long}]"));
    for _ in 0..9000 {
        text.push_str(&with("data: *long"));
    }
    let flaw = flaw(&text, Format::Yaml);
    assert!(flaw.contains("alias") && flaw.contains("limit"), "{flaw}");
    let few: String = (0..9).map(|_| with("data: *long")).collect();
    let text = format!("{}{few}", with(&format!("data: &long [{long}]")));
    assert_eq!(read(text.as_bytes(), Format::Yaml).unwrap().len(), 10);
}

#[test]
fn a_text_has_its_limits() {
    let line = format!("- {{toNode: a, {REST}}}\n");
    assert_eq!(read(line.repeat(MESSAGES_MAX).as_bytes(), Format::Yaml).unwrap().len(), MESSAGES_MAX);
    assert!(flaw(&line.repeat(MESSAGES_MAX + 1), Format::Yaml).contains("at most 100000 may be"));
    assert!(flaw(&" ".repeat(TEXT_BYTES_MAX + 1), Format::Json).contains("more than 16777216 bytes"));
}

#[test]
fn a_name_or_the_first_letter_says_how_it_is_written() {
    for (name, format) in [
        ("a.json", Some(Format::Json)),
        ("a.yaml", Some(Format::Yaml)),
        ("a.b.yml", Some(Format::Yaml)),
        ("a.txt", None),
        ("json", None),
        ("a.json.tmp", None),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
    assert_eq!((Format::guess(b"\n ["), Format::guess(b"- toNode: a")), (Format::Json, Format::Yaml));
}
