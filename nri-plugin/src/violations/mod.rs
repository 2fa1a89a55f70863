// SPDX-License-Identifier: Apache-2.0
//! Violations: from the kernel's ring buffer to the sinks.

pub mod clock;
pub mod event;
pub mod log;
pub mod pump;
pub mod record;
pub mod sinks;
pub mod subscribers;
