// SPDX-License-Identifier: Apache-2.0
//! What the node daemon, the OCI hook and the LSM programs agree on: the layout of the pinned maps, the names of the
//! pins, the keys of containers and profiles; and how a container is bound to a profile, with raw bpf(2).
//!
//! `../kernel/abi.h` is the other half; a test compiles it and compares.

pub mod binding;
pub mod class;
pub mod events;
pub mod keys;
pub mod layout;
pub mod maps;
pub mod pins;
pub mod procfs;
pub mod sys;

pub use binding::{Binding, Maps};
pub use keys::{container_key, domain_key, profile_key};
