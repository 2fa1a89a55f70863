// SPDX-License-Identifier: Apache-2.0
//! A policy taken apart: one policy for each of its rules, to ask each of them what it says.
//!
//! Rules of one policy, and those of several that hold together, only add to each other (what one refuses no other allows again), so the rules that say something
//! by themselves are those that say it together.

use crate::types::{
    AppArmorRawRule, AttackProtectionRule, BpfRawRules, EnhanceProtect, NetworkEgressRule,
    NetworkRawRules, Policy, PolicyObject,
};

/// One rule, and the policy that has no other.
pub(super) struct Part {
    /// The field that holds the rule.
    pub(super) field: String,
    /// What the rule is called or looks like; empty when the field says it.
    pub(super) rule: String,
    pub(super) object: PolicyObject,
}

const FIELD: &str = "spec.policy.enhanceProtect";

/// All parts of a policy, in the policy's order.
pub(super) fn of(object: &PolicyObject) -> Vec<Part> {
    let body = &object.spec().policy;
    let rules = match &body.enhance_protect {
        Some(rules) if body.mode == "EnhanceProtect" => rules,
        _ => {
            return vec![Part {
                field: "spec.policy.mode".to_owned(),
                rule: body.mode.clone(),
                object: object.clone(),
            }];
        }
    };
    let mut parts = Parts {
        object,
        rules,
        all: Vec::new(),
    };
    if !rules.privileged {
        let base = EnhanceProtect {
            privileged: false,
            ..parts.empty()
        };
        parts.all.push(Part {
            field: format!("{FIELD}.privileged"),
            rule: "false: what mode RuntimeDefault refuses".to_owned(),
            object: parts.with(base),
        });
    }
    parts.built_in();
    for (index, entry) in rules.app_armor_raw_rules.iter().enumerate() {
        let one = AppArmorRawRule::clone(entry);
        parts.add(
            format!("appArmorRawRules[{index}]"),
            String::new(),
            |only| only.app_armor_raw_rules = vec![one],
        );
    }
    if let Some(raw) = &rules.bpf_raw_rules {
        parts.bpf(raw);
    }
    for (index, rule) in rules.syscall_raw_rules.iter().enumerate() {
        let one = rule.clone();
        let label = rule.names.join(", ");
        parts.add(format!("syscallRawRules[{index}]"), label, |only| {
            only.syscall_raw_rules = vec![one]
        });
    }
    parts.all
}

struct Parts<'a> {
    object: &'a PolicyObject,
    rules: &'a EnhanceProtect,
    all: Vec<Part>,
}

impl Parts<'_> {
    /// Settings without any rule.
    fn empty(&self) -> EnhanceProtect {
        EnhanceProtect {
            privileged: true,
            audit_violations: self.rules.audit_violations,
            allow_violations: self.rules.allow_violations,
            ..EnhanceProtect::default()
        }
    }

    fn with(&self, rules: EnhanceProtect) -> PolicyObject {
        let mut object = self.object.clone();
        let (PolicyObject::Namespaced(Policy { spec, .. })
        | PolicyObject::Cluster(Policy { spec, .. })) = &mut object;
        spec.policy.enhance_protect = Some(rules);
        object
    }

    fn add(&mut self, field: String, rule: String, set: impl FnOnce(&mut EnhanceProtect)) {
        let mut only = self.empty();
        set(&mut only);
        let object = self.with(only);
        self.all.push(Part {
            field: format!("{FIELD}.{field}"),
            rule,
            object,
        });
    }

    fn built_in(&mut self) {
        for (index, name) in self.rules.hardening_rules.iter().enumerate() {
            let one = vec![name.clone()];
            self.add(format!("hardeningRules[{index}]"), name.clone(), |only| {
                only.hardening_rules = one
            });
        }
        for (entry_index, entry) in self.rules.attack_protection_rules.iter().enumerate() {
            for (index, name) in entry.rules.iter().enumerate() {
                let one = AttackProtectionRule {
                    rules: vec![name.clone()],
                    targets: entry.targets.clone(),
                };
                self.add(
                    format!("attackProtectionRules[{entry_index}].rules[{index}]"),
                    name.clone(),
                    |only| only.attack_protection_rules = vec![one],
                );
            }
        }
        for (index, name) in self.rules.vul_mitigation_rules.iter().enumerate() {
            let one = vec![name.clone()];
            self.add(
                format!("vulMitigationRules[{index}]"),
                name.clone(),
                |only| only.vul_mitigation_rules = one,
            );
        }
    }

    fn bpf(&mut self, raw: &BpfRawRules) {
        for (index, rule) in raw.files.iter().enumerate() {
            let one = BpfRawRules {
                files: vec![rule.clone()],
                ..BpfRawRules::default()
            };
            self.add_bpf(format!("files[{index}]"), rule.pattern.clone(), one);
        }
        for (index, rule) in raw.processes.iter().enumerate() {
            let one = BpfRawRules {
                processes: vec![rule.clone()],
                ..BpfRawRules::default()
            };
            self.add_bpf(format!("processes[{index}]"), rule.pattern.clone(), one);
        }
        let network = |network: NetworkRawRules| BpfRawRules {
            network: Some(network),
            ..BpfRawRules::default()
        };
        let rules = raw.network.as_ref();
        for (index, rule) in rules
            .iter()
            .flat_map(|network| network.sockets.iter().enumerate())
        {
            let label = [&rule.domains, &rule.types, &rule.protocols]
                .map(|names| names.join(","))
                .join(" ");
            let one = NetworkRawRules {
                sockets: vec![rule.clone()],
                ..NetworkRawRules::default()
            };
            self.add_bpf(
                format!("network.sockets[{index}]"),
                label.trim().to_owned(),
                network(one),
            );
        }
        let egress = rules.and_then(|network| network.egress.as_ref());
        for (index, rule) in egress
            .iter()
            .flat_map(|egress| egress.to_destinations.iter().enumerate())
        {
            let label = rule
                .ip
                .iter()
                .chain(&rule.cidr)
                .next()
                .cloned()
                .unwrap_or_default();
            let one = NetworkEgressRule {
                to_destinations: vec![rule.clone()],
                ..NetworkEgressRule::default()
            };
            let one = NetworkRawRules {
                egress: Some(one),
                ..NetworkRawRules::default()
            };
            self.add_bpf(
                format!("network.egress.toDestinations[{index}]"),
                label,
                network(one),
            );
        }
        if let Some(rule) = &raw.ptrace {
            let one = BpfRawRules {
                ptrace: Some(rule.clone()),
                ..BpfRawRules::default()
            };
            self.add_bpf("ptrace".to_owned(), String::new(), one);
        }
        for (index, rule) in raw.mounts.iter().enumerate() {
            let one = BpfRawRules {
                mounts: vec![rule.clone()],
                ..BpfRawRules::default()
            };
            self.add_bpf(format!("mounts[{index}]"), rule.source_pattern.clone(), one);
        }
    }

    fn add_bpf(&mut self, field: String, rule: String, one: BpfRawRules) {
        self.add(format!("bpfRawRules.{field}"), rule, |only| {
            only.bpf_raw_rules = Some(one)
        });
    }
}
