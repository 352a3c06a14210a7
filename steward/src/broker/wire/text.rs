//! Values that stand on the wire as text: names, ids, hashes, and 64-bit identities in hexadecimal, because numbers
//! beyond 2^53 do not survive every language's JSON.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use protocol::message::Kind;
use serde::{Deserializer, Serializer, de};

/// A 64-bit identity (epoch, incarnation, nonce): 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hex64(pub(super) u64);

impl fmt::Display for Hex64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Hex64 {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `from_str_radix` would take a sign, too.
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("an identity has 16 hexadecimal digits");
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| "an identity has 16 hexadecimal digits")
    }
}

/// A BLAKE3 hash: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(pub(super) [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl FromStr for Hash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| "a hash has 64 hexadecimal digits")?;
        Ok(Self(*hash.as_bytes()))
    }
}

/// One of the four types of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KindText(pub(super) Kind);

impl fmt::Display for KindText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for KindText {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Kind::parse(text).map(Self).ok_or("commandOrEvent is none of CommandACK, CommandNACK, EventACK, EventNACK")
    }
}

/// Writes a value as its text; for `#[serde(with = "text")]`.
pub(super) fn serialize<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Reads a value from its text; for `#[serde(with = "text")]`.
pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    from.deserialize_str(TextVisitor(PhantomData))
}

/// The same where the value may be missing; for `#[serde(with = "text::option", default)]`.
pub(super) mod option {
    use super::{Deserializer, FromStr, PhantomData, Serializer, TextVisitor, fmt};

    /// Writes the text, or null.
    pub(in super::super) fn serialize<T: fmt::Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    /// Reads the text, or null.
    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        from.deserialize_option(OptionVisitor(TextVisitor(PhantomData)))
    }

    struct OptionVisitor<T>(TextVisitor<T>);

    impl<'de, T: FromStr<Err: fmt::Display>> serde::de::Visitor<'de> for OptionVisitor<T> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or null")
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_str(self.0).map(Some)
        }
    }
}

/// Takes the text where it stands, without a copy.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Whether a flag has its default.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Whether `json` is an array of strings, each of which can be read. `json` is known to be JSON, so only its shape and
/// what a JSON parser does not look at when it skips a string (halves of surrogate pairs) are checked: one pass over the
/// bytes, nothing is built.
pub(crate) fn is_array_of_strings(json: &str) -> bool {
    let bytes = json.trim_matches([' ', '\t', '\n', '\r']).as_bytes();
    let Some(mut rest) = bytes.strip_prefix(b"[").map(skip_white) else {
        return false;
    };
    if rest == b"]" {
        return true;
    }
    loop {
        let Some(after) = rest.strip_prefix(b"\"").and_then(skip_string) else {
            return false;
        };
        rest = skip_white(after);
        match rest.split_first() {
            Some((b',', after)) => rest = skip_white(after),
            Some((b']', after)) => return after.is_empty(),
            _ => return false,
        }
    }
}

fn skip_white(bytes: &[u8]) -> &[u8] {
    let white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let count = bytes.iter().take_while(|byte| white(byte)).count();
    bytes.get(count..).unwrap_or_default()
}

/// What follows the closing quote, if the string has one and its escapes make characters.
fn skip_string(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let at = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (found, after) = bytes.get(at..)?.split_first()?;
        if *found == b'"' {
            return Some(after);
        }
        let (escaped, after) = after.split_first()?;
        bytes = if *escaped == b'u' { skip_unicode(after)? } else { after };
    }
}

/// What follows `\u`'s digits, and the second half of the pair if they are the first.
fn skip_unicode(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = hex4(bytes)?;
    match first {
        0xD800..=0xDBFF => {
            let (second, rest) = hex4(rest.strip_prefix(b"\\u")?)?;
            (0xDC00..=0xDFFF).contains(&second).then_some(rest)
        }
        0xDC00..=0xDFFF => None,
        _ => Some(rest),
    }
}

fn hex4(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u16::from_str_radix(digits, 16).ok().map(|value| (value, rest))
}
