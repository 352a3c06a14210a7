//! What the splitter must find, and that it loses nothing, whatever it is given.

use proptest::prelude::*;

use super::*;

fn pieces(text: &[u8]) -> Vec<Piece> {
    let (mut splitter, mut out) = (Splitter::new(), Vec::new());
    splitter.push(text, &mut out);
    splitter.finish(&mut out);
    out
}

/// The objects as text, and broken parts as line:column of what is wrong and their text.
fn found(text: &str) -> Vec<String> {
    let show = |piece| match piece {
        Piece::Object { text, .. } => String::from_utf8(text).unwrap(),
        Piece::Broken { seen, text, .. } => {
            format!("!{}:{} {}", seen.line, seen.column, String::from_utf8(text).unwrap().trim_end())
        }
    };
    pieces(text.as_bytes()).into_iter().map(show).collect()
}

#[test]
fn arrays_and_single_messages_in_any_white_space() {
    assert_eq!(found("[{1},{2}]\n[{3}]\n{4}{5} [ ]\n\t[\r\n{6}\r\n]\0\0"), ["{1}", "{2}", "{3}", "{4}", "{5}", "{6}"]);
    assert_eq!(found("\u{feff}[{1}]"), ["{1}"]);
    assert_eq!(found(r#"[{"a":"}]{[","b":"\"}"}]"#), [r#"{"a":"}]{[","b":"\"}"}"#]);
    assert_eq!(found("{\"data\"\n:\n[\n\"ls\"\n]\n}"), ["{\"data\"\n:\n[\n\"ls\"\n]\n}"]);
    assert_eq!(found(""), [""; 0]);
}

#[test]
fn what_is_broken_does_not_spoil_its_neighbours() {
    assert_eq!(found("[{1}, nonsense, {2}]"), ["{1}", "!1:7 nonsense,", "{2}"]);
    assert_eq!(found("[{1}, \"{x}\", {2}]"), ["{1}", "!1:7 \"{x}\",", "{2}"]);
    assert_eq!(found("[{1}]]{2}"), ["{1}", "!1:6 ]", "{2}"]);
    assert_eq!(found("[{1},\n[{2}]"), ["{1}", "!2:1 ", "{2}"]);
    assert_eq!(found("[{\"a\n\"b\": 1},\n {2}]\n{3}"), ["!1:3 {\"a\n\"b\": 1},", "{2}", "{3}"]);
    assert_eq!(found("[{\"a\": [{\"b\n} ]\n[{2}]"), ["!1:10 {\"a\": [{\"b\n} ]", "{2}"]);
}

#[test]
fn a_message_that_is_cut_off_ends_where_another_begins() {
    assert_eq!(found("[{\"a\": \n[{2}]"), ["!2:1 {\"a\":", "{2}"]);
    assert_eq!(found("[{\"a\": \n[ \n {2}]"), ["!2:1 {\"a\":", "{2}"]);
    assert_eq!(found("[{\"a\": \n{2}\n]"), ["!2:1 {\"a\":", "{2}"]);
    assert_eq!(found("{\"a\": \n\"b\": {\n{2}\n"), ["!3:1 {\"a\": \n\"b\": {", "{2}"]);
}

#[test]
fn what_is_not_complete_waits_and_is_broken_at_the_end() {
    for text in ["[", "[{1}", "[{1},", "[{1},{\"a\"", "{", "{\"a\": \"}"] {
        let (mut splitter, mut out) = (Splitter::new(), Vec::new());
        splitter.push(text.as_bytes(), &mut out);
        assert!(splitter.is_incomplete(), "{text}");
        let mut looking = Splitter::looking();
        looking.push(text.as_bytes(), &mut Vec::new());
        assert!(looking.is_incomplete(), "{text}");
        splitter.finish(&mut out);
        assert!(matches!(out.last(), Some(Piece::Broken { .. })), "{text}");
        assert!(!splitter.is_incomplete() && splitter.is_between());
    }
    assert_eq!(found("[{1},{\"a\""), ["{1}", "!1:10 {\"a\""]);
    assert_eq!(found("[{1},"), ["{1}", "!1:6 "]);
}

#[test]
fn memory_is_bounded_and_nothing_is_dropped() {
    for start in ["{\"a\": \"", "nonsense ", "{\"a\n"] {
        let (mut splitter, mut out) = (Splitter::new(), Vec::new());
        splitter.push(start.as_bytes(), &mut out);
        let block = vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            splitter.push(&block, &mut out);
            assert!(splitter.text.len() <= TEXT_BYTES_MAX);
        }
        splitter.push(b"\n[{1}]", &mut out);
        let length: usize = out.iter().map(length).sum();
        assert_eq!(length, start.len() + 10 * block.len() + 1 + 3);
        assert!(matches!(out.last(), Some(Piece::Object { .. })));
    }
    let deep = "{".repeat(1_000_000);
    assert_eq!(pieces(deep.as_bytes()).len(), 1);
}

fn length(piece: &Piece) -> usize {
    match piece {
        Piece::Object { text, .. } | Piece::Broken { text, .. } => text.len(),
    }
}

fn start(piece: &Piece) -> usize {
    match piece {
        Piece::Object { at, .. } | Piece::Broken { at, .. } => usize::try_from(at.offset).unwrap(),
    }
}

/// A message as somebody might write it, in white space without meaning.
fn message() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", " ", "\n", "\n  ", "\t"]);
    ("[ -~äß\u{1f600}\n]{0,12}", prop::collection::vec(space, 6)).prop_map(|(data, space)| {
        let data = serde_json::to_string(&data).unwrap();
        let [a, b, c, d, e, f] = space.try_into().unwrap();
        format!("{{{a}\"toNode\"{b}:{c}\"ship1\",\"data\":{d}[{e}{data}]{f}}}")
    })
}

/// How messages stand together.
fn frame(messages: &[String], shape: u8) -> String {
    match shape % 4 {
        0 => format!("[{}]\n", messages.join(",")),
        1 => format!("[\n  {}\n]", messages.join(",\n  ")),
        2 => messages.join("\n"),
        _ => format!("[ {} ]", messages.join(" , ")),
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_arrive(
        text in "[\\[\\]{},:\"\\\\ \nx\u{0}]{0,60}",
        cut in 0usize..60,
    ) {
        let text = text.as_bytes();
        let cut = cut.min(text.len());
        let (mut splitter, mut out) = (Splitter::new(), Vec::new());
        splitter.push(&text[..cut], &mut out);
        splitter.push(&text[cut..], &mut out);
        splitter.finish(&mut out);
        prop_assert_eq!(out, pieces(text));
    }

    #[test]
    fn every_byte_is_in_a_piece_or_means_nothing(text in "[\\[\\]{},:\"\\\\ \nx\u{0}]{0,60}") {
        let text = text.as_bytes();
        let mut end = 0;
        let mut gaps = Vec::new();
        for piece in pieces(text) {
            let (at, length) = (start(&piece), length(&piece));
            prop_assert!(at >= end);
            gaps.extend_from_slice(&text[end..at]);
            end = at + length;
            let inside = match &piece { Piece::Object { text, .. } | Piece::Broken { text, .. } => text };
            prop_assert_eq!(inside, &text[at..end]);
        }
        gaps.extend_from_slice(&text[end..]);
        prop_assert!(gaps.iter().all(|byte| b" \n,[]\0".contains(byte)), "{:?}", gaps);
    }

    #[test]
    fn looking_sees_what_reading_sees(text in "[\\[\\]{},:\"\\\\ \nx\u{0}]{0,60}") {
        let (mut reading, mut looking) = (Splitter::new(), Splitter::looking());
        for byte in text.as_bytes() {
            reading.push(&[*byte], &mut Vec::new());
            looking.push(&[*byte], &mut Vec::new());
            prop_assert_eq!(reading.is_incomplete(), looking.is_incomplete());
            prop_assert_eq!(reading.at, looking.at);
        }
    }

    #[test]
    fn good_messages_are_all_found_whatever_stands_between_them(
        groups in prop::collection::vec((prop::collection::vec(message(), 1..4), any::<u8>(), 0usize..7), 1..5),
    ) {
        const BROKEN: [&str; 7] = [
            "", "\n", "\nnonsense\n", "\n[ {\"toNode\": \"shi\n]\n", "\n[{\"toNode\": \"ship1\",\n", "\n{\"a\": [\n", "\u{0}\n",
        ];
        let mut text = String::new();
        let mut expected = Vec::new();
        for (messages, shape, broken) in &groups {
            text.push_str(&frame(messages, *shape));
            text.push_str(BROKEN[*broken]);
            expected.extend(messages.iter().cloned());
        }
        let objects: Vec<String> = pieces(text.as_bytes())
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Object { text, .. } => Some(String::from_utf8(text).unwrap()),
                Piece::Broken { .. } => None,
            })
            .collect();
        prop_assert_eq!(objects, expected, "{}", text);
    }
}
