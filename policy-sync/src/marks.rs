// SPDX-License-Identifier: Apache-2.0
//! Versions of policies in eight characters each: what is in force on a node is said in a text of these, since thousands of
//! nodes say it of thousands of policies.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

/// Kind, namespace (empty for a cluster policy) and name.
type PolicyKey = (String, String, String);

/// Characters of a mark.
const LENGTH: usize = 8;

/// The mark of a policy's version: 48 bits of a hash. Two that are alike would make a status wrong, and nothing that is
/// enforced.
pub fn mark(key: &PolicyKey, generation: i64) -> [u8; LENGTH] {
    const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let mut hash = Sha256::new();
    for part in [&key.0, &key.1, &key.2] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(generation.to_be_bytes());
    let hash = hash.finalize();
    let number = hash[..6]
        .iter()
        .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    std::array::from_fn(|place| ALPHABET[(number >> (6 * place) & 63) as usize])
}

/// The text of some marks.
pub fn text(marks: impl IntoIterator<Item = [u8; LENGTH]>) -> String {
    let mut marks: Vec<[u8; LENGTH]> = marks.into_iter().collect();
    marks.sort_unstable();
    marks.concat().into_iter().map(char::from).collect()
}

/// Whether a text has a mark. Of a text that is none of marks, it has none.
pub fn has(text: &str, mark: [u8; LENGTH]) -> bool {
    let bytes = text.as_bytes();
    let (mut low, mut high) = (0, bytes.len() / LENGTH);
    if !bytes.len().is_multiple_of(LENGTH) {
        return false;
    }
    while low < high {
        let middle = (low + high) / 2;
        match bytes[middle * LENGTH..][..LENGTH].cmp(&mark) {
            Ordering::Equal => return true,
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> PolicyKey {
        ("VarmorPolicy".into(), namespace.into(), name.into())
    }

    #[test]
    fn a_text_has_what_it_was_made_of() {
        let marks: Vec<_> = (0..100)
            .map(|index| mark(&key("demo", &index.to_string()), 1))
            .collect();
        let text = text(marks[..50].to_vec());
        assert_eq!(text.len(), 400);
        assert!(marks[..50].iter().all(|one| has(&text, *one)));
        assert!(!marks[50..].iter().any(|one| has(&text, *one)));
        assert!(!has("", marks[0]) && !has("too short", marks[0]));
    }

    #[test]
    fn a_mark_is_of_one_version_of_one_policy() {
        let one = mark(&key("demo", "a"), 1);
        assert_eq!(one, mark(&key("demo", "a"), 1), "on every node");
        assert_eq!(
            &one, b"VVWVGR8B",
            "nodes and controllers of different versions must agree"
        );
        for other in [
            mark(&key("demo", "a"), 2),
            mark(&key("dem", "oa"), 1),
            mark(&key("demo", "b"), 1),
        ] {
            assert_ne!(one, other);
        }
    }
}
