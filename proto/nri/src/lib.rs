// SPDX-License-Identifier: Apache-2.0
//! The Node Resource Interface (NRI) of containerd and CRI-O for plugins written in Rust: NRI 0.3 (containerd 1.7) to
//! 0.12 (containerd 2.3).
//!
//! Implement [`Plugin`] and give it to [`stub::run_with_reconnect`] (or, for a plugin that the runtime starts itself,
//! [`identity::Preinstalled`] and [`stub::run_on`]):
//!
//! ```no_run
#![doc = include_str!("../examples/logger.rs")]
//! ```
//!
//! What a plugin's author must know about runtimes:
//!
//! - An error is an answer: the runtime refuses the container and its client reads the text. **No answer is consent**:
//!   when a plugin crashes, or answers after `request_timeout` (2 s), containerd closes the connection and starts the
//!   container unadjusted. The stub therefore answers a refusal for a handler that panics or takes longer than nine
//!   tenths of that time. A plugin that is not there at all is not asked, unless the runtime is told to require it.
//! - Fields that an older runtime does not know vanish silently. [`RuntimeVersion`] tells what the runtime at hand can
//!   do; the stub answers an error when a seccomp filter would be lost, and leaves unknown events out of a subscription.
//! - Events arrive through `StateChange` (up to 0.11) or through an RPC each (0.12). [`Plugin`]'s methods are called in
//!   both cases.
//! - `CreateContainer` is only sent for CRI application containers: neither for a pod's pause container, nor for plain
//!   containerd clients.
//!
//! Layers, from below: [`mux`] (two connections over one socket), ttrpc with the messages in [`api`], [`stub`].

pub mod adjust;
pub mod api;
pub mod backoff;
pub mod event;
pub mod identity;
pub mod mux;
pub mod plugin;
pub mod runtime;
mod service;
mod session;
pub mod stub;
mod task;
pub mod version;

pub use adjust::{Adjustment, Hook, HookPoint};
pub use backoff::Backoff;
pub use event::{Event, EventMask};
pub use identity::{Identity, Preinstalled};
pub use plugin::{Configuration, Plugin, Refusal};
pub use runtime::Runtime;
pub use stub::{End, run, run_on, run_with_reconnect};
pub use version::{Release, RuntimeVersion};

// The generated messages are part of the interface, and so are the libraries they are made for.
pub use protobuf;
pub use ttrpc;
