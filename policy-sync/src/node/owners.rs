// SPDX-License-Identifier: Apache-2.0
//! From a pod's owner references to the workload that it belongs to.

use std::collections::BTreeMap;
use std::sync::Mutex;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PartialObjectMeta};
use kube::{Client, Resource};
use varmor_policy::matching::OptIn;
use varmor_policy::owner::WorkloadName;

use super::desired::{Labels, PodOwner};

/// Most ReplicaSets and workloads that are remembered.
const MAX_REMEMBERED: usize = 8192;

/// The owner that controls an object.
pub fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// What an owner of kind `apps/v1` is to a policy.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A target of policies.
    Workload,
    /// It belongs to a Deployment, or to nobody.
    ReplicaSet,
    /// Its pods are as bare ones: Jobs, ReplicationControllers, custom resources.
    Other,
}

fn kind(owner: &OwnerReference) -> Kind {
    match (owner.api_version.split('/').next(), &*owner.kind) {
        (Some("apps"), "StatefulSet" | "DaemonSet" | "Deployment") => Kind::Workload,
        (Some("apps"), "ReplicaSet") => Kind::ReplicaSet,
        _ => Kind::Other,
    }
}

/// Asks for what owner references do not say, and remembers it.
pub struct Resolver {
    client: Client,
    opt_in: OptIn,
    /// Deployments of ReplicaSets by the latter's UIDs, which never change but for an adoption.
    replica_sets: Mutex<BTreeMap<String, Option<String>>>,
    /// Workloads that were looked up and had not opted in; the watch tells when they do.
    opted_out: Mutex<BTreeMap<WorkloadName, ()>>,
}

impl Resolver {
    /// A resolver for workloads with this label.
    pub fn new(client: Client, opt_in_label: &str) -> anyhow::Result<Self> {
        let opt_in = OptIn::parse(opt_in_label)
            .map_err(|error| anyhow::anyhow!("--opt-in-label: {error}"))?;
        Ok(Self {
            client,
            opt_in,
            replica_sets: Mutex::default(),
            opted_out: Mutex::default(),
        })
    }

    /// The workload of a pod.
    ///
    /// # Errors
    /// The API server can't be asked.
    pub async fn owner(&self, pod: &ObjectMeta) -> Result<PodOwner, kube::Error> {
        let namespace = pod.namespace.clone().unwrap_or_default();
        let Some(owner) = controller(pod) else {
            return Ok(PodOwner {
                namespace,
                workload: None,
            });
        };
        let workload = match kind(owner) {
            Kind::Workload => Some(WorkloadName::new(&*owner.kind, &*namespace, &*owner.name)),
            Kind::ReplicaSet => self
                .deployment(&namespace, owner)
                .await?
                .map(|name| WorkloadName::new("Deployment", &*namespace, name)),
            Kind::Other => None,
        };
        Ok(PodOwner {
            namespace,
            workload,
        })
    }

    async fn deployment(
        &self,
        namespace: &str,
        replica_set: &OwnerReference,
    ) -> Result<Option<String>, kube::Error> {
        let known = locked(&self.replica_sets).get(&replica_set.uid).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        let Some(found) = api.get_metadata_opt(&replica_set.name).await? else {
            // It goes, and its pods with it.
            return Ok(None);
        };
        let deployment = controller(&found.metadata)
            .filter(|owner| owner.kind == "Deployment")
            .map(|owner| owner.name.clone());
        remember(
            &self.replica_sets,
            replica_set.uid.clone(),
            deployment.clone(),
        );
        Ok(deployment)
    }

    /// The labels of a workload that the watch has not shown, if it has opted in: a pod may be faster than the watch.
    ///
    /// # Errors
    /// The API server can't be asked.
    pub async fn labels(&self, name: &WorkloadName) -> Result<Option<Labels>, kube::Error> {
        if locked(&self.opted_out).contains_key(name) {
            return Ok(None);
        }
        let found = match &*name.kind {
            "Deployment" => self.metadata::<Deployment>(name).await?,
            "StatefulSet" => self.metadata::<StatefulSet>(name).await?,
            _ => self.metadata::<DaemonSet>(name).await?,
        };
        let labels = found.filter(|labels| self.opt_in.holds(labels));
        if labels.is_none() {
            remember(&self.opted_out, name.clone(), ());
        }
        Ok(labels)
    }

    /// A workload has opted in, so that it must be looked up again when the watch shows it no more.
    pub fn forget(&self, name: &WorkloadName) {
        locked(&self.opted_out).remove(name);
    }

    async fn metadata<K>(&self, name: &WorkloadName) -> Result<Option<Labels>, kube::Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &name.namespace);
        let found = api.get_metadata_opt(&name.name).await?;
        Ok(found.map(|found| found.metadata.labels.unwrap_or_default()))
    }

    /// A pod by name.
    ///
    /// # Errors
    /// The API server can't be asked.
    pub async fn pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PartialObjectMeta<Pod>>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        api.get_metadata_opt(name).await
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it was held")
}

fn remember<K: Ord, V>(map: &Mutex<BTreeMap<K, V>>, key: K, value: V) {
    let mut map = locked(map);
    if map.len() >= MAX_REMEMBERED {
        map.clear();
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(api_version: &str, kind: &str, controller: Option<bool>) -> OwnerReference {
        OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            controller,
            ..OwnerReference::default()
        }
    }

    #[test]
    fn only_the_controlling_owner_counts() {
        let metadata = ObjectMeta {
            owner_references: Some(vec![
                owner("v1", "Node", None),
                owner("apps/v1", "DaemonSet", Some(true)),
            ]),
            ..ObjectMeta::default()
        };
        assert_eq!(
            controller(&metadata).map(|owner| &*owner.kind),
            Some("DaemonSet")
        );
        assert!(controller(&ObjectMeta::default()).is_none());
    }

    #[test]
    fn jobs_and_foreign_kinds_make_bare_pods() {
        for (version, name, expected) in [
            ("apps/v1", "StatefulSet", Kind::Workload),
            ("apps/v1", "ReplicaSet", Kind::ReplicaSet),
            ("batch/v1", "Job", Kind::Other),
            ("apps.example.org/v1", "StatefulSet", Kind::Other),
            ("v1", "ReplicationController", Kind::Other),
        ] {
            assert_eq!(
                kind(&owner(version, name, Some(true))),
                expected,
                "{version} {name}"
            );
        }
    }
}
