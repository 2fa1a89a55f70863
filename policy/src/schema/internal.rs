// SPDX-License-Identifier: Apache-2.0
//! The kinds that users read and do not write: what the controller makes of a policy, and what nodes report.

use super::definition::{Kind, object_schema};
use crate::compile::bpf::egress::{MAX_DESTINATIONS, MAX_PORTS};
use serde_json::{Value, json};

/// Most addresses of an ArmorAddressSlice.
pub const MAX_SLICE_ADDRESSES: usize = 100;

/// The definitions of these kinds, with their plurals.
pub(super) fn definitions() -> [(&'static str, Value); 3] {
    [
        (PROFILE.plural, PROFILE.definition(profile_fields())),
        (SLICE.plural, slice_definition()),
        (NODE.plural, NODE.definition(node_fields())),
    ]
}

const PROFILE: Kind = Kind {
    kind: "ArmorProfile",
    singular: "armorprofile",
    plural: "armorprofiles",
    short: None,
    scope: "Namespaced",
    columns: &[
        ("Policy", "string", ".spec.policy.metadata.name"),
        ("Enforcer", "string", ".spec.policy.spec.policy.enforcer"),
        ("Desired", "integer", ".status.desiredNumberLoaded"),
        ("Current", "integer", ".status.currentNumberLoaded"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ],
};

const SLICE: Kind = Kind {
    kind: "ArmorAddressSlice",
    singular: "armoraddressslice",
    plural: "armoraddressslices",
    short: None,
    scope: "Namespaced",
    columns: &[
        ("Profile", "string", ".metadata.labels.varmor\\.org/profile"),
        ("Qualifiers", "string", ".spec.qualifiers"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ],
};

const NODE: Kind = Kind {
    kind: "ArmorNode",
    singular: "armornode",
    plural: "armornodes",
    short: None,
    scope: "Cluster",
    columns: &[
        ("Version", "string", ".report.version"),
        ("Runtime", "boolean", ".report.runtimeConnected"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ],
};

/// One value with one owner, for server-side apply: whoever applies it replaces all of it. Otherwise a field that somebody
/// else adds would be that one's, and stay whatever its writer applies.
const ATOMIC: &str = "atomic";

/// An object whose fields are checked where it is used: the policy was, before it was put into a profile.
fn open(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

fn profile_fields() -> Value {
    let number = json!({"type": "integer", "format": "int64"});
    json!({
        "spec": {
            "type": "object",
            "description": "All that a node needs to enforce a policy.",
            "x-kubernetes-map-type": ATOMIC,
            "properties": {
                "policy": open("The policy, valid, without its rules about services and pods."),
                "generation": number,
                "targets": open("The services and pods of those rules."),
                "addresses": {
                    "type": "array",
                    "description": "The ArmorAddressSlices beside it that have the addresses of the targets. \
                                    All of them belong to this version; a node that lacks one keeps the version before.",
                    "items": {"type": "string", "minLength": 1, "maxLength": 253},
                    "maxItems": MAX_DESTINATIONS,
                },
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "desiredNumberLoaded": number,
                "currentNumberLoaded": number,
                "selectedContainers": number,
                "heldContainers": number,
                "pendingRestart": number,
                "conditions": {
                    "type": "array",
                    "description": "Nodes that do not enforce it, and why.",
                    "items": {
                        "type": "object",
                        "properties": {
                            "type": {"type": "string"},
                            "status": {"type": "string"},
                            "nodeName": {"type": "string"},
                            "message": {"type": "string"},
                        },
                    },
                },
            },
        },
    })
}

fn slice_definition() -> Value {
    let port = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535});
    let mut definition = SLICE.definition(json!({
        "spec": {
            "type": "object",
            "description": "Addresses of services or pods that a policy names, and what is to be done about them.",
            "x-kubernetes-map-type": ATOMIC,
            "required": ["addresses", "qualifiers"],
            "properties": {
                "qualifiers": {
                    "type": "array",
                    "description": "As in toServices and toPods.",
                    "items": {"type": "string", "enum": ["deny", "audit"]},
                    "minItems": 1,
                    "maxItems": 2,
                },
                "ports": {
                    "type": "array",
                    "description": "Ports; empty is all of them.",
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "properties": {"port": port, "endPort": port},
                    },
                    "maxItems": MAX_PORTS,
                },
                "addresses": {
                    "type": "array",
                    "description": "IPv4 and IPv6 addresses.",
                    "items": {
                        "type": "string",
                        "maxLength": 45,
                        "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
                    },
                    "minItems": 1,
                    "maxItems": MAX_SLICE_ADDRESSES,
                },
            },
        },
    }));
    object_schema(&mut definition)["required"] = json!(["spec"]);
    definition
}

fn node_fields() -> Value {
    let mut report = open("What the node enforces; written by policy-sync on that node.");
    report["x-kubernetes-map-type"] = json!(ATOMIC);
    json!({"report": report})
}
