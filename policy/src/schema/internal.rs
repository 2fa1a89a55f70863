// SPDX-License-Identifier: Apache-2.0
//! The kinds that users read and do not write: what the controller makes of a policy, and what nodes report.

use super::definition::Kind;
use serde_json::{Value, json};

/// The definitions of both kinds, with their plurals.
pub(super) fn definitions() -> [(&'static str, Value); 2] {
    [
        (PROFILE.plural, PROFILE.definition(profile_fields())),
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
            "properties": {
                "policy": open("The policy, valid, with addresses in place of services and pods."),
                "generation": number,
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

fn node_fields() -> Value {
    json!({"report": open("What the node enforces; written by policy-sync on that node.")})
}
