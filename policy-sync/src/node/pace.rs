// SPDX-License-Identifier: Apache-2.0
//! When a report is written. A change of a policy is a report of every node, so one that would be replaced a moment later
//! is not written: while policies are being loaded, and soon after another one. Pure.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// Containers come and go without anybody telling: what the daemon has is looked at this often ...
pub const PERIOD: Duration = Duration::from_secs(10);
/// ... and this long after a change of the policies, until it has settled.
pub const SOON: Duration = Duration::from_millis(100);
/// Loading that takes longer is worth a report.
const PATIENCE: Duration = Duration::from_secs(3);
/// From one report to the next. The first after a quiet time does not wait.
const GAP: Duration = Duration::from_secs(1);

/// A report that is still true is written again after this long at least, as the kubelet does it with a Node: somebody may
/// have changed or deleted it. Where nobody has, that changes nothing, and no watch tells of it.
const AGAIN: Duration = Duration::from_secs(300);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write it.
    Write,
    /// Look again after this long, or when something has happened.
    Wait(Duration),
}

/// What was written, and when.
#[derive(Debug)]
pub struct Pace<T> {
    written: Option<(T, Instant)>,
    unsettled_since: Option<Instant>,
    again: Duration,
}

impl<T: PartialEq> Pace<T> {
    /// That of a node. A change of a policy is a report of every node at the same time; each repeats it at another one.
    pub fn new(node: &str) -> Self {
        let digest = Sha256::digest(node);
        let share = f64::from(digest[0]) / 256.0 + f64::from(digest[1]) / 65_536.0;
        Self {
            written: None,
            unsettled_since: None,
            again: AGAIN.mul_f64(1.0 + share),
        }
    }

    /// What to do with a report, of a daemon that has dealt with everything or has not.
    pub fn next(&mut self, report: &T, settled: bool, now: Instant) -> Step {
        let since = *self.unsettled_since.get_or_insert(now);
        if settled {
            self.unsettled_since = None;
        }
        let is_loading = !settled && now.duration_since(since) < PATIENCE;
        match &self.written {
            Some((written, at)) if written == report && now.duration_since(*at) < self.again => {
                Step::Wait(if settled { PERIOD } else { SOON })
            }
            _ if is_loading => Step::Wait(SOON),
            Some((_, at)) if now.duration_since(*at) < GAP => {
                Step::Wait(GAP - now.duration_since(*at))
            }
            _ => Step::Write,
        }
    }

    /// Notes what was written.
    pub fn wrote(&mut self, report: T, now: Instant) {
        self.written = Some((report, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_report() {
        let mut pace = Pace::new("n");
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(
            pace.next(&"a", true, at(0)),
            Step::Write,
            "the first at once"
        );
        pace.wrote("a", at(0));
        assert_eq!(pace.next(&"a", true, at(0)), Step::Wait(PERIOD));
        assert_eq!(pace.next(&"a", true, at(299_999)), Step::Wait(PERIOD));
        assert_eq!(pace.next(&"a", true, at(600_000)), Step::Write);
        // It is being loaded, and then it is not.
        assert_eq!(pace.next(&"b loads", false, at(5000)), Step::Wait(SOON));
        assert_eq!(pace.next(&"b", true, at(5100)), Step::Write);
        pace.wrote("b", at(5100));
        // Others soon after wait a little.
        assert_eq!(
            pace.next(&"c", true, at(5400)),
            Step::Wait(Duration::from_millis(700))
        );
        assert_eq!(pace.next(&"d", true, at(6100)), Step::Write);
    }

    #[test]
    fn nodes_repeat_their_reports_at_different_times() {
        let again = |index: u32| Pace::<()>::new(&format!("node-{index}")).again;
        let mut times: Vec<Duration> = (0..1000).map(again).collect();
        times.sort_unstable();
        assert!(times[0] >= AGAIN && times[999] <= AGAIN * 2);
        let most = times.windows(50).map(|some| some[49] - some[0]).min();
        assert!(most > Some(Duration::from_secs(1)), "{most:?}");
    }

    #[test]
    fn loading_that_goes_on_is_told() {
        let mut pace = Pace::new("n");
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(pace.next(&"loads", false, at(0)), Step::Wait(SOON));
        assert_eq!(pace.next(&"loads", false, at(2900)), Step::Wait(SOON));
        assert_eq!(pace.next(&"loads", false, at(3000)), Step::Write);
        pace.wrote("loads", at(3000));
        assert_eq!(pace.next(&"loads", false, at(3100)), Step::Wait(SOON));
        // What settles meanwhile begins anew.
        assert_eq!(pace.next(&"done", true, at(4100)), Step::Write);
        pace.wrote("done", at(4100));
        assert_eq!(pace.next(&"loads again", false, at(9000)), Step::Wait(SOON));
    }
}
