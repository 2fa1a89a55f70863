// SPDX-License-Identifier: Apache-2.0
//! What the validator asks for, as far as a schema can say it. Nothing here refuses what the validator accepts.

use crate::compile::bpf::{egress, files, mounts, ptrace, sockets};
use crate::compile::{apparmor, seccomp, target};
use crate::matching::TARGET_KINDS;
use crate::pattern::MAX_PATTERN_BYTES;
use crate::rules::{self, Group};
use crate::validate::{MAX_REQUIREMENTS, MODES, NO_NETWORK_PROXY};
use serde_json::{Value, json};

/// Kubernetes' names, as RE2 and ECMA 262 read it.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// Keywords for a field: a type, the path below it (`name`, `list[]`, `map{}`; empty is the type itself), and what to
/// set there.
pub(super) struct Constraint {
    pub(super) of: &'static str,
    pub(super) path: &'static str,
    pub(super) keywords: Value,
}

/// All constraints of the spec.
pub(super) fn all() -> Vec<Constraint> {
    let c = |of, path, keywords| Constraint { of, path, keywords };
    let mut all = vec![
        c("PolicySpec", "target", rules_of(&[TARGET_IMMUTABLE])),
        c("Target", "", rules_of(&[ONE_OF_NAME_AND_SELECTOR])),
        c("Target", "kind", json!({"enum": TARGET_KINDS})),
        c(
            "Target",
            "name",
            json!({"pattern": DNS_SUBDOMAIN, "maxLength": 253}),
        ),
        c(
            "Target",
            "containers[]",
            json!({"pattern": DNS_LABEL, "maxLength": 63}),
        ),
        c(
            "LabelSelector",
            "matchLabels{}",
            json!({"pattern": LABEL_VALUE, "maxLength": 63}),
        ),
        c(
            "LabelSelector",
            "matchExpressions",
            json!({"maxItems": MAX_REQUIREMENTS}),
        ),
        c("SelectorRequirement", "", rules_of(&[VALUES_OF_OPERATOR])),
        c(
            "SelectorRequirement",
            "values[]",
            json!({"pattern": LABEL_VALUE, "maxLength": 63}),
        ),
        c("PolicyBody", "", rules_of(MODES_AND_BLOCKS)),
        c("PolicyBody", "mode", json!({"enum": MODES})),
        c(
            "PolicyBody",
            "enforcer",
            json!({"pattern": "^(?i)(apparmor|bpf|seccomp|networkproxy)+$", "maxLength": 64}),
        ),
        c("PolicyBody", "enforcer", rules_of(ENFORCERS)),
        c(
            "EnhanceProtect",
            "hardeningRules[]",
            rule_names(Group::Hardening),
        ),
        c("AttackProtectionRule", "rules", json!({"minItems": 1})),
        c("AttackProtectionRule", "rules[]", rule_names(Group::Attack)),
        c(
            "EnhanceProtect",
            "vulMitigationRules[]",
            rule_names(Group::Vulnerability),
        ),
        c(
            "EnhanceProtect",
            "appArmorRawRules[].rules",
            json!({"minLength": 1, "maxLength": apparmor::raw::MAX_TEXT_BYTES}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules",
            json!({"maxItems": seccomp::MAX_RAW_RULES}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules[].names",
            json!({"minItems": 1}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules[].names[]",
            json!({"pattern": "^[a-z0-9_]+$"}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules[].action",
            json!({"enum": seccomp::ACTIONS}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules[].errnoRet",
            json!({"maximum": seccomp::MAX_ERRNO}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules[].args[].index",
            json!({"maximum": 5}),
        ),
        c(
            "EnhanceProtect",
            "syscallRawRules[].args[].op",
            json!({"enum": seccomp::OPERATORS}),
        ),
        c(
            "FileRule",
            "pattern",
            json!({"minLength": 1, "maxLength": MAX_PATTERN_BYTES}),
        ),
        c("FileRule", "permissions[]", any_case(files::PERMISSIONS)),
        c(
            "MountRule",
            "sourcePattern",
            json!({"minLength": 1, "maxLength": MAX_PATTERN_BYTES}),
        ),
        c(
            "MountRule",
            "fstype",
            json!({"pattern": "^([A-Za-z0-9._-]{1,15}|\\*)$"}),
        ),
        c("MountRule", "flags", json!({"minItems": 1})),
        c("MountRule", "flags[]", any_case(&with_all(mounts::FLAGS))),
        c("PtraceRule", "permissions[]", any_case(ptrace::PERMISSIONS)),
        c(
            "NetworkRawRules",
            "sockets",
            json!({"maxItems": sockets::MAX_RULES}),
        ),
        c("NetworkSocketRule", "", rules_of(SOCKETS)),
        c(
            "NetworkSocketRule",
            "domains[]",
            any_case(&with_all(sockets::FAMILIES)),
        ),
        c(
            "NetworkSocketRule",
            "types[]",
            any_case(&with_all(sockets::TYPES)),
        ),
        c(
            "NetworkSocketRule",
            "protocols[]",
            any_case(&with_all(sockets::PROTOCOLS)),
        ),
        c(
            "NetworkEgressRule",
            "toDestinations",
            json!({"maxItems": egress::MAX_DESTINATIONS}),
        ),
        c(
            "NetworkEgressRule",
            "toServices",
            json!({"maxItems": MAX_OBJECTS}),
        ),
        c(
            "NetworkEgressRule",
            "toPods",
            json!({"maxItems": MAX_OBJECTS}),
        ),
        c("Destination", "", rules_of(DESTINATIONS)),
        c(
            "Destination",
            "ip",
            json!({"pattern": "^(pod-self|unspecified|localhost|[0-9A-Fa-f:.]+)$"}),
        ),
        c(
            "Destination",
            "cidr",
            json!({"pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"}),
        ),
        c("ServiceTarget", "", rules_of(SERVICES)),
    ];
    for of in ["AttackProtectionRule", "EnhanceProtect"] {
        let path = if of == "EnhanceProtect" {
            "appArmorRawRules[].targets[]"
        } else {
            "targets[]"
        };
        let plain = "^/([A-Za-z0-9/._+-]*[A-Za-z0-9._+-])$";
        all.push(c(
            of,
            path,
            json!({"pattern": plain, "maxLength": target::MAX_BYTES}),
        ));
    }
    for of in ["Destination", "PodTarget"] {
        all.push(c(of, "ports", json!({"maxItems": egress::MAX_PORTS})));
        all.push(c(of, "ports[].port", json!({"minimum": 1})));
        all.push(c(of, "ports[]", rules_of(&[PORT_RANGE])));
    }
    for of in [
        "FileRule",
        "MountRule",
        "NetworkSocketRule",
        "PtraceRule",
        "Destination",
        "ServiceTarget",
        "PodTarget",
    ] {
        all.push(c(of, "qualifiers", json!({"minItems": 1})));
        all.push(c(of, "qualifiers[]", any_case(&["deny", "audit"])));
        all.push(c(of, "", json!({"required": ["qualifiers"]})));
    }
    for of in ["FileRule", "PtraceRule"] {
        all.push(c(of, "permissions", json!({"minItems": 1})));
        all.push(c(of, "", json!({"required": ["permissions"]})));
    }
    all
}

/// Most services, and most selections of pods, of one policy.
const MAX_OBJECTS: usize = 256;

/// A rule in Kubernetes' dialect of CEL, and what is said when it does not hold.
pub(super) type Rule = (&'static str, &'static str);

const TARGET_IMMUTABLE: Rule = (
    "self == oldSelf",
    "whom a policy selects cannot change; create another policy, or delete this one first",
);
const ONE_OF_NAME_AND_SELECTOR: Rule = (
    "has(self.name) != has(self.selector)",
    "write a name or a selector, and not both",
);
const VALUES_OF_OPERATOR: Rule = (
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "In and NotIn compare with values, Exists and DoesNotExist take none",
);
const MODES_AND_BLOCKS: &[Rule] = &[
    (
        "self.mode != 'EnhanceProtect' || has(self.enhanceProtect)",
        "mode EnhanceProtect needs its rules in enhanceProtect",
    ),
    (
        "self.mode != 'BehaviorModeling' || has(self.modelingOptions)",
        "mode BehaviorModeling needs modelingOptions",
    ),
    (
        "self.mode != 'DefenseInDepth' || has(self.defenseInDepth)",
        "mode DefenseInDepth needs defenseInDepth",
    ),
    ("!has(self.networkProxyConfig)", NO_NETWORK_PROXY),
    (
        "!has(self.enhanceProtect) || !has(self.enhanceProtect.networkProxyRawRules)",
        NO_NETWORK_PROXY,
    ),
];
const ENFORCERS: &[Rule] = &[
    (
        "!self.lowerAscii().contains('networkproxy')",
        NO_NETWORK_PROXY,
    ),
    (
        "['apparmor', 'bpf', 'seccomp'].all(name, self.lowerAscii().split(name).size() <= 2)",
        "write each enforcer once",
    ),
    (
        "['apparmor', 'seccomp'].all(name, !oldSelf.lowerAscii().contains(name) || self.lowerAscii().contains(name))",
        "only BPF can be taken from running workloads; keep the other enforcers, or delete the policy and create it anew",
    ),
    (
        "!oldSelf.lowerAscii().contains('bpf') || self.lowerAscii().contains('bpf') || ['apparmor', \
         'seccomp'].all(name, oldSelf.lowerAscii().contains(name) || !self.lowerAscii().contains(name))",
        "remove BPF first and add other enforcers then",
    ),
];
const SOCKETS: &[Rule] = &[
    (
        "!(has(self.types) && size(self.types) > 0 && has(self.protocols) && size(self.protocols) > 0)",
        "types and protocols exclude each other; write two rules",
    ),
    (
        "has(self.domains) && size(self.domains) > 0 || has(self.types) && size(self.types) > 0 || \
         has(self.protocols) && size(self.protocols) > 0",
        "nothing is selected; write domains, types or protocols",
    ),
];
const DESTINATIONS: &[Rule] = &[
    (
        "!(has(self.ip) && has(self.cidr))",
        "ip and cidr exclude each other; write two rules",
    ),
    (
        "has(self.ip) || has(self.cidr) || has(self.ports) && size(self.ports) > 0",
        "nothing is selected; write ip, cidr or ports",
    ),
];
const PORT_RANGE: Rule = (
    "!has(self.endPort) || self.endPort >= self.port",
    "endPort is before port; swap them",
);
/// `namespace` is a word of CEL's own: Kubernetes writes the field `__namespace__`.
const SERVICES: &[Rule] = &[
    (
        "has(self.name) != has(self.serviceSelector)",
        "write a name or a serviceSelector, and not both",
    ),
    (
        "!has(self.name) || has(self.__namespace__)",
        "a service's name needs its namespace",
    ),
];
/// While an object models behaviour. Written for the whole object: the phase is in its status.
pub(super) const WHILE_MODELING: &[Rule] = &[
    (
        "!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase == 'Modeling') || \
         self.spec.policy.mode == 'BehaviorModeling'",
        "behaviour is being modelled; wait until status.phase is Completed, or delete the policy",
    ),
    (
        "!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase == 'Modeling') || ['apparmor', \
         'bpf', 'seccomp'].all(name, oldSelf.spec.policy.enforcer.lowerAscii().contains(name) == \
         self.spec.policy.enforcer.lowerAscii().contains(name))",
        "behaviour is being modelled with these enforcers; wait until status.phase is Completed",
    ),
];

/// The keyword that holds rules.
pub(super) fn rules_of(rules: &[Rule]) -> Value {
    let rules: Vec<_> = rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect();
    json!({"x-kubernetes-validations": rules})
}

/// Names in any case.
fn any_case(names: &[&str]) -> Value {
    let names: Vec<_> = names.iter().map(|name| name.replace('*', "\\*")).collect();
    json!({"pattern": format!("^(?i)({})$", names.join("|"))})
}

/// Built-in rules by name or alias, in any case, with `_` for `-`.
fn rule_names(group: Group) -> Value {
    let names: Vec<_> = rules::all()
        .filter(|rule| rule.group == group)
        .flat_map(|rule| std::iter::once(rule.name).chain(rule.aliases.iter().copied()))
        .map(|name| name.replace('-', "[-_]"))
        .collect();
    json!({"pattern": format!("^(?i)({})$", names.join("|"))})
}

/// The names of a table, and those for all of them.
fn with_all<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    ["all", "*"]
        .into_iter()
        .chain(table.iter().map(|(name, _)| *name))
        .collect()
}
