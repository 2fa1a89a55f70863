// SPDX-License-Identifier: Apache-2.0
//! Readers of what strangers write, each with the properties that must hold for any input. A function takes some bytes, panics
//! when a property does not hold, and says whether the reader accepted them: a seed must be of use.

pub mod events;
pub mod frames;
pub mod oci;
pub mod patterns;
pub mod policy;

/// Takes an input; true when it was accepted.
pub type Subject = fn(&[u8]) -> bool;

/// All of them, by the name of their target and of their folder of seeds.
pub const SUBJECTS: [(&str, Subject); 5] = [
    ("policy", policy::take),
    ("patterns", patterns::take),
    ("frames", frames::take),
    ("oci", oci::take),
    ("events", events::take),
];
