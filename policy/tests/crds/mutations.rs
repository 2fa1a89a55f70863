// SPDX-License-Identifier: Apache-2.0
//! Policies that are right, and ways to put them wrong.

use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A policy that uses every kind of field.
pub static GOOD: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "apiVersion": "crd.varmor.org/v1beta1",
        "kind": "VarmorPolicy",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {
            "target": {
                "kind": "Pod",
                "selector": {
                    "matchLabels": {"app": "web"},
                    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}],
                },
                "containers": ["main"],
            },
            "policy": {
                "enforcer": "AppArmorBPFSeccomp",
                "mode": "EnhanceProtect",
                "enhanceProtect": {
                    "hardeningRules": ["DISALLOW_MOUNT", "disallow-create-user-ns"],
                    "attackProtectionRules": [
                        {"rules": ["disable-write-etc"]},
                        {"rules": ["mitigate-sa-leak"], "targets": ["/bin/sh"]},
                    ],
                    "vulMitigationRules": [],
                    "appArmorRawRules": [{"rules": "deny /a r,", "targets": ["/usr/bin/python3.11"]}],
                    "bpfRawRules": {
                        "files": [{"pattern": "/etc/shadow", "permissions": ["Read", "w"], "qualifiers": ["deny", "AUDIT"]}],
                        "processes": [{"pattern": "/**/sh", "permissions": ["x"], "qualifiers": ["audit"]}],
                        "network": {
                            "sockets": [
                                {"domains": ["inet"], "types": ["raw"], "qualifiers": ["deny"]},
                                {"protocols": ["ICMP"], "qualifiers": ["deny"]},
                                {"domains": ["all"], "types": [], "qualifiers": ["audit"]},
                            ],
                            "egress": {"toDestinations": [
                                {"ip": "10.0.0.1", "ports": [{"port": 443, "endPort": 444}], "qualifiers": ["deny"]},
                                {"cidr": "fd00::/8", "qualifiers": ["deny"]},
                                {"ip": "pod-self", "qualifiers": ["audit"]},
                                {"ports": [{"port": 25}], "qualifiers": ["deny"]},
                            ]},
                        },
                        "ptrace": {"permissions": ["trace"], "strictMode": true, "qualifiers": ["deny"]},
                        "mounts": [{"sourcePattern": "**", "fstype": "*", "flags": ["umount", "RO"], "qualifiers": ["deny"]}],
                    },
                    "syscallRawRules": [{
                        "names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
                    }],
                    "auditViolations": true,
                },
            },
        },
        "status": {"phase": "Protecting", "ready": true, "conditions": [{"type": "Ready", "status": "True"}]},
    })
});

/// Several policies that are right.
pub fn policies() -> Vec<Value> {
    let simple = |target: Value, policy: Value| {
        json!({
            "apiVersion": "crd.varmor.org/v1beta1", "kind": "VarmorPolicy",
            "metadata": {"name": "p", "namespace": "demo"}, "spec": {"target": target, "policy": policy},
        })
    };
    let pod = || json!({"kind": "Pod", "name": "a.b"});
    vec![
        GOOD.clone(),
        simple(pod(), json!({"enforcer": "bpf", "mode": "AlwaysAllow"})),
        simple(
            json!({"kind": "StatefulSet", "selector": {}, "containers": []}),
            json!({"enforcer": "SECCOMPapparmor", "mode": "RuntimeDefault", "modelingOptions": {"duration": 0}}),
        ),
        simple(
            json!({"kind": "Pod", "selector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist", "values": []}]}}),
            json!({"enforcer": "BPF", "mode": "EnhanceProtect", "enhanceProtect": {"privileged": true}}),
        ),
        simple(
            pod(),
            json!({
                "enforcer": "BPF", "mode": "RuntimeDefault", "enhanceProtect": {},
                "defenseInDepth": {"seccomp": {"profileType": "Custom", "syscallRawRules": [
                    {"names": ["READ"], "action": "SCMP_ACT_ALLOW"},
                ]}},
            }),
        ),
    ]
}

/// A change of [`GOOD`] that makes it wrong.
pub struct Mutation {
    pub what: String,
    pub change: Box<dyn Fn(Value) -> Value>,
    /// Whether the schema can see it.
    pub in_schema: bool,
}

const ENHANCE: &str = "/spec/policy/enhanceProtect";

pub fn mutations() -> Vec<Mutation> {
    let set = |pointer: &str, value: Value, in_schema: bool| {
        let pointer = pointer.replace('@', ENHANCE);
        Mutation {
            what: format!("{pointer} = {value}"),
            change: Box::new(move |mut object| {
                put(&mut object, &pointer, Some(value.clone()));
                object
            }),
            in_schema,
        }
    };
    let remove = |pointer: &str, in_schema: bool| {
        let pointer = pointer.replace('@', ENHANCE);
        Mutation {
            what: format!("without {pointer}"),
            change: Box::new(move |mut object| {
                put(&mut object, &pointer, None);
                object
            }),
            in_schema,
        }
    };
    let destination = "@/bpfRawRules/network/egress/toDestinations/0";
    let port = "@/bpfRawRules/network/egress/toDestinations/0/ports/0";
    let below = |path: &str, rest: &str| format!("{path}/{rest}");
    vec![
        set("/metadata/name", json!("x".repeat(55)), true),
        // The name fits, with the namespace it does not.
        set("/metadata/name", json!("x".repeat(53)), false),
        remove("/spec", true),
        set("/spec/target/kind", json!("Job"), true),
        set("/spec/target/kind", json!("pod"), true),
        set("/spec/target/name", json!("a"), true),
        set("/spec/target", json!({"kind": "Pod"}), true),
        set("/spec/target", json!({"kind": "Pod", "name": "A"}), true),
        set("/spec/target/containers/0", json!("a.b"), true),
        set("/spec/target/selector/matchLabels/app", json!("a/b"), true),
        set(
            "/spec/target/selector/matchLabels",
            json!({"a b": ""}),
            false,
        ),
        set(
            "/spec/target/selector/matchExpressions/0/operator",
            json!("Is"),
            true,
        ),
        set(
            "/spec/target/selector/matchExpressions/0/operator",
            json!("Exists"),
            true,
        ),
        set(
            "/spec/target/selector/matchExpressions/0/values",
            json!([]),
            true,
        ),
        set(
            "/spec/target/selector/matchExpressions/0/values/0",
            json!("-"),
            true,
        ),
        set("/spec/policy/mode", json!("Enhance"), true),
        set("/spec/policy/mode", json!("BehaviorModeling"), true),
        set("/spec/policy/mode", json!("DefenseInDepth"), true),
        remove("/spec/policy/mode", true),
        remove("@", true),
        set("/spec/policy/enforcer", json!("AppAmorBPF"), true),
        set("/spec/policy/enforcer", json!(""), true),
        set(
            "/spec/policy/enforcer",
            json!("AppArmorBPFSeccompBPF"),
            true,
        ),
        set(
            "/spec/policy/enforcer",
            json!("AppArmorBPFSeccompNETWORKPROXY"),
            true,
        ),
        // Rules for an enforcer that is not there.
        set("/spec/policy/enforcer", json!("AppArmorBPF"), false),
        set("/spec/policy/networkProxyConfig", json!({}), true),
        set("@/networkProxyRawRules", json!({}), true),
        set("@/hardeningRules/0", json!("disallow-mout"), true),
        set("@/hardeningRules/0", json!("disable-write-etc"), true),
        set("@/hardeningRules/0", json!("disallow.mount"), true),
        set("@/vulMitigationRules", json!(["disallow-mount"]), true),
        set("@/attackProtectionRules/0/rules", json!([]), true),
        set(
            "@/attackProtectionRules/0/rules/0",
            json!("disable-write"),
            true,
        ),
        set("@/attackProtectionRules/1/targets/0", json!("/bin/*"), true),
        set("@/attackProtectionRules/1/targets/0", json!("sh"), true),
        set("@/appArmorRawRules/0/rules", json!(""), true),
        set("@/appArmorRawRules/0/rules", json!("deny /a px,"), false),
        set("@/appArmorRawRules/0/targets/0", json!("/bin/"), true),
        set("@/bpfRawRules/files/0/pattern", json!(""), true),
        set("@/bpfRawRules/files/0/pattern", json!("etc"), false),
        set(
            "@/bpfRawRules/files/0/pattern",
            json!("/a".repeat(3000)),
            true,
        ),
        set("@/bpfRawRules/files/0/permissions/0", json!("raed"), true),
        set("@/bpfRawRules/files/0/permissions", json!([]), true),
        remove("@/bpfRawRules/files/0/permissions", true),
        set("@/bpfRawRules/files/0/qualifiers", json!([]), true),
        remove("@/bpfRawRules/files/0/qualifiers", true),
        set(
            "@/bpfRawRules/processes/0/qualifiers/0",
            json!("allow"),
            true,
        ),
        set(
            "@/bpfRawRules/network/sockets/0/domains/0",
            json!("inet7"),
            true,
        ),
        set(
            "@/bpfRawRules/network/sockets/0/types/0",
            json!("row"),
            true,
        ),
        set(
            "@/bpfRawRules/network/sockets/0/protocols",
            json!(["tcp"]),
            true,
        ),
        set(
            "@/bpfRawRules/network/sockets/1/protocols/0",
            json!("sctp"),
            true,
        ),
        set("@/bpfRawRules/network/sockets/2/domains", json!([]), true),
        set(&below(destination, "cidr"), json!("10.0.0.0/8"), true),
        set(&below(destination, "ip"), json!("host.local"), true),
        set(&below(destination, "ip"), json!("10.0.0.256"), false),
        set(
            "@/bpfRawRules/network/egress/toDestinations/1/cidr",
            json!("fd00::"),
            true,
        ),
        set(
            "@/bpfRawRules/network/egress/toDestinations/1/cidr",
            json!("fd00::/129"),
            false,
        ),
        set(
            "@/bpfRawRules/network/egress/toDestinations/3/ports",
            json!([]),
            true,
        ),
        set(&below(port, "port"), json!(0), true),
        set(&below(port, "port"), json!(65536), true),
        set(&below(port, "endPort"), json!(442), true),
        set(
            &below(destination, "ports"),
            json!(vec![json!({"port": 1}); 97]),
            true,
        ),
        set(
            "@/bpfRawRules/network/egress/toServices",
            json!([{"qualifiers": ["deny"], "name": "a"}]),
            true,
        ),
        set(
            "@/bpfRawRules/network/egress/toServices",
            json!([{"qualifiers": ["deny"], "name": "a", "serviceSelector": {}}]),
            true,
        ),
        set("@/bpfRawRules/ptrace/permissions/0", json!("track"), true),
        set("@/bpfRawRules/ptrace/strictMode", json!("yes"), true),
        set("@/bpfRawRules/mounts/0/flags/0", json!("unmount"), true),
        set("@/bpfRawRules/mounts/0/flags", json!([]), true),
        set("@/bpfRawRules/mounts/0/fstype", json!("a/b"), true),
        set("@/bpfRawRules/mounts/0/fstype", json!(""), true),
        set("@/bpfRawRules/mounts/0/sourcePattern", json!(""), true),
        set("@/syscallRawRules/0/names", json!([]), true),
        set("@/syscallRawRules/0/names/0", json!("mout"), false),
        set("@/syscallRawRules/0/names/0", json!("Mount"), true),
        set("@/syscallRawRules/0/action", json!("SCMP_ACT_ALLOW"), true),
        set("@/syscallRawRules/0/action", json!("ERRNO"), true),
        set("@/syscallRawRules/0/errnoRet", json!(4096), true),
        set("@/syscallRawRules/0/args/0/index", json!(6), true),
        set("@/syscallRawRules/0/args/0/op", json!("=="), true),
        set("@/syscallRawRules/0/args/0/value", json!(-1), true),
        set("@/auditViolations", json!("no"), true),
        // Unknown fields are pruned by the API server, and refused by the validator.
        set("@/auditViolation", json!(true), false),
    ]
}

/// Sets or removes what a JSON pointer names.
fn put(object: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let Some(parent) = object.pointer_mut(parent) else {
        return;
    };
    match (parent, value) {
        (Value::Array(list), value) => {
            let index: usize = name.parse().expect("an index");
            match value {
                Some(value) if index < list.len() => list[index] = value,
                Some(value) => list.push(value),
                None => drop(list.drain(index..=index)),
            }
        }
        (Value::Object(map), Some(value)) => drop(map.insert(name.to_owned(), value)),
        (Value::Object(map), None) => drop(map.remove(name)),
        _ => {}
    }
}

/// Values that some field takes, right and wrong.
fn any_value() -> impl Strategy<Value = Value> {
    const TEXTS: &[&str] = &[
        "",
        "a",
        "A",
        "a.b",
        "/a",
        "/bin/sh",
        "/a/**",
        "*.log",
        "deny",
        "Audit",
        "allow",
        "all",
        "*",
        "read",
        "exec",
        "x",
        "inet",
        "UNIX",
        "raw",
        "tcp",
        "udp",
        "trace",
        "readby",
        "ro",
        "bind",
        "umount",
        "proc",
        "none",
        "Pod",
        "DaemonSet",
        "In",
        "Exists",
        "AppArmor",
        "BPFSeccomp",
        "bpfbpf",
        "NetworkProxy",
        "AlwaysAllow",
        "RuntimeDefault",
        "EnhanceProtect",
        "DefenseInDepth",
        "disallow-mount",
        "Disable_Cap_ALL",
        "disable-shell",
        "dirty-pipe-mitigation",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_LOG",
        "SCMP_ACT_ALLOW",
        "SCMP_CMP_NE",
        "SCMP_CMP_MASKED_EQ",
        "::1",
        "1.2.3.4",
        "10.0.0.0/8",
        "pod-self",
        "localhost",
        "mount",
        "openat",
        "file,",
    ];
    let leaf = prop_oneof![
        8 => proptest::sample::select(TEXTS).prop_map(|text| json!(text)),
        1 => "[a-zA-Z0-9/._:*@-]{0,12}".prop_map(Value::from),
        2 => prop_oneof![Just(0i64), Just(-1), Just(70_000), 1i64..70].prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(json!({})),
        1 => Just(Value::Null),
    ];
    prop_oneof![
        3 => leaf.clone(),
        1 => proptest::collection::vec(leaf, 0..3).prop_map(Value::from),
    ]
}

/// Pointers to everything in an object.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}/{key}");
                pointers(value, &at, out);
                out.push(at);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let at = format!("{at}/{index}");
                pointers(value, &at, out);
                out.push(at);
            }
        }
        _ => {}
    }
}

/// A policy with some fields removed, and some set to something else, at random.
pub fn any_policy() -> impl Strategy<Value = Value> {
    let base = proptest::sample::select(policies());
    base.prop_flat_map(|base| {
        let mut places = Vec::new();
        pointers(&base["spec"], "/spec", &mut places);
        let change = (
            proptest::sample::select(places),
            proptest::option::weighted(0.8, any_value()),
        );
        (Just(base), proptest::collection::vec(change, 0..4)).prop_map(|(mut object, changes)| {
            for (pointer, value) in changes {
                if object.pointer(&pointer).is_some() {
                    put(&mut object, &pointer, value);
                }
            }
            object
        })
    })
}
