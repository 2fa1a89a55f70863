// SPDX-License-Identifier: Apache-2.0
//! Egress rules as entries of the LPM trie: addresses in table 0, the ports of port set n in table n.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use varmor_bpf_abi::layout::{
    EGRESS_FIRST, PREFIX_BITS_BEFORE_DATA, PrefixKey, PrefixValue, TABLE_ADDRESSES,
};
use varmor_policy::plan::egress::{AddressPrefix, Egress, PortSet};

/// Why egress rules can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rule names a port set that isn't there.
    #[error("egress prefix or pod address names port set {found}, there are {sets}")]
    PortSet {
        /// The number.
        found: u16,
        /// How many there are.
        sets: usize,
    },
    /// A prefix is longer than an address.
    #[error("egress prefix {address}/{length}: the length is more than 128 bits")]
    Length {
        /// The address.
        address: std::net::Ipv6Addr,
        /// The length.
        length: u8,
    },
    /// A range of ports ends before it begins.
    #[error("egress ports {first}-{last}: the range is empty")]
    Ports {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}

/// The entries of a profile's egress rules under `generation`.
pub fn encode(egress: &Egress, generation: u64) -> Result<Vec<(PrefixKey, PrefixValue)>, Error> {
    let sets = egress.port_sets.len();
    let set = |number: u16| match egress.port_sets.get(usize::from(number)) {
        Some(set) => Ok(set),
        None if number == 0 => Ok(const { &PortSet { ranges: Vec::new() } }),
        None => Err(Error::PortSet {
            found: number,
            sets,
        }),
    };
    let mut entries = Vec::new();
    // Sets that are looked up port by port.
    let mut tables = BTreeSet::new();
    for prefix in &egress.prefixes {
        let ports = set(prefix.port_set)?;
        let value = match same_for_all(ports) {
            Some((deny, audit)) => PrefixValue {
                deny: deny.into(),
                audit: audit.into(),
                all_ports: 1,
                ..PrefixValue::default()
            },
            None => {
                tables.insert(prefix.port_set);
                PrefixValue {
                    port_set: prefix.port_set.into(),
                    ..PrefixValue::default()
                }
            }
        };
        entries.push((address_key(prefix, generation)?, value));
    }
    if egress.pod_self != 0 {
        set(egress.pod_self)?;
        tables.insert(egress.pod_self);
    }
    for table in tables {
        port_entries(set(table)?, table, generation, &mut entries)?;
    }
    Ok(entries)
}

/// (refused, reported) when it is the same for every port.
fn same_for_all(ports: &PortSet) -> Option<(bool, bool)> {
    match ports.ranges[..] {
        [] => Some((false, false)),
        [(0, u16::MAX, deny, audit)] => Some((deny, audit)),
        _ => None,
    }
}

/// First bytes of the addresses that the prefixes cover, a bit each: of IPv4 addresses in the first half, of IPv6 ones in
/// the second. An address whose bit is not set needs no look-up.
pub fn first_bytes(egress: &Egress) -> [u64; EGRESS_FIRST] {
    const MAPPED: u8 = 96;
    let mut bits = [0; EGRESS_FIRST];
    let mut set = |half: usize, first: u8, length: u8| {
        let last = first | 0xff_u8.checked_shr(length.into()).unwrap_or(0);
        for byte in first..=last {
            bits[half * EGRESS_FIRST / 2 + usize::from(byte) / 64] |= 1 << (byte % 64);
        }
    };
    for prefix in &egress.prefixes {
        match prefix.address.to_ipv4_mapped() {
            Some(address) if prefix.length >= MAPPED => {
                set(0, address.octets()[0], prefix.length - MAPPED);
            }
            _ => {
                set(1, prefix.address.octets()[0], prefix.length);
                let covered = u128::MAX
                    .checked_shl(u32::from(128 - prefix.length))
                    .unwrap_or(0);
                let mapped = u128::from(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
                if prefix.length < MAPPED && mapped & covered == u128::from(prefix.address) {
                    set(0, 0, 0);
                }
            }
        }
    }
    bits
}

fn address_key(prefix: &AddressPrefix, generation: u64) -> Result<PrefixKey, Error> {
    let AddressPrefix {
        address, length, ..
    } = *prefix;
    if length > 128 {
        return Err(Error::Length { address, length });
    }
    Ok(PrefixKey {
        length: PREFIX_BITS_BEFORE_DATA + u32::from(length),
        table: TABLE_ADDRESSES,
        generation,
        data: address.octets(),
    })
}

fn port_entries(
    ports: &PortSet,
    table: u16,
    generation: u64,
    entries: &mut Vec<(PrefixKey, PrefixValue)>,
) -> Result<(), Error> {
    for (first, last, deny, audit) in ports.ranges.iter().copied() {
        if first > last {
            return Err(Error::Ports { first, last });
        }
        let value = PrefixValue {
            deny: deny.into(),
            audit: audit.into(),
            ..PrefixValue::default()
        };
        for (port, bits) in cover(first, last) {
            let mut data = [0; 16];
            data[..2].copy_from_slice(&port.to_be_bytes());
            let length = PREFIX_BITS_BEFORE_DATA + bits;
            entries.push((
                PrefixKey {
                    length,
                    table: table.into(),
                    generation,
                    data,
                },
                value,
            ));
        }
    }
    Ok(())
}

/// The fewest prefixes (value, length in bits) of 16-bit numbers that cover first..=last, 30 at most.
fn cover(first: u16, last: u16) -> Vec<(u16, u32)> {
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    let mut prefixes = Vec::new();
    while at < end {
        // The largest block that begins at `at` and doesn't pass `end`.
        let aligned = if at == 0 { 16 } else { at.trailing_zeros() };
        let size = aligned.min((end - at).ilog2());
        prefixes.push((u16::try_from(at).unwrap_or(u16::MAX), 16 - size));
        at += 1 << size;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(address: &str, length: u8, port_set: u16) -> AddressPrefix {
        AddressPrefix {
            address: address.parse().unwrap(),
            length,
            port_set,
        }
    }

    #[test]
    fn a_set_for_all_ports_needs_no_table() {
        let egress = Egress {
            prefixes: vec![
                prefix("::ffff:10.0.0.0", 104, 1),
                prefix("::ffff:10.1.0.0", 112, 0),
            ],
            pod_self: 0,
            port_sets: vec![
                PortSet::default(),
                PortSet {
                    ranges: vec![(0, 65535, true, true)],
                },
            ],
        };
        let entries = encode(&egress, 9).unwrap();
        let refused = PrefixValue {
            deny: 1,
            audit: 1,
            all_ports: 1,
            ..PrefixValue::default()
        };
        let nothing = PrefixValue {
            all_ports: 1,
            ..PrefixValue::default()
        };
        assert_eq!(
            entries.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            [refused, nothing]
        );
        let key = entries[0].0;
        assert_eq!(
            (key.length, key.table, key.generation),
            (200, TABLE_ADDRESSES, 9)
        );
        assert_eq!(key.data[10..], [0xff, 0xff, 10, 0, 0, 0]);
    }

    #[test]
    fn a_bit_is_set_for_each_first_byte_that_a_prefix_covers() {
        let egress = |prefixes| Egress {
            prefixes,
            ..Egress::default()
        };
        let has = |bits: &[u64; EGRESS_FIRST], half: usize, byte: usize| {
            bits[half * 4 + byte / 64] >> (byte % 64) & 1 == 1
        };
        let bits = first_bytes(&egress(vec![
            prefix("::ffff:10.1.0.0", 96 + 16, 1),
            prefix("::ffff:192.0.0.0", 96 + 6, 1),
            prefix("fd00::", 8, 1),
            prefix("2000::", 3, 1),
        ]));
        for byte in 0..256 {
            let four = byte == 10 || (192..=195).contains(&byte);
            let six = byte == 0xfd || (0x20..=0x3f).contains(&byte);
            assert_eq!(
                (has(&bits, 0, byte), has(&bits, 1, byte)),
                (four, six),
                "{byte}"
            );
        }
        // What covers every IPv4 address, mapped, from above.
        for (address, length) in [("::", 0), ("::", 64), ("::ffff:0.0.0.0", 96)] {
            let bits = first_bytes(&egress(vec![prefix(address, length, 1)]));
            assert!(
                (0..256).all(|byte| has(&bits, 0, byte)),
                "{address}/{length}"
            );
        }
        assert!((0..256).all(|byte| !has(
            &first_bytes(&egress(vec![prefix("1::", 16, 1)])),
            0,
            byte
        )));
    }

    #[test]
    fn ports_are_prefixes_in_the_table_of_their_set() {
        let ranges = vec![(80, 80, true, false), (1000, 1001, false, true)];
        let egress = Egress {
            prefixes: vec![prefix("::", 0, 1)],
            pod_self: 2,
            port_sets: vec![
                PortSet::default(),
                PortSet { ranges },
                PortSet {
                    ranges: vec![(0, 65535, true, false)],
                },
            ],
        };
        let entries = encode(&egress, 9).unwrap();
        let ports: Vec<_> = entries
            .iter()
            .map(|(key, value)| {
                let port = u16::from_be_bytes([key.data[0], key.data[1]]);
                (
                    key.table,
                    key.length,
                    port,
                    value.port_set,
                    value.deny,
                    value.audit,
                    value.all_ports,
                )
            })
            .collect();
        let expected = [
            (0, 96, 0, 1, 0, 0, 0),
            (1, 112, 80, 0, 1, 0, 0),
            (1, 111, 1000, 0, 0, 1, 0),
            // The pod's own addresses have no entry of theirs: their set is always looked up by port.
            (2, 96, 0, 0, 1, 0, 0),
        ];
        assert_eq!(ports, expected);
    }

    #[test]
    fn rules_that_contradict_themselves_are_refused() {
        let egress = |prefix, pod_self, ranges| Egress {
            prefixes: vec![prefix],
            pod_self,
            port_sets: vec![PortSet::default(), PortSet { ranges }],
        };
        let error = |egress| encode(&egress, 1).unwrap_err();
        let ports = || vec![(1, 2, true, true)];
        assert_eq!(
            error(egress(prefix("::", 0, 2), 0, ports())),
            Error::PortSet { found: 2, sets: 2 }
        );
        assert_eq!(
            error(egress(prefix("::", 0, 1), 5, ports())),
            Error::PortSet { found: 5, sets: 2 }
        );
        let long = Error::Length {
            address: "::".parse().unwrap(),
            length: 129,
        };
        assert_eq!(error(egress(prefix("::", 129, 1), 0, ports())), long);
        let empty = vec![(2, 1, true, true)];
        assert_eq!(
            error(egress(prefix("::", 0, 1), 0, empty)),
            Error::Ports { first: 2, last: 1 }
        );
    }

    proptest! {
        #[test]
        fn a_range_is_covered_exactly_and_once(first: u16, length: u16, probe: u16) {
            let last = first.saturating_add(length);
            let prefixes = cover(first, last);
            prop_assert!(prefixes.len() <= 30);
            let hits = |port: u16| {
                let hit = |(value, bits): &&(u16, u32)| u32::from(port ^ value).checked_shr(16 - bits).unwrap_or(0) == 0;
                prefixes.iter().filter(hit).count()
            };
            for port in [probe, first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                prop_assert_eq!(hits(port), usize::from((first..=last).contains(&port)), "port {}", port);
            }
        }
    }
}
