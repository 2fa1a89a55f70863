// SPDX-License-Identifier: Apache-2.0
//! The kinds that users read and do not write: what the controller makes of a policy, and what nodes report.

use super::{group, version};
use serde_json::{Value, json};

/// The definitions of both kinds, with their plurals.
pub(super) fn definitions() -> [(&'static str, Value); 2] {
    [
        ("armorprofiles", definition(&PROFILE, &profile_schema())),
        ("armornodes", definition(&NODE, &node_schema())),
    ]
}

struct Kind {
    kind: &'static str,
    singular: &'static str,
    plural: &'static str,
    scope: &'static str,
    columns: &'static [(&'static str, &'static str, &'static str)],
}

const PROFILE: Kind = Kind {
    kind: "ArmorProfile",
    singular: "armorprofile",
    plural: "armorprofiles",
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
    scope: "Cluster",
    columns: &[
        ("Version", "string", ".report.version"),
        ("Runtime", "boolean", ".report.runtimeConnected"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ],
};

fn definition(kind: &Kind, properties: &Value) -> Value {
    let columns: Vec<_> = kind
        .columns
        .iter()
        .map(|(name, kind, path)| json!({"name": name, "type": kind, "jsonPath": path}))
        .collect();
    let mut schema = json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        },
    });
    let mut served = json!({
        "name": version(),
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
    });
    if let (Some(all), Some(own)) = (schema["properties"].as_object_mut(), properties.as_object()) {
        all.extend(own.clone());
        if own.contains_key("status") {
            served["subresources"] = json!({"status": {}});
        }
    }
    served["schema"] = json!({ "openAPIV3Schema": schema });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", kind.plural, group())},
        "spec": {
            "group": group(),
            "names": {
                "kind": kind.kind,
                "listKind": format!("{}List", kind.kind),
                "plural": kind.plural,
                "singular": kind.singular,
            },
            "scope": kind.scope,
            "versions": [served],
        },
    })
}

/// An object whose fields are checked where it is used: the policy was, before it was put into a profile.
fn open(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

fn profile_schema() -> Value {
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

fn node_schema() -> Value {
    json!({"report": open("What the node enforces; written by policy-sync on that node.")})
}
