// SPDX-License-Identifier: Apache-2.0
//! Calls of which only one argument is compared, and only by order or equality: verdicts along the line of its values.

use super::action::Action;
use super::condition::Condition;
use super::resolve::{ARGUMENTS, CallRule, Candidate, Conditions, MAX_RULES, verdict};

/// Longest run of values between two others that is written value by value.
const MAX_VALUES: u64 = 32;

/// Values with the same verdict, next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
    action: Action,
}

/// The rules for a call; `None` when the candidates compare otherwise, or the rules would be too many.
pub(super) fn resolve(default: Action, candidates: &[Candidate<'_>]) -> Option<Vec<CallRule>> {
    let conditions = || {
        candidates.iter().flat_map(|c| {
            c.rule
                .when
                .iter()
                .enumerate()
                .filter_map(|(i, c)| Some((i, (*c)?)))
        })
    };
    let argument = conditions().next().map_or(0, |(index, _)| index);
    if conditions().any(|(index, condition)| {
        index != argument || matches!(condition, Condition::Masked { .. })
    }) {
        return None;
    }
    let runs = runs(
        default,
        candidates,
        argument,
        conditions().map(|(_, condition)| condition),
    );
    let runs = one_verdict_above(runs, default)?;
    let rule = |action, condition| {
        let mut when = Conditions::default();
        when[argument] = condition;
        CallRule { action, when }
    };
    // "All but one value" is one comparison.
    if let [below, hole, above] = runs[..] {
        if below.action == above.action && below.action != default && hole.first == hole.last {
            let mut rules = vec![rule(below.action, Some(Condition::IsNot(hole.first)))];
            if hole.action != default {
                rules.push(rule(hole.action, Some(Condition::Is(hole.first))));
            }
            return Some(rules);
        }
    }
    let mut rules = Vec::new();
    for Run {
        first,
        last,
        action,
    } in runs
    {
        if action == default {
            continue;
        }
        match (first, last) {
            (0, u64::MAX) => rules.push(rule(action, None)),
            (first, last) if first == last => rules.push(rule(action, Some(Condition::Is(first)))),
            (0, last) => rules.push(rule(action, Some(Condition::Le(last)))),
            (first, u64::MAX) => rules.push(rule(action, Some(Condition::Ge(first)))),
            (first, last) if last - first < MAX_VALUES => {
                rules.extend((first..=last).map(|value| rule(action, Some(Condition::Is(value)))));
            }
            _ => return None,
        }
    }
    debug_assert!(argument < ARGUMENTS);
    (rules.len() <= MAX_RULES).then_some(rules)
}

/// Gives all values that do not fit into 32 bits one verdict, at least as strict as each of theirs: that of the values
/// just below, or the default's. `None` when neither is strict enough.
fn one_verdict_above(runs: Vec<Run>, default: Action) -> Option<Vec<Run>> {
    let largest = u64::from(u32::MAX);
    let strictest = runs
        .iter()
        .filter(|run| run.last > largest)
        .map(|run| run.action)
        .max()?;
    let mut low: Vec<Run> = runs
        .into_iter()
        .filter(|run| run.first <= largest)
        .collect();
    let top = low.last_mut()?;
    if top.action.kind >= strictest.kind
        && (top.action == strictest || strictest.kind > default.kind)
    {
        top.last = u64::MAX;
        return Some(low);
    }
    if strictest.kind > default.kind {
        return None;
    }
    top.last = largest;
    let above = Run {
        first: largest + 1,
        last: u64::MAX,
        action: default,
    };
    if top.action == default {
        top.last = u64::MAX;
    } else {
        low.push(above);
    }
    Some(low)
}

fn runs(
    default: Action,
    candidates: &[Candidate<'_>],
    argument: usize,
    conditions: impl Iterator<Item = Condition>,
) -> Vec<Run> {
    // Where a verdict may change.
    let mut starts = vec![0];
    for condition in conditions {
        match condition {
            Condition::Is(value) | Condition::IsNot(value) => {
                starts.extend([Some(value), value.checked_add(1)].into_iter().flatten())
            }
            Condition::Le(last) => starts.extend(last.checked_add(1)),
            Condition::Ge(first) => starts.push(first),
            Condition::Masked { .. } => {}
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let mut runs: Vec<Run> = Vec::new();
    for (index, first) in starts.iter().enumerate() {
        let last = starts.get(index + 1).map_or(u64::MAX, |next| next - 1);
        let holding = candidates
            .iter()
            .copied()
            .filter(|c| c.rule.when[argument].is_none_or(|c| c.holds(*first)));
        let action = verdict(default, holding);
        match runs.last_mut() {
            Some(run) if run.action == action => run.last = last,
            _ => runs.push(Run {
                first: *first,
                last,
                action,
            }),
        }
    }
    runs
}
