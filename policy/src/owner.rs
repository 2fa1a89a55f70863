// SPDX-License-Identifier: Apache-2.0
//! Which workload a pod belongs to: what policies for kind Deployment, StatefulSet and DaemonSet look at.
//!
//! A pod does not carry its workload's labels, so somebody who sees the API server must tell them. What was told is kept
//! here, and answers for new pods of known workloads while nobody can be asked: the controllers of Kubernetes name and
//! label the pods that they make in a fixed way.

use crate::matching::OptIn;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The label that a Deployment's pods get from their ReplicaSet.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// The label that a StatefulSet's and a DaemonSet's pods get.
const REVISION_HASH: &str = "controller-revision-hash";
/// The label that a StatefulSet's pods get.
const STATEFUL_POD: &str = "statefulset.kubernetes.io/pod-name";
/// Where the kubelet got a pod from: `api`, or for static pods `file` or `http`. Nobody else can set it.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Most workloads that are remembered for having had pods here.
const MAX_SEEN: usize = 8192;

/// A Deployment, StatefulSet or DaemonSet by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadName {
    /// `Deployment`, `StatefulSet` or `DaemonSet`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl WorkloadName {
    /// A workload by kind, namespace and name.
    pub fn new(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// A name for a JSON object: none of the three can contain a `/`.
    fn key(&self) -> String {
        format!("{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// A workload and the labels of the workload object, not those of its pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Which.
    #[serde(flatten)]
    pub name: WorkloadName,
    /// `metadata.labels`; empty for one that did not opt in.
    pub labels: BTreeMap<String, String>,
}

/// The workload of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// It belongs to no Deployment, StatefulSet or DaemonSet: a bare or static pod, or one of a Job.
    #[default]
    None,
    /// Nobody has told.
    Unknown,
    /// It belongs to this one.
    Workload(Workload),
}

impl Owner {
    /// Whether the workload is known and has opted in.
    pub fn opted_in(&self, opt_in: &OptIn) -> bool {
        matches!(self, Self::Workload(workload) if opt_in.holds(&workload.labels))
    }

    /// Whether the owner is not known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// The workloads that a node has been told of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owners {
    /// Labels of those that have opted in.
    workloads: BTreeMap<String, BTreeMap<String, String>>,
    /// Those that have had pods on this node.
    seen: BTreeSet<String>,
    /// Pods of this namespace that nobody knows belong to no workload: the parts of this project must be able to start,
    /// or nobody would ever tell.
    own_namespace: String,
}

impl Owners {
    /// Knows nothing yet.
    pub fn new(own_namespace: impl Into<String>) -> Self {
        Self {
            own_namespace: own_namespace.into(),
            ..Self::default()
        }
    }

    /// Takes a workload that has opted in, or its new labels.
    pub fn set(&mut self, workload: Workload) {
        self.workloads.insert(workload.name.key(), workload.labels);
    }

    /// A workload is gone, or has opted out.
    pub fn remove(&mut self, name: &WorkloadName) {
        self.workloads.remove(&name.key());
    }

    /// Forgets all workloads that have opted in.
    pub fn clear(&mut self) {
        self.workloads.clear();
    }

    /// Remembers that a workload has had a pod here.
    pub fn saw(&mut self, name: &WorkloadName) {
        if self.seen.len() < MAX_SEEN {
            self.seen.insert(name.key());
        }
    }

    /// The workload of this name. One that is not known to have opted in has no labels.
    pub fn workload(&self, name: &WorkloadName) -> Workload {
        Workload {
            labels: self.workloads.get(&name.key()).cloned().unwrap_or_default(),
            name: name.clone(),
        }
    }

    /// The owner of a pod that nobody was asked about, as far as its name and labels tell it for certain.
    pub fn told_by_labels(
        annotations: Option<&BTreeMap<String, String>>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Owner {
        let is_static = annotations
            .and_then(|annotations| annotations.get(CONFIG_SOURCE))
            .is_some_and(|source| source != "api");
        let has_none = labels.is_some_and(|labels| {
            !labels.contains_key(TEMPLATE_HASH) && !labels.contains_key(REVISION_HASH)
        });
        if is_static || has_none {
            Owner::None
        } else {
            Owner::Unknown
        }
    }

    /// The owner of a pod while nobody can be asked: by what was known last.
    pub fn inferred(
        &self,
        namespace: &str,
        pod: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Owner {
        let known = labels.and_then(|labels| name_by_labels(namespace, pod, labels));
        if let Some(name) = known {
            let key = name.key();
            if self.workloads.contains_key(&key) || self.seen.contains(&key) {
                return Owner::Workload(self.workload(&name));
            }
        }
        if namespace == self.own_namespace {
            Owner::None
        } else {
            Owner::Unknown
        }
    }
}

/// The workload that made a pod, as its controller names and labels what it makes.
fn name_by_labels(
    namespace: &str,
    pod: &str,
    labels: &BTreeMap<String, String>,
) -> Option<WorkloadName> {
    let (kind, name) = if let Some(hash) = labels.get(TEMPLATE_HASH) {
        let (replica_set, _) = pod.rsplit_once('-')?;
        let name = replica_set.strip_suffix(hash)?.strip_suffix('-')?;
        ("Deployment", name)
    } else if labels.get(STATEFUL_POD).is_some_and(|name| name == pod) {
        ("StatefulSet", pod.rsplit_once('-')?.0)
    } else if labels.contains_key(REVISION_HASH) {
        ("DaemonSet", pod.rsplit_once('-')?.0)
    } else {
        return None;
    };
    Some(WorkloadName::new(kind, namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn controllers_name_and_label_their_pods() {
        let cases = [
            (
                "web-7d9f-abcde",
                vec![("pod-template-hash", "7d9f")],
                Some("Deployment/n/web"),
            ),
            (
                "a-b-7d9f-abcde",
                vec![("pod-template-hash", "7d9f")],
                Some("Deployment/n/a-b"),
            ),
            ("web-other-abcde", vec![("pod-template-hash", "7d9f")], None),
            (
                "db-0",
                vec![
                    ("controller-revision-hash", "db-1"),
                    ("statefulset.kubernetes.io/pod-name", "db-0"),
                ],
                Some("StatefulSet/n/db"),
            ),
            (
                "cni-x2z4q",
                vec![("controller-revision-hash", "5f")],
                Some("DaemonSet/n/cni"),
            ),
            ("bare", vec![("app", "x")], None),
        ];
        for (pod, labels, expected) in cases {
            let found = name_by_labels("n", pod, &map(&labels)).map(|name| name.key());
            assert_eq!(found.as_deref(), expected, "{pod}");
        }
    }

    #[test]
    fn what_labels_tell_needs_no_answer() {
        let made = map(&[("pod-template-hash", "1")]);
        let source = |source: &str| map(&[("kubernetes.io/config.source", source)]);
        let told = |annotations: Option<&BTreeMap<_, _>>, labels: Option<&BTreeMap<_, _>>| {
            Owners::told_by_labels(annotations, labels)
        };
        assert_eq!(told(None, Some(&made)), Owner::Unknown);
        assert_eq!(told(None, None), Owner::Unknown);
        assert_eq!(told(Some(&source("api")), Some(&made)), Owner::Unknown);
        assert_eq!(told(Some(&source("file")), Some(&made)), Owner::None);
        assert_eq!(told(None, Some(&map(&[("app", "x")]))), Owner::None);
    }

    #[test]
    fn the_last_state_answers_for_new_pods() {
        let mut owners = Owners::new("varmor");
        let web = WorkloadName::new("Deployment", "demo", "web");
        let labels = map(&[("sandbox.varmor.org/enable", "true"), ("app", "web")]);
        owners.set(Workload {
            name: web.clone(),
            labels: labels.clone(),
        });
        owners.saw(&WorkloadName::new("DaemonSet", "kube-system", "cni"));
        let text = serde_json::to_string(&owners).expect("writes");
        let owners: Owners = serde_json::from_str(&text).expect("reads");
        let hash = map(&[("pod-template-hash", "77")]);
        let owner = owners.inferred("demo", "web-77-aaaaa", Some(&hash));
        assert!(owner.opted_in(&OptIn::default()));
        assert_eq!(owner, Owner::Workload(Workload { name: web, labels }));
        let of = |namespace: &str, pod: &str, labels: Option<&BTreeMap<_, _>>| {
            owners.inferred(namespace, pod, labels)
        };
        assert!(of("demo", "new-77-aaaaa", Some(&hash)).is_unknown());
        assert!(of("demo", "web-77-aaaaa", None).is_unknown());
        let revision = map(&[("controller-revision-hash", "1")]);
        let Owner::Workload(cni) = of("kube-system", "cni-12345", Some(&revision)) else {
            panic!("it was seen")
        };
        assert!(cni.labels.is_empty());
        assert_eq!(
            of("varmor", "policy-sync-12345", Some(&revision)),
            Owner::None
        );
        assert_eq!(of("varmor", "policy-sync-12345", None), Owner::None);
    }
}
