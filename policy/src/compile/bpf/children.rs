//! Rules for single executables and for everything that these run: for each distinct set of them a whole profile, with
//! what holds for the container in it.

use super::{FIELD, Parts, PatternSize};
use crate::compile::enhance::Enhance;
use crate::error::Findings;
use crate::plan::bpf::BpfChild;
use crate::rules::Rule;
use std::collections::{BTreeMap, HashMap};

/// Most executables of one policy, as under AppArmor.
const MAX_TARGETS: usize = 256;
/// How large the patterns of the children may be together, in bytes and globs: each child has the container's again.
const MAX_SIZE: usize = 4 * PatternSize::MAX;
/// What an egress destination counts there.
const DESTINATION_SIZE: usize = 16;

/// Rules by name, so that equal sets are equal.
type RuleSet = BTreeMap<&'static str, &'static Rule>;

/// The children of a profile whose own rules are `container`; empty, with an error, when they are too many.
pub(super) fn build(
    container: &Parts,
    enhance: &Enhance<'_>,
    findings: &mut Findings,
) -> Vec<BpfChild> {
    let by_target = by_target(enhance);
    let Some((_, _, field)) = enhance.targeted.first() else {
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
        for rule in rules.values() {
            parts.add_all(rule.bpf, enhance.effect, &enhance.fixed.services);
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

/// What BPF does for each executable and not for the whole container, in the order of first mention.
fn by_target<'a>(enhance: &Enhance<'a>) -> Vec<(&'a str, RuleSet)> {
    let mut all: Vec<(&str, RuleSet)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let global = |rule: &Rule| {
        enhance
            .global
            .iter()
            .any(|other| std::ptr::eq(*other, rule))
    };
    if !enhance.effect.deny && !enhance.effect.audit {
        return all;
    }
    for (rules, targets, _) in &enhance.targeted {
        let own: RuleSet = rules
            .iter()
            .filter(|rule| !rule.bpf.is_empty() && !global(rule))
            .map(|rule| (rule.name, *rule))
            .collect();
        if own.is_empty() {
            continue;
        }
        for target in *targets {
            let place = *places.entry(target).or_insert_with(|| {
                all.push((target, RuleSet::new()));
                all.len() - 1
            });
            all[place]
                .1
                .extend(own.iter().map(|(name, rule)| (*name, *rule)));
        }
    }
    all
}

/// One group for all the executables with equal rules, in the order of first mention.
fn grouped(by_target: Vec<(&str, RuleSet)>) -> Vec<(RuleSet, Vec<String>)> {
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
