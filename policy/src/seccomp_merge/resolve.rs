// SPDX-License-Identifier: Apache-2.0
//! The rules for one call: the stricter verdict of two filters.
//!
//! libseccomp makes a tree of the rules for a call, level by level: argument 0's high half, its low half, argument 1's
//! high half and so on. It never goes back: once a condition of a level holds, the others of that level are not tried,
//! whatever the later levels say. (2.5.4 also gets comparisons by order wrong beside rules on other arguments.) For
//! 32-bit architectures, x32 among them, it leaves the high halves out, so that a rule for large values becomes one for
//! small values, or clashes with one and is not added at all.
//!
//! So the merged rules are written from a decision on what the call's arguments are, and only for arguments whose high
//! half is 0 or does not matter: see [`super::line`] for comparisons of one argument, and [`super::tree`] for everything
//! else.

use super::MergeError;
use super::action::{Action, Kind};
use super::condition::{Condition, Outcome};
use super::{line, tree};
use crate::types::SyscallRule;
use serde_json::{Value, json};

/// Arguments of a system call.
pub(super) const ARGUMENTS: usize = 6;
/// Most rules for one call; beyond, it is refused altogether.
pub(super) const MAX_RULES: usize = 96;

/// Conditions by argument; without any, every call.
pub(super) type Conditions = [Option<Condition>; ARGUMENTS];

/// A rule for one call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallRule {
    pub(super) action: Action,
    pub(super) when: Conditions,
}

impl CallRule {
    /// An OCI rule as runtimes hand it to libseccomp: comparisons that repeat an argument make every comparison a rule
    /// of its own.
    pub(super) fn parse(rule: &SyscallRule, whose: &'static str) -> Result<Vec<Self>, MergeError> {
        let action = Action::parse(&rule.action, rule.errno_ret)
            .ok_or_else(|| MergeError::Action(whose, rule.action.clone()))?;
        let mut seen = [false; ARGUMENTS];
        let mut repeated = false;
        let mut conditions = Vec::new();
        for arg in &rule.args {
            let wrong = || MergeError::Comparison(whose, arg.index, arg.op.clone());
            let seen = seen.get_mut(arg.index as usize).ok_or_else(wrong)?;
            repeated |= std::mem::replace(seen, true);
            conditions.push((arg.index as usize, Condition::parse(arg).ok_or_else(wrong)?));
        }
        let groups: Vec<&[(usize, Outcome)]> = if repeated {
            conditions.chunks(1).collect()
        } else {
            vec![&conditions]
        };
        Ok(groups
            .into_iter()
            .filter_map(all_of)
            .map(|when| Self { action, when })
            .collect())
    }

    pub(super) fn to_json(&self, names: &[&str]) -> Value {
        let args: Vec<_> = self
            .when
            .iter()
            .enumerate()
            .filter_map(|(i, c)| c.map(|c| c.to_arg(i as u32)))
            .collect();
        let mut rule = json!({"names": names, "action": self.action.name()});
        if let Some(data) = self.action.data() {
            rule["errnoRet"] = json!(data);
        }
        if !args.is_empty() {
            rule["args"] = json!(args);
        }
        rule
    }

    pub(super) fn is_unconditional(&self) -> bool {
        self.when.iter().all(Option::is_none)
    }
}

/// `None` when one of the conditions never holds.
fn all_of(conditions: &[(usize, Outcome)]) -> Option<Conditions> {
    let mut when = Conditions::default();
    for (index, outcome) in conditions {
        match outcome {
            Outcome::When(condition) => when[*index] = Some(*condition),
            Outcome::Always => {}
            Outcome::Never => return None,
        }
    }
    Some(when)
}

/// A rule that may hold, and whether it is the own filter's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) rule: &'a CallRule,
    pub(super) own: bool,
}

/// The rules for one call, at most `most` of them unless the call has but one: wherever none of them holds, `default`
/// does, which is the own filter's.
pub(super) fn resolve(
    default: Action,
    own: &[CallRule],
    policy: &[CallRule],
    most: usize,
) -> Vec<CallRule> {
    let own = effective(default, own);
    let candidates: Vec<Candidate<'_>> = own
        .iter()
        .map(|rule| Candidate { rule, own: true })
        .chain(policy.iter().map(|rule| Candidate { rule, own: false }))
        .collect();
    let rules = line::resolve(default, &candidates).or_else(|| tree::resolve(default, &candidates));
    if let Some(rules) = rules.filter(|rules| rules.len() <= most.max(1)) {
        return rules;
    }
    refuse(default, &own, policy)
}

/// For a call with too many cases to tell apart: the strictest of all that is said of it holds for it.
fn refuse(default: Action, own: &[&CallRule], policy: &[CallRule]) -> Vec<CallRule> {
    let action = own
        .iter()
        .copied()
        .chain(policy)
        .map(|rule| rule.action)
        .fold(default, Ord::max);
    if action == default {
        Vec::new()
    } else {
        vec![CallRule {
            action,
            when: Conditions::default(),
        }]
    }
}

/// The rules of a filter as libseccomp makes them hold: those that say what the default says are not added, and an
/// unconditional rule beats all others. Of several unconditional ones the strictest is taken.
fn effective(default: Action, rules: &[CallRule]) -> Vec<&CallRule> {
    let rules: Vec<&CallRule> = rules.iter().filter(|rule| rule.action != default).collect();
    match rules
        .iter()
        .filter(|rule| rule.is_unconditional())
        .max_by_key(|rule| rule.action)
    {
        Some(rule) => vec![*rule],
        None => rules,
    }
}

/// The stricter of what the two filters say where all these rules hold. Of two that are equally strict the own
/// filter's is taken, with its errno.
pub(super) fn verdict<'a>(
    default: Action,
    holding: impl Iterator<Item = Candidate<'a>> + Clone,
) -> Action {
    let strictest = |own: bool| {
        holding
            .clone()
            .filter(|candidate| candidate.own == own)
            .map(|candidate| candidate.rule.action)
            .max()
    };
    let own = strictest(true).unwrap_or(default);
    let policy = strictest(false).unwrap_or(Action {
        kind: Kind::Allow,
        data: 0,
    });
    if policy.kind > own.kind { policy } else { own }
}
