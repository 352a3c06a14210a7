//! Compression of bodies: zstd where it makes them smaller, with a limit on what comes out again.
//!
//! A short body has nothing in it to which it could refer, so there is a dictionary with what stands in most of them. It is part of
//! the wire format: what it has in it never changes, and a better one is a new number beside it. `corpus.rs` and `tests.rs` train it.

use std::borrow::Cow;

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
use serde::Deserialize;
use zstd::bulk::{Compressor, Decompressor};

use super::{BODY_BYTES_MAX, WireError};

/// Says how the body is encoded; absent for a plain one.
pub(crate) const ENCODING: HeaderName = HeaderName::from_static("Steward-Encoding");

/// Its only value.
const ZSTD: &str = "zstd";

/// Below this size, in bytes, the header and the time cost more than is saved.
const COMPRESS_BYTES_MIN: usize = 512;

/// Level 1: on JSON it is nearly as small as higher ones, at several hundred megabytes a second.
const LEVEL: i32 = 1;

/// The newest dictionary that this node knows, as it says to others; who knows one knows those before it, too.
pub(crate) const DICTIONARY: u64 = 1;

/// The dictionary 1. A frame that needs it says so itself: its id there is 32,768 more.
const TRAINED: &[u8] = include_bytes!("pack/dictionary-1.zdict");

/// Longer bodies, in bytes, have enough in them to which they can refer.
const DICTIONARY_BODY_BYTES_MAX: usize = 8 * 1024;

/// The level with the dictionary: 5 % smaller than level 1, in 3 µs for an ordinary body.
const DICTIONARY_LEVEL: i32 = 3;

/// What a zstd frame begins with; no JSON does.
const FRAME: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Compresses and decompresses; keeps its contexts, which cost more to make than to use.
#[derive(Default)]
pub(crate) struct Packer {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
    with_dictionary: Option<Compressor<'static>>,
    from_dictionary: Option<Decompressor<'static>>,
}

impl Packer {
    /// A JSON body as it goes out to a node that knows the dictionary. The frame says itself what it is, so it takes no header.
    pub(crate) fn pack_with_dictionary(&mut self, body: Vec<u8>) -> (Bytes, Option<HeaderMap>) {
        if body.len() > DICTIONARY_BODY_BYTES_MAX {
            return self.pack(body);
        }
        if self.with_dictionary.is_none() {
            self.with_dictionary = Compressor::with_dictionary(DICTIONARY_LEVEL, TRAINED).ok();
        }
        let packed = self.with_dictionary.as_mut().and_then(|compressor| compressor.compress(&body).ok());
        match packed {
            Some(packed) if packed.len() < body.len() => (packed.into(), None),
            Some(_) | None => (body.into(), None),
        }
    }

    /// The body as it goes out, and a header where it was compressed.
    pub(crate) fn pack(&mut self, body: Vec<u8>) -> (Bytes, Option<HeaderMap>) {
        match self.smaller(&body) {
            Some(packed) => {
                let mut headers = HeaderMap::new();
                headers.insert(ENCODING, ZSTD);
                (packed.into(), Some(headers))
            }
            None => (body.into(), None),
        }
    }

    /// Adds the compressed body's header to `headers` where it is smaller that way.
    pub(crate) fn pack_into(&mut self, body: Bytes, headers: &mut HeaderMap) -> Bytes {
        match self.smaller(&body) {
            Some(packed) => {
                headers.insert(ENCODING, ZSTD);
                packed.into()
            }
            None => body,
        }
    }

    fn smaller(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() <= COMPRESS_BYTES_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        let packed = self.compressor.as_mut()?.compress(body).ok()?;
        // The header itself takes about 35 bytes.
        (packed.len() + 40 < body.len()).then_some(packed)
    }

    /// The body as it was before it was packed, at most `bytes_max` long.
    pub(crate) fn unpack<'a>(
        &mut self,
        headers: Option<&HeaderMap>,
        body: &'a [u8],
        bytes_max: usize,
    ) -> Result<Cow<'a, [u8]>, WireError> {
        let too_long = |found: usize| WireError::Limit { what: "the body", found: found as u64, max: bytes_max as u64 };
        match headers.and_then(|headers| headers.get(ENCODING)) {
            None if body.len() > bytes_max => Err(too_long(body.len())),
            None => Ok(Cow::Borrowed(body)),
            Some(encoding) if encoding.as_str() == ZSTD => {
                if let Some(found) = Decompressor::upper_bound(body).filter(|found| *found > bytes_max) {
                    return Err(too_long(found));
                }
                if self.decompressor.is_none() {
                    self.decompressor = Decompressor::new().ok();
                }
                let decompressor = self.decompressor.as_mut().ok_or(WireError::Encoding)?;
                decompressor.decompress(body, bytes_max).map(Cow::Owned).map_err(|_| WireError::Encoding)
            }
            Some(_) => Err(WireError::Encoding),
        }
    }

    /// [`Self::unpack`] with the limit for JSON bodies.
    pub(crate) fn unpack_json<'a>(
        &mut self,
        headers: Option<&HeaderMap>,
        body: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, WireError> {
        if body.starts_with(&FRAME) && headers.and_then(|headers| headers.get(ENCODING)).is_none() {
            return self.unpack_from_dictionary(body).map(Cow::Owned);
        }
        self.unpack(headers, body, BODY_BYTES_MAX)
    }

    fn unpack_from_dictionary(&mut self, body: &[u8]) -> Result<Vec<u8>, WireError> {
        let found = Decompressor::upper_bound(body).ok_or(WireError::Encoding)?;
        super::limit("the body", found, BODY_BYTES_MAX)?;
        if self.from_dictionary.is_none() {
            self.from_dictionary = Decompressor::with_dictionary(TRAINED).ok();
        }
        let decompressor = self.from_dictionary.as_mut().ok_or(WireError::Encoding)?;
        decompressor.decompress(body, found).map_err(|_| WireError::Encoding)
    }
}

/// Which dictionary the sender of a probe, a hello, or a control with a hello in it says that it knows; 0 for none. For bodies that
/// could be read.
pub(crate) fn dictionary_told(body: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    struct Hello {
        #[serde(default)]
        dictionary: u64,
    }
    #[derive(Deserialize)]
    struct Told {
        #[serde(default)]
        dictionary: u64,
        #[serde(default)]
        hello: Hello,
    }
    serde_json::from_slice(body).map_or(0, |told: Told| told.dictionary.max(told.hello.dictionary))
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
