//! The tree over the receipts of one body: whoever has its root signed has every receipt signed, and one receipt can be
//! shown with a few hashes in place of the others.
//!
//! A leaf is BLAKE3 of a zero byte and the receipt; a node is BLAKE3 of a one byte, what is left below it, and what is
//! right. Of an odd number of hashes on one floor the last goes up as it is.

use blake3::{Hash, Hasher};
use serde::{Deserialize, Serialize};

/// Steps from a leaf to its root at most: a body has up to 512 receipts, and there is room for more.
pub(crate) const STEPS_MAX: usize = 16;

/// What a hash on the way up is joined with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// This one stands left of it.
    Left(#[serde(with = "hex")] Hash),
    /// This one stands right of it.
    Right(#[serde(with = "hex")] Hash),
}

/// The hash of a receipt.
pub(crate) fn leaf(receipt: &[u8]) -> Hash {
    Hasher::new().update(&[0]).update(receipt).finalize()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hasher::new().update(&[1]).update(left.as_bytes()).update(right.as_bytes()).finalize()
}

fn floor_above(hashes: &[Hash]) -> Vec<Hash> {
    let pair = |pair: &[Hash]| match pair {
        [left, right] => Some(node(left, right)),
        [last] => Some(*last),
        _ => None,
    };
    hashes.chunks(2).filter_map(pair).collect()
}

/// The root over these leaves, of which there is at least one.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    let mut floor = leaves.to_vec();
    while floor.len() > 1 {
        floor = floor_above(&floor);
    }
    floor.first().copied().unwrap_or_else(|| leaf(&[]))
}

/// The way from this leaf to the root.
pub(crate) fn path(leaves: &[Hash], mut at: usize) -> Vec<Step> {
    let (mut floor, mut path) = (leaves.to_vec(), Vec::new());
    while floor.len() > 1 {
        match at % 2 {
            1 => path.extend(floor.get(at - 1).copied().map(Step::Left)),
            _ => path.extend(floor.get(at + 1).copied().map(Step::Right)),
        }
        floor = floor_above(&floor);
        at /= 2;
    }
    path
}

/// Where the way from a leaf leads.
pub(crate) fn climb(leaf: Hash, path: &[Step]) -> Hash {
    path.iter().fold(leaf, |below, step| match step {
        Step::Left(left) => node(left, &below),
        Step::Right(right) => node(&below, right),
    })
}

/// A hash as 64 hexadecimal digits.
mod hex {
    use blake3::Hash;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hash.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(from)?;
        // One form only, so that no byte of a bundle can be another one.
        let hash = Hash::from_hex(&text).map_err(de::Error::custom)?;
        if *hash.to_hex() == text { Ok(hash) } else { Err(de::Error::custom("a hash has small letters")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_leads_to_the_root_and_to_no_other() {
        for count in 1..70_u8 {
            let leaves: Vec<Hash> = (0..count).map(|n| leaf(&[n])).collect();
            let root = root(&leaves);
            for (at, leaf) in leaves.iter().enumerate() {
                let path = path(&leaves, at);
                assert!(path.len() <= STEPS_MAX);
                assert_eq!(climb(*leaf, &path), root, "leaf {at} of {count}");
                let other = leaves[(at + 1) % leaves.len()];
                assert_eq!(climb(other, &path) == root, count == 1, "leaf {at} of {count}");
            }
        }
    }

    #[test]
    fn a_node_is_no_receipt() {
        let (left, right) = (leaf(b"a"), leaf(b"b"));
        let root = root(&[left, right]);
        let inner = [left.as_bytes().as_slice(), right.as_bytes()].concat();
        assert_ne!(leaf(&inner), root);
        assert_ne!(leaf(&[&[1], inner.as_slice()].concat()), root);
    }

    #[test]
    fn as_many_receipts_as_a_body_has_fit() {
        let leaves: Vec<Hash> = (0..512_u32).map(|n| leaf(&n.to_be_bytes())).collect();
        assert_eq!(path(&leaves, 511).len(), 9);
        let text = serde_json::to_string(&path(&leaves, 0)).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Step>>(&text).unwrap(), path(&leaves, 0));
        assert!(serde_json::from_str::<Vec<Step>>(&text.to_uppercase().replace("RIGHT", "right")).is_err());
    }
}
