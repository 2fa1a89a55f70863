// SPDX-License-Identifier: Apache-2.0
//! Numbers since the daemon started.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts some more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Violations refused.
    pub denied: Counter,
    /// Violations only reported.
    pub audited: Counter,
    /// Violations lost in the kernel.
    pub lost_in_kernel: Counter,
    /// Violations that a sink did not take.
    pub lost_on_the_way: Counter,
    /// Violations that subscribers were too slow for.
    pub dropped_for_subscribers: Counter,
    /// Failures inside the BPF programs.
    pub internal_failures: Counter,
    /// Containers that were refused.
    pub refused_containers: Counter,
    /// Connections to the runtime.
    pub runtime_connections: Counter,
}
