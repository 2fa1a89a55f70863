// SPDX-License-Identifier: Apache-2.0
//! The tables that the kernel looks destinations up in.

use super::{Block, DestinationRule, MAPPED, Place};
use crate::compile::effect::Effect;
use crate::error::Findings;
use crate::plan::egress::{AddressPrefix, Egress, PortSet};
use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;

/// Most port ranges of all port sets together; blocks that nest repeat those of the outer ones.
const MAX_RANGES: usize = 1 << 17;

/// First port, last port, refused, reported.
type Range = (u16, u16, bool, bool);

/// The table, or `None` without rules.
pub(in super::super) fn build(
    rules: &[DestinationRule],
    field: &str,
    findings: &mut Findings,
) -> Option<Egress> {
    let rules: Vec<&DestinationRule> = rules
        .iter()
        .filter(|r| r.effect != Effect::default())
        .collect();
    if rules.is_empty() {
        return None;
    }
    let mut own: HashMap<Block, HashSet<Range>> = HashMap::new();
    let mut anywhere = HashSet::new();
    let mut pod = HashSet::new();
    for rule in &rules {
        let ranges = match rule.place {
            Place::Anywhere => &mut anywhere,
            Place::Block(block) => own.entry(block).or_default(),
            Place::PodSelf => &mut pod,
        };
        ranges.extend(
            rule.ports
                .iter()
                .map(|(first, last)| (*first, *last, rule.effect.deny, rule.effect.audit)),
        );
    }
    let mut blocks: Vec<Block> = own.keys().copied().collect();
    if !anywhere.is_empty() {
        blocks.push(Block::EVERYTHING);
    }
    // Where an IPv6 block is wider than the mapped addresses, these need an entry of their own that leaves it out.
    if blocks.iter().any(|block| block.covers(MAPPED)) {
        blocks.push(MAPPED);
    }
    blocks.sort_unstable();
    blocks.dedup();

    let anywhere = merge(anywhere);
    let mut sets = PortSets::default();
    let mut prefixes = Vec::with_capacity(blocks.len());
    // Sorted blocks nest like brackets: those that are open cover the next one, and hold all that holds there.
    let mut open: Vec<(Block, PortSet)> = Vec::new();
    for block in blocks {
        while open.last().is_some_and(|(outer, _)| !outer.covers(block)) {
            open.pop();
        }
        let outer = match open.last() {
            // IPv6 rules end here, however IPv4 addresses are stored.
            Some((_, set)) if block != MAPPED => set,
            _ => &anywhere,
        };
        let here = own.remove(&block).unwrap_or_default();
        let set = merge(outer.ranges.iter().copied().chain(here));
        let number = sets.number(&set);
        prefixes.push(AddressPrefix {
            address: Ipv6Addr::from(block.address),
            length: block.length,
            port_set: number.or_else(|| too_many(field, findings))?,
        });
        open.push((block, set));
    }
    let pod_self = sets
        .number(&merge(pod))
        .or_else(|| too_many(field, findings))?;
    Some(Egress {
        prefixes,
        pod_self,
        port_sets: sets.sets,
    })
}

fn too_many(field: &str, findings: &mut Findings) -> Option<u16> {
    findings.add(
        field,
        format!("the destinations have more than 65,535 sets of ports, or {MAX_RANGES} ranges in them; merge rules"),
    );
    None
}

/// Distinct port sets; the first is empty.
struct PortSets {
    sets: Vec<PortSet>,
    numbers: HashMap<PortSet, u16>,
    ranges: usize,
}

impl Default for PortSets {
    fn default() -> Self {
        Self {
            sets: vec![PortSet::default()],
            numbers: HashMap::from([(PortSet::default(), 0)]),
            ranges: 0,
        }
    }
}

impl PortSets {
    /// `None` when there are too many.
    fn number(&mut self, set: &PortSet) -> Option<u16> {
        if let Some(number) = self.numbers.get(set) {
            return Some(*number);
        }
        let number = u16::try_from(self.sets.len()).ok()?;
        self.ranges += set.ranges.len();
        if self.ranges > MAX_RANGES {
            return None;
        }
        self.sets.push(set.clone());
        self.numbers.insert(set.clone(), number);
        Some(number)
    }
}

/// Disjoint sorted ranges from overlapping ones: what any refuses is refused, what any reports is reported.
fn merge(ranges: impl IntoIterator<Item = Range>) -> PortSet {
    // At each port where something begins or ends: by how much the number of refusing and reporting ranges changes.
    let mut changes: Vec<(u32, i64, i64)> = Vec::new();
    for (first, last, deny, audit) in ranges {
        let (deny, audit) = (i64::from(deny), i64::from(audit));
        changes.push((u32::from(first), deny, audit));
        changes.push((u32::from(last) + 1, -deny, -audit));
    }
    changes.sort_unstable_by_key(|change| change.0);
    let mut merged: Vec<Range> = Vec::new();
    let (mut deny, mut audit, mut from) = (0, 0, 0);
    for (port, deny_change, audit_change) in changes {
        if port > from && (deny > 0 || audit > 0) {
            let last = (port - 1) as u16;
            match merged.last_mut() {
                Some(range)
                    if u32::from(range.1) + 1 == from
                        && (range.2, range.3) == (deny > 0, audit > 0) =>
                {
                    range.1 = last;
                }
                _ => merged.push((from as u16, last, deny > 0, audit > 0)),
            }
        }
        (deny, audit, from) = (deny + deny_change, audit + audit_change, port);
    }
    PortSet { ranges: merged }
}
