// SPDX-License-Identifier: Apache-2.0
//! Which pod and container a bundle belongs to, as far as its annotations say.

use std::collections::BTreeMap;

use serde::Deserialize;
use varmor_node_state::{ContainerId, NodeState, StateError};
use varmor_policy::index::Asked;
use varmor_policy::matching::OptIn;
use varmor_policy::owner::Owner;
use varmor_policy::plan::PolicyRef;

/// Set by containerd on everything that its CRI plugin starts (internal/cri/annotations).
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
const SANDBOX_UID: &str = "io.kubernetes.cri.sandbox-uid";
const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";

/// Namespace under which a container without CRI is looked up in the policies; without it, containerd's own.
pub const NAMESPACE_ANNOTATION: &str = "sandbox.varmor.org/namespace";

/// Namespace of a container without CRI when nothing says another: ctr's own default.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A container as the policies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid; empty when unknown.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
    /// The pod's labels; none when nobody wrote them down.
    pub labels: Option<BTreeMap<String, String>>,
    /// The pod's annotations, which can opt a container out; none when nobody wrote them down.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The workload that the pod belongs to.
    pub owner: Owner,
}

impl Subject {
    /// What the index is asked.
    pub fn asked(&self) -> Asked<'_> {
        Asked {
            namespace: &self.namespace,
            pod_name: &self.pod,
            labels: self.labels.as_ref(),
            annotations: self.annotations.as_ref(),
            owner: &self.owner,
            container_name: &self.container,
        }
    }
}

/// What a bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A pod's pause container.
    Sandbox,
    /// A container of a pod.
    Cri(Subject),
    /// A container of a pod, whose annotations leave out which.
    CriUnknown {
        /// The annotation that is missing.
        missing: &'static str,
    },
    /// A container that did not come through CRI: its annotations count as labels, its id as both names.
    Other(Subject),
}

/// Reads the annotations, and what the daemon wrote down of the sandbox they name.
///
/// `namespace` is for a container without CRI that has no [`NAMESPACE_ANNOTATION`].
pub fn origin(
    state: &NodeState,
    id: &ContainerId,
    annotations: &BTreeMap<String, String>,
    namespace: &str,
) -> Origin {
    let get = |key| {
        annotations
            .get(key)
            .filter(|value: &&String| !value.is_empty())
    };
    match annotations.get(CONTAINER_TYPE).map(String::as_str) {
        Some("sandbox") => Origin::Sandbox,
        Some(_) => cri(state, annotations),
        None => Origin::Other(Subject {
            namespace: get(NAMESPACE_ANNOTATION)
                .map_or(namespace, String::as_str)
                .to_owned(),
            pod: id.to_string(),
            pod_uid: String::new(),
            container: id.to_string(),
            labels: Some(annotations.clone()),
            annotations: Some(annotations.clone()),
            owner: Owner::None,
        }),
    }
}

fn cri(state: &NodeState, annotations: &BTreeMap<String, String>) -> Origin {
    let mut missing = None;
    let mut take = |key: &'static str| match annotations.get(key) {
        Some(value) if !value.is_empty() => value.clone(),
        _ => {
            missing.get_or_insert(key);
            String::new()
        }
    };
    let namespace = take(SANDBOX_NAMESPACE);
    let pod = take(SANDBOX_NAME);
    let container = take(CONTAINER_NAME);
    if let Some(missing) = missing {
        return Origin::CriUnknown { missing };
    }
    // Older runtimes leave the uid out.
    let pod_uid = annotations.get(SANDBOX_UID).cloned().unwrap_or_default();
    // A record that is damaged, or of another pod, says as much about the labels as none: they are unknown.
    let record = annotations
        .get(SANDBOX_ID)
        .and_then(|id| ContainerId::new(id.as_str()).ok())
        .and_then(|id| state.load_sandbox(&id).ok().flatten())
        .filter(|sandbox| sandbox.namespace == namespace && sandbox.name == pod)
        .filter(|sandbox| pod_uid.is_empty() || sandbox.uid == pod_uid);
    let owner = record
        .as_ref()
        .map_or(Owner::Unknown, |sandbox| sandbox.owner.clone());
    let (labels, annotations) = record
        .map(|sandbox| (sandbox.labels, sandbox.annotations))
        .unzip();
    Origin::Cri(Subject {
        namespace,
        pod,
        pod_uid,
        container,
        labels,
        annotations,
        owner,
    })
}

/// Whether a container without CRI wants protection. Where no label is asked for, the default one is: a node's own
/// containers must not be stopped by a policy for every pod. Without an index nothing is asked for.
///
/// # Errors
/// The index can't be believed, and the container has the label that is the default.
pub fn asks(state: &NodeState, subject: &Subject) -> Result<bool, StateError> {
    /// The policies are skipped: most containers do not ask.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        opt_in: OptIn,
    }
    let labels = subject.labels.as_ref();
    let by_default = labels.is_some_and(|labels| OptIn::default().holds(labels));
    match state.load_index::<Head>() {
        Ok(Some(Head {
            opt_in: OptIn(None),
        })) => Ok(by_default),
        Ok(Some(Head { opt_in })) => Ok(labels.is_some_and(|labels| opt_in.holds(labels))),
        Ok(None) => Ok(false),
        Err(error) if by_default => Err(error),
        Err(_) => Ok(false),
    }
}

/// A policy's kind and name, for a sentence.
pub fn policy_words(policy: &PolicyRef) -> String {
    if policy.namespace.is_empty() {
        format!("{} {}", policy.kind, policy.name)
    } else {
        format!("{} {}/{}", policy.kind, policy.namespace, policy.name)
    }
}

/// All of the policies that hold together, for a sentence about them.
pub fn policies_words(policies: &[PolicyRef]) -> String {
    let words: Vec<String> = policies.iter().map(policy_words).collect();
    match words.split_first() {
        Some((first, [])) => first.clone(),
        Some((first, others)) => format!("{first}, merged with {},", others.join(", ")),
        None => "no policy".to_owned(),
    }
}
