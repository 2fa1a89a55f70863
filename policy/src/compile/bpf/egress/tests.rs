// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::error::Findings;
use crate::plan::PolicyRef;
use crate::plan::egress::{Egress, PortSet};
use proptest::prelude::*;

const DENY: Effect = Effect {
    deny: true,
    audit: false,
};
const AUDIT: Effect = Effect {
    deny: false,
    audit: true,
};

fn findings() -> Findings {
    Findings::new(PolicyRef {
        kind: "VarmorPolicy".into(),
        namespace: "demo".into(),
        name: "p".into(),
    })
}

/// By definition: an IPv6 block means IPv6, also one that is wide enough to hold the mapped addresses.
fn holds_in(rule: &DestinationRule, host: Block) -> bool {
    match rule.place {
        Place::Anywhere => true,
        Place::Block(own) => {
            own.covers(host) && (own.length >= MAPPED.length || !MAPPED.covers(host))
        }
        Place::PodSelf => false,
    }
}

fn rules(yaml: &str) -> Result<Vec<DestinationRule>, Vec<String>> {
    let rule: NetworkEgressRule = serde_yaml::from_str(yaml).expect("valid YAML");
    let (mut out, mut findings) = (Vec::new(), findings());
    add(&rule, "egress", &mut out, &mut findings);
    findings.finish(out).map_err(|errors| {
        errors
            .iter()
            .map(|e| format!("{}: {}", e.field, e.message))
            .collect()
    })
}

/// As the kernel looks it up: the longest matching prefix, then the port.
fn lookup(egress: &Egress, address: &str, port: u16) -> (bool, bool) {
    let address = match address.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let host = Block {
        address: address.into(),
        length: 128,
    };
    let prefix = egress
        .prefixes
        .iter()
        .filter(|p| {
            Block {
                address: p.address.into(),
                length: p.length,
            }
            .covers(host)
        })
        .max_by_key(|p| p.length);
    let set = prefix.map_or(0, |p| p.port_set);
    port_verdict(&egress.port_sets[usize::from(set)], port)
}

fn port_verdict(set: &PortSet, port: u16) -> (bool, bool) {
    set.ranges
        .iter()
        .find(|r| r.0 <= port && port <= r.1)
        .map_or((false, false), |r| (r.2, r.3))
}

#[test]
fn longest_prefix_holds_the_rules_of_all() {
    let rules = rules(
        "
toDestinations:
- {qualifiers: [deny], cidr: 10.0.0.0/8, ports: [{port: 80, endPort: 90}]}
- {qualifiers: [audit], cidr: 10.1.0.0/16, ports: [{port: 85}, {port: 443}]}
- {qualifiers: [deny], ip: 10.1.2.3}
- {qualifiers: [deny], cidr: '::/0'}
- {qualifiers: [audit], ports: [{port: 53}]}
- {qualifiers: [deny], ip: localhost}
- {qualifiers: [deny], ip: pod-self, ports: [{port: 8080}]}
",
    )
    .expect("valid");
    let mut findings = findings();
    let egress = build(&rules, "egress", &mut findings).expect("has rules");
    assert_eq!(findings.finish(()), Ok(()));
    for (address, port, expected) in [
        ("10.9.9.9", 80, (true, false)),
        ("10.9.9.9", 91, (false, false)),
        ("10.1.0.1", 85, (true, true)),
        ("10.1.0.1", 443, (false, true)),
        ("10.1.2.3", 1, (true, false)),
        ("10.1.2.3", 53, (true, true)),
        // ::/0 is IPv6: IPv4 is not meant, however its addresses are stored.
        ("192.0.2.1", 80, (false, false)),
        ("192.0.2.1", 53, (false, true)),
        ("2001:db8::1", 1, (true, false)),
        ("2001:db8::1", 53, (true, true)),
        ("127.0.0.1", 9, (true, false)),
        ("127.0.0.2", 9, (false, false)),
        ("::ffff:10.1.2.3", 1, (true, false)),
    ] {
        assert_eq!(lookup(&egress, address, port), expected, "{address}:{port}");
    }
    assert_eq!(
        egress.port_sets[usize::from(egress.pod_self)].ranges,
        [(8080, 8080, true, false)]
    );
}

#[test]
fn wrong_destinations_name_their_field() {
    for (yaml, expected) in [
        (
            "{qualifiers: [deny], ip: 1.2.3.4, cidr: 1.0.0.0/8}",
            "toDestinations[0]: ip and cidr exclude",
        ),
        ("{qualifiers: [deny]}", "nothing is selected"),
        (
            "{qualifiers: [deny], ip: 1.2.3}",
            "toDestinations[0].ip: `1.2.3` is no address",
        ),
        (
            "{qualifiers: [deny], cidr: 1.2.3.4/33}",
            "toDestinations[0].cidr",
        ),
        (
            "{qualifiers: [deny], ip: 1.2.3.4, ports: [{port: 0}]}",
            "ports[0].port: 0 is no port",
        ),
        (
            "{qualifiers: [deny], ip: 1.2.3.4, ports: [{port: 9, endPort: 8}]}",
            "ports[0].endPort: 8 is before",
        ),
        (
            "{ip: 1.2.3.4}",
            "toDestinations[0].qualifiers: a rule without qualifiers",
        ),
        ("{qualifiers: [denny], ip: 1.2.3.4}", "did you mean `deny`?"),
    ] {
        let errors = rules(&format!("toDestinations: [{yaml}]")).expect_err(yaml);
        assert!(errors[0].contains(expected), "{errors:?}");
    }
    for yaml in [
        "toServices: [{qualifiers: [deny], namespace: a, name: b}]",
        "toPods: [{qualifiers: [deny], podSelector: {}}]",
    ] {
        assert!(rules(yaml).expect_err(yaml)[0].contains("API server"));
    }
}

fn block() -> impl Strategy<Value = Block> {
    // A few bits on both sides of the mapped prefix, so that blocks nest and touch it.
    let v4 =
        (0u32..4, 24u8..=32).prop_map(|(low, length)| IpNet::new(IpAddr::V4(low.into()), length));
    let v6 = (
        0u128..2,
        prop::sample::select(vec![0u8, 1, 80, 95, 96, 97, 127, 128]),
        any::<bool>(),
    )
        .prop_map(|(low, length, mapped)| {
            let base = if mapped { MAPPED.address } else { 0 };
            IpNet::new(IpAddr::V6((base | low).into()), length)
        });
    prop_oneof![v4, v6].prop_map(|net| Block::of(net.expect("a length in range").trunc()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_lookup_says_what_all_rules_say(
        list in prop::collection::vec((block(), 1u16..6, 0u16..3, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let rules: Vec<DestinationRule> = list.into_iter().map(|(block, first, more, deny, anywhere)| DestinationRule {
            place: if anywhere { Place::Anywhere } else { Place::Block(block) },
            ports: vec![(first, first + more)],
            effect: if deny { DENY } else { AUDIT },
        }).collect();
        let egress = build(&rules, "egress", &mut findings()).expect("has rules");
        for address in ["0.0.0.0", "0.0.0.1", "0.0.0.2", "0.0.1.0", "9.9.9.9", "::", "::1", "::2", "8000::"] {
            let host = Block::of(address.parse::<IpAddr>().expect("an address").into());
            for port in 0..10 {
                let holding = rules.iter().filter(|r| holds_in(r, host) && r.ports[0].0 <= port && port <= r.ports[0].1);
                let expected = holding.fold((false, false), |sum, r| (sum.0 || r.effect.deny, sum.1 || r.effect.audit));
                prop_assert_eq!(lookup(&egress, address, port), expected, "{}:{}", address, port);
            }
        }
    }
}
