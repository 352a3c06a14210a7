//! Compression of bodies: zstd where it makes them smaller, with a limit on what comes out again.

use std::borrow::Cow;

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
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

/// Compresses and decompresses; keeps its contexts, which cost more to make than to use.
#[derive(Default)]
pub(crate) struct Packer {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
}

impl Packer {
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
        self.unpack(headers, body, BODY_BYTES_MAX)
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}
