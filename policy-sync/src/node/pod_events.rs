// SPDX-License-Identifier: Apache-2.0
//! Events on pods whose containers run without all that their policy asks for. A container that is refused needs none of
//! these: the kubelet tells of it in the daemon's words.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType};
use varmor_node_api::api;

use super::push::SOURCE;
use super::report::waits_for_restart;
use crate::events::Events;

/// Most Events at a time: a node on which nothing works has said so with these.
const AT_ONCE: usize = 20;

/// Container and shortfall.
type Told = (String, String);

/// What was told.
pub struct PodEvents {
    events: Events,
    told: BTreeSet<Told>,
}

impl PodEvents {
    /// With this client, for this node.
    pub fn new(client: Client, node: &str) -> Self {
        Self {
            events: Events::new(client, Some(node.to_owned())),
            told: BTreeSet::new(),
        }
    }

    /// Tells what is new.
    pub async fn tell(&mut self, list: &api::ListResponse) {
        for (container, note) in fresh(&mut self.told, list) {
            let reference = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(container.namespace.clone()),
                name: Some(container.pod.clone()),
                uid: Some(container.pod_uid.clone()),
                ..ObjectReference::default()
            };
            let event = Event {
                type_: EventType::Warning,
                reason: "NotProtected".to_owned(),
                note: Some(note),
                action: "Enforce".to_owned(),
                secondary: None,
            };
            if let Err(error) = self.events.publish(&event, &reference).await {
                tracing::warn!(
                    "an Event on pod {}/{} can't be written: {error}",
                    container.namespace,
                    container.pod
                );
            }
        }
    }
}

/// What was not told yet, with the text for it. What is not so any more is forgotten, and is told when it comes again.
fn fresh<'a>(
    told: &mut BTreeSet<Told>,
    list: &'a api::ListResponse,
) -> Vec<(&'a api::ContainerStatus, String)> {
    let mut now = BTreeSet::new();
    let mut found = Vec::new();
    for policy in list
        .policies
        .iter()
        .filter(|policy| policy.source == SOURCE)
    {
        let live = policy
            .containers
            .iter()
            .filter(|one| one.state != "stopped");
        for container in live {
            // The text of an Event is limited, and the enforcer's own first lines say most.
            let shortfalls = container
                .shortfalls
                .iter()
                .filter(|one| !waits_for_restart(one));
            for shortfall in shortfalls {
                let key = (container.id.clone(), shortfall.clone());
                let may_be_told = told.contains(&key) || found.len() < AT_ONCE;
                if !may_be_told {
                    continue;
                }
                if !told.contains(&key) && !now.contains(&key) {
                    let reference = &policy.policy;
                    let note = format!(
                        "container {} is not protected as {} {} asks: {shortfall}",
                        container.name, reference.kind, reference.name
                    );
                    found.push((container, note.chars().take(900).collect()));
                }
                now.insert(key);
            }
        }
    }
    *told = now;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(shortfalls: &[&str], containers: usize) -> api::ListResponse {
        let mut policy = api::PolicyStatus::new();
        policy.policy = Some(api::PolicyRef::of("VarmorPolicy", "demo", "web")).into();
        SOURCE.clone_into(&mut policy.source);
        for index in 0..containers {
            let mut container = api::ContainerStatus::new();
            container.id = index.to_string();
            container.name = "c".into();
            container.state = "running".into();
            container.shortfalls = shortfalls.iter().map(|&one| one.to_owned()).collect();
            policy.containers.push(container);
        }
        let mut list = api::ListResponse::new();
        list.policies.push(policy);
        list
    }

    #[test]
    fn each_shortfall_is_told_once() {
        let mut told = BTreeSet::new();
        let mut notes = |list: &api::ListResponse| -> Vec<String> {
            let fresh = fresh(&mut told, list);
            fresh.into_iter().map(|(_, note)| note).collect()
        };
        let waits = "Seccomp: takes effect when the container is created anew";
        let failed = list(&["BPF: no BPF LSM", waits], 1);
        assert_eq!(
            notes(&failed),
            ["container c is not protected as VarmorPolicy web asks: BPF: no BPF LSM"]
        );
        assert!(notes(&failed).is_empty());
        assert!(notes(&list(&[], 1)).is_empty());
        assert_eq!(notes(&failed).len(), 1, "it is so again");
    }

    #[test]
    fn many_are_told_bit_by_bit() {
        let mut told = BTreeSet::new();
        let list = list(&["BPF: no BPF LSM"], 30);
        assert_eq!(fresh(&mut told, &list).len(), 20);
        assert_eq!(fresh(&mut told, &list).len(), 10);
        assert!(fresh(&mut told, &list).is_empty());
    }
}
