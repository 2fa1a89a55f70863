// SPDX-License-Identifier: Apache-2.0
//! What exists when the daemon comes to a runtime: after its own start, and after each restart of the runtime.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use varmor_node_state::{BpfDemand, ContainerId, Marker};

use super::Node;
use crate::containers::{Container, Pod, Stage};

/// A marker younger than this may belong to a container that the runtime is just creating and does not list yet.
const YOUNG: Duration = Duration::from_secs(300);

/// A container that the runtime has.
pub struct Existing {
    /// Its pod's sandbox id.
    pub pod: String,
    /// Its id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// Its image, where the runtime says it.
    pub image: String,
    /// How far it is.
    pub stage: Stage,
    /// Its init in the host's pid namespace, 0 when there is none.
    pub pid: u32,
}

impl Node {
    /// Takes note of the profiles that an earlier daemon left.
    pub fn adopt_profiles(&self) {
        self.adopt_compositions();
        if self.adapters.bpf.unavailable().is_none() {
            let files = &self.adapters.files;
            let left = files.profiles().unwrap_or_default();
            let mut state = self.state();
            for name in left {
                if let Ok(Some(record)) = files.load_profile(&name)
                    && record.bpf
                {
                    if !state.compositions.contains_key(name.as_str()) {
                        state.names.profile(name.as_str(), &[record.policy]);
                    }
                    state.left_over.insert(name.into());
                }
            }
        }
        if self.adapters.apparmor.unavailable().is_some() {
            return;
        }
        match self.adapters.apparmor.loaded() {
            Ok(loaded) => self.state().apparmor = loaded,
            Err(error) => tracing::warn!("the kernel's AppArmor profiles can't be listed: {error}"),
        }
    }

    /// Takes what the runtime has in place of what was known.
    pub fn adopt(&self, pods: Vec<Pod>, containers: Vec<Existing>) {
        let pods: HashMap<String, Arc<Pod>> = pods
            .into_iter()
            .map(|pod| (pod.id.clone(), Arc::new(pod)))
            .collect();
        for pod in pods.values() {
            self.leave_sandbox(pod);
        }
        let mut known = std::mem::take(&mut self.state().containers);
        let mut adopted = HashMap::new();
        for existing in containers {
            let Some(pod) = pods.get(&existing.pod) else {
                continue;
            };
            let Ok(id) = ContainerId::new(&*existing.id) else {
                continue;
            };
            let previous = known.remove(&existing.id);
            let mut container = self.adopt_one(existing, id, pod);
            container.created_under = previous.and_then(|previous| previous.created_under);
            adopted.insert(container.id.to_string(), container);
        }
        tracing::info!(
            "the runtime has {} pods and {} containers",
            pods.len(),
            adopted.len()
        );
        let ids: HashSet<String> = adopted.keys().cloned().collect();
        {
            let mut state = self.state();
            for container in adopted.values() {
                state.names.container(container);
            }
            for id in known.keys() {
                state.names.container_gone(id);
            }
            state.containers = adopted;
            state.pods = pods;
            state.adopted = true;
        }
        self.forget_others(&ids);
        self.wake();
    }

    fn adopt_one(&self, existing: Existing, id: ContainerId, pod: &Arc<Pod>) -> Container {
        let marker = match self.adapters.files.load_marker(&id) {
            Ok(marker) => marker,
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        };
        let admitted = marker.is_some();
        let facts = self.state().facts(pod, &existing.name);
        let opted_in =
            facts.opted_in(&self.settings.opt_in) && self.adapters.bpf.unavailable().is_none();
        let marker = marker.unwrap_or_else(|| Marker {
            container_id: id.clone(),
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            container: existing.name.clone(),
            policy: None,
            profile: None,
            bpf: if opted_in {
                BpfDemand::Bound
            } else {
                BpfDemand::Nothing
            },
            apparmor: None,
            seccomp: None,
            addresses: pod.addresses.clone(),
        });
        // One that was created behind our back gets no marker: the hook, if it has one, decides by the index.
        if !admitted
            && existing.stage == Stage::Running
            && let Err(error) = self.adapters.files.save_marker(&marker)
        {
            tracing::warn!("{error}");
        }
        Container {
            id,
            pod: Arc::clone(pod),
            name: existing.name,
            image: existing.image,
            stage: existing.stage,
            pid: (existing.pid != 0).then_some(existing.pid),
            marker,
            admitted,
            in_spec: Arc::default(),
            created_under: None,
            policies: Vec::new(),
            profile: None,
            shortfalls: Vec::new(),
        }
    }

    /// Notes a pod for itself and for the hook.
    pub fn pod_started(&self, pod: Pod) -> Arc<Pod> {
        let pod = Arc::new(pod);
        self.leave_sandbox(&pod);
        self.state().pods.insert(pod.id.clone(), Arc::clone(&pod));
        self.expect_containers(&pod);
        pod
    }

    /// Forgets a pod.
    pub fn pod_removed(&self, id: &str) {
        self.state().pods.remove(id);
        if let Ok(id) = ContainerId::new(id)
            && let Err(error) = self.adapters.files.remove_sandbox(&id)
        {
            tracing::warn!("{error}");
        }
    }

    pub(super) fn leave_sandbox(&self, pod: &Pod) {
        let owner = self.state().owner(pod);
        let left = pod
            .record(owner)
            .map_err(|error| error.to_string())
            .and_then(|record| {
                self.adapters
                    .files
                    .save_sandbox(&record)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = left {
            tracing::error!(
                "pod {}/{} can't be noted for the hook: {error}",
                pod.namespace,
                pod.name
            );
        }
    }

    fn forget_others(&self, containers: &HashSet<String>) {
        let files = &self.adapters.files;
        for id in files.markers().unwrap_or_default() {
            let age = fs::metadata(files.layout().marker(&id))
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| modified.elapsed().ok());
            if !containers.contains(id.as_str()) && age.is_some_and(|age| age > YOUNG) {
                self.forget(id.as_str());
            }
        }
        let pods: HashSet<String> = self.state().pods.keys().cloned().collect();
        for id in files.sandboxes().unwrap_or_default() {
            if !pods.contains(id.as_str())
                && let Err(error) = files.remove_sandbox(&id)
            {
                tracing::warn!("{error}");
            }
        }
    }
}
