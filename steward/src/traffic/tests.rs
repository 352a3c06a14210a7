//! Bytes are counted where they belong, and nothing that others send makes the counts grow without end.

use std::sync::Arc;

use protocol::outcome::{Final, Outcome, Output};
use protocol::time::Wall;

use super::*;

fn end(id: u128) -> Write {
    let outcome = Outcome {
        state: Final::Done,
        reason: None,
        exit_code: None,
        signal: None,
        started: None,
        finished: Wall(1),
        stdout: Output::default(),
        stderr: Output::default(),
        proof: None,
    };
    Write::End { id: MessageId(id), attempts: 1, history: Vec::new(), outcome: Arc::new(outcome) }
}

#[test]
fn messages_share_the_bytes_of_a_publish_by_their_weights() {
    let traffic = Traffic::default();
    traffic.share(&[(MessageId(1), 100), (MessageId(2), 300)], Bytes::sent(800));
    traffic.share(&[(MessageId(1), 1)], Bytes::arrived(50));
    assert_eq!(traffic.message(MessageId(1)), Bytes { out: 200, inward: 50 });
    assert_eq!(traffic.message(MessageId(2)), Bytes { out: 600, inward: 0 });
    assert_eq!(traffic.message(MessageId(3)), Bytes::default());
    // Without any weight there is nothing to divide by.
    traffic.share(&[(MessageId(4), 0)], Bytes::sent(10));
    assert_eq!(traffic.message(MessageId(4)), Bytes::default());
}

#[test]
fn what_is_about_to_be_written_down_is_taken_once_and_can_be_given_back() {
    let traffic = Traffic::default();
    traffic.share(&[(MessageId(1), 1)], Bytes::sent(70));
    let taken = traffic.take(&[end(1), end(2)]);
    assert_eq!(taken, [Bytes::sent(70), Bytes::default()]);
    assert_eq!(traffic.message(MessageId(1)), Bytes::default());
    traffic.give_back(&[end(1), end(2)], taken);
    traffic.share(&[(MessageId(1), 1)], Bytes::arrived(5));
    assert_eq!(traffic.take(&[end(1)]), [Bytes { out: 70, inward: 5 }]);
    assert_eq!(traffic.take(&[end(1)]), [Bytes::default()]);
}

#[test]
fn what_nobody_asks_for_goes_and_what_is_new_stays() {
    let traffic = Traffic::default();
    let (first, last) = (MessageId(1), MessageId(u128::MAX));
    traffic.share(&[(first, 1)], Bytes::sent(1));
    for id in 0..3 * MESSAGES_MAX as u128 {
        traffic.share(&[(MessageId(2 + id), 1)], Bytes::sent(1));
    }
    traffic.share(&[(last, 1)], Bytes::sent(9));
    assert_eq!(traffic.message(first), Bytes::default());
    assert_eq!(traffic.message(last), Bytes::sent(9));
    let kept = traffic.messages();
    assert!(kept.young.len() + kept.old.len() <= 2 * MESSAGES_MAX);
}

#[test]
fn nodes_are_counted_one_by_one_and_those_beyond_the_shown_ones_together() {
    let traffic = Traffic::default();
    for node in 0..NODES_SHOWN_MAX + 3 {
        traffic.count(Class::Commands, Some(&format!("n{node}")), Bytes::sent(10));
        traffic.count(Class::Receipts, Some(&format!("n{node}")), Bytes::arrived(1));
    }
    traffic.count(Class::Link, None, Bytes::sent(7));
    assert_eq!(traffic.node("n101"), Bytes { out: 10, inward: 1 });
    assert_eq!(traffic.node("unknown"), Bytes::default());
    let shown = traffic.nodes_shown();
    assert_eq!(shown.len(), NODES_SHOWN_MAX + 1);
    assert_eq!(shown[0], (Some("n0".into()), Bytes { out: 10, inward: 1 }));
    assert_eq!(shown[NODES_SHOWN_MAX], (None, Bytes { out: 30, inward: 3 }));
    let classes: HashMap<&str, Bytes> =
        traffic.classes().into_iter().map(|(class, bytes)| (class.as_str(), bytes)).collect();
    assert_eq!((classes["commands"].out, classes["receipts"].inward, classes["link"].out), (1030, 103, 7));
}

#[test]
fn more_nodes_than_are_counted_one_by_one_are_counted_together() {
    let traffic = Traffic::default();
    for node in 0..NODES_MAX + 2 {
        traffic.count(Class::Control, Some(&format!("n{node}")), Bytes::arrived(1));
    }
    assert_eq!(traffic.nodes().all.len(), NODES_MAX);
    assert_eq!(traffic.node(&format!("n{}", NODES_MAX + 1)), Bytes::default());
    let (_, others) = traffic.nodes_shown().pop().unwrap();
    assert_eq!(others.inward, (NODES_MAX + 2 - NODES_SHOWN_MAX) as u64);
}

#[test]
fn the_order_of_the_classes_is_their_priority() {
    assert!(Class::ALL.is_sorted());
    let tail = Class::of_messages(Kind::EventAck, "TailFile");
    assert!(Class::of_messages(Kind::CommandAck, "TailFile") < Class::of_messages(Kind::EventAck, "TextLogging"));
    assert!(Class::Files < tail && Class::Outputs < Class::Files && Class::Events < Class::Outputs);
}

/// What the client writes for a publish, and what a server hands out, is in the documentation of the NATS protocol.
#[test]
fn a_frame_has_as_many_bytes_as_the_protocol_says() {
    assert_eq!(frame("a.b", None, None, 5), "PUB a.b 5\r\nhello\r\n".len());
    assert_eq!(frame("a.b", Some("c"), None, 12), "PUB a.b c 12\r\nhello, world\r\n".len());
    let mut headers = HeaderMap::new();
    assert_eq!(frame("a.b", None, Some(&headers), 0), "PUB a.b 0\r\n\r\n".len());
    headers.insert("Bar", "Baz");
    let text = "HPUB a.b c 22 27\r\nNATS/1.0\r\nBar: Baz\r\n\r\nhello\r\n";
    assert_eq!(frame("a.b", Some("c"), Some(&headers), 5), text.len());
    let arrived = |headers: Option<HeaderMap>, head: usize| async_nats::Message {
        subject: "a.b".into(),
        reply: Some("c".into()),
        payload: "hello".into(),
        headers,
        status: None,
        description: None,
        length: 3 + 1 + 5 + head,
    };
    assert_eq!(arrived_frame(&arrived(None, 0)), "MSG a.b 1 c 5\r\nhello\r\n".len());
    let text = "HMSG a.b 1 c 22 27\r\nNATS/1.0\r\nBar: Baz\r\n\r\nhello\r\n";
    assert_eq!(arrived_frame(&arrived(Some(headers), 22)), text.len());
}
