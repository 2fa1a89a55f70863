//! `bpfRawRules.network.egress`: destinations to a table of prefixes, each with the rules of all that cover it.

use crate::compile::effect::Effect;
use crate::error::Findings;
use crate::plan::egress::{AddressPrefix, Egress, PortSet};
use crate::types::{Destination, NetworkEgressRule, Port};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Most rules of one policy; the table's size is what limits it.
const MAX_DESTINATIONS: usize = 16_384;
/// The prefix of IPv4 addresses in the table.
const MAPPED: Block = Block {
    address: 0xffff_0000_0000,
    length: 96,
};

/// A block of the table's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Block {
    address: u128,
    length: u8,
}

impl Block {
    const EVERYTHING: Self = Self {
        address: 0,
        length: 0,
    };

    fn of(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self {
                address: u128::from(net.network().to_ipv6_mapped()),
                length: net.prefix_len() + 96,
            },
            IpNet::V6(net) => Self {
                address: u128::from(net.network()),
                length: net.prefix_len(),
            },
        }
    }

    fn covers(self, other: Self) -> bool {
        self.length <= other.length
            && (self.length == 0
                || (self.address ^ other.address) >> (128 - u32::from(self.length)) == 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Any IPv4 or IPv6 address.
    Anywhere,
    /// A block. An IPv6 block that is wide enough to hold the mapped addresses means IPv6 all the same.
    Block(Block),
    /// The pod's own addresses.
    PodSelf,
}

/// One rule: where to, which ports, what happens.
#[derive(Debug, Clone)]
pub(super) struct DestinationRule {
    place: Place,
    /// First and last port; never empty.
    ports: Vec<(u16, u16)>,
    effect: Effect,
}

impl DestinationRule {
    /// Every port of one address.
    pub(super) fn address(address: IpAddr, effect: Effect) -> Self {
        Self {
            place: Place::Block(Block::of(address.into())),
            ports: vec![(0, u16::MAX)],
            effect,
        }
    }

    fn holds_in(&self, block: Block) -> bool {
        match self.place {
            Place::Anywhere => true,
            Place::Block(own) => {
                own.covers(block) && (own.length >= MAPPED.length || !MAPPED.covers(block))
            }
            Place::PodSelf => false,
        }
    }
}

pub(super) fn add(
    rules: &NetworkEgressRule,
    field: &str,
    out: &mut Vec<DestinationRule>,
    findings: &mut Findings,
) {
    const NEEDS_API: &str = "needs the API server to find addresses, which this version does not ask; list the \
                             addresses in toDestinations";
    if !rules.to_services.is_empty() {
        findings.add(format!("{field}.toServices"), NEEDS_API);
    }
    if !rules.to_pods.is_empty() {
        findings.add(format!("{field}.toPods"), NEEDS_API);
    }
    if rules.to_destinations.len() > MAX_DESTINATIONS {
        findings.add(
            format!("{field}.toDestinations"),
            format!("at most {MAX_DESTINATIONS} destinations fit; use blocks"),
        );
        return;
    }
    for (index, rule) in rules.to_destinations.iter().enumerate() {
        let field = format!("{field}.toDestinations[{index}]");
        let effect = Effect::from_qualifiers(&rule.qualifiers, &field, findings);
        let ports = ports(&rule.ports, &field, findings);
        for place in places(rule, &field, findings) {
            out.push(DestinationRule {
                place,
                ports: ports.clone(),
                effect,
            });
        }
    }
}

fn places(rule: &Destination, field: &str, findings: &mut Findings) -> Vec<Place> {
    let host = |address: IpAddr| Place::Block(Block::of(address.into()));
    match (rule.ip.as_deref(), rule.cidr.as_deref()) {
        (Some(_), Some(_)) => findings.add(field, "ip and cidr exclude each other; write two rules"),
        (None, None) if rule.ports.is_empty() => {
            findings.add(field, "nothing is selected; write ip, cidr or ports (`cidr: 0.0.0.0/0` is all of IPv4)");
        }
        (None, None) => return vec![Place::Anywhere],
        (Some("pod-self"), None) => return vec![Place::PodSelf],
        (Some("unspecified"), None) => return ["0.0.0.0", "::"].map(|a| host(literal(a))).to_vec(),
        (Some("localhost"), None) => return ["127.0.0.1", "::1"].map(|a| host(literal(a))).to_vec(),
        (Some(ip), None) => match ip.parse::<IpAddr>() {
            Ok(address) => return vec![host(address)],
            Err(_) => findings.add(
                format!("{field}.ip"),
                format!("`{ip}` is no address; write an IPv4 or IPv6 address, pod-self, unspecified or localhost"),
            ),
        },
        (None, Some(cidr)) => match cidr.parse::<IpNet>() {
            Ok(net) => return vec![Place::Block(Block::of(net))],
            Err(_) => findings.add(
                format!("{field}.cidr"),
                format!("`{cidr}` is no address block; write one such as 10.0.0.0/8 or fd00::/8"),
            ),
        },
    }
    Vec::new()
}

fn literal(text: &str) -> IpAddr {
    text.parse().expect("a literal of this file")
}

fn ports(ports: &[Port], field: &str, findings: &mut Findings) -> Vec<(u16, u16)> {
    if ports.is_empty() {
        return vec![(0, u16::MAX)];
    }
    let mut ranges = Vec::new();
    for (index, Port { port, end_port }) in ports.iter().enumerate() {
        let end = end_port.unwrap_or(*port);
        if *port == 0 {
            findings.add(
                format!("{field}.ports[{index}].port"),
                "0 is no port; write 1 to 65535, or leave ports out",
            );
        } else if end < *port {
            findings.add(
                format!("{field}.ports[{index}].endPort"),
                format!("{end} is before port {port}; swap them"),
            );
        } else {
            ranges.push((*port, end));
        }
    }
    ranges
}

/// The table, or `None` without rules.
pub(super) fn build(
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
    let mut blocks: Vec<Block> = rules
        .iter()
        .filter_map(|rule| match rule.place {
            Place::Anywhere => Some(Block::EVERYTHING),
            Place::Block(block) => Some(block),
            Place::PodSelf => None,
        })
        .collect();
    // Where an IPv6 block is wider than the mapped addresses, these need an entry of their own that leaves it out.
    if blocks.iter().any(|block| block.covers(MAPPED)) {
        blocks.push(MAPPED);
    }
    blocks.sort_unstable();
    blocks.dedup();

    let mut sets = PortSets::default();
    let mut prefixes = Vec::with_capacity(blocks.len());
    for (block, covering) in with_covering_rules(&blocks, &rules) {
        let covering: Vec<_> = covering
            .into_iter()
            .filter(|rule| rule.holds_in(block))
            .collect();
        prefixes.push(AddressPrefix {
            address: Ipv6Addr::from(block.address),
            length: block.length,
            port_set: sets.number(&covering),
        });
    }
    let own: Vec<_> = rules
        .iter()
        .copied()
        .filter(|rule| rule.place == Place::PodSelf)
        .collect();
    let pod_self = if own.is_empty() { 0 } else { sets.number(&own) };
    if sets.sets.len() > usize::from(u16::MAX) {
        findings.add(
            field,
            "the destinations have more than 65,535 distinct sets of ports; merge rules",
        );
        return None;
    }
    Some(Egress {
        prefixes,
        pod_self,
        port_sets: sets.sets,
    })
}

/// For each block (sorted), the rules whose block covers it. Sorted blocks nest like brackets, so a stack is enough.
fn with_covering_rules<'a>(
    blocks: &[Block],
    rules: &[&'a DestinationRule],
) -> Vec<(Block, Vec<&'a DestinationRule>)> {
    let mut own: HashMap<Block, Vec<&DestinationRule>> = HashMap::new();
    let mut anywhere = Vec::new();
    for rule in rules {
        match rule.place {
            Place::Anywhere => anywhere.push(*rule),
            Place::Block(block) => own.entry(block).or_default().push(rule),
            Place::PodSelf => {}
        }
    }
    let mut open: Vec<Block> = Vec::new();
    let mut out = Vec::with_capacity(blocks.len());
    for block in blocks {
        while open.last().is_some_and(|outer| !outer.covers(*block)) {
            open.pop();
        }
        open.push(*block);
        let covering = open
            .iter()
            .filter_map(|outer| own.get(outer))
            .flatten()
            .copied();
        out.push((*block, anywhere.iter().copied().chain(covering).collect()));
    }
    out
}

/// Distinct port sets; the first is empty.
struct PortSets {
    sets: Vec<PortSet>,
    numbers: HashMap<PortSet, u16>,
}

impl Default for PortSets {
    fn default() -> Self {
        Self {
            sets: vec![PortSet::default()],
            numbers: HashMap::from([(PortSet::default(), 0)]),
        }
    }
}

impl PortSets {
    fn number(&mut self, rules: &[&DestinationRule]) -> u16 {
        let set = merge(rules);
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        // Too many sets are reported by the caller; the number is not used then.
        let number = u16::try_from(self.sets.len()).unwrap_or(0);
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        number
    }
}

/// Disjoint sorted ranges from overlapping rules: what any rule refuses is refused, what any reports is reported.
fn merge(rules: &[&DestinationRule]) -> PortSet {
    // At each port where something begins or ends: by how much the number of refusing and reporting rules changes.
    let mut changes: Vec<(u32, i64, i64)> = Vec::new();
    for rule in rules {
        let (deny, audit) = (i64::from(rule.effect.deny), i64::from(rule.effect.audit));
        for (first, last) in &rule.ports {
            changes.push((u32::from(*first), deny, audit));
            changes.push((u32::from(*last) + 1, -deny, -audit));
        }
    }
    changes.sort_unstable_by_key(|change| change.0);
    let mut ranges: Vec<(u16, u16, bool, bool)> = Vec::new();
    let (mut deny, mut audit, mut from) = (0, 0, 0);
    for (port, deny_change, audit_change) in changes {
        if port > from && (deny > 0 || audit > 0) {
            let last = (port - 1) as u16;
            match ranges.last_mut() {
                Some(range)
                    if u32::from(range.1) + 1 == from
                        && (range.2, range.3) == (deny > 0, audit > 0) =>
                {
                    range.1 = last;
                }
                _ => ranges.push((from as u16, last, deny > 0, audit > 0)),
            }
        }
        (deny, audit, from) = (deny + deny_change, audit + audit_change, port);
    }
    PortSet { ranges }
}

#[cfg(test)]
mod tests;
