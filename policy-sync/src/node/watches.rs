// SPDX-License-Identifier: Apache-2.0
//! The watches: each keeps its part of what is wanted as the API server has it, whatever happens to the connection.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, metadata_watcher, watcher};
use kube::{Client, Resource};
use serde_json::Value;
use varmor_policy::owner::WorkloadName;

use super::desired::{Desired, PolicyKey, Relist, Wanted};
use super::profiles::{self, Profile, Profiles};
use super::{Options, Shared};
use crate::address_slice::AddressSlice;
use crate::kinds;

/// A question of the API server that failed is asked again after this long.
const RETRY: Duration = Duration::from_secs(2);

/// Watches for ever.
pub async fn run(client: &Client, shared: &Arc<Shared>, options: &Options) {
    let label = &options.opt_in_label;
    let workloads = async {
        tokio::join!(
            follow_workloads::<Deployment>(client, shared, "Deployment", label),
            follow_workloads::<StatefulSet>(client, shared, "StatefulSet", label),
            follow_workloads::<DaemonSet>(client, shared, "DaemonSet", label),
        )
    };
    let policies = async {
        if options.profiles {
            let resources = vec![kinds::profiles(), kinds::address_slices()];
            follow_policies(client, shared, resources).await;
        } else {
            follow_policies(client, shared, kinds::policies().into()).await;
        }
    };
    tokio::join!(workloads, follow_pods(client, shared), policies);
}

/// Calls `take` with each event, in order, for ever: an error is an interruption that the watcher mends itself.
async fn each<T>(
    what: &str,
    events: impl Stream<Item = Result<Event<T>, watcher::Error>>,
    mut take: impl AsyncFnMut(Event<T>),
) {
    let mut events = pin!(events);
    let mut told = false;
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                if std::mem::take(&mut told) {
                    tracing::info!("{what}: the API server answers again");
                }
                take(event).await;
            }
            Ok(None) => return,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{what}: {error}; what was known stays in force");
                }
            }
        }
    }
}

async fn follow_workloads<K>(client: &Client, shared: &Arc<Shared>, kind: &str, label: &str)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + 'static,
    K: serde::de::DeserializeOwned,
{
    let config = watcher::Config::default().labels(label);
    let events = metadata_watcher(Api::<K>::all(client.clone()), config).default_backoff();
    let mut relist = Relist::default();
    each(
        kind,
        events,
        async |event: Event<PartialObjectMeta<K>>| match event {
            Event::Init => relist.begin(),
            Event::InitApply(object) | Event::Apply(object) => {
                let (name, labels) = workload(kind, object.metadata);
                relist.saw(&name);
                shared.resolver.forget(&name);
                shared.change(|desired| drop(desired.workloads.insert(name, labels)));
            }
            Event::Delete(object) => {
                let (name, _) = workload(kind, object.metadata);
                shared.change(|desired| drop(desired.workloads.remove(&name)));
            }
            Event::InitDone => shared.change(|desired| {
                let known = desired.workloads.keys().filter(|name| name.kind == kind);
                for gone in relist.end(known) {
                    desired.workloads.remove(&gone);
                }
            }),
        },
    )
    .await;
}

fn workload(kind: &str, metadata: ObjectMeta) -> (WorkloadName, BTreeMap<String, String>) {
    let name = WorkloadName::new(
        kind,
        metadata.namespace.unwrap_or_default(),
        metadata.name.unwrap_or_default(),
    );
    (name, metadata.labels.unwrap_or_default())
}

async fn follow_pods(client: &Client, shared: &Arc<Shared>) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.node));
    let events = metadata_watcher(Api::<Pod>::all(client.clone()), config).default_backoff();
    let mut relist = Relist::default();
    each(
        "Pod",
        events,
        async |event: Event<PartialObjectMeta<Pod>>| match event {
            Event::Init => relist.begin(),
            Event::InitApply(pod) | Event::Apply(pod) => {
                relist.saw(&uid(&pod.metadata));
                // An answer that is slow or fails must not hold up the other pods.
                let shared = Arc::clone(shared);
                tokio::spawn(async move { learn(&shared, &pod.metadata).await });
            }
            Event::Delete(pod) => {
                let uid = uid(&pod.metadata);
                shared.change(|desired| drop(desired.pods.remove(&uid)));
            }
            Event::InitDone => shared.change(|desired| {
                for gone in relist.end(desired.pods.keys()) {
                    desired.pods.remove(&gone);
                }
                desired.has_pods = true;
            }),
        },
    )
    .await;
}

/// The name under which the kubelet and the runtime know a pod: a static pod's is not that of its mirror.
pub fn uid(metadata: &ObjectMeta) -> String {
    let annotations = metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get("kubernetes.io/config.mirror"))
        .or(metadata.uid.as_ref())
        .cloned()
        .unwrap_or_default()
}

/// Finds out what a pod belongs to.
pub async fn learn(shared: &Shared, pod: &ObjectMeta) {
    let uid = uid(pod);
    if shared.desired().pods.contains_key(&uid) {
        return;
    }
    loop {
        match try_learn(shared, pod, &uid).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(
                    "what pod {}/{} belongs to can't be found out: {error}",
                    pod.namespace.as_deref().unwrap_or_default(),
                    pod.name.as_deref().unwrap_or_default()
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn try_learn(shared: &Shared, pod: &ObjectMeta, uid: &str) -> Result<(), kube::Error> {
    let owner = shared.resolver.owner(pod).await?;
    let unseen = owner
        .workload
        .clone()
        .filter(|name| !shared.desired().workloads.contains_key(name));
    let labels = match &unseen {
        Some(name) => shared.resolver.labels(name).await?,
        None => None,
    };
    shared.change(|desired| {
        if let (Some(name), Some(labels)) = (unseen, labels) {
            desired.workloads.entry(name).or_insert(labels);
        }
        desired.pods.insert(uid.to_owned(), owner);
    });
    Ok(())
}

async fn follow_policies(client: &Client, shared: &Arc<Shared>, resources: Vec<ApiResource>) {
    let streams = resources.into_iter().map(|resource| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let events = watcher(api, watcher::Config::default()).default_backoff();
        events.map(move |event| (resource.kind.clone(), event))
    });
    let count = streams.len();
    let mut events = futures_util::stream::select_all(streams.map(StreamExt::boxed));
    let mut listed = std::collections::BTreeSet::new();
    let mut profiles = Profiles::default();
    let mut relists: BTreeMap<String, Relist<PolicyKey>> = BTreeMap::new();
    let mut slices_relist = Relist::default();
    while let Some((kind, event)) = events.next().await {
        if let Err(error) = &event {
            tracing::warn!("{kind}: {error}; what was known stays in force");
        }
        if matches!(event, Ok(Event::InitDone)) {
            listed.insert(kind.clone());
        }
        let all = listed.len() == count;
        let Ok(event) = event else { continue };
        shared.change(|desired| {
            if kind == kinds::KIND_ADDRESS_SLICE {
                take_slice(event, &mut profiles, &mut slices_relist, desired);
            } else {
                let relist = relists.entry(kind.clone()).or_default();
                take_policy(&kind, event, &mut profiles, relist, desired);
            }
            desired.has_policies = all;
        });
    }
}

fn take_slice(
    event: Event<DynamicObject>,
    profiles: &mut Profiles,
    relist: &mut Relist<profiles::Name>,
    desired: &mut Desired,
) {
    let name = |object: &DynamicObject| {
        let metadata = &object.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        (namespace, metadata.name.clone().unwrap_or_default())
    };
    match event {
        Event::Init => relist.begin(),
        Event::InitApply(object) | Event::Apply(object) => {
            let name = name(&object);
            relist.saw(&name);
            profiles.put_slice(name, AddressSlice::read(&object), desired);
        }
        Event::Delete(object) => profiles.remove_slice(&name(&object), desired),
        Event::InitDone => {
            for gone in relist.end(profiles.slices()) {
                profiles.remove_slice(&gone, desired);
            }
        }
    }
}

/// Takes a policy, or a profile of one.
fn take_policy(
    kind: &str,
    event: Event<DynamicObject>,
    profiles: &mut Profiles,
    relist: &mut Relist<PolicyKey>,
    desired: &mut Desired,
) {
    match event {
        Event::Init => relist.begin(),
        Event::InitApply(object) | Event::Apply(object) => {
            let Some((key, profile)) = policy(kind, &object) else {
                return;
            };
            relist.saw(&key);
            if let Some(nodes) = kinds::nodes_of(&object).filter(|_| kind == kinds::KIND_PROFILE) {
                desired.nodes = nodes;
            }
            // A profile that is being deleted holds until its controller says that the policy is gone.
            let is_gone = if kind == kinds::KIND_PROFILE {
                kinds::policy_is_gone(&object.metadata)
            } else {
                object.metadata.deletion_timestamp.is_some()
            };
            if is_gone {
                profiles.remove(&key, desired);
                desired.gone.insert(key);
            } else {
                desired.gone.remove(&key);
                profiles.put(key, profile, desired);
            }
        }
        Event::Delete(object) => {
            if let Some((key, _)) = policy(kind, &object) {
                profiles.remove(&key, desired);
            }
        }
        Event::InitDone => {
            // Profiles are of both kinds of policies.
            let known = profiles.policies();
            let known = known.filter(|key| key.0 == kind || kind == kinds::KIND_PROFILE);
            for gone in relist.end(known) {
                profiles.remove(&gone, desired);
            }
            // What was said of them was long ago.
            desired.gone.clear();
        }
    }
}

/// The policy of a policy object, or of a profile.
fn policy(kind: &str, object: &DynamicObject) -> Option<(PolicyKey, Profile)> {
    let (document, generation) = if kind == kinds::KIND_PROFILE {
        let spec = object.data.get("spec")?;
        let generation = spec.get("generation").and_then(Value::as_i64);
        (spec.get("policy")?.clone(), generation)
    } else {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let document = kinds::policy_document(kind, &object.metadata, spec);
        (document, object.metadata.generation)
    };
    let text = |pointer: &str| {
        let value = document.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let key = (
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name"),
    );
    let wanted = Wanted {
        object: document.into(),
        generation: generation.unwrap_or_default(),
    };
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let spec = object.data.get("spec").unwrap_or(&Value::Null);
    let slices = kinds::slices_of(spec).map(|name| (namespace.clone(), name.to_owned()));
    let slices = slices.filter(|_| kind == kinds::KIND_PROFILE).collect();
    let policy = wanted;
    Some((key, Profile { policy, slices }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_is_the_policy_that_it_was_made_of() {
        let policy_object = json!({
            "apiVersion": "crd.varmor.org/v1beta1", "kind": "VarmorPolicy",
            "metadata": {"name": "a", "namespace": "demo", "uid": "x", "generation": 3,
                "creationTimestamp": "2026-01-31T09:00:00Z", "managedFields": []},
            "spec": {"target": {"kind": "Pod", "name": "b"}, "policy": {"enforcer": "BPF", "mode": "AlwaysAllow"}},
            "status": {"phase": "Pending"},
        });
        let object: DynamicObject = serde_json::from_value(policy_object).unwrap();
        let (key, profile) = policy("VarmorPolicy", &object).unwrap();
        let wanted = profile.policy;
        assert_eq!(key, ("VarmorPolicy".into(), "demo".into(), "a".into()));
        assert_eq!(wanted.generation, 3);
        assert_eq!(
            wanted.object["metadata"],
            json!({"name": "a", "namespace": "demo", "creationTimestamp": "2026-01-31T09:00:00Z"})
        );
        varmor_policy::parse(&wanted.object.to_string()).expect("a policy");
        let profile = json!({
            "apiVersion": "crd.varmor.org/v1beta1", "kind": "ArmorProfile",
            "metadata": {"name": "varmor-demo-a", "namespace": "demo"},
            "spec": {"policy": *wanted.object, "generation": 3, "addresses": ["varmor-demo-a-0"]},
        });
        let profile: DynamicObject = serde_json::from_value(profile).unwrap();
        let slices = vec![("demo".into(), "varmor-demo-a-0".into())];
        let expected = Profile {
            policy: wanted,
            slices,
        };
        assert_eq!(policy("ArmorProfile", &profile), Some((key, expected)));
    }

    #[test]
    fn a_mirror_pod_is_known_by_its_static_pods_uid() {
        let mut metadata = ObjectMeta {
            uid: Some("api".into()),
            ..ObjectMeta::default()
        };
        assert_eq!(uid(&metadata), "api");
        metadata.annotations = Some(BTreeMap::from([(
            "kubernetes.io/config.mirror".into(),
            "file".into(),
        )]));
        assert_eq!(uid(&metadata), "file");
    }
}
