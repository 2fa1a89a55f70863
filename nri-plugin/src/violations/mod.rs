//! Violations: from the kernel's ring buffer to the sinks.

pub mod log;
pub mod record;
pub mod sinks;
