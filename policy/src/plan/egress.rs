// SPDX-License-Identifier: Apache-2.0
//! Egress rules as tables of prefixes, so that a lookup costs the same with ten destinations and with ten thousand.

use std::net::Ipv6Addr;

/// Destinations that may not be reached, or are reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Egress {
    /// Address prefixes; IPv4 is mapped (`::ffff:a.b.c.d`, length + 96). The longest match holds the rules of every
    /// prefix that covers it, so one lookup is enough.
    pub prefixes: Vec<AddressPrefix>,
    /// The pod's own addresses, which only the node knows: index into `port_sets`, 0 for no rule.
    pub pod_self: u16,
    /// What each address rule says of the port; the first refuses nothing.
    pub port_sets: Vec<PortSet>,
}

/// One entry of the address table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressPrefix {
    /// The address; bits beyond `length` are 0.
    pub address: Ipv6Addr,
    /// Prefix length in bits, 0 to 128.
    pub length: u8,
    /// Index into [`Egress::port_sets`].
    pub port_set: u16,
}

/// Verdicts by port; ranges are disjoint, sorted, and inclusive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PortSet {
    /// (first, last, refused, reported)
    pub ranges: Vec<(u16, u16, bool, bool)>,
}
