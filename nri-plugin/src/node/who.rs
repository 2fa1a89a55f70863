// SPDX-License-Identifier: Apache-2.0
//! Who a container key and a profile key are, for reports.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use varmor_bpf_abi::keys;
use varmor_policy::plan::PolicyRef;

use super::Node;
use crate::containers::{Container, Pod};

/// Events may come after their container is gone: this many are remembered.
const REMEMBERED: usize = 256;

/// A container and what it is under, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Who {
    /// The pod.
    pub pod: Option<Arc<Pod>>,
    /// The container's id.
    pub container_id: String,
    /// The container's name.
    pub container_name: String,
    /// The container's image.
    pub image: String,
    /// The profile's name.
    pub profile: String,
    /// The policy, or those that hold together.
    pub policies: Vec<PolicyRef>,
}

/// Names by key.
#[derive(Debug, Default)]
pub struct Names {
    containers: HashMap<u64, Who>,
    /// Containers that are gone, the oldest first.
    gone: VecDeque<u64>,
    profiles: HashMap<u64, (String, Vec<PolicyRef>)>,
}

impl Names {
    /// Remembers a container.
    pub fn container(&mut self, container: &Container) {
        let who = Who {
            pod: Some(Arc::clone(&container.pod)),
            container_id: container.id.to_string(),
            container_name: container.name.clone(),
            image: container.image.clone(),
            ..Who::default()
        };
        self.containers
            .insert(keys::container_key(container.id.as_str()), who);
    }

    /// Remembers a container for a while only.
    pub fn container_gone(&mut self, id: &str) {
        self.gone.push_back(keys::container_key(id));
        while self.gone.len() > REMEMBERED {
            if let Some(key) = self.gone.pop_front() {
                self.containers.remove(&key);
            }
        }
    }

    /// Remembers a profile. There are few, so they are never forgotten while the daemon runs.
    pub fn profile(&mut self, name: &str, policies: &[PolicyRef]) {
        self.profiles.insert(
            keys::profile_key(name),
            (name.to_owned(), policies.to_vec()),
        );
    }

    /// Gives the key of a profile to another one, as if the two had the same hash.
    #[cfg(test)]
    pub fn with_key_of(&mut self, name: &str, other: &str) {
        self.profiles
            .insert(keys::profile_key(name), (other.to_owned(), Vec::new()));
    }

    /// The name of the profile that has a key.
    pub fn profile_name(&self, key: u64) -> Option<&String> {
        self.profiles.get(&key).map(|(name, _)| name)
    }
}

impl Node {
    /// Who these keys are; what is not known stays empty.
    pub fn who(&self, container: u64, profile: u64) -> Who {
        let state = self.state();
        let mut who = state
            .names
            .containers
            .get(&container)
            .cloned()
            .unwrap_or_default();
        if let Some((name, policies)) = state.names.profiles.get(&profile) {
            who.profile.clone_from(name);
            who.policies.clone_from(policies);
        }
        who
    }
}
