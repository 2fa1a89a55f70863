// SPDX-License-Identifier: Apache-2.0
//! What policy-sync has told of pods and workloads, kept on disk, so that it holds while nobody can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use varmor_node_api::api;
use varmor_policy::owner::{Owner, Owners, Workload, WorkloadName};

use crate::containers::Pod;

/// Pods and workloads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The workloads.
    pub owners: Owners,
    /// Workloads of pods by the pods' UIDs.
    pods: BTreeMap<String, Option<WorkloadName>>,
}

impl Inventory {
    /// Nothing was told yet.
    pub fn new(own_namespace: &str) -> Self {
        Self {
            owners: Owners::new(own_namespace),
            pods: BTreeMap::new(),
        }
    }

    /// What was told before the daemon started, if anything.
    ///
    /// # Errors
    /// The file can't be believed.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The next daemon may not know it.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        varmor_node_state::write_durably(path, &serde_json::to_vec(self)?, 0o600)
    }

    /// Takes what was told; `running` are the pods that the runtime still has.
    pub fn tell(&mut self, request: &api::TellRequest, running: &BTreeSet<String>) {
        let name = |one: &api::Workload| WorkloadName::new(&one.kind, &one.namespace, &one.name);
        if request.replace_all {
            self.owners.clear();
            let told: BTreeSet<&String> = request.pods.iter().map(|pod| &pod.uid).collect();
            self.pods
                .retain(|uid, _| told.contains(uid) || running.contains(uid));
        }
        for workload in &request.workloads {
            self.owners.set(Workload {
                name: name(workload),
                labels: workload.labels.clone().into_iter().collect(),
            });
        }
        for workload in &request.workloads_gone {
            self.owners.remove(&name(workload));
        }
        for pod in &request.pods {
            let owner = (!pod.kind.is_empty())
                .then(|| WorkloadName::new(&pod.kind, &pod.namespace, &pod.name));
            if let Some(owner) = &owner {
                self.owners.saw(owner);
            }
            self.pods.insert(pod.uid.clone(), owner);
        }
        for uid in &request.pods_gone {
            if !running.contains(uid) {
                self.pods.remove(uid);
            }
        }
    }

    /// The workload of a pod.
    pub fn owner(&self, pod: &Pod) -> Owner {
        match self.pods.get(&pod.uid) {
            Some(None) => Owner::None,
            Some(Some(name)) => Owner::Workload(self.owners.workload(name)),
            None => Owners::told_by_labels(Some(&pod.annotations), Some(&pod.labels)),
        }
    }

    /// Takes the workload of a pod from what was known last, since nobody answers.
    pub fn infer(&mut self, pod: &Pod) {
        let owner = self
            .owners
            .inferred(&pod.namespace, &pod.name, Some(&pod.labels));
        match owner {
            Owner::Unknown => {}
            Owner::None => drop(self.pods.insert(pod.uid.clone(), None)),
            Owner::Workload(workload) => {
                drop(self.pods.insert(pod.uid.clone(), Some(workload.name)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, name: &str) -> Pod {
        Pod {
            id: format!("sandbox-{uid}"),
            namespace: "demo".into(),
            name: name.into(),
            uid: uid.into(),
            labels: BTreeMap::from([("pod-template-hash".into(), "77".into())]),
            annotations: BTreeMap::new(),
            addresses: Vec::new(),
        }
    }

    fn telling(pods: &[&str], workloads: &[&str], replace_all: bool) -> api::TellRequest {
        let mut request = api::TellRequest::new();
        request.replace_all = replace_all;
        for uid in pods {
            let mut owner = api::PodOwner::new();
            (owner.uid, owner.namespace) = ((*uid).into(), "demo".into());
            (owner.kind, owner.name) = ("Deployment".into(), "web".into());
            request.pods.push(owner);
        }
        for name in workloads {
            let mut workload = api::Workload::new();
            (workload.kind, workload.namespace) = ("Deployment".into(), "demo".into());
            workload.name = (*name).into();
            workload
                .labels
                .insert("sandbox.varmor.org/enable".into(), "true".into());
            request.workloads.push(workload);
        }
        request
    }

    #[test]
    fn pods_that_run_keep_their_workload() {
        let mut inventory = Inventory::new("varmor");
        let running = BTreeSet::from(["1".to_owned()]);
        inventory.tell(&telling(&["1", "2"], &["web"], true), &running);
        inventory.tell(&telling(&[], &["web"], true), &running);
        let opted_in = |inventory: &Inventory, uid: &str| {
            let owner = inventory.owner(&pod(uid, "web-77-aaaaa"));
            (owner.opted_in(&Default::default()), owner.is_unknown())
        };
        assert_eq!(opted_in(&inventory, "1"), (true, false));
        assert_eq!(opted_in(&inventory, "2"), (false, true));
        let mut gone = telling(&[], &[], false);
        gone.workloads_gone = telling(&[], &["web"], false).workloads;
        gone.pods_gone = vec!["1".into()];
        inventory.tell(&gone, &running);
        assert_eq!(opted_in(&inventory, "1"), (false, false));
        inventory.tell(&gone, &BTreeSet::new());
        assert_eq!(opted_in(&inventory, "1"), (false, true));
    }

    #[test]
    fn what_was_told_is_there_after_a_restart_and_answers_for_new_pods() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.json");
        assert!(Inventory::load(&path).unwrap().is_none());
        let mut inventory = Inventory::new("varmor");
        inventory.tell(&telling(&["1"], &["web"], true), &BTreeSet::new());
        inventory.save(&path).unwrap();
        let mut loaded = Inventory::load(&path).unwrap().unwrap();
        assert_eq!(loaded, inventory);
        let new = pod("9", "web-77-zzzzz");
        assert!(loaded.owner(&new).is_unknown());
        loaded.infer(&new);
        assert!(loaded.owner(&new).opted_in(&Default::default()));
        std::fs::write(&path, "{").unwrap();
        assert!(Inventory::load(&path).is_err());
    }
}
