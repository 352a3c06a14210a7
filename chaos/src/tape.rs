//! A stranger at the broker: listens to everything, and says what it likes. Knows the format of the wire as far as it is
//! needed to spoil it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::link;

/// Messages that are remembered; the oldest go.
const RECORDED_MAX: usize = 4000;

/// Larger ones are not remembered.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long saying something may take.
const LIMIT: Duration = Duration::from_secs(1);

/// What was once said.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) subject: String,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    /// The body as JSON, unpacked if it was packed; none if it is something else.
    pub(crate) fn json(&self) -> Option<Value> {
        let packed = self.headers.as_ref().is_some_and(|headers| headers.get("Steward-Encoding").is_some());
        if packed {
            return serde_json::from_slice(&zstd::decode_all(self.body.as_slice()).ok()?).ok();
        }
        serde_json::from_slice(&self.body).ok()
    }
}

/// See the module. It stops listening when it is dropped.
pub(crate) struct Tape {
    client: Client,
    recorded: Arc<Mutex<VecDeque<Recorded>>>,
    listening: JoinHandle<()>,
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Tape {
    /// Begins to listen at a broker that runs.
    pub(crate) fn record(broker: &str) -> anyhow::Result<Self> {
        let runtime = link::runtime()?;
        let recorded = Arc::new(Mutex::new(VecDeque::new()));
        runtime.block_on(async {
            let client = async_nats::connect(broker).await.context("the broker can't be reached")?;
            let mut heard = client.subscribe(">").await?;
            client.flush().await?;
            let tape = Arc::clone(&recorded);
            let listening = runtime.spawn(async move {
                while let Some(message) = heard.next().await {
                    note(&tape, message);
                }
            });
            Ok(Self { client, recorded, listening })
        })
    }

    /// What was heard so far.
    pub(crate) fn all(&self) -> Vec<Recorded> {
        lines(&self.recorded).iter().cloned().collect()
    }

    /// Says all of this, if the broker can be reached.
    pub(crate) fn say(&self, all: Vec<Recorded>) -> anyhow::Result<()> {
        let publish = async {
            for Recorded { subject, headers, body } in all {
                self.client.publish_with_headers(subject, headers.unwrap_or_default(), body.into()).await?;
            }
            self.client.flush().await?;
            anyhow::Ok(())
        };
        link::runtime()?.block_on(async { tokio::time::timeout(LIMIT, publish).await })??;
        Ok(())
    }
}

fn note(tape: &Mutex<VecDeque<Recorded>>, message: async_nats::Message) {
    if message.payload.len() > BODY_BYTES_MAX || message.status.is_some() {
        return;
    }
    let mut tape = lines(tape);
    if tape.len() >= RECORDED_MAX {
        tape.pop_front();
    }
    tape.push_back(Recorded {
        subject: message.subject.to_string(),
        headers: message.headers,
        body: message.payload.to_vec(),
    });
}

fn lines(tape: &Mutex<VecDeque<Recorded>>) -> MutexGuard<'_, VecDeque<Recorded>> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}
