// SPDX-License-Identifier: Apache-2.0
//! `updateExistingWorkloads`: which workloads are restarted, and when. Only those of which a node says that their
//! containers take a part of the policy when they are created anew, a few at a time. Pure: [`super::send`] does it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;
use varmor_policy::owner::WorkloadName;

use super::PolicyKey;
use super::kept::Kept;
use super::plan::World;

/// Workloads that are in the middle of a restart.
const AT_ONCE: usize = 5;
/// A restart that leads nowhere, such as one of a paused Deployment, keeps the others waiting no longer than this.
const GIVEN_UP: Duration = Duration::from_secs(600);

/// A rolling restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Restart {
    /// What is restarted.
    pub workload: WorkloadName,
    /// Why.
    pub policy: PolicyKey,
    /// UID of the policy.
    pub uid: String,
    /// Name of its profile.
    pub profile: String,
    /// Its version. It is what is written into the pods' template, so that to do it twice changes nothing.
    pub version: String,
}

/// The workloads that wait for a restart by a policy that asks for it.
pub fn waiting(world: &World, key: &PolicyKey, policy: &Kept, profile: &str) -> Vec<Restart> {
    // It need not be read for that of most.
    if !policy.spec_text().contains("updateExistingWorkloads") {
        return Vec::new();
    }
    let spec = policy.spec();
    if spec["updateExistingWorkloads"] != true {
        return Vec::new();
    }
    let generation = policy.metadata.generation.unwrap_or_default();
    let uid = policy.metadata.uid.clone().unwrap_or_default();
    let short: String = uid.chars().take(8).collect();
    let target = &spec["target"];
    let entries = world.reports.of(key).map(|(_, entry)| entry);
    let workloads: BTreeSet<WorkloadName> = entries
        .filter(|entry| entry.generation == generation && &*entry.state == "InForce")
        .flat_map(|entry| entry.waiting.iter().cloned())
        // A node says which; it has no say in whom the policy is about.
        .filter(|name| {
            target["kind"] == *name.kind
                && matches!(&*name.kind, "Deployment" | "StatefulSet" | "DaemonSet")
                && (key.1.is_empty() || key.1 == name.namespace)
                && (target["name"] == Value::Null || target["name"] == *name.name)
        })
        .collect();
    workloads
        .into_iter()
        .map(|workload| Restart {
            workload,
            policy: key.clone(),
            uid: uid.clone(),
            profile: profile.to_owned(),
            version: format!("{generation}.{short}"),
        })
        .collect()
}

/// The restarts that have begun.
#[derive(Default)]
pub struct Restarts {
    begun: HashMap<Restart, Instant>,
}

impl Restarts {
    /// Those of the waiting ones that may begin now.
    pub fn due(&mut self, waiting: &[Restart], now: Instant) -> Vec<Restart> {
        self.begun.retain(|restart, _| waiting.contains(restart));
        let mut running = self
            .begun
            .values()
            .filter(|since| now.duration_since(**since) < GIVEN_UP)
            .count();
        let mut due = Vec::new();
        for restart in waiting {
            if running < AT_ONCE && !self.begun.contains_key(restart) {
                self.begun.insert(restart.clone(), now);
                due.push(restart.clone());
                running += 1;
            }
        }
        due
    }

    /// One that could not be begun.
    pub fn forget(&mut self, restart: &Restart) {
        self.begun.remove(restart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::DynamicObject;
    use serde_json::json;

    fn key() -> PolicyKey {
        ("VarmorPolicy".into(), "demo".into(), "p".into())
    }

    fn policy(spec: Value) -> Kept {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "crd.varmor.org/v1beta1", "kind": "VarmorPolicy",
            "metadata": {"name": "p", "namespace": "demo", "uid": "0123456789", "generation": 3}, "spec": spec,
        }))
        .unwrap();
        object.into()
    }

    fn names(spec: Value, entry: Value) -> Vec<String> {
        let mut world = World::default();
        let (kind, namespace, name) = key();
        let mut entry = entry;
        entry["kind"] = json!(kind);
        entry["namespace"] = json!(namespace);
        entry["name"] = json!(name);
        world.reports.put("n", &json!({"policies": [entry]}));
        let found = waiting(&world, &key(), &policy(spec), "varmor-demo-p");
        found
            .into_iter()
            .map(|one| format!("{} {}", one.workload.name, one.version))
            .collect()
    }

    #[test]
    fn only_what_waits_and_is_asked_for() {
        let workload = |kind: &str, namespace: &str, name: &str| json!({"kind": kind, "namespace": namespace, "name": name});
        let entry = |state: &str, generation: i64| {
            json!({"state": state, "generation": generation, "waiting": [
                workload("Deployment", "demo", "web"), workload("Deployment", "demo", "db"),
                workload("Deployment", "kube-system", "web"), workload("DaemonSet", "demo", "web"),
            ]})
        };
        let asks = json!({"updateExistingWorkloads": true, "target": {"kind": "Deployment", "selector": {}}});
        assert_eq!(
            names(asks.clone(), entry("InForce", 3)),
            ["db 3.01234567", "web 3.01234567"]
        );
        let named = json!({"updateExistingWorkloads": true, "target": {"kind": "Deployment", "name": "web"}});
        assert_eq!(names(named, entry("InForce", 3)), ["web 3.01234567"]);
        for (spec, entry) in [
            (
                json!({"target": {"kind": "Deployment"}}),
                entry("InForce", 3),
            ),
            (asks.clone(), entry("InForce", 2)),
            (asks.clone(), entry("Failed", 3)),
            (asks, json!({"state": "InForce", "generation": 3})),
            (
                json!({"updateExistingWorkloads": true, "target": {"kind": "Pod"}}),
                json!({"state": "InForce", "generation": 3, "waiting": [workload("Pod", "demo", "web")]}),
            ),
        ] {
            assert!(names(spec, entry).is_empty());
        }
    }

    #[test]
    fn a_few_at_a_time_and_each_once() {
        let all: Vec<Restart> = (0..8)
            .map(|index| Restart {
                workload: WorkloadName::new("Deployment", "demo", index.to_string()),
                policy: key(),
                uid: String::new(),
                profile: String::new(),
                version: String::new(),
            })
            .collect();
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        assert_eq!(restarts.due(&all, now), all[..5]);
        assert!(restarts.due(&all, now).is_empty());
        // Two are done.
        assert_eq!(restarts.due(&all[2..], now), all[5..7]);
        // One can't be begun, and is tried again.
        restarts.forget(&all[6]);
        assert_eq!(restarts.due(&all[2..], now), [all[6].clone()]);
        // What leads nowhere makes room.
        assert_eq!(restarts.due(&all[2..], now + GIVEN_UP), [all[7].clone()]);
    }
}
