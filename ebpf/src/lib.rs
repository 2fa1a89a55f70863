// SPDX-License-Identifier: Apache-2.0
//! Loads the BPF LSM programs, pins them so that they outlive this process, and fills their tables.
//!
//! [`Enforcer::load`] brings them into force; profiles come from `varmor_policy`'s plans; containers are bound by the OCI
//! hook through `varmor_bpf_abi`, or here when they already run.

pub mod automata;
mod enforcer;
pub mod error;
pub mod host;
pub mod links;
pub mod load;
pub mod mark;
pub mod object;
pub mod prefixes;
pub mod profile;
pub mod profile_tables;
pub mod programs;
pub mod reader;
pub mod tables;
pub mod violation;

pub use enforcer::Enforcer;
pub use error::Error;
pub use load::{LoadOptions, LoadReport};
pub use mark::Marked;
pub use programs::Missing;
pub use reader::ViolationReader;
pub use tables::Counters;
pub use varmor_bpf_abi::{Binding, container_key, profile_key};
pub use violation::{Action, DecodeError, Event, FileOperation, NetworkOperation, Violation};
