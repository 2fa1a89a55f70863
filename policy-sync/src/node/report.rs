// SPDX-License-Identifier: Apache-2.0
//! What became of the policies on this node, as one object that only this node writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use varmor_node_api::api;
use varmor_policy::owner::WorkloadName;

use super::Shared;
use super::desired::PolicyKey;
use super::pace::{PERIOD, Pace, Place, SOON, Step};
use super::pod_events::PodEvents;
use super::push::SOURCE;
use super::report_writer::Writer;
use crate::{kinds, marks};

/// Most workloads that a report names for a policy: those that wait to be restarted.
const MAX_WAITING: usize = 100;
/// After a daemon that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Reports for ever, whenever there is something new to say.
pub async fn run(client: &Client, shared: &Arc<Shared>) {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kinds::nodes());
    let mut events = PodEvents::new(client.clone(), &shared.node);
    let mut owner = None;
    let mut pace = Pace::new(&shared.node);
    let mut pause = SOON;
    let mut writer = Writer::default();
    let mut failures = 0;
    loop {
        let _ = timeout(pause, shared.applied.notified()).await;
        let Ok((report, settled, list)) = look(shared).await else {
            pause = RETRY;
            continue;
        };
        if settled {
            events.tell(&list).await;
        }
        pause = if settled { PERIOD } else { SOON };
        let place = Place::of(&shared.node, shared.desired().nodes);
        match pace.next(&report, settled, place, Instant::now()) {
            Step::Wait(time) => {
                pause = time;
                continue;
            }
            Step::Write => {}
            Step::Repeat => {
                writer.forget();
                // It may be another one by now.
                owner = None;
            }
        }
        if owner.is_none() {
            let nodes: Api<Node> = Api::all(client.clone());
            owner = nodes.get_metadata_opt(&shared.node).await.ok().flatten();
        }
        let uid = owner.as_ref().and_then(|node| node.metadata.uid.as_deref());
        match writer.write(&api, &shared.node, uid, &report).await {
            Ok(()) => {
                failures = 0;
                pace.wrote(report, Instant::now());
            }
            Err(error) => {
                tracing::warn!("the report can't be written: {error}");
                failures += 1;
                pause = SOON;
                sleep(place.retry(failures)).await;
            }
        }
    }
}

/// The report, whether the daemon has dealt with everything, and what it said.
async fn look(
    shared: &Shared,
) -> Result<(Value, bool, api::ListResponse), varmor_node_api::ClientError> {
    let client = varmor_node_api::Client::connect(&shared.socket).await?;
    let status = client.status(api::StatusRequest::new()).await?;
    let list = client.list(api::ListRequest::new()).await?;
    let refused = shared.refused().clone();
    let generation = |key: &PolicyKey| shared.sent().generation(key);
    let desired = shared.desired();
    let workload = |uid: &str| desired.pods.get(uid).and_then(|pod| pod.workload.clone());
    let waiting = desired.waiting.iter().map(|(key, waiting)| {
        // What was in force before goes on, and the present version does not.
        let state = if waiting.is_late(Instant::now()) {
            "Failed"
        } else {
            "Loading"
        };
        (key, state, waiting.message.as_str(), waiting.generation)
    });
    let refused = refused
        .iter()
        .map(|(key, message)| (key, "Failed", message.as_str(), generation(key)));
    let settled = status.settled && list.policies.iter().all(|policy| !is_loading(policy));
    let report = report(&status, &list, refused.chain(waiting), generation, workload);
    Ok((report, settled, list))
}

fn is_loading(policy: &api::PolicyStatus) -> bool {
    policy
        .enforcers
        .iter()
        .any(|one| one.reason == "is being loaded")
}

/// Whether a shortfall ends when the container is created anew.
pub fn waits_for_restart(shortfall: &str) -> bool {
    shortfall.contains("created anew")
}

/// What is said of the policies: `behind` are those whose present version is not in force, with a state, why, and that
/// version; `generation` and `workload` tell of a policy and of a pod's UID.
pub fn report<'a>(
    status: &api::StatusResponse,
    list: &api::ListResponse,
    behind: impl Iterator<Item = (&'a PolicyKey, &'static str, &'a str, i64)>,
    generation: impl Fn(&PolicyKey) -> i64,
    workload: impl Fn(&str) -> Option<WorkloadName>,
) -> Value {
    let mut policies: BTreeMap<PolicyKey, Value> = BTreeMap::new();
    for policy in list
        .policies
        .iter()
        .filter(|policy| policy.source == SOURCE)
    {
        let key = (
            policy.policy.kind.clone(),
            policy.policy.namespace.clone(),
            policy.policy.name.clone(),
        );
        let generation = generation(&key);
        policies.insert(key, one(policy, generation, &workload));
    }
    for (key, state, message, generation) in behind {
        let entry = policies
            .entry(key.clone())
            .or_insert_with(|| json!({"selected": 0, "held": 0, "pendingRestart": 0}));
        entry["state"] = json!(state);
        entry["message"] = json!(message);
        entry["generation"] = json!(generation);
    }
    // Most are in force and select nothing here. Of thousands of policies on thousands of nodes only that can be said.
    let mut quiet = Vec::new();
    policies.retain(|key, entry| {
        let is_quiet =
            entry["state"] == "InForce" && entry["message"] == "" && entry["selected"] == 0;
        if is_quiet {
            let generation = entry["generation"].as_i64().unwrap_or_default();
            quiet.push(marks::mark(key, generation));
        }
        !is_quiet
    });
    let in_force = quiet.len();
    let policies: Vec<Value> = policies
        .into_iter()
        .map(|((kind, namespace, name), mut entry)| {
            entry["kind"] = json!(kind);
            entry["namespace"] = json!(namespace);
            entry["name"] = json!(name);
            entry
        })
        .collect();
    let enforcers: Vec<Value> = status
        .enforcers
        .iter()
        .map(|one| json!({"enforcer": one.enforcer, "available": one.available, "reason": one.reason}))
        .collect();
    json!({
        "version": status.version,
        "runtimeConnected": status.runtime_connected,
        "failurePolicy": status.failure_policy,
        "enforcers": enforcers,
        "troubles": status.troubles,
        "policies": policies,
        "inForceWithoutContainers": in_force,
        "inForce": marks::text(quiet),
    })
}

fn one(
    policy: &api::PolicyStatus,
    generation: i64,
    workload: impl Fn(&str) -> Option<WorkloadName>,
) -> Value {
    let live = || {
        policy
            .containers
            .iter()
            .filter(|one| one.state != "stopped")
    };
    let held = live().filter(|one| one.shortfalls.is_empty()).count();
    let waits = |one: &&api::ContainerStatus| {
        let mut shortfalls = one.shortfalls.iter();
        shortfalls.any(|shortfall| waits_for_restart(shortfall))
    };
    let state = if policy.enforcers.iter().all(|one| one.in_force) {
        "InForce"
    } else if is_loading(policy) {
        "Loading"
    } else {
        "Failed"
    };
    let message: Vec<String> = policy
        .enforcers
        .iter()
        .filter(|one| !one.in_force)
        .map(|one| format!("{}: {}", one.enforcer, one.reason))
        .chain(policy.errors.iter().cloned())
        .collect();
    let waiting: BTreeSet<WorkloadName> = live()
        .filter(waits)
        .filter_map(|one| workload(&one.pod_uid))
        .take(MAX_WAITING)
        .collect();
    let waiting: Vec<Value> = waiting
        .into_iter()
        .map(|one| json!({"kind": one.kind, "namespace": one.namespace, "name": one.name}))
        .collect();
    json!({
        "waiting": waiting,
        "generation": generation,
        "state": state,
        "message": message.join("; "),
        "selected": live().count(),
        "held": held,
        "pendingRestart": live().filter(waits).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, reason: &str) -> api::PolicyStatus {
        let mut policy = api::PolicyStatus::new();
        policy.policy = Some(api::PolicyRef::of("VarmorPolicy", "demo", name)).into();
        SOURCE.clone_into(&mut policy.source);
        let mut enforcer = api::EnforcerState::new();
        enforcer.enforcer = "BPF".into();
        enforcer.in_force = reason.is_empty();
        enforcer.reason = reason.into();
        policy.enforcers.push(enforcer);
        for (state, shortfall) in [
            ("running", ""),
            (
                "running",
                "Seccomp: takes effect when the container is created anew",
            ),
            ("stopped", ""),
        ] {
            let mut container = api::ContainerStatus::new();
            container.state = state.into();
            container.pod_uid = "u".into();
            if !shortfall.is_empty() {
                container.shortfalls.push(shortfall.into());
            }
            policy.containers.push(container);
        }
        policy
    }

    #[test]
    fn containers_are_counted_and_failures_told() {
        let mut list = api::ListResponse::new();
        let reasons = [("a", ""), ("b", "no BPF LSM"), ("f", ""), ("w", "")];
        list.policies = reasons.map(|(name, reason)| status(name, reason)).into();
        list.policies[2].source = "/etc/a.yaml".into();
        let key = |name: &str| ("VarmorPolicy".into(), "demo".into(), name.into());
        let (waits, refused) = (key("w"), key("f"));
        let behind = [
            (&refused, "Failed", "it is in a file", 4),
            (&waits, "Loading", "no slice", 5),
        ];
        let report = report(
            &api::StatusResponse::new(),
            &list,
            behind.into_iter(),
            |_| 4,
            |uid| (uid == "u").then(|| WorkloadName::new("Deployment", "demo", "web")),
        );
        let web = json!([{"kind": "Deployment", "namespace": "demo", "name": "web"}]);
        assert_eq!(
            report["policies"],
            json!([
                {"kind": "VarmorPolicy", "namespace": "demo", "name": "a", "generation": 4, "state": "InForce",
                 "message": "", "selected": 2, "held": 1, "pendingRestart": 1, "waiting": web},
                {"kind": "VarmorPolicy", "namespace": "demo", "name": "b", "generation": 4, "state": "Failed",
                 "message": "BPF: no BPF LSM", "selected": 2, "held": 1, "pendingRestart": 1, "waiting": web},
                {"kind": "VarmorPolicy", "namespace": "demo", "name": "f", "generation": 4, "state": "Failed",
                 "message": "it is in a file", "selected": 0, "held": 0, "pendingRestart": 0},
                {"kind": "VarmorPolicy", "namespace": "demo", "name": "w", "generation": 5, "state": "Loading",
                 "message": "no slice", "selected": 2, "held": 1, "pendingRestart": 1, "waiting": web},
            ])
        );
    }
    #[test]
    fn of_a_policy_without_containers_only_its_version_is_said() {
        let mut list = api::ListResponse::new();
        list.policies = vec![
            status("a", ""),
            status("b", ""),
            status("c", "is being loaded"),
        ];
        for policy in &mut list.policies[1..] {
            policy.containers.clear();
        }
        let report = report(
            &api::StatusResponse::new(),
            &list,
            std::iter::empty(),
            |_| 4,
            |_| None,
        );
        let names: Vec<&Value> = report["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["name"])
            .collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(report["inForceWithoutContainers"], 1);
        let key = |name: &str| {
            (
                "VarmorPolicy".to_owned(),
                "demo".to_owned(),
                name.to_owned(),
            )
        };
        let text = report["inForce"].as_str().unwrap();
        assert!(marks::has(text, marks::mark(&key("b"), 4)));
        assert!(
            !marks::has(text, marks::mark(&key("b"), 3))
                && !marks::has(text, marks::mark(&key("c"), 4))
        );
    }
}
