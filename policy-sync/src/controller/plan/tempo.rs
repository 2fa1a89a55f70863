// SPDX-License-Identifier: Apache-2.0
//! How fast numbers are written. A node that joins changes the numbers of every policy, and each profile that is written
//! goes to every node: without a limit, policies x nodes objects for one node. What is in force, and what fails, is told
//! in the policies' statuses, which wait for nothing. Pure.

use std::time::Instant;

/// A limit on what is done in the long run, with some of it at once.
#[derive(Debug)]
pub struct Tempo {
    per_second: f64,
    most: f64,
    left: f64,
    at: Option<Instant>,
}

impl Tempo {
    /// So much in a second; after a quiet time, so much at once.
    pub fn new(per_second: u32, most: u32) -> Self {
        Self {
            per_second: per_second.into(),
            most: most.into(),
            left: most.into(),
            at: None,
        }
    }

    /// Whether something that costs so much may be done now: it is, then.
    pub fn take(&mut self, cost: usize, now: Instant) -> bool {
        let since = self
            .at
            .map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.left = (self.left + since * self.per_second).min(self.most);
        // What costs more than there ever is takes all of it.
        let cost = (cost as f64).min(self.most);
        let may = self.left >= cost;
        if may {
            self.left -= cost;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn some_at_once_and_the_rest_at_its_pace() {
        let began = Instant::now();
        let mut tempo = Tempo::new(10, 100);
        let many = |tempo: &mut Tempo, cost: usize, at: u64| {
            let now = began + Duration::from_secs(at);
            (0..1000).take_while(|_| tempo.take(cost, now)).count()
        };
        assert_eq!(many(&mut tempo, 1, 0), 100);
        assert_eq!(many(&mut tempo, 1, 1), 10);
        assert_eq!(many(&mut tempo, 20, 2), 0);
        assert_eq!(many(&mut tempo, 20, 3), 1);
        assert_eq!(many(&mut tempo, 30, 1000), 3, "not more than that at once");
    }

    #[test]
    fn what_costs_more_than_there_is_comes_once_in_a_while() {
        let began = Instant::now();
        let mut tempo = Tempo::new(10, 100);
        assert!(tempo.take(1000, began));
        assert!(!tempo.take(1000, began + Duration::from_secs(9)));
        assert!(tempo.take(1000, began + Duration::from_secs(10)));
    }
}
