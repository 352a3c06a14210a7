//! What packing saves, and the dictionary: that it is the one that others have, and how it is trained.
//!
//! `DICTIONARY_INTO=FILE cargo test -p steward dictionary` writes a newly trained one, for the next number.

use super::corpus::bodies;
use super::*;

/// Bytes of a trained dictionary: twice as many save 3 % more, half as many save 4 % less.
const DICTIONARY_BYTES: usize = 8 * 1024;

/// Where its id stands in a dictionary, and what the ids of ours begin with.
const ID_AT: std::ops::Range<usize> = 4..8;
/// See [`ID_AT`].
const ID_BEFORE: u64 = 32_768;

fn trained() -> Vec<u8> {
    let mut dictionary = zstd::dict::from_samples(&bodies(1, 6000), DICTIONARY_BYTES).unwrap();
    let id = u32::try_from(ID_BEFORE + DICTIONARY).unwrap();
    dictionary[ID_AT].copy_from_slice(&id.to_le_bytes());
    dictionary
}

fn packed_bytes(dictionary: &[u8], bodies: &[Vec<u8>]) -> usize {
    let mut compressor = Compressor::with_dictionary(DICTIONARY_LEVEL, dictionary).unwrap();
    bodies.iter().map(|body| compressor.compress(body).unwrap().len()).sum()
}

/// It is part of the wire format: nodes in the field have this very one under its number.
#[test]
fn the_dictionary_is_the_one_that_others_have() {
    assert_eq!(TRAINED[ID_AT], u32::try_from(ID_BEFORE + DICTIONARY).unwrap().to_le_bytes());
    let hash = blake3::hash(TRAINED).to_hex();
    assert_eq!(
        hash.as_str(),
        "b4808ec9dca4e732259d0af54e953f7c44875ecb83171e5f95d76edd40f248fd",
        "a changed dictionary needs a new number"
    );
}

#[test]
fn a_dictionary_that_is_trained_anew_would_not_save_much_more() {
    let trained = trained();
    if let Some(path) = std::env::var_os("DICTIONARY_INTO") {
        std::fs::write(path, &trained).unwrap();
    }
    let fresh = bodies(77, 1000);
    let (ours, other) = (packed_bytes(TRAINED, &fresh), packed_bytes(&trained, &fresh));
    assert!(ours * 9 / 10 <= other, "{ours} bytes with the dictionary {DICTIONARY}, {other} with a new one");
}

#[test]
fn with_the_dictionary_short_bodies_take_a_third() {
    let mut packer = Packer::default();
    let (mut plain, mut packed, mut before) = (0, 0, 0);
    for body in bodies(78, 1000) {
        plain += body.len();
        let (old, headers) = packer.pack(body.clone());
        before += old.len() + headers.map_or(0, |_| "Steward-Encoding: zstd\r\n".len());
        let (out, headers) = packer.pack_with_dictionary(body.clone());
        packed += out.len() + headers.as_ref().map_or(0, |_| "Steward-Encoding: zstd\r\n".len());
        assert_eq!(packer.unpack_json(headers.as_ref(), &out).unwrap(), body);
    }
    assert!(packed * 10 < plain * 35 / 10, "{packed} of {plain} bytes, {before} without it");
    assert!(packed * 2 < before, "{packed} of {before} bytes without it");
}

#[test]
fn long_bodies_go_without_it_and_what_does_not_get_smaller_goes_as_it_is() {
    let mut packer = Packer::default();
    let long = format!("{{\"v\":1,\"x\":\"{}\"}}", "abc ".repeat(DICTIONARY_BODY_BYTES_MAX)).into_bytes();
    let (body, headers) = packer.pack_with_dictionary(long.clone());
    assert!(headers.is_some_and(|headers| headers.get(ENCODING).is_some()) && body.len() < 1000);
    let (body, headers) = packer.pack_with_dictionary(b"{}".to_vec());
    assert_eq!((&body[..], headers), (&b"{}"[..], None));
}

#[test]
fn what_is_no_frame_of_ours_is_dropped() {
    let mut packer = Packer::default();
    let body = bodies(79, 1).remove(0);
    let (packed, _) = packer.pack_with_dictionary(body.clone());
    for cut in 1..packed.len() {
        assert!(packer.unpack_json(None, &packed[..cut]).map_or(true, |read| read[..] != body[..]), "{cut}");
    }
    let mut other = TRAINED.to_vec();
    other[ID_AT].copy_from_slice(&77_777_u32.to_le_bytes());
    let unknown = Compressor::with_dictionary(3, &other).unwrap().compress(&body).unwrap();
    assert_eq!(packer.unpack_json(None, &unknown), Err(WireError::Encoding));
    // A few bytes that would become more than any body may have.
    let bomb = Compressor::new(19).unwrap().compress(&vec![b' '; BODY_BYTES_MAX + 1]).unwrap();
    assert!(matches!(packer.unpack_json(None, &bomb), Err(WireError::Limit { .. })));
    // Once more something that is right, with what is left of the contexts.
    assert_eq!(packer.unpack_json(None, &packed).unwrap(), body);
}

#[test]
fn probes_and_hellos_say_which_dictionary_is_known() {
    assert_eq!(dictionary_told(br#"{"v":1,"control":"probe","dictionary":1}"#), 1);
    assert_eq!(dictionary_told(br#"{"v":1,"control":"hello","hello":{"v":1,"dictionary":3}}"#), 3);
    assert_eq!(dictionary_told(br#"{"v":1,"control":"probe"}"#), 0);
    assert_eq!(dictionary_told(br#"{"dictionary":"x"}"#), 0);
}
