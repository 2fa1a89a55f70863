// SPDX-License-Identifier: Apache-2.0
//! When a report is written. A change of a policy is a report of every node, so one that would be replaced a moment later
//! is not written: while policies are being loaded, and soon after another one. And the nodes of a large cluster do not
//! write theirs all at once. Pure.

use std::time::{Duration, Instant};

/// Containers come and go without anybody telling: what the daemon has is looked at this often ...
pub const PERIOD: Duration = Duration::from_secs(10);
/// ... and this long after a change of the policies, until it has settled.
pub const SOON: Duration = Duration::from_millis(100);
/// Loading that takes longer is worth a report.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nodes that report at once, whatever they are together.
const FEW: usize = 50;
/// Reports that the nodes of a large cluster write in a second, all together.
const TOGETHER: usize = 400;
/// Nodes of the largest cluster. Their number is read from an object that others may write: a wrong one must not silence a
/// node, which waits 50 s for its turn at most.
const MOST: usize = 20_000;
/// After a report that could not be written, and at most after many of them.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_AT_MOST: Duration = Duration::from_secs(32);
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
    /// Write it once more, as a whole.
    Repeat,
    /// Look again after this long, or when something has happened.
    Wait(Duration),
}

/// A node's place among all that report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which all of them have a turn.
    round: Duration,
    /// Its own turn in that.
    turn: Duration,
}

/// A node's own share of 0x10000, as even among many nodes as chance has it.
fn share(node: &str) -> u32 {
    // FNV-1a. The names of nodes differ in a few characters, and its high bits in all.
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ hash >> 32) & 0xffff) as u32
}

impl Place {
    /// The place of a node among so many.
    pub fn of(node: &str, nodes: usize) -> Self {
        let round = if nodes < FEW {
            Duration::ZERO
        } else {
            Duration::from_millis((nodes.min(MOST) * 1000 / TOGETHER) as u64)
        };
        let turn = round * share(node) / 0x1_0000;
        Self { round, turn }
    }

    /// When to try again after so many failures, one behind the other: a server that has too much to do must not be asked by
    /// all at once again.
    pub fn retry(self, failures: u32) -> Duration {
        let pause = RETRY * 2u32.pow(failures.saturating_sub(1).min(8));
        pause.min(RETRY_AT_MOST) + self.turn
    }
}

/// What was written, and when.
#[derive(Debug)]
pub struct Pace<T> {
    written: Option<(T, Instant)>,
    unsettled_since: Option<Instant>,
    /// Since when there is something to write.
    ready_since: Option<Instant>,
    again: Duration,
}

impl<T: PartialEq> Pace<T> {
    /// That of a node. A change of a policy is a report of every node at the same time; each repeats it at another one.
    pub fn new(node: &str) -> Self {
        Self {
            written: None,
            unsettled_since: None,
            ready_since: None,
            again: AGAIN + AGAIN * share(node) / 0x1_0000,
        }
    }

    /// What to do with a report, of a daemon that has dealt with everything or has not.
    pub fn next(&mut self, report: &T, settled: bool, place: Place, now: Instant) -> Step {
        let since = *self.unsettled_since.get_or_insert(now);
        if settled {
            self.unsettled_since = None;
        }
        let is_loading = !settled && now.duration_since(since) < PATIENCE;
        match &self.written {
            Some((written, at)) if written == report => {
                self.ready_since = None;
                if now.duration_since(*at) >= self.again {
                    return Step::Repeat;
                }
                return Step::Wait(if settled { PERIOD } else { SOON });
            }
            _ if is_loading => return Step::Wait(SOON),
            _ => {}
        }
        let ready = *self.ready_since.get_or_insert(now);
        let mut due = ready + place.turn;
        if let Some((_, at)) = &self.written {
            due = due.max(*at + GAP.max(place.round));
        }
        match due.checked_duration_since(now) {
            Some(left) if left > Duration::ZERO => Step::Wait(left),
            _ => Step::Write,
        }
    }

    /// Notes what was written.
    pub fn wrote(&mut self, report: T, now: Instant) {
        self.written = Some((report, now));
        self.ready_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW_NODES: Place = Place {
        round: Duration::ZERO,
        turn: Duration::ZERO,
    };

    #[test]
    fn a_few_nodes_do_not_wait() {
        assert_eq!(Place::of("a", 49), FEW_NODES);
        assert_eq!(Place::of("a", 0), FEW_NODES);
        assert!(Place::of("a", 50).round <= Duration::from_millis(125));
    }

    #[test]
    fn a_wrong_number_of_nodes_does_not_silence_one() {
        let place = Place::of("a", usize::MAX);
        assert_eq!(place, Place::of("a", MOST));
        assert_eq!(place.round, Duration::from_secs(50));
        assert!(place.turn < place.round);
        assert!(place.retry(u32::MAX) < Duration::from_secs(90));
    }

    #[test]
    fn failures_make_it_slower() {
        let place = Place {
            round: Duration::from_secs(5),
            turn: Duration::from_secs(3),
        };
        let after = [1, 2, 3, 5, 6, 1000].map(|failures| place.retry(failures).as_secs());
        assert_eq!(after, [5, 7, 11, 35, 35, 35]);
        assert_eq!(FEW_NODES.retry(1), RETRY);
    }

    #[test]
    fn many_nodes_have_their_turns_all_over_a_round() {
        let round = Duration::from_secs(5);
        let mut at = [0; 10];
        for index in 0..2000 {
            let place = Place::of(
                &format!("ip-10-0-{}-{}.internal", index / 250, index % 250),
                2000,
            );
            assert_eq!(place.round, round);
            at[place.turn.as_millis() as usize / 500] += 1;
        }
        assert!(at.iter().all(|count| (150..250).contains(count)), "{at:?}");
    }

    #[test]
    fn among_many_a_node_writes_once_a_round_in_its_turn() {
        let mut pace = Pace::new("n");
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let place = Place {
            round: Duration::from_secs(5),
            turn: Duration::from_secs(2),
        };
        let wait = |ms| Step::Wait(Duration::from_millis(ms));
        assert_eq!(pace.next(&"a", true, place, at(0)), wait(2000));
        // Others meanwhile come with it.
        assert_eq!(pace.next(&"b", true, place, at(500)), wait(1500));
        assert_eq!(pace.next(&"c", true, place, at(2000)), Step::Write);
        pace.wrote("c", at(2000));
        assert_eq!(pace.next(&"d", true, place, at(2500)), wait(4500));
        assert_eq!(pace.next(&"d", true, place, at(7000)), Step::Write);
        pace.wrote("d", at(7000));
        // After a quiet time.
        assert_eq!(pace.next(&"e", true, place, at(60_000)), wait(2000));
        // What is again as it was is no news.
        assert_eq!(pace.next(&"d", true, place, at(61_000)), Step::Wait(PERIOD));
        assert_eq!(pace.next(&"e", true, place, at(70_000)), wait(2000));
    }

    #[test]
    fn a_change_is_one_report() {
        let mut pace = Pace::new("n");
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(
            pace.next(&"a", true, FEW_NODES, at(0)),
            Step::Write,
            "the first at once"
        );
        pace.wrote("a", at(0));
        assert_eq!(pace.next(&"a", true, FEW_NODES, at(0)), Step::Wait(PERIOD));
        assert_eq!(
            pace.next(&"a", true, FEW_NODES, at(299_999)),
            Step::Wait(PERIOD)
        );
        assert_eq!(pace.next(&"a", true, FEW_NODES, at(600_000)), Step::Repeat);
        // It is being loaded, and then it is not.
        assert_eq!(
            pace.next(&"b loads", false, FEW_NODES, at(5000)),
            Step::Wait(SOON)
        );
        assert_eq!(pace.next(&"b", true, FEW_NODES, at(5100)), Step::Write);
        pace.wrote("b", at(5100));
        // Others soon after wait a little.
        assert_eq!(
            pace.next(&"c", true, FEW_NODES, at(5400)),
            Step::Wait(Duration::from_millis(700))
        );
        assert_eq!(pace.next(&"d", true, FEW_NODES, at(6100)), Step::Write);
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
        assert_eq!(
            pace.next(&"loads", false, FEW_NODES, at(0)),
            Step::Wait(SOON)
        );
        assert_eq!(
            pace.next(&"loads", false, FEW_NODES, at(2900)),
            Step::Wait(SOON)
        );
        assert_eq!(pace.next(&"loads", false, FEW_NODES, at(3000)), Step::Write);
        pace.wrote("loads", at(3000));
        assert_eq!(
            pace.next(&"loads", false, FEW_NODES, at(3100)),
            Step::Wait(SOON)
        );
        // What settles meanwhile begins anew.
        assert_eq!(pace.next(&"done", true, FEW_NODES, at(4100)), Step::Write);
        pace.wrote("done", at(4100));
        assert_eq!(
            pace.next(&"loads again", false, FEW_NODES, at(9000)),
            Step::Wait(SOON)
        );
    }
}
