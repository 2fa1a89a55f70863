// SPDX-License-Identifier: Apache-2.0
//! What runs on this node, as the runtime told it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::OnceCell;
use varmor_node_state::{ContainerId, Marker, SandboxRecord};
use varmor_policy::matching::ContainerFacts;
use varmor_policy::owner::Owner;
use varmor_policy::plan::PolicyRef;

use crate::store::Profile;

/// A pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Sandbox id.
    pub id: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Addresses, as far as the runtime says them (NRI 0.9).
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// What matching looks at, for one of the pod's containers, except for the pod's workload.
    pub fn facts(&self, container: &str) -> ContainerFacts {
        ContainerFacts {
            namespace: self.namespace.clone(),
            pod_name: self.name.clone(),
            pod_labels: self.labels.clone(),
            pod_annotations: self.annotations.clone(),
            container_name: container.to_owned(),
            owner: Owner::Unknown,
        }
    }

    /// What the OCI hook is told.
    pub fn record(&self, owner: Owner) -> Result<SandboxRecord, varmor_node_state::BadId> {
        Ok(SandboxRecord {
            sandbox_id: ContainerId::new(&*self.id)?,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            addresses: self.addresses.clone(),
            owner,
        })
    }
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its entrypoint does not run yet.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id, safe as a file name.
    pub id: ContainerId,
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its name in the pod.
    pub name: String,
    /// Its image, where the runtime says it.
    pub image: String,
    /// How far it is.
    pub stage: Stage,
    /// Its init in the host's pid namespace, once there is one.
    pub pid: Option<u32>,
    /// What its specification must carry, as the hook was told.
    pub marker: Marker,
    /// Whether its specification was adjusted when it was created.
    pub admitted: bool,
    /// Set once its stored specification has what NRI could not put there; one at a time puts it.
    pub in_spec: Arc<OnceCell<()>>,
    /// The profile, as it was then; unknown after a restart of the daemon.
    pub created_under: Option<Arc<Profile>>,
    /// The policies that hold for it now, in order of precedence.
    pub policies: Vec<PolicyRef>,
    /// The profile that it is under.
    pub profile: Option<String>,
    /// Why it is not protected as its policies ask.
    pub shortfalls: Vec<String>,
}

impl Container {
    /// `namespace/pod/container`, for messages.
    pub fn title(&self) -> String {
        title(&self.pod, &self.name)
    }
}

/// `namespace/pod/container`, for messages.
pub fn title(pod: &Pod, container: &str) -> String {
    format!("{}/{}/{container}", pod.namespace, pod.name)
}
