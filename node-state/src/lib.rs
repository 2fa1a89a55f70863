// SPDX-License-Identifier: Apache-2.0
//! The files by which the node daemon, the OCI hook and the runtime wrapper talk to each other.
//!
//! The hook must decide in a millisecond and also when the daemon is dead, so nothing here is a conversation: each file is
//! written whole, renamed into place, and read by whoever needs it. All of them belong to root (files 0600, directories 0700).
//!
//! | file | written by | gone at reboot |
//! |---|---|---|
//! | `<run>/containers/<container id>.json`: [`Marker`] | daemon in CreateContainer, wrapper at create | yes |
//! | `<run>/sandboxes/<sandbox id>.json`: [`SandboxRecord`] | daemon in RunPodSandbox and Synchronize | yes |
//! | `<run>/profiles/<profile>.json`: [`ProfileRecord`] | daemon when a profile is in force | yes |
//! | `<state>/policy-index.json`: the policy index | daemon when policies change | no |
//!
//! The fourth party is the OCI configuration itself, which must carry what the marker says: [`Spec`], [`seccomp_digest`].

mod error;
mod files;
mod id;
mod record;
mod seccomp;
mod spec;
mod store;

pub use error::StateError;
pub use files::{write_atomically, write_durably};
pub use id::{BadId, ContainerId, ProfileName};
pub use record::{
    BpfDemand, CompositionRecord, Marker, ProfileRecord, SandboxRecord, SeccompRecord,
};
pub use seccomp::{SeccompShapeError, seccomp_digest};
pub use spec::{Spec, SpecError};
pub use store::{Layout, NodeState};
