// SPDX-License-Identifier: Apache-2.0
//! The table that is printed, and the targets in it.

use std::time::Duration;

/// What was measured.
#[derive(Default)]
pub struct Table {
    missed: Vec<String>,
}

impl Table {
    /// A heading.
    pub fn heading(&self, text: &str) {
        println!("\n{text}");
    }

    /// A measured value.
    pub fn row(&self, what: &str, value: &str) {
        println!("  {what:<78} {value:>16}");
    }

    /// A measured value that should be below a limit.
    pub fn below(&mut self, what: &str, value: f64, limit: f64, unit: &str) {
        let is_met = value < limit;
        let verdict = if is_met { "ok" } else { "MISSED" };
        self.row(what, &format!("{value:.1} {unit}"));
        println!(
            "  {:<78} {verdict:>16}",
            format!("  the aim: below {limit} {unit}")
        );
        if !is_met {
            self.missed.push(format!(
                "{what}: {value:.1} {unit}, should be below {limit}"
            ));
        }
    }

    /// Something that must be.
    pub fn must(&mut self, what: &str, holds: bool) {
        if !holds {
            self.missed.push(what.to_owned());
        }
    }

    /// Median, 99th percentile and maximum.
    pub fn times(&self, what: &str, times: &[Duration]) {
        let text = format!(
            "{:.0} / {:.0} / {:.0} ms",
            percentile(times, 50),
            percentile(times, 99),
            percentile(times, 100)
        );
        self.row(
            &format!("{what}: p50 / p99 / max of {}", times.len()),
            &text,
        );
    }

    /// Prints what was missed; whether nothing was.
    pub fn end(&self) -> bool {
        println!();
        for missed in &self.missed {
            println!("MISSED  {missed}");
        }
        self.missed.is_empty()
    }
}

/// A percentile by rank, in milliseconds.
pub fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times
        .get(rank - 1)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// Bytes, readable.
pub fn bytes(count: f64) -> String {
    match count {
        count if count < 10_000.0 => format!("{count:.0} B"),
        count if count < 10_000_000.0 => format!("{:.1} kB", count / 1e3),
        count => format!("{:.1} MB", count / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_aim_is_remembered() {
        let mut table = Table::default();
        table.below("memory", 99.0, 100.0, "MiB");
        assert!(table.end());
        table.below("memory", 100.0, 100.0, "MiB");
        assert!(!table.end());
    }

    #[test]
    fn percentiles_are_by_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(
            (percentile(&times, 50), percentile(&times, 99)),
            (50.0, 99.0)
        );
    }
}
