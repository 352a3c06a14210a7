//! What a publish would be as plain JSON: each message and each receipt in a body of its own, as it stands in the shared one, and
//! nothing compressed. A box that is sealed can't be opened by whoever listens, and counts as it is.

use async_nats::Message;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::broker::wire::pack::{ENCODING, Packer};

/// What is shared by many in one body, if any of these is there.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, alias = "receipts")]
    items: Vec<&'a RawValue>,
}

/// Takes bodies apart.
#[derive(Debug, Default)]
pub(super) struct Plain(Packer);

impl Plain {
    /// Bytes of subjects, headers and bodies.
    pub(super) fn bytes(&mut self, message: &Message) -> usize {
        let headers = message.headers.as_ref();
        let Ok(body) = self.0.unpack_json(headers, &message.payload) else { return message.length };
        let around = message.length - message.payload.len();
        let encoding = headers.and_then(|headers| headers.get(ENCODING));
        let header = encoding.map_or(0, |value| "Steward-Encoding: \r\n".len() + value.as_str().len());
        // Without any other header there is no block of them.
        let alone = header > 0 && headers.is_some_and(|headers| headers.len() == 1);
        let around = around - header - if alone { "NATS/1.0\r\n\r\n".len() } else { 0 };
        let is_json = serde_json::from_slice::<Value>(&body).is_ok();
        match serde_json::from_slice::<Parts<'_>>(&body) {
            Ok(parts) if is_json && !parts.items.is_empty() => {
                let items: usize = parts.items.iter().map(|item| item.get().len()).sum();
                let commas = parts.items.len() - 1;
                parts.items.len() * (around + body.len() - items - commas) + items
            }
            Ok(_) | Err(_) => around + body.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: Vec<u8>) -> Message {
        let (payload, headers) = Packer::default().pack(body);
        let length =
            payload.len() + 4 + headers.as_ref().map_or(0, |_| "NATS/1.0\r\nSteward-Encoding: zstd\r\n\r\n".len());
        let (reply, status, description) = (None, None, None);
        Message { subject: "a.b.".into(), reply, payload, headers, status, description, length }
    }

    #[test]
    fn a_shared_body_counts_as_many_single_ones() {
        let one = r#"{"v":1,"items":[{"id":"0123456789"}]}"#;
        assert_eq!(Plain::default().bytes(&message(one.as_bytes().to_vec())), 4 + one.len());
        let many = format!(r#"{{"v":1,"items":[{}]}}"#, vec![r#"{"id":"0123456789"}"#; 100].join(","));
        let packed = message(many.into_bytes());
        assert!(packed.headers.is_some() && packed.length < 200);
        assert_eq!(Plain::default().bytes(&packed), 100 * (4 + one.len()));
    }
}
