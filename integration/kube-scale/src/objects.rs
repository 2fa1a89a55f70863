// SPDX-License-Identifier: Apache-2.0
//! The objects of the simulated cluster.

use serde_json::{Value, json};

/// Policies of a namespace.
const IN_A_NAMESPACE: usize = 20;
/// One policy of so many is about the addresses of a service.
const ABOUT_A_SERVICE: usize = 20;

/// Names what is the index-th of its kind.
pub fn node(index: usize) -> String {
    format!("sim-{index:05}")
}

/// The namespace of a policy.
pub fn namespace_of(policy: usize) -> String {
    format!("scale-{:03}", policy / IN_A_NAMESPACE)
}

/// All namespaces, for so many policies.
pub fn namespaces(policies: usize) -> Vec<String> {
    (0..policies.div_ceil(IN_A_NAMESPACE))
        .map(|index| namespace_of(index * IN_A_NAMESPACE))
        .collect()
}

/// The name of a policy, and of its Deployment.
pub fn policy_name(index: usize) -> String {
    format!("app-{index:04}")
}

/// A policy at one of its versions: three enforcers, built-in rules, and 20 rules of its own.
pub fn policy(index: usize, version: usize) -> Value {
    let mut files: Vec<Value> = (0..19)
        .map(|rule| {
            let pattern = format!("/srv/app-{index:04}/part-{rule:02}/**");
            json!({"pattern": pattern, "permissions": ["write"], "qualifiers": ["deny", "audit"]})
        })
        .collect();
    files.push(json!({"pattern": format!("/srv/version-{version}"), "permissions": ["read"], "qualifiers": ["deny"]}));
    let mut rules = json!({"files": files});
    if index.is_multiple_of(ABOUT_A_SERVICE) {
        rules["network"] = json!({"egress": {"toServices": [
            {"namespace": namespace_of(index), "name": "db", "qualifiers": ["deny"]},
        ]}});
    }
    json!({
        "apiVersion": "crd.varmor.org/v1beta1", "kind": "VarmorPolicy",
        "metadata": {"name": policy_name(index), "namespace": namespace_of(index)},
        "spec": {
            "target": {"kind": "Deployment", "name": policy_name(index)},
            "policy": {
                "enforcer": "AppArmorBPFSeccomp", "mode": "EnhanceProtect",
                "enhanceProtect": {
                    "hardeningRules": ["disallow-create-user-ns", "disable-cap-privileged"],
                    "attackProtectionRules": [{"rules": ["mitigate-sa-leak", "disable-write-etc"]}],
                    "bpfRawRules": rules,
                },
            },
        },
    })
}

/// A Node as cheap as possible: nothing keeps it alive, so the controllers that look for that must not run.
pub fn node_object(index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node(index), "labels": {"kubernetes.io/hostname": node(index)}},
    })
}

/// A bare pod, bound to a node.
pub fn pod(index: usize, nodes: usize, policies: usize) -> Value {
    let app = index % policies;
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{index:05}"), "namespace": namespace_of(app),
            "labels": {"app": policy_name(app), "pod-template-hash": "6b7c8d9f", "sandbox.varmor.org/enable": "true"},
            "annotations": {"example.org/note": "as long as what tools add to a pod".repeat(6)},
        },
        "spec": {
            "nodeName": node(index % nodes), "automountServiceAccountToken": false,
            "containers": [
                {"name": "main", "image": "registry.example.org/apps/main:1.2.3", "args": ["--listen", "0.0.0.0:8080"],
                 "env": (0..12).map(|n| json!({"name": format!("SETTING_{n}"), "value": "some value of a setting"})).collect::<Vec<_>>(),
                 "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
                 "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}},
                {"name": "side", "image": "registry.example.org/apps/side:1.2.3"},
            ],
        },
    })
}

/// The status that the kubelet would write.
pub fn pod_status(address: usize) -> Value {
    let address = format!(
        "10.{}.{}.{}",
        128 + (address >> 16 & 127),
        address >> 8 & 255,
        address & 255
    );
    let ready = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-31T09:00:00Z"});
    json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [ready("Initialized"), ready("Ready"), ready("ContainersReady"), ready("PodScheduled")],
    }})
}

/// An opted-in Deployment without pods of its own.
pub fn deployment(index: usize) -> Value {
    let name = policy_name(index);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace_of(index), "labels": {"sandbox.varmor.org/enable": "true", "app": name}},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "registry.example.org/apps/main:1.2.3"}]},
            },
        },
    })
}

/// The service that some policies are about: all pods of one policy of its namespace are behind it.
pub fn service(namespace: &str, policy: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": namespace},
        "spec": {"selector": {"app": policy_name(policy)}, "ports": [{"port": 5432}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_in_a_namespace_of_the_list() {
        let all = namespaces(41);
        assert_eq!(all.len(), 3);
        assert!((0..41).all(|index| all.contains(&namespace_of(index))));
    }

    #[test]
    fn versions_differ_in_one_rule() {
        let (one, two) = (policy(3, 1).to_string(), policy(3, 2).to_string());
        assert_eq!(one.replace("version-1", "version-2"), two);
    }
}
