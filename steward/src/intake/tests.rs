//! Tests of the one way in, and the engine's end of the channel for the tests of all intakes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use protocol::message::Message;
use protocol::name::NodeName;
use tokio::sync::{broadcast, mpsc};

use super::*;
use crate::engine::Input;

/// What the tests' end of the engine's channel has taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// In the order in which they were accepted; an id that was accepted before is not taken again.
    pub(crate) messages: Vec<Message>,
    known: HashSet<MessageId>,
    /// How many messages came in all.
    pub(crate) offered: usize,
    /// The largest request.
    pub(crate) largest: usize,
    /// Refuse everything from now on, as a full disk does.
    pub(crate) full: bool,
    /// End after this many requests, as a crash does: what was asked last is accepted, but nobody hears of it.
    pub(crate) crash_after: Option<usize>,
}

/// An engine handle, and what comes in through it. Must be called inside a runtime.
pub(crate) fn engine() -> (EngineHandle, Arc<Mutex<Taken>>) {
    let taken = Arc::new(Mutex::new(Taken::default()));
    (engine_with(&taken), taken)
}

/// Another engine for what one before it has taken: the node after a restart.
pub(crate) fn engine_with(taken: &Arc<Mutex<Taken>>) -> EngineHandle {
    let (inputs, mut receiver) = mpsc::channel(16);
    let (reports, _) = broadcast::channel(16);
    let taken = Arc::clone(taken);
    tokio::spawn(async move {
        while let Some(input) = receiver.recv().await {
            let Input::Submit(messages, reply) = input else {
                continue;
            };
            let mut taken = taken.lock().unwrap();
            if taken.full {
                reply.send(Err(EngineError::Store("the disk is full".into()))).unwrap_or_default();
                continue;
            }
            let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
            taken.offered += messages.len();
            taken.largest = taken.largest.max(messages.len());
            for message in messages {
                if taken.known.insert(message.id) {
                    taken.messages.push(message);
                }
            }
            if let Some(left) = &mut taken.crash_after {
                *left -= 1;
                if *left == 0 {
                    taken.crash_after = None;
                    return;
                }
            }
            drop(taken);
            reply.send(Ok(ids)).unwrap_or_default();
        }
    });
    EngineHandle { inputs, reports }
}

pub(crate) fn input(to: &str) -> MessageInput {
    MessageInput {
        to_node: to.into(),
        data: vec!["x".into()],
        command_or_event: "EventACK".into(),
        method: "TextLogging".into(),
        ..MessageInput::default()
    }
}

pub(crate) fn central() -> Defaults {
    Defaults::new(NodeName::new("central").unwrap())
}

#[tokio::test]
async fn messages_are_handed_on_in_chunks_and_in_order() {
    let (engine, taken) = engine();
    let inputs = (0..2500).map(|n| input(&format!("ship{n}"))).collect();
    let ids = Intake::new(engine, central()).submit(inputs).await.unwrap();
    let taken = taken.lock().unwrap();
    assert_eq!(ids.len(), 2500);
    assert!(ids.is_sorted());
    assert_eq!(taken.largest, CHUNK_MESSAGES_MAX);
    assert!(taken.messages.iter().enumerate().all(|(n, message)| message.to.as_str() == format!("ship{n}")));
}

#[tokio::test]
async fn one_bad_message_keeps_all_of_a_request_out_and_is_named() {
    let (engine, taken) = engine();
    let error = Intake::new(engine, central()).submit(vec![input("a"), input("b."), input("c")]).await.unwrap_err();
    let IntakeError::Invalid(faults) = error else { panic!("{error}") };
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].index, 1);
    assert!(faults[0].error.contains("'.' at position 2"), "{}", faults[0].error);
    assert!(taken.lock().unwrap().messages.is_empty());
}

#[tokio::test]
async fn a_full_store_is_said_with_what_was_accepted() {
    let (engine, taken) = engine();
    taken.lock().unwrap().full = true;
    let error = Intake::new(engine, central()).submit(vec![input("a")]).await.unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
}

#[tokio::test]
async fn a_message_for_several_nodes_gives_an_id_for_each_in_their_order() {
    let (engine, taken) = engine();
    let several = MessageInput { to_node: String::new(), to_nodes: Some(vec!["b".into(), "a".into()]), ..input("") };
    let intake = Intake::new(engine, central());
    let ids = intake.submit(vec![several.clone(), input("c")]).await.unwrap();
    let got: Vec<(MessageId, String)> =
        taken.lock().unwrap().messages.iter().map(|message| (message.id, message.to.to_string())).collect();
    assert_eq!(got, [(ids[0], "b".to_owned()), (ids[1], "a".to_owned()), (ids[2], "c".to_owned())]);

    // The names are short, and what they ask for has its limit all the same.
    let crowd = MessageInput { to_nodes: Some((0..4000).map(|n| format!("ship{n}")).collect()), ..several };
    let error = intake.submit(vec![crowd; 251]).await.unwrap_err();
    let IntakeError::Invalid(faults) = error else { panic!("{error}") };
    assert_eq!((faults.len(), faults[0].index), (1, 250));
    assert!(faults[0].error.contains("more than 1000000 messages"), "{}", faults[0].error);
    assert_eq!(taken.lock().unwrap().messages.len(), 3);
}
