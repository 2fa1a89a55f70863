// SPDX-License-Identifier: Apache-2.0
//! vArmor policies: what they say, whom they select, and what each enforcer must load for them.
//!
//! This crate is pure: no I/O, no async, no Kubernetes client. Every rule's meaning is here and nowhere else.

pub mod automata;
pub mod capability;
pub mod compile;
pub mod document;
pub mod enforcer;
pub mod error;
pub mod explain;
pub mod index;
pub mod matching;
pub mod mount_flags;
pub mod owner;
pub mod pattern;
pub mod plan;
pub mod rules;
pub mod schema;
pub mod seccomp_merge;
pub mod syscalls;
pub mod types;
pub mod validate;

pub use compile::compile;
pub use document::parse;
pub use error::{DocumentError, PolicyError};
pub use types::PolicyObject;
