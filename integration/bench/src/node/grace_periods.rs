// SPDX-License-Identifier: Apache-2.0
//! The kernel's RCU grace periods, for which mounts and control groups wait: milliseconds that come out differently each
//! time, and are nobody's work.

use std::fs;

/// 1: each grace period ends as soon as it can (kernel documentation, `rcupdate.rcu_expedited`).
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// Expedited until this is dropped.
pub struct GracePeriods {
    before: String,
}

impl GracePeriods {
    /// None where the kernel has no such switch, or this process may not use it: the measurement is noisier then.
    pub fn expedite() -> Option<Self> {
        let before = fs::read_to_string(SWITCH).ok()?;
        fs::write(SWITCH, "1").ok()?;
        Some(Self { before })
    }
}

impl Drop for GracePeriods {
    fn drop(&mut self) {
        // It could be written before.
        let _ = fs::write(SWITCH, &self.before);
    }
}
