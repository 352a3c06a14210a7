//! Round trips of every body, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::event::{Control, Envelope, Hello, Item, Occasion, Receipts, Ticket};
use protocol::message::{Epoch, Incarnation, Kind, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Output, Progress, Receipt, Stream};
use protocol::time::Wall;

use super::control::Told;
use super::*;

fn name() -> impl Strategy<Value = NodeName> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|text| NodeName::new(&text).unwrap())
}

fn method() -> impl Strategy<Value = MethodName> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|text| MethodName::new(&text).unwrap())
}

fn stored() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000_u64, 0..=NUMBER_MAX]
}

fn wall() -> impl Strategy<Value = Wall> {
    (0..=WALL_MS_MAX).prop_map(Wall)
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(10_000), 0..=DURATION_MS_MAX].prop_map(Duration::from_millis)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn data() -> impl Strategy<Value = Arc<str>> {
    prop::collection::vec(any::<String>(), 0..4).prop_map(|data| Arc::from(serde_json::to_string(&data).unwrap()))
}

fn options() -> impl Strategy<Value = Options> {
    let flags = (any::<bool>(), any::<bool>());
    (duration(), any::<u32>(), prop::option::of(duration()), prop::option::of(wall()), flags).prop_map(
        |(timeout, retries, method_timeout, deadline, (parallel, rerun))| Options {
            timeout,
            retries,
            method_timeout,
            deadline,
            parallel,
            rerun,
            seal: false,
            reply: None,
        },
    )
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let part = (any::<u128>(), 1..1_000_000_u64, 0..3_u64, data(), options(), wall());
    prop::collection::vec(part, 0..5).prop_map(|parts| {
        let mut last = 0;
        parts
            .into_iter()
            .map(|(id, step, back, body, options, created)| {
                let seq = last + step;
                let prev = seq.saturating_sub(1 + back);
                last = seq;
                Item { id: MessageId(id), seq: Seq(seq), prev: Seq(prev), body, options, created }
            })
            .collect()
    })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    (name(), stored(), prop::option::of(stored()), kind(), method(), stored(), items()).prop_map(
        |(from, epoch, to, kind, method, floor, items)| Envelope {
            from,
            epoch: Epoch(epoch),
            to: to.map(Incarnation),
            kind,
            method,
            floor: Seq(floor),
            items,
        },
    )
}

fn output() -> impl Strategy<Value = Output> {
    let whole = |text: String, truncated| Output {
        len: text.len() as u64,
        hash: *blake3::hash(text.as_bytes()).as_bytes(),
        truncated,
        inline: Some(Arc::from(text)),
    };
    prop_oneof![
        any::<bool>().prop_map(|truncated| Output { truncated, ..Output::default() }),
        ("(?s).{1,200}", any::<bool>()).prop_map(move |(text, truncated)| whole(text, truncated)),
        (1..=NUMBER_MAX, any::<[u8; 32]>(), any::<bool>()).prop_map(|(len, hash, truncated)| Output {
            len,
            hash,
            truncated,
            inline: None
        }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let told: Vec<Final> =
        Final::ALL.into_iter().filter(|state| !matches!(state, Final::Sent | Final::Undeliverable)).collect();
    let numbers = (prop::option::of(any::<i32>()), prop::option::of(any::<i32>()));
    (
        prop::sample::select(told),
        prop::option::of(any::<String>()),
        numbers,
        prop::option::of(wall()),
        wall(),
        output(),
        output(),
    )
        .prop_map(|(state, reason, (exit_code, signal), started, finished, stdout, stderr)| Outcome {
            state,
            reason: reason.map(Arc::from),
            exit_code,
            signal,
            started,
            finished,
            stdout,
            stderr,
            proof: None,
        })
}

fn receipts() -> impl Strategy<Value = Receipts> {
    let progress = prop_oneof![Just(Progress::Stored), Just(Progress::Running), outcome().prop_map(Progress::Final)];
    let receipt = (stored(), any::<u128>(), progress)
        .prop_map(|(ticket, id, progress)| (Ticket(ticket), Receipt { id: MessageId(id), progress }));
    (name(), stored(), stored(), stored(), stored(), prop::collection::vec(receipt, 0..5)).prop_map(
        |(from, to, incarnation, epoch, commits, receipts)| Receipts {
            sealed: false,
            from,
            to: Epoch(to),
            incarnation: Incarnation(incarnation),
            epoch: Epoch(epoch),
            commits,
            receipts,
        },
    )
}

fn hello(from: NodeName) -> impl Strategy<Value = Hello> {
    let occasion = prop_oneof![
        Just(Occasion::Up),
        Just(Occasion::Interval),
        Just(Occasion::Goodbye),
        Just(Occasion::Mistaken),
        (any::<u64>(), proptest::option::of(0..NUMBER_MAX))
            .prop_map(|(nonce, since)| Occasion::Answer { nonce, since }),
    ];
    let info = prop_oneof![Just(Arc::from("")), Just(Arc::from(r#"{"version":"0.1","labels":["ä\n"],"load":0.5}"#))];
    (stored(), stored(), stored(), occasion, info).prop_map(
        move |(epoch, incarnation, commits_at_start, occasion, info)| Hello {
            from: from.clone(),
            epoch: Epoch(epoch),
            incarnation: Incarnation(incarnation),
            commits_at_start,
            occasion,
            info,
        },
    )
}

fn control(from: NodeName) -> impl Strategy<Value = Control> {
    let stream = prop::sample::select(Stream::ALL.to_vec());
    prop_oneof![
        (any::<u64>(), stored(), prop::option::of(stored())).prop_map(|(nonce, epoch, known)| Control::Probe {
            nonce,
            epoch: Epoch(epoch),
            known: known.map(Incarnation)
        }),
        hello(from).prop_map(Control::Hello),
        prop::collection::vec(stored().prop_map(Ticket), 0..20).prop_map(Control::Confirm),
        (stored(), kind(), method(), any::<u128>(), stored(), stored()).prop_map(
            |(epoch, kind, method, id, one, two)| {
                let (prev, seq) = (Seq(one.min(two) / 2), Seq(one.max(two).max(1)));
                Control::Cancel { epoch: Epoch(epoch), kind, method, id: MessageId(id), seq, prev }
            }
        ),
        (stored(), stream, stored(), stored()).prop_map(|(ticket, stream, offset, len)| Control::Ask {
            ticket: Ticket(ticket),
            stream,
            offset,
            len
        }),
    ]
}

fn encode_envelope(to: &NodeName, envelope: &Envelope) -> Vec<u8> {
    let mut items = Vec::new();
    for item in &envelope.items {
        if !items.is_empty() {
            items.push(b',');
        }
        envelope::encode_item(item, &mut items).unwrap();
    }
    let lane = Lane { peer: to.clone(), kind: envelope.kind, method: envelope.method.clone() };
    envelope::encode(&envelope.from, envelope.epoch, &lane, envelope.to, envelope.floor, &items).unwrap()
}

fn encode_receipts(to: &NodeName, receipts: &Receipts) -> Vec<u8> {
    let mut parts = Vec::new();
    for (ticket, receipt) in &receipts.receipts {
        if !parts.is_empty() {
            parts.push(b',');
        }
        receipts::encode_receipt(*ticket, receipt, None, &mut parts).unwrap();
    }
    let teller = receipts::Teller {
        from: receipts.from.clone(),
        incarnation: receipts.incarnation,
        epoch: receipts.epoch,
        commits: receipts.commits,
    };
    receipts::encode(&teller, to, receipts.to, &parts).unwrap()
}

/// Every decoder, on the same bytes: none may panic.
fn decode_all(body: &[u8], me: &NodeName) {
    for kind in Kind::ALL {
        drop(envelope::decode(body, me, kind, "ShellCommand"));
    }
    drop(receipts::decode(body, me, "ship1"));
    drop(control::decode(body, me, "ship1"));
    drop(hello::decode(body, "ship1"));
    drop(namesake::decode(body, me));
    let packed = pack::Packer::default().unpack_json(Some(&zstd_header()), body).map(std::borrow::Cow::into_owned);
    drop(packed);
}

fn zstd_header() -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(pack::ENCODING, "zstd");
    headers
}

proptest! {
    #[test]
    fn envelopes_come_back_as_they_were(envelope in envelope(), to in name()) {
        let body = encode_envelope(&to, &envelope);
        let again = envelope::decode(&body, &to, envelope.kind, envelope.method.as_str());
        prop_assert_eq!(again, Ok(envelope));
    }

    #[test]
    fn receipts_come_back_as_they_were(receipts in receipts(), to in name()) {
        let body = encode_receipts(&to, &receipts);
        prop_assert_eq!(receipts::decode(&body, &to, receipts.from.as_str()), Ok(receipts));
    }

    #[test]
    fn controls_come_back_as_they_were(
        (from, control) in name().prop_flat_map(|from| (Just(from.clone()), control(from))),
        to in name(),
        incarnation in prop::option::of(stored()),
    ) {
        let incarnation = incarnation.map(Incarnation);
        let body = control::encode(&from, &to, incarnation, &control).unwrap();
        let told = Told::Control { from: from.clone(), to: incarnation, control };
        prop_assert_eq!(control::decode(&body, &to, from.as_str()), Ok(told));
    }

    #[test]
    fn hellos_come_back_as_they_were(
        hello in name().prop_flat_map(hello),
    ) {
        let from = hello.from.as_str();
        prop_assert_eq!(&hello::decode(&hello::encode(&hello).unwrap(), from), &Ok(hello.clone()));
        let data = hello::encode_data(&hello).unwrap();
        prop_assert!(text::is_array_of_strings(&data));
        prop_assert_eq!(hello::decode_data(&data, from), Some(hello.clone()));
    }

    #[test]
    fn bodies_come_back_from_their_packing(body in prop::collection::vec(0..4_u8, 0..3000)) {
        let mut packer = pack::Packer::default();
        let (packed, headers) = packer.pack(body.clone());
        prop_assert_eq!(headers.is_some(), body.len() > 512);
        prop_assert!(packed.len() <= body.len());
        let unpacked = packer.unpack_json(headers.as_ref(), &packed).unwrap();
        prop_assert_eq!(unpacked.as_ref(), &body[..]);
    }

    #[test]
    fn wishes_to_follow_come_back_as_they_were(
        (id, run) in (any::<u128>(), stored()), have in [stored(), stored()], (again, stop) in any::<(bool, bool)>(),
        (from, to) in (name(), name()),
    ) {
        let follow = live::Follow { id: MessageId(id), run, have, again, stop };
        let body = control::encode_follow(&from, &to, Incarnation(7), &follow).unwrap();
        let told = Told::Follow { from: from.clone(), to: Some(Incarnation(7)), follow };
        prop_assert_eq!(control::decode(&body, &to, from.as_str()), Ok(told));
    }

    #[test]
    fn pieces_of_what_is_written_come_back_as_they_were(
        id in any::<u128>(), run in 1..NUMBER_MAX, offset in 0..1_000_000_u64, more in 0..1000_u64, other in stored(),
        bytes in prop::collection::vec(0..8_u8, 0..4000),
    ) {
        let lengths = [offset + bytes.len() as u64 + more, other];
        let piece =
            live::Piece { id: MessageId(id), run, stream: Stream::Stdout, offset, lengths, bytes: Bytes::from(bytes) };
        let mut packer = pack::Packer::default();
        let (body, headers) = live::encode(&piece, &mut packer);
        prop_assert!(live::is_piece(Some(&headers)));
        prop_assert_eq!(live::decode(Some(&headers), &body, &mut packer), Ok(piece));
    }

    #[test]
    fn wishes_for_a_content_and_its_pieces_come_back_as_they_were(
        id in any::<u128>(), offset in 0..1_000_000_u64, more in 0..1000_u64, (from, to) in (name(), name()),
        bytes in prop::collection::vec(0..8_u8, 1..4000),
    ) {
        let want = content::Want { id: MessageId(id), offset, len: more };
        let body = control::encode_want(&from, &to, &want).unwrap();
        prop_assert_eq!(control::decode(&body, &to, from.as_str()), Ok(Told::Want { from: from.clone(), want }));
        let total = offset + bytes.len() as u64 + more;
        let mut packer = pack::Packer::default();
        for part in [
            content::Part { id: MessageId(id), offset, total, bytes: Bytes::from(bytes) },
            content::Part::none(MessageId(id)),
        ] {
            let (body, headers) = content::encode(&part, &mut packer);
            prop_assert!(content::is_part(Some(&headers)) && !live::is_piece(Some(&headers)));
            prop_assert_eq!(content::decode(Some(&headers), &body, &mut packer), Ok(part));
        }
    }

    #[test]
    fn chunks_come_back_as_they_were(
        ticket in stored(), offset in 0..1_000_000_u64, more in 0..1000_u64,
        bytes in prop::collection::vec(0..8_u8, 1..4000),
    ) {
        let total = offset + bytes.len() as u64 + more;
        let chunk =
            chunk::Chunk { ticket: Ticket(ticket), stream: Stream::Stderr, offset, total, bytes: Bytes::from(bytes) };
        let mut packer = pack::Packer::default();
        let (body, headers) = chunk::encode(&chunk, &mut packer);
        prop_assert_eq!(chunk::decode(Some(&headers), &body, &mut packer), Ok(chunk));
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_all(&bytes, &NodeName::new("central").unwrap());
    }

    /// One byte or one piece of a good body is changed: it is refused, or it still says what the subject says.
    #[test]
    fn a_changed_envelope_is_never_taken_for_another_lane(
        envelope in envelope(), to in name(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut body = encode_envelope(&to, &envelope);
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        if let Ok(read) = envelope::decode(&body, &to, envelope.kind, envelope.method.as_str()) {
            prop_assert_eq!(read.kind, envelope.kind);
            prop_assert_eq!(read.method, envelope.method);
            prop_assert!(read.items.iter().all(|item| serde_json::from_str::<Vec<String>>(&item.body).is_ok()));
        }
        decode_all(&body, &to);
    }

    #[test]
    fn changed_receipts_are_never_taken_for_anothers(
        receipts in receipts(), to in name(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut body = encode_receipts(&to, &receipts);
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        if let Ok(read) = receipts::decode(&body, &to, receipts.from.as_str()) {
            prop_assert_eq!(read.from, receipts.from);
        }
        decode_all(&body, &to);
    }

    #[test]
    fn the_check_for_strings_agrees_with_a_parser(
        json in r#"[ \n]?\[?("[ -~]{0,6}(\\u[dD][89abcf][0-9a-f]{2}|\\n|\\")?"|1|null|\{"a":"b"\}|\[\]|,| ){0,5}\]?"#,
    ) {
        if serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok() {
            let parsed = serde_json::from_str::<Vec<String>>(&json).is_ok();
            prop_assert_eq!(text::is_array_of_strings(&json), parsed, "{}", json);
        }
    }
}

fn shell_envelope() -> serde_json::Value {
    serde_json::json!({
        "v": 1, "fromNode": "central", "toNode": "ship1", "commandOrEvent": "CommandACK", "method": "ShellCommand",
        "epoch": "00000000000000aa", "toIncarnation": "00000000000000bb", "floor": 3,
        "items": [{"id": "0193a000-0000-7000-8000-000000000001", "seq": 4, "data": ["true"]}],
    })
}

fn decode_shell(body: &serde_json::Value) -> Result<Envelope, WireError> {
    let me = NodeName::new("ship1").unwrap();
    envelope::decode(body.to_string().as_bytes(), &me, Kind::CommandAck, "ShellCommand")
}

#[test]
fn what_is_missing_is_defaulted_and_what_is_unknown_ignored() {
    let mut body = shell_envelope();
    body["later"] = serde_json::json!({"deep": [[[[1]]]]});
    body["items"][0]["later"] = serde_json::json!(true);
    let envelope = decode_shell(&body).unwrap();
    let item = &envelope.items[0];
    assert_eq!(item.prev, Seq(3));
    assert_eq!(item.options.timeout, Duration::from_secs(10));
    assert_eq!((item.options.retries, item.options.parallel, item.options.rerun), (0, false, false));
}

#[test]
fn subject_and_body_have_to_agree() {
    for (field, value) in [("toNode", "ship2"), ("commandOrEvent", "EventACK"), ("method", "TextLogging")] {
        let mut body = shell_envelope();
        body[field] = value.into();
        assert!(matches!(decode_shell(&body), Err(WireError::Mismatch(_))), "{field}");
    }
    let body = r#"{"v":1,"fromNode":"ship2","toNode":"central","control":"confirm","tickets":[1]}"#;
    let told = control::decode(body.as_bytes(), &NodeName::new("central").unwrap(), "ship1");
    assert_eq!(told, Err(WireError::Mismatch("fromNode")));
}

#[test]
fn limits_are_checked() {
    let refused = |field: &str, value: serde_json::Value| {
        let mut body = shell_envelope();
        body["items"][0][field] = value;
        assert!(decode_shell(&body).is_err(), "{field}");
    };
    refused("seq", (NUMBER_MAX + 1).into());
    refused("seq", 0.into());
    refused("seq", (-1).into());
    refused("prev", 4.into());
    refused("timeoutMs", (DURATION_MS_MAX + 1).into());
    refused("deadlineMs", (WALL_MS_MAX + 1).into());
    refused("data", serde_json::json!([1]));
    refused("data", serde_json::json!({"0": "a"}));
    refused("data", "ls".into());
    let mut body = shell_envelope();
    body["epoch"] = "ffffffffffffffff".into();
    assert!(decode_shell(&body).is_err());
    body = shell_envelope();
    let item = body["items"][0].clone();
    body["items"] = (0..=ITEMS_MAX as u64)
        .map(|seq| {
            let mut item = item.clone();
            item["seq"] = (seq + 1).into();
            item
        })
        .collect();
    assert!(matches!(decode_shell(&body), Err(WireError::Limit { .. })));
    body["items"] = serde_json::json!([item, item]);
    assert!(decode_shell(&body).is_err(), "the same number twice");
    body = shell_envelope();
    body["v"] = 2.into();
    body["items"] = "another form".into();
    assert_eq!(decode_shell(&body), Err(WireError::Version(2)));
}

#[test]
fn nesting_and_bombs_do_no_harm() {
    let me = NodeName::new("ship1").unwrap();
    let deep = format!("{{\"v\":1,\"later\":{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    decode_all(deep.as_bytes(), &me);
    let mut body = shell_envelope().to_string();
    body = body.replace("[\"true\"]", &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(envelope::decode(body.as_bytes(), &me, Kind::CommandAck, "ShellCommand").is_err());

    let bomb = zstd::bulk::compress(&vec![b' '; BODY_BYTES_MAX + 1], 1).unwrap();
    assert!(bomb.len() < 10_000);
    let mut packer = pack::Packer::default();
    assert!(matches!(packer.unpack_json(Some(&zstd_header()), &bomb), Err(WireError::Limit { .. })));
    let silent = zstd::stream::encode_all(&vec![b' '; BODY_BYTES_MAX + 1][..], 1).unwrap();
    assert!(packer.unpack_json(Some(&zstd_header()), &silent).is_err(), "a size that is not told");
    assert!(packer.unpack_json(Some(&zstd_header()), b"no zstd").is_err());
}

#[test]
fn subjects_are_read_with_care() {
    use subject::Channel;
    assert_eq!(
        Channel::parse("ship1.CommandACK.ShellCommand", "ship1"),
        Some(Channel::Messages(Kind::CommandAck, "ShellCommand"))
    );
    assert_eq!(Channel::parse("ship1.ACK.central", "ship1"), Some(Channel::Receipts("central")));
    for other in ["ship1", "ship1.", "ship1.ACK", "ship1.ACK.", "ship1.ACK.a.b", "ship11.ACK.a", "ship1.commandack.X"] {
        assert_eq!(Channel::parse(other, "ship1"), None, "{other}");
    }
}

/// The examples of the page for other languages are read by this one, each by its own decoder.
#[test]
fn the_examples_of_the_documentation_are_what_is_read() {
    let page = include_str!("../../../../docs/wire.md");
    let blocks: Vec<&str> = page.split("```json\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    let [renewals @ .., messages, receipts, control, hello, namesake] = &blocks[..] else {
        panic!("{} examples", blocks.len())
    };
    // What these are read by wants real keys; here it is enough that they are JSON.
    for renewal in renewals {
        serde_json::from_str::<serde_json::Value>(renewal).unwrap();
    }
    let (central, ship) = (NodeName::new("central").unwrap(), NodeName::new("ship1").unwrap());
    let envelope = envelope::decode(messages.as_bytes(), &ship, Kind::CommandAck, "ShellCommand").unwrap();
    assert_eq!((envelope.items[0].seq, envelope.items[0].options.retries), (Seq(42), 3));
    let receipts = receipts::decode(receipts.as_bytes(), &central, "ship1").unwrap();
    let Progress::Final(outcome) = &receipts.receipts[1].1.progress else { panic!("a final receipt") };
    assert!(outcome.stdout.is_bulk() && outcome.stderr.inline.is_some());
    assert!(control::decode(control.as_bytes(), &ship, "central").is_ok());
    assert_eq!(hello::decode(hello.as_bytes(), "ship1").unwrap().occasion, Occasion::Up);
    assert_eq!(namesake::decode(namesake.as_bytes(), &ship).unwrap().host, "bridge");
    for limit in [BODY_BYTES_MAX >> 20, ITEMS_MAX, TICKETS_MAX, REASON_BYTES_MAX >> 10, INFO_BYTES_MAX >> 10] {
        assert!(page.contains(&limit.to_string()), "the limit {limit} is not in docs/wire.md");
    }
}
