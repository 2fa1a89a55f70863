// SPDX-License-Identifier: Apache-2.0
//! The clock by which the kernel stamps events.

use std::time::Duration;

/// Time since boot, suspended time included (CLOCK_BOOTTIME), as `bpf_ktime_get_boot_ns` gives it.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is ours, and the call only writes it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    if status != 0 {
        // Every kernel since 2.6.39 has this clock.
        return Duration::ZERO;
    }
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_agrees_with_uptime() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((super::since_boot().as_secs_f64() - uptime).abs() < 5.0);
    }
}
