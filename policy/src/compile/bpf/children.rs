// SPDX-License-Identifier: Apache-2.0
//! Rules for single executables and for everything that these run: for each distinct set of them a whole profile, with
//! what holds for the container in it.

use super::{FIELD, Parts, PatternSize};
use crate::compile::Part;
use crate::compile::effect::Effect;
use crate::compile::enhance::Enhance;
use crate::error::Findings;
use crate::plan::bpf::BpfChild;
use crate::rules::Rule;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most executables of one profile, as under AppArmor.
const MAX_TARGETS: usize = 256;
/// How large the patterns of the children may be together, in bytes and globs: each child has the container's again.
const MAX_SIZE: usize = 4 * PatternSize::MAX;
/// What an egress destination counts there.
const DESTINATION_SIZE: usize = 16;

/// Rules with what they do, by name and that, so that equal sets are equal.
type RuleSet = BTreeMap<(&'static str, bool, bool), (&'static Rule, Effect)>;
/// Rules by executable, in the order of first mention.
type ByTarget<'a> = Vec<(&'a str, RuleSet)>;

/// The children of a profile whose own rules are `container`; empty, with an error, when they are too many.
pub(super) fn build(container: &Parts, policies: &mut [&mut Part<'_>]) -> Vec<BpfChild> {
    let enhanced = policies.iter().filter_map(|policy| policy.enhance.as_ref());
    let by_target = of_all(enhanced.map(by_target).collect());
    let services = match policies.first() {
        Some(policy) => &policy.fixed.services,
        None => return Vec::new(),
    };
    let Some((field, findings)) = last_mention(policies) else {
        return Vec::new();
    };
    if by_target.len() > MAX_TARGETS {
        findings.add(
            field,
            format!("at most {MAX_TARGETS} executables can have rules of their own"),
        );
        return Vec::new();
    }
    let groups = grouped(by_target);
    let size = groups.len() * (container.size.0 + container.destinations.len() * DESTINATION_SIZE);
    if size > MAX_SIZE {
        findings.add(
            field,
            format!(
                "{} sets of rules for executables, each with those of the container again, make {size} bytes of \
                 rules, of {MAX_SIZE} that are loaded; use fewer targets with different rules, or fewer rules of your own",
                groups.len()
            ),
        );
        return Vec::new();
    }
    let mut children = Vec::new();
    for (rules, targets) in groups {
        let mut parts = container.clone();
        for (rule, effect) in rules.values() {
            parts.add_all(rule.bpf, *effect, services);
        }
        if let Some(profile) = parts.build(FIELD, findings) {
            children.push(BpfChild { targets, profile });
        }
        if findings.is_full() {
            break;
        }
    }
    children
}

/// Where the last of the policies that have rules for executables first names some.
fn last_mention<'p>(policies: &'p mut [&mut Part<'_>]) -> Option<(&'p str, &'p mut Findings)> {
    policies.iter_mut().rev().find_map(|policy| {
        let Part {
            enhance, findings, ..
        } = &mut **policy;
        let (_, _, field) = enhance.as_ref()?.targeted.first()?;
        Some((field.as_str(), findings))
    })
}

/// The rules of several policies by executable. Whose rules hold is decided by the first executable and never again, so
/// that each has the rules of the other policies for all of their executables, as under AppArmor: no policy can take
/// another one's rules away by naming a shell, say, that runs the other's executable.
fn of_all(policies: Vec<ByTarget<'_>>) -> ByTarget<'_> {
    let mut all: ByTarget<'_> = Vec::new();
    let mut seen = HashSet::new();
    for (target, _) in policies.iter().flatten() {
        if all.len() > MAX_TARGETS {
            break;
        }
        if !seen.insert(*target) {
            continue;
        }
        let mut rules = RuleSet::new();
        for policy in &policies {
            match policy.iter().find(|(other, _)| other == target) {
                Some((_, own)) => rules.extend(own),
                None => rules.extend(policy.iter().flat_map(|(_, rules)| rules)),
            }
        }
        all.push((target, rules));
    }
    all
}

/// What BPF does for each executable and not for the whole container, in the order of first mention.
fn by_target<'a>(enhance: &Enhance<'a>) -> ByTarget<'a> {
    let effect = enhance.effect;
    let mut all: ByTarget<'a> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let global = |rule: &Rule| enhance.global.contains(&rule);
    if !effect.deny && !effect.audit {
        return all;
    }
    for (rules, targets, _) in &enhance.targeted {
        let own: RuleSet = rules
            .iter()
            .filter(|rule| !rule.bpf.is_empty() && !global(rule))
            .map(|rule| ((rule.name, effect.deny, effect.audit), (*rule, effect)))
            .collect();
        if own.is_empty() {
            continue;
        }
        for target in *targets {
            let place = *places.entry(target).or_insert_with(|| {
                all.push((target, RuleSet::new()));
                all.len() - 1
            });
            all[place].1.extend(&own);
        }
    }
    all
}

/// One group for all the executables with equal rules, in the order of first mention.
fn grouped(by_target: ByTarget<'_>) -> Vec<(RuleSet, Vec<String>)> {
    let mut groups: Vec<(RuleSet, Vec<String>)> = Vec::new();
    for (target, rules) in by_target {
        let equal = |group: &&mut (RuleSet, Vec<String>)| group.0.keys().eq(rules.keys());
        match groups.iter_mut().find(equal) {
            Some((_, targets)) => targets.push(target.to_owned()),
            None => groups.push((rules, vec![target.to_owned()])),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
