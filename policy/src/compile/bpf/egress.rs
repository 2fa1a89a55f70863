// SPDX-License-Identifier: Apache-2.0
//! `bpfRawRules.network.egress`: destinations to a table of prefixes, each with the rules of all that cover it.

mod table;

pub(super) use table::build;

use crate::compile::ServiceAddress;
use crate::compile::effect::Effect;
use crate::error::Findings;
use crate::types::{Destination, NetworkEgressRule, Port};
use ipnet::IpNet;
use std::net::IpAddr;

/// Most rules of one policy. The API server bounds what checking all their ports may cost, so both numbers are bounded.
pub(crate) const MAX_DESTINATIONS: usize = 10_240;
/// Most entries in the list of ports of one rule.
pub(crate) const MAX_PORTS: usize = 96;
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

    /// The ports of one of a service's addresses.
    pub(super) fn service(address: &ServiceAddress, effect: Effect) -> Self {
        let mut rule = Self::address(address.address, effect);
        if !address.ports.is_empty() {
            rule.ports = address.ports.iter().map(|port| (*port, *port)).collect();
        }
        rule
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
    if out.len() + rules.to_destinations.len() > MAX_DESTINATIONS {
        findings.add(
            format!("{field}.toDestinations"),
            format!("at most {MAX_DESTINATIONS} destinations fit; use blocks"),
        );
        return;
    }
    for (index, rule) in rules.to_destinations.iter().enumerate() {
        if findings.is_full() {
            break;
        }
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
    if ports.len() > MAX_PORTS {
        findings.add(
            format!("{field}.ports"),
            format!(
                "{} entries; a rule has at most {MAX_PORTS}: write ranges with endPort, or a second rule",
                ports.len()
            ),
        );
        return Vec::new();
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

#[cfg(test)]
mod tests;
