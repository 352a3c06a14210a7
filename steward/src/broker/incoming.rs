//! The reading task: one subscription for everything that is for this node, and those to announcements of others.
//! Decodes, has messages judged, and hands events to the engine; waits while the engine is behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::{Client, Message, StatusCode};
use protocol::Event;
use protocol::event::{Control, Envelope, Hello, Occasion, Receipts, Verdict};
use protocol::message::{Incarnation, Kind};
use protocol::name::NodeName;
use protocol::time::Wall;

use super::arrived::Arrived;
use super::batch::Outgoing;
use super::ears::Ears;
use super::echo::Purpose;
use super::seen::{RECEIPT_BYTES, Seen, text_bytes, weight};
use super::wire::control::Told;
use super::wire::namesake::{Namesake, Who};
use super::wire::pack::{Packer, dictionary_told};
use super::wire::subject::{self, Channel};
use super::wire::{self, WireError};
use super::{Broker, Bulk, CALL, Line, SAY_HELLO};
use crate::clock;
use crate::engine::Input;
use crate::evidence;
use crate::security::refusal::Refusal;
use crate::security::sender::Sender;
use crate::security::trust::Proof;
use crate::traffic::Bytes;

/// Arrived messages that are decoded before the engine gets their events.
const BATCH_MESSAGES: usize = 256;

/// Bytes of arrived bodies that are decoded before the engine gets their events; as they arrive, and unpacked.
const BATCH_BYTES: usize = 1024 * 1024;

/// Bytes of messages that may wait for the engine. What arrives is a thousandth of what it is when it is unpacked, so a limit
/// on how many wait is none on the memory that they take.
const QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why something that has arrived is dropped.
enum Dropped {
    /// It makes no sense.
    Wire(WireError),
    /// It is not believed.
    Refused(Refusal),
}

impl From<WireError> for Dropped {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Refusal> for Dropped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Broker {
    /// Reads for ever. Returns only when the engine has ended.
    pub(crate) async fn incoming(self) -> anyhow::Result<()> {
        let mut lines = self.0.line.subscribe();
        let mut watched = self.0.watched.subscribe();
        let mut packer = Packer::default();
        loop {
            let line = lines.borrow_and_update().clone();
            let Some(Line { number, client }) = line else {
                if lines.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            };
            let Some(mut ears) = self.listen(&client).await else { continue };
            self.0.listening.send_replace(number);
            watched.mark_changed();
            loop {
                tokio::select! {
                    biased;
                    changed = lines.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Ok(()),
                    },
                    _ = watched.changed() => {
                        let wanted = watched.borrow_and_update().clone();
                        ears.watch(&client, self.me(), wanted).await;
                    }
                    messages = ears.next(BATCH_MESSAGES, BATCH_BYTES) => match messages {
                        Some(messages) => {
                            let watched = Arc::clone(&ears.watched);
                            let engine_lives = tokio::select! {
                                biased;
                                engine_lives = self.take(messages, &watched, &mut packer) => engine_lives,
                                never = ears.listen() => match never {},
                            };
                            self.lost(ears.take_lost());
                            if !engine_lives {
                                return Ok(());
                            }
                        }
                        // The client ended the subscription: take a new one.
                        None => break,
                    },
                }
            }
        }
    }

    async fn listen(&self, client: &Client) -> Option<Ears> {
        let own = client.subscribe(format!("{}.>", self.me()));
        match tokio::time::timeout(CALL, own).await {
            Ok(Ok(own)) => Some(Ears::new(own)),
            Ok(Err(_)) | Err(_) => {
                tokio::time::sleep(CALL / 10).await;
                None
            }
        }
    }

    /// Turns what arrived into events. False: the engine has ended.
    pub(crate) async fn take(&self, messages: Vec<Message>, watched: &BTreeSet<NodeName>, packer: &mut Packer) -> bool {
        let counters = &self.0.counters;
        let mut events = Vec::with_capacity(messages.len());
        let mut bytes = 0;
        for message in messages {
            counters.received.one();
            counters.received_bytes.add(message.payload.len());
            let mut seen = Seen::new(&message, self.me().as_str());
            let before = events.len();
            match self.translate(&message, &mut seen, watched, packer, &mut events).await {
                Ok(()) => bytes += events.iter().skip(before).map(weight).sum::<usize>(),
                Err(Dropped::Wire(error)) => {
                    tracing::debug!(subject = %message.subject.escape_debug(), kind = error.kind(), "dropped");
                    self.refuse(seen.kind, seen.peer, &error);
                }
                Err(Dropped::Refused(refusal)) => {
                    tracing::debug!(subject = %message.subject.escape_debug(), kind = refusal.kind(), "not believed");
                    self.refused(&refusal, seen.peer).await;
                }
            }
            let from = seen.from.as_ref().filter(|from| *from != self.me());
            self.0.traffic.count(seen.class, from.map(NodeName::as_str), Bytes::arrived(seen.bytes));
            from.into_iter().for_each(|from| self.0.dictionaries.heard(from));
            if bytes >= BATCH_BYTES && !self.hand_over(std::mem::take(&mut events), std::mem::take(&mut bytes)).await {
                return false;
            }
        }
        self.hand_over(events, bytes).await
    }

    /// Gives events of so many bytes to the engine, as soon as there is room.
    async fn hand_over(&self, events: Vec<Event>, bytes: usize) -> bool {
        let inputs = &self.0.engine.inputs;
        // Only here is anything added, and by one task.
        let queued = self.0.queued_bytes.load(Ordering::Relaxed) + bytes;
        self.0.queued_bytes.store(queued, Ordering::Relaxed);
        if queued > QUEUED_BYTES_MAX {
            // All places are free when everything is taken.
            self.0.reader_waits.store(true, Ordering::Release);
            let empty = inputs.reserve_many(inputs.max_capacity()).await.is_ok();
            self.0.reader_waits.store(false, Ordering::Release);
            if !empty {
                return false;
            }
            self.0.queued_bytes.store(bytes, Ordering::Relaxed);
        }
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let count = events.len().min(inputs.max_capacity());
            self.0.reader_waits.store(true, Ordering::Release);
            let room = inputs.reserve_many(count).await;
            self.0.reader_waits.store(false, Ordering::Release);
            let Ok(room) = room else { return false };
            room.zip(events.by_ref()).for_each(|(permit, event)| permit.send(Input::Event(event)));
        }
        true
    }

    /// Nothing of what has arrived is unpacked or read before it was verified, and nothing of it counts before its sender
    /// is known to be who it says.
    async fn translate(
        &self,
        message: &Message,
        seen: &mut Seen<'_>,
        watched: &BTreeSet<NodeName>,
        packer: &mut Packer,
        events: &mut Vec<Event>,
    ) -> Result<(), Dropped> {
        let me = self.me();
        if let Some(from) = message.subject.strip_prefix(subject::HELLO_PREFIX) {
            return self.announcement(from, (message, seen), watched, packer, events);
        }
        let Some(channel) = Channel::parse(&message.subject, me.as_str()) else {
            return Err(WireError::Value("the subject is none of a node's").into());
        };
        match channel {
            Channel::Messages(kind, method) => {
                let arrived = self.arrived(message)?;
                let body = packer.unpack_json(arrived.headers(), arrived.body())?;
                let envelope = wire::envelope::decode(&body, me, kind, method)?;
                let sender = self.trust().sender(&arrived.proof, envelope.from.as_str())?;
                if envelope.to != Some(self.0.config.identity.incarnation) {
                    self.fresh(&arrived.proof)?;
                }
                self.0.counters.received_items.add(envelope.items.len());
                seen.from = Some(envelope.from.clone());
                self.messages(&sender, envelope, arrived.is_sealed(), events);
            }
            Channel::Receipts(from) => self.receipts(from, (message, seen), packer, events)?,
            Channel::Control(from) => {
                let arrived = self.arrived(message)?;
                let body = packer.unpack_json(arrived.headers(), arrived.body())?;
                match wire::control::decode(&body, me, from)? {
                    Told::Who(who) => self.namesake(who, &arrived.proof, message).await?,
                    Told::Follow { from, to, follow } => self.wish(&arrived, from, to, follow)?,
                    Told::Want { from, want } => self.wanted(&arrived, from, want)?,
                    Told::Control { from, to, control } => {
                        let tells = matches!(control, Control::Probe { .. } | Control::Hello(_));
                        let told = tells.then(|| (from.clone(), dictionary_told(&body)));
                        self.control(&arrived, from, to, control, events)?;
                        told.iter().for_each(|(from, dictionary)| self.0.dictionaries.told(from, *dictionary));
                    }
                }
                seen.from = NodeName::new(from).ok();
            }
            Channel::Data(from) => {
                // It names our message, whose receipt's hash decides, so it needs no time.
                let arrived = self.arrived(message)?;
                let sender = self.trust().sender(&arrived.proof, from)?;
                seen.from = Some(sender.name.clone());
                self.data(sender.name, &arrived, seen, packer)?;
            }
            Channel::Reply(peer) => {
                // The server's own word, which nobody signs. It brings nothing but another try.
                if message.status == Some(StatusCode::NO_RESPONDERS) {
                    let peer = NodeName::new(peer).map_err(|_| WireError::Mismatch("the peer"))?;
                    let again = events.iter().rev().take(16).any(|event| *event == Event::NoResponders(peer.clone()));
                    if !again {
                        events.push(Event::NoResponders(peer));
                    }
                }
            }
            Channel::Echo(mark) => {
                self.trust().sender(&self.verify(message)?, me.as_str())?;
                for purpose in self.0.echoes.take(mark) {
                    match purpose {
                        Purpose::Signal(back) => drop(back.send(())),
                        Purpose::Passed(subject, mark) => self.0.board.denials().passed(&subject, mark),
                        Purpose::HandedOver(lanes) => {
                            let told = |(lane, seqs)| Event::HandedOver { lane, seqs };
                            events.extend(lanes.into_iter().map(told));
                        }
                    }
                }
            }
            Channel::Namesake => {}
        }
        Ok(())
    }

    fn receipts(
        &self,
        from: &str,
        (message, seen): (&Message, &mut Seen<'_>),
        packer: &mut Packer,
        events: &mut Vec<Event>,
    ) -> Result<(), Dropped> {
        // They name our store and our message, so they need no time.
        let arrived = self.arrived(message)?;
        self.trust().sender(&arrived.proof, from)?;
        let body = packer.unpack_json(arrived.headers(), arrived.body())?;
        let receipts = wire::receipts::decode(&body, self.me(), from)?;
        let mut receipts = Receipts { sealed: arrived.is_sealed(), ..receipts };
        self.gather(&mut receipts, &body, &arrived);
        self.0.counters.received_items.add(receipts.receipts.len());
        seen.from = Some(receipts.from.clone());
        let of_each = receipts.receipts.iter().map(|(_, receipt)| (receipt.id, RECEIPT_BYTES + text_bytes(receipt)));
        self.0.traffic.share(&of_each.collect::<Vec<_>>(), Bytes::arrived(seen.bytes));
        events.push(Event::Receipts(receipts));
        Ok(())
    }

    /// Keeps what the sender of receipts has signed for others to see. They count without it all the same.
    fn gather(&self, receipts: &mut Receipts, body: &[u8], arrived: &Arrived<'_>) {
        let Some(signature) = wire::receipts::proof(arrived.headers()) else { return };
        let Some(certificate) = self.trust().certificate(&arrived.proof) else { return };
        if let Err(error) = evidence::gather(receipts, body, signature, &certificate) {
            // The receipts themselves could be read.
            tracing::debug!(from = %receipts.from, %error, "nothing of a signature over receipts is kept");
        }
    }

    /// Asked about whatever is not addressed to this very process.
    fn fresh(&self, proof: &Proof) -> Result<(), Refusal> {
        let now = clock::wall();
        let age = u64::try_from(self.0.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Worked out anew each time: the clock may have been set right since the start.
        self.trust().fresh(proof, now, Wall(now.0.saturating_sub(age)))
    }

    fn announcement(
        &self,
        from: &str,
        (message, seen): (&Message, &mut Seen<'_>),
        watched: &BTreeSet<NodeName>,
        packer: &mut Packer,
        events: &mut Vec<Event>,
    ) -> Result<(), Dropped> {
        // One subscription may bring the announcements of all; those that nobody waits for are not worth a look.
        let Ok(name) = NodeName::new(from) else { return Err(WireError::Mismatch("fromNode").into()) };
        if !watched.contains(&name) {
            return Ok(());
        }
        let proof = self.verify(message)?;
        self.trust().sender(&proof, from)?;
        let body = packer.unpack_json(message.headers.as_ref(), &message.payload)?;
        let hello = wire::hello::decode(&body, from)?;
        self.fresh(&proof)?;
        self.0.dictionaries.told(&name, dictionary_told(&body));
        seen.from = Some(name);
        events.push(Event::Hello(hello));
        Ok(())
    }

    fn control(
        &self,
        arrived: &Arrived<'_>,
        from: NodeName,
        to: Option<Incarnation>,
        control: Control,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let (proof, sealed) = (&arrived.proof, arrived.is_sealed());
        self.trust().sender(proof, from.as_str())?;
        // An answer names the question, which nobody could have known before.
        let answers = |control: &Control| match control {
            Control::Hello(hello) => matches!(hello.occasion, Occasion::Answer { .. }),
            Control::Probe { .. } | Control::Confirm(_) | Control::Cancel { .. } | Control::Ask { .. } => false,
        };
        let own = self.0.config.identity.incarnation;
        if to != Some(own)
            && !answers(&control)
            && let Err(stale) = self.fresh(proof)
        {
            // Whose clock is wrong has to be within reach all the same: what follows the answer is addressed to this
            // process. An answer is all that a recording brings, and it goes to whom it was recorded from.
            if let Control::Probe { nonce, known, .. } = control
                && to.is_none()
            {
                events.push(Event::Asked { from, nonce, known });
            }
            return Err(stale);
        }
        match control {
            Control::Ask { ticket, stream, offset, len } => {
                if to.is_none_or(|to| to == own) {
                    self.bulk(Bulk::Ask { from, ticket, stream, offset, len });
                }
            }
            control => events.push(Event::Control { from, to, control, sealed }),
        }
        Ok(())
    }

    /// Tells a node that we don't know it, past the core: it has no part in this.
    async fn mistaken(&self, to: &NodeName) {
        let hello = Hello { info: Arc::from(""), ..self.hello(Occasion::Mistaken) };
        self.introduce(to, &Control::Hello(hello)).await;
    }

    /// Tells a node something that it understands also if it does not know us; our certificate goes with it.
    pub(super) async fn introduce(&self, to: &NodeName, control: &Control) {
        let Ok(body) = wire::control::encode(self.me(), to, None, control) else { return };
        let subject = subject::control(to, self.me());
        // Whoever does not get it sends again, and is told again.
        let _published: bool = self.publish(Outgoing::plain(subject, None, body, true)).await.is_ok();
    }

    fn messages(&self, sender: &Sender, mut envelope: Envelope, sealed: bool, events: &mut Vec<Event>) {
        if envelope.kind == Kind::EventNack && envelope.method.as_str() == SAY_HELLO {
            let hellos: Option<Vec<_>> = envelope
                .items
                .iter()
                .map(|item| wire::hello::decode_data(&item.body, envelope.from.as_str()))
                .collect();
            if let Some(hellos) = hellos {
                let told = envelope.items.iter().map(|item| wire::hello::dictionary_of_data(&item.body));
                told.for_each(|dictionary| self.0.dictionaries.told(&envelope.from, dictionary));
                events.extend(hellos.into_iter().map(Event::Hello));
                return;
            }
        }
        // What comes sealed is answered so, as long as it is here.
        envelope.items.iter_mut().for_each(|item| item.options.seal = sealed);
        let refusal = self.trust().refusal(sender, envelope.kind).or_else(|| self.0.config.seal.refusal(sealed));
        let refusal = refusal.map(Arc::from);
        let judge = |item: &protocol::event::Item| match &refusal {
            Some(why) => Verdict::Refuse(Arc::clone(why)),
            None => (self.0.judge)(sender, envelope.kind, &envelope.method, &item.body),
        };
        let verdicts = envelope.items.iter().map(judge).collect();
        events.push(Event::Envelope(envelope, verdicts));
    }

    /// Tells a process that wants our name that we have it; stops if that process takes it over.
    async fn namesake(&self, who: Who, proof: &Proof, message: &Message) -> Result<(), Refusal> {
        let config = &self.0.config;
        if self.trust().identity().is_some() {
            self.trust().sender(proof, self.me().as_str())?;
        }
        let Some(reply) = &message.reply else { return Ok(()) };
        let expected = subject::namesake(self.me(), &format!("{:016x}", who.incarnation.0));
        if who.incarnation == config.identity.incarnation || reply.as_str() != expected {
            return Ok(());
        }
        let ours = Namesake {
            incarnation: config.identity.incarnation,
            host: config.host.clone(),
            pid: std::process::id(),
            started: config.started,
        };
        if let Ok(body) = wire::namesake::encode(self.me(), &ours) {
            // Without an answer, the other one takes our connection for a dead one, and asks the broker again.
            let _published: bool = self.publish(Outgoing::plain(expected, None, body, true)).await.is_ok();
        }
        if who.take_over {
            // A recording of it must not stop us.
            self.fresh(proof)?;
            self.0.displaced.send_replace(Some(who));
        }
        Ok(())
    }

    /// So many messages have arrived and found no room.
    pub(super) fn lost(&self, messages: u64) {
        self.0.counters.slow_consumer.add(usize::try_from(messages).unwrap_or(usize::MAX));
        if messages > 0 && self.0.noise.worth_a_line("slow consumer", "") {
            tracing::warn!("more arrives than this node can take; some of it is lost and will be sent again");
        }
    }

    /// Counts what was not believed, and says so where that is news.
    async fn refused(&self, refusal: &Refusal, peer: &str) {
        let counters = &self.0.counters;
        counters.refused.one();
        counters.refusals.one(refusal.kind());
        let peer = refusal.signed_by().map_or(peer, NodeName::as_str);
        if !self.0.noise.worth_a_line(refusal.topic(), peer) {
            return;
        }
        let shown: String = peer.chars().take(64).flat_map(char::escape_default).collect();
        if refusal.is_alarming() {
            tracing::error!(peer = shown, why = %refusal, "somebody was not believed (further times this minute are only counted)");
        } else {
            tracing::warn!(peer = shown, why = %refusal, "somebody was not believed (further times this minute are only counted)");
        }
        // Whoever has this name gets our certificate, asks who we are, and shows its own with the question.
        let wants_certificate = matches!(refusal, Refusal::UnknownKey(_) | Refusal::SealKey { .. });
        if let Some(peer) = wants_certificate.then(|| NodeName::new(peer).ok()).flatten() {
            self.mistaken(&peer).await;
        }
    }
}
