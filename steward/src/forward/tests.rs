//! Limits of a node's forwards.

use super::*;
use crate::supervise::Rule;

fn begin(forwards: &Forwards, id: u128) -> Result<Forward, String> {
    let ask = Ask::parse(&["connect".to_owned(), "localhost:80".to_owned()]).unwrap();
    let (peer, allowed) = (NodeName::new("central").unwrap(), Box::new(|| Ok(())));
    let (id, side) = (MessageId(id), Side::Receiver);
    forwards.begin(Begin { peer, id, side, seal: true, ask, target: None, allowed })
}

fn bundle(id: u128, side: Side, run: u64) -> Bundle {
    Bundle { id: MessageId(id), side, run, greeting: 5, over: None, frames: Vec::new() }
}

#[tokio::test]
async fn a_node_has_so_many_forwards_and_no_more() {
    let forwards = Forwards::new(NodeName::new("ship1").unwrap(), Supervisor::new(Rule::NODE));
    let mut all: Vec<Forward> = (0..SESSIONS_MAX as u128).map(|id| begin(&forwards, id).unwrap()).collect();
    assert!(begin(&forwards, 1000).err().unwrap().contains("no room"));
    assert_eq!((forwards.counts().0, forwards.list().len()), (SESSIONS_MAX as u64, SESSIONS_MAX));
    drop(all.pop());
    assert!(begin(&forwards, 1000).is_ok());
}

#[tokio::test]
async fn only_its_own_other_node_is_heard_and_only_sealed_where_it_has_to_be() {
    let forwards = Forwards::new(NodeName::new("ship1").unwrap(), Supervisor::new(Rule::NODE));
    let forward = begin(&forwards, 1).unwrap();
    let run = forward.session.state().run();
    let name = |text: &str| NodeName::new(text).unwrap();
    forwards.take(name("central"), false, bundle(1, Side::Sender, run));
    assert_eq!((forward.is_open(), forwards.refused()), (false, 1));
    forwards.take(name("ship2"), true, bundle(1, Side::Sender, run));
    forwards.take(name("central"), true, bundle(2, Side::Sender, run));
    forwards.take(name("central"), true, bundle(1, Side::Sender, run ^ 1));
    let over = |run: u64| Bundle { over: Some("bye".to_owned()), ..bundle(1, Side::Sender, run) };
    forwards.take(name("ship2"), true, over(run));
    forwards.take(name("central"), true, over(run ^ 1));
    assert!(!forward.is_open() && forward.session.over.borrow().is_none());
    forwards.take(name("central"), true, bundle(1, Side::Sender, run));
    assert!(forward.is_open());
    forwards.take(name("central"), true, over(run));
    assert_eq!(&*forward.over().await, "central: bye");
}

#[tokio::test]
async fn a_node_that_runs_what_nobody_asked_for_is_told_and_nobody_else_is() {
    let forwards = Forwards::new(NodeName::new("central").unwrap(), Supervisor::new(Rule::NODE));
    let ship = NodeName::new("ship1").unwrap();
    for id in 0..2 * STRAYS_MAX as u128 {
        forwards.take(ship.clone(), true, bundle(id, Side::Sender, 3));
        forwards.take(ship.clone(), true, Bundle { over: Some("x".to_owned()), ..bundle(id, Side::Receiver, 3) });
    }
    assert_eq!(forwards.strays().len(), 0);
    for id in 0..2 * STRAYS_MAX as u128 {
        forwards.take(ship.clone(), true, bundle(id, Side::Receiver, 3));
        forwards.take(ship.clone(), true, bundle(id, Side::Receiver, 3));
    }
    assert_eq!(forwards.strays().len(), STRAYS_MAX);
}
