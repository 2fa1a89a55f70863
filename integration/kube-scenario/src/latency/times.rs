// SPDX-License-Identifier: Apache-2.0
//! When each change was seen where.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where a change is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The API server tells of the policy.
    Policy,
    /// The API server tells of the profile.
    Profile,
    /// A daemon on this machine is sent the policy.
    Daemon,
    /// The kernel of the node goes by it.
    Kernel,
}

/// First sights.
#[derive(Debug, Clone, Default)]
pub struct Times(Arc<Mutex<HashMap<(Place, u32), Instant>>>);

impl Times {
    /// Notes a sight now; a later one of the same does not count.
    pub fn saw(&self, place: Place, change: u32) {
        let mut times = self.0.lock().expect("no panic while it was held");
        times.entry((place, change)).or_insert_with(Instant::now);
    }

    /// When it was seen.
    pub fn at(&self, place: Place, change: u32) -> Option<Instant> {
        let times = self.0.lock().expect("no panic while it was held");
        times.get(&(place, change)).copied()
    }

    /// From one place to another, for every change that was seen at both.
    pub fn between(&self, from: Place, to: Place, changes: u32) -> Vec<Duration> {
        let both = |change| Some((self.at(from, change)?, self.at(to, change)?));
        (1..=changes)
            .filter_map(both)
            .map(|(from, to)| to.saturating_duration_since(from))
            .collect()
    }
}

/// A line of the table: median, 99th percentile and maximum in milliseconds.
pub fn line(what: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let Some(last) = times.last() else {
        return format!("{what:<72} never seen");
    };
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times[rank - 1].as_secs_f64() * 1000.0
    };
    let max = last.as_secs_f64() * 1000.0;
    format!(
        "{what:<72} {:>4} {:>8.1} {:>8.1} {max:>8.1}",
        times.len(),
        at(50),
        at(99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_rank() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let line = line("x", times);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["x", "100", "50.0", "99.0", "100.0"]);
    }

    #[test]
    fn the_first_sight_counts() {
        let times = Times::default();
        times.saw(Place::Policy, 1);
        let first = times.at(Place::Policy, 1);
        times.saw(Place::Policy, 1);
        assert_eq!(times.at(Place::Policy, 1), first);
        times.saw(Place::Policy, 2);
        times.saw(Place::Kernel, 1);
        assert_eq!(times.between(Place::Policy, Place::Kernel, 2).len(), 1);
    }
}
