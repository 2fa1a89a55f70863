// SPDX-License-Identifier: Apache-2.0
//! What the nodes report, as the status of a policy and of its profile. Pure.

use serde_json::{Value, json};

use super::reports::Reports;

/// Most failing nodes that a profile names: an object has a limited size.
const MAX_CONDITIONS: usize = 50;

/// Said of a version that became a profile. Never an empty text: Kubernetes 1.20 takes that for null.
const ACCEPTED: &str = "it is valid";

/// What the nodes say of one policy.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Summary {
    /// Nodes that there are.
    pub desired: usize,
    /// Nodes where this version is in force.
    pub current: usize,
    /// Containers that the policy selects.
    pub selected: u64,
    /// Containers that have all that it asks for.
    pub held: u64,
    /// Containers that must be created anew for that.
    pub pending_restart: u64,
    /// Nodes that fail, and why.
    pub failures: Vec<(String, String)>,
}

/// Adds up the reports about a policy (kind, namespace, name).
pub fn summary(reports: &Reports, key: &super::PolicyKey, generation: i64) -> Summary {
    let mut sum = Summary {
        desired: reports.nodes().len(),
        current: reports.quietly_in_force(key, generation),
        ..Summary::default()
    };
    for (node, entry) in reports.of(key) {
        sum.selected += entry.selected;
        sum.held += entry.held;
        sum.pending_restart += entry.pending_restart;
        if entry.generation != generation {
            continue;
        }
        match &*entry.state {
            "InForce" => sum.current += 1,
            "Failed" => {
                let message = match &*entry.message {
                    "" => "it is not in force",
                    message => message,
                };
                sum.failures.push((node.to_owned(), message.to_owned()));
            }
            _ => {}
        }
    }
    sum
}

/// The status of a policy, of which `old` is the present one. `refused` is why this version is not accepted.
pub fn policy_status(
    old: &Value,
    profile: Option<&str>,
    refused: Option<&str>,
    generation: i64,
    sum: &Summary,
    now: &str,
) -> Value {
    let is_ready = refused.is_none()
        && sum.failures.is_empty()
        && sum.desired > 0
        && sum.current >= sum.desired;
    let phase = if refused.is_some() || !sum.failures.is_empty() {
        "Error"
    } else if is_ready {
        "Protecting"
    } else {
        "Pending"
    };
    let mut conditions = Vec::new();
    let mut add = |kind: &str, status: &str, reason: &str, message: &str| {
        let before = old["conditions"].as_array().into_iter().flatten();
        let mut before = before.filter(|one| one["type"] == kind && one["status"] == status);
        let since = before
            .next_back()
            .and_then(|one| one["lastTransitionTime"].as_str());
        conditions.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or(now),
        }));
    };
    match (refused, profile) {
        (Some(message), None) => add("Created", "False", "Forbidden", message),
        (Some(message), Some(_)) => {
            add("Created", "True", "Accepted", ACCEPTED);
            add(
                "Updated",
                "False",
                "Forbidden",
                &format!("{message}; the version before it stays in force"),
            );
        }
        (None, _) => {
            add("Created", "True", "Accepted", ACCEPTED);
            if generation > 1 {
                add("Updated", "True", "Accepted", ACCEPTED);
            }
        }
    }
    let containers = match (sum.selected, sum.pending_restart) {
        (0, _) => "no container is selected".to_owned(),
        (selected, 0) => format!("{} of {selected} selected containers are held", sum.held),
        (selected, waiting) => format!(
            "{} of {selected} selected containers are held; Pending restart: {waiting} take a part of it when they are \
             created anew",
            sum.held
        ),
    };
    let nodes = format!("in force on {} of {} nodes", sum.current, sum.desired);
    if is_ready {
        add(
            "Ready",
            "True",
            "AllAgentsReady",
            &format!("{nodes}; {containers}"),
        );
    } else if refused.is_some() {
        add("Ready", "False", "Error", "this version is refused");
    } else if let Some((node, message)) = sum.failures.first() {
        let count = sum.failures.len();
        let message = format!(
            "{count} of {} nodes fail, such as {node}: {message} (all: status of ArmorProfile {}); {nodes}; {containers}",
            sum.desired,
            profile.unwrap_or_default()
        );
        add("Ready", "False", "Error", &message);
    } else if sum.desired == 0 {
        add(
            "Ready",
            "False",
            "Processing",
            "no node reports: is policy-sync node running?",
        );
    } else {
        add(
            "Ready",
            "False",
            "Processing",
            &format!("{nodes}; {containers}"),
        );
    }
    json!({
        "profileName": profile, "ready": is_ready, "phase": phase, "observedGeneration": generation,
        "conditions": conditions,
    })
}

/// The status of a profile.
pub fn profile_status(sum: &Summary) -> Value {
    let conditions: Vec<Value> = sum
        .failures
        .iter()
        .take(MAX_CONDITIONS)
        .map(|(node, message)| json!({"type": "Ready", "status": "False", "nodeName": node, "message": message}))
        .collect();
    json!({
        "desiredNumberLoaded": sum.desired,
        "currentNumberLoaded": sum.current,
        "selectedContainers": sum.selected,
        "heldContainers": sum.held,
        "pendingRestart": sum.pending_restart,
        "conditions": conditions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> crate::controller::PolicyKey {
        ("VarmorPolicy".into(), "demo".into(), "p".into())
    }

    fn reports(states: &[(&str, i64)]) -> Reports {
        let mut reports = Reports::default();
        for (index, (state, generation)) in states.iter().enumerate() {
            let (kind, namespace, name) = key();
            let report = json!({"policies": [{"kind": kind, "namespace": namespace, "name": name, "state": state,
                "generation": generation, "message": "no BPF LSM", "selected": 2, "held": 1, "pendingRestart": 1}]});
            reports.put(&format!("n{index}"), &report);
        }
        reports
    }

    fn status(states: &[(&str, i64)], refused: Option<&str>) -> Value {
        let reports = reports(states);
        let sum = summary(&reports, &key(), 2);
        policy_status(&Value::Null, Some("varmor-demo-p"), refused, 2, &sum, "now")
    }

    fn ready(status: &Value) -> (&str, &str, String) {
        let conditions = status["conditions"].as_array().unwrap();
        let last = conditions.last().unwrap();
        assert_eq!(last["type"], "Ready");
        (
            status["phase"].as_str().unwrap(),
            last["reason"].as_str().unwrap(),
            last["message"].as_str().unwrap().to_owned(),
        )
    }

    #[test]
    fn all_nodes_must_have_this_version() {
        let done = status(&[("InForce", 2), ("InForce", 2)], None);
        let (phase, reason, message) = ready(&done);
        assert_eq!((phase, reason), ("Protecting", "AllAgentsReady"));
        assert!(
            message.contains("2 of 2 nodes; 2 of 4 selected")
                && message.contains("Pending restart: 2"),
            "{message}"
        );
        assert_eq!(done["ready"], true);
        for states in [
            [("InForce", 2), ("InForce", 1)],
            [("InForce", 2), ("Loading", 2)],
        ] {
            let status = status(&states, None);
            assert_eq!(
                (ready(&status).0, ready(&status).1),
                ("Pending", "Processing")
            );
        }
        assert_eq!(ready(&status(&[], None)).0, "Pending", "nobody enforces it");
        let failed = status(&[("InForce", 2), ("Failed", 2)], None);
        let (phase, reason, message) = ready(&failed);
        assert_eq!((phase, reason), ("Error", "Error"));
        assert!(
            message.contains("1 of 2 nodes fail, such as n1: no BPF LSM"),
            "{message}"
        );
    }

    #[test]
    fn a_node_that_only_says_that_it_is_in_force_counts() {
        let mut reports = reports(&[("InForce", 2), ("Failed", 2)]);
        let marks = |generation| crate::marks::text([crate::marks::mark(&key(), generation)]);
        reports.put("quiet", &json!({"inForce": marks(2)}));
        reports.put("behind", &json!({"inForce": marks(1)}));
        let sum = summary(&reports, &key(), 2);
        assert_eq!((sum.desired, sum.current, sum.failures.len()), (4, 2, 1));
    }

    #[test]
    fn a_refused_version_leaves_the_one_before_in_force() {
        let status = status(&[("InForce", 1)], Some("the target can't change"));
        assert_eq!(ready(&status).0, "Error");
        let updated = &status["conditions"][1];
        assert_eq!(
            (&updated["type"], &updated["reason"]),
            (&json!("Updated"), &json!("Forbidden"))
        );
        assert!(
            updated["message"]
                .as_str()
                .unwrap()
                .starts_with("the target can't change; the version before")
        );
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_lasts() {
        let sum = Summary {
            desired: 1,
            current: 1,
            ..Summary::default()
        };
        let at = |old: &Value, sum: &Summary, now: &str| {
            policy_status(old, Some("x"), None, 1, sum, now)
        };
        let first = at(&Value::Null, &sum, "1");
        assert_eq!(at(&first, &sum, "2"), first, "nothing to write");
        let none = Summary {
            desired: 1,
            ..Summary::default()
        };
        let later = at(&first, &none, "3");
        assert_eq!(later["conditions"][0]["lastTransitionTime"], "1");
        assert_eq!(later["conditions"][1]["lastTransitionTime"], "3");
    }

    #[test]
    fn a_profile_names_the_nodes_that_fail() {
        let reports = reports(&[("Failed", 2), ("InForce", 2)]);
        let status = profile_status(&summary(&reports, &key(), 2));
        assert_eq!(
            (
                &status["desiredNumberLoaded"],
                &status["currentNumberLoaded"]
            ),
            (&json!(2), &json!(1))
        );
        assert_eq!(status["conditions"][0]["nodeName"], "n0");
    }
}
