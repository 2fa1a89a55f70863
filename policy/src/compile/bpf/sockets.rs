// SPDX-License-Identifier: Apache-2.0
//! `bpfRawRules.network.sockets`.

use crate::compile::effect::Effect;
use crate::error::{Findings, suggestion};
use crate::plan::bpf::SocketRule;
use crate::types::NetworkSocketRule;

/// Address families (include/linux/socket.h).
pub(crate) const FAMILIES: &[(&str, u8)] = &[
    ("unix", 1),
    ("inet", 2),
    ("ax25", 3),
    ("ipx", 4),
    ("appletalk", 5),
    ("netrom", 6),
    ("bridge", 7),
    ("atmpvc", 8),
    ("x25", 9),
    ("inet6", 10),
    ("rose", 11),
    ("netbeui", 13),
    ("security", 14),
    ("key", 15),
    ("netlink", 16),
    ("packet", 17),
    ("ash", 18),
    ("econet", 19),
    ("atmsvc", 20),
    ("rds", 21),
    ("sna", 22),
    ("irda", 23),
    ("pppox", 24),
    ("wanpipe", 25),
    ("llc", 26),
    ("ib", 27),
    ("mpls", 28),
    ("can", 29),
    ("tipc", 30),
    ("bluetooth", 31),
    ("iucv", 32),
    ("rxrpc", 33),
    ("isdn", 34),
    ("phonet", 35),
    ("ieee802154", 36),
    ("caif", 37),
    ("alg", 38),
    ("nfc", 39),
    ("vsock", 40),
    ("kcm", 41),
    ("qipcrtr", 42),
    ("smc", 43),
    ("xdp", 44),
    ("mctp", 45),
];
/// Socket types (include/linux/net.h).
pub(crate) const TYPES: &[(&str, u8)] = &[
    ("stream", 1),
    ("dgram", 2),
    ("raw", 3),
    ("rdm", 4),
    ("seqpacket", 5),
    ("dccp", 6),
    ("packet", 10),
];
/// Protocols; ICMP is that of both address families.
pub(crate) const PROTOCOLS: &[(&str, u64)] = &[
    ("icmp", 1 << 1 | 1 << 58),
    ("tcp", 1 << 6),
    ("udp", 1 << 17),
];
/// The families whose protocol numbers are IP's.
const INTERNET: [u8; 2] = [2, 10];
/// Most rules of one policy; more than there are families, types and protocols to combine.
pub(crate) const MAX_RULES: usize = 1024;
/// Length of the table: a family without a rule has an empty entry.
const TABLE: usize = 64;

#[derive(Default, Clone)]
pub(super) struct SocketRules(Vec<SocketRule>);

impl SocketRules {
    pub(super) fn add(
        &mut self,
        rules: &[NetworkSocketRule],
        field: &str,
        findings: &mut Findings,
    ) {
        if rules.len() > MAX_RULES {
            findings.add(
                field,
                format!(
                    "{} rules; at most {MAX_RULES} fit: list several domains or types in one",
                    rules.len()
                ),
            );
            return;
        }
        for (index, rule) in rules.iter().enumerate() {
            if findings.is_full() {
                break;
            }
            self.add_one(rule, &format!("{field}[{index}]"), findings);
        }
    }

    /// Adds a part of a built-in rule.
    pub(super) fn built_in(&mut self, families: &[u8], types: u32, protocols: u64, effect: Effect) {
        let every: Vec<u8> = (0..TABLE as u8).collect();
        let families = if families.is_empty() {
            &every
        } else {
            families
        };
        for family in families {
            self.merge(*family, types, protocols, effect);
        }
    }

    fn merge(&mut self, family: u8, types: u32, protocols: u64, effect: Effect) {
        if self.0.is_empty() {
            self.0 = vec![SocketRule::default(); TABLE];
        }
        let entry = &mut self.0[usize::from(family)];
        let masks = effect.masks(types);
        entry.types.deny |= masks.deny;
        entry.types.audit |= masks.audit;
        let masks = effect.masks(protocols);
        entry.protocols.deny |= masks.deny;
        entry.protocols.audit |= masks.audit;
    }

    fn add_one(&mut self, rule: &NetworkSocketRule, field: &str, findings: &mut Findings) {
        let effect = Effect::from_qualifiers(&rule.qualifiers, field, findings);
        if !rule.types.is_empty() && !rule.protocols.is_empty() {
            findings.add(
                field,
                "types and protocols exclude each other; write two rules",
            );
        }
        if rule.domains.is_empty() && rule.types.is_empty() && rule.protocols.is_empty() {
            findings.add(field, "nothing is selected; write domains, types or protocols (`domains: [all]` is every socket)");
        }
        let families = self.families(rule, field, findings);
        let all_types = rule.types.is_empty() || names_all(&rule.types);
        let types = if all_types {
            u32::MAX
        } else {
            let of = |name: &str| find(TYPES, name).map(|number| 1u32 << number);
            fold(
                &rule.types,
                &format!("{field}.types"),
                "socket type",
                of,
                TYPES,
                findings,
            )
        };
        let protocols = if names_all(&rule.protocols) {
            u64::MAX
        } else {
            let of = |name: &str| find(PROTOCOLS, name);
            fold(
                &rule.protocols,
                &format!("{field}.protocols"),
                "protocol",
                of,
                PROTOCOLS,
                findings,
            )
        };
        // The protocols, where there are any, narrow what a rule without them says of all types.
        let types = if rule.protocols.is_empty() { types } else { 0 };
        let protocols = if rule.protocols.is_empty() {
            0
        } else {
            protocols
        };
        for family in families {
            self.merge(family, types, protocols, effect);
        }
    }

    /// The families that a rule is about. A rule for protocols is about IP: elsewhere the numbers mean other things.
    fn families(&self, rule: &NetworkSocketRule, field: &str, findings: &mut Findings) -> Vec<u8> {
        if rule.domains.is_empty() || names_all(&rule.domains) {
            return if rule.protocols.is_empty() {
                (0..TABLE as u8).collect()
            } else {
                INTERNET.to_vec()
            };
        }
        let mut families = Vec::new();
        for (index, name) in rule.domains.iter().enumerate() {
            if findings.is_full() {
                break;
            }
            let field = format!("{field}.domains[{index}]");
            match find(FAMILIES, &name.to_ascii_lowercase()) {
                Some(family) if !rule.protocols.is_empty() && !INTERNET.contains(&family) => findings.add(
                    field,
                    format!("`{name}` has no such protocols; protocols are for inet and inet6, use types for others"),
                ),
                Some(family) => families.push(family),
                None => findings.add(field, unknown("socket domain", name, FAMILIES)),
            }
        }
        families
    }

    pub(super) fn build(self) -> Vec<SocketRule> {
        if self.0.iter().all(|rule| *rule == SocketRule::default()) {
            Vec::new()
        } else {
            self.0
        }
    }
}

fn names_all(names: &[String]) -> bool {
    names
        .iter()
        .any(|name| name == "*" || name.eq_ignore_ascii_case("all"))
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table
        .iter()
        .find(|(other, _)| *other == name)
        .map(|(_, value)| *value)
}

fn unknown<T>(what: &str, name: &str, table: &[(&str, T)]) -> String {
    let near = suggestion(
        &name.to_ascii_lowercase(),
        table.iter().map(|(other, _)| *other),
    );
    let names: Vec<_> = table.iter().map(|(other, _)| *other).collect();
    format!(
        "`{name}` is no {what}{near}; write `all` or some of {}",
        names.join(", ")
    )
}

fn fold<T: std::ops::BitOr<Output = T> + Default, U>(
    names: &[String],
    field: &str,
    what: &str,
    of: impl Fn(&str) -> Option<T>,
    table: &[(&str, U)],
    findings: &mut Findings,
) -> T {
    let mut mask = T::default();
    for (index, name) in names.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        match of(&name.to_ascii_lowercase()) {
            Some(bits) => mask = mask | bits,
            None => findings.add(format!("{field}[{index}]"), unknown(what, name, table)),
        }
    }
    mask
}
