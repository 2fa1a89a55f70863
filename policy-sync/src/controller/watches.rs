// SPDX-License-Identifier: Apache-2.0
//! The watches: each keeps its part of the world as the API server has it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;

use anyhow::Context;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::PolicyKey;
use super::Shared;
use super::plan::World;
use super::resolve::{Name, Pod, Service, Slice, port};
use crate::kinds;

/// Objects of a list that are read at a time: all lists are read together, and what is read is many times as long as what
/// is kept of it.
const PAGE: u32 = 100;
/// The label that names the service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How this API server names EndpointSlices: v1 came with Kubernetes 1.21.
pub async fn slices(client: &Client) -> anyhow::Result<ApiResource> {
    let groups = client.list_api_groups().await?;
    let mut groups = groups.groups.iter();
    // A server that has just started may not tell of all yet.
    let group = groups
        .find(|group| group.name == "discovery.k8s.io")
        .context("it tells of no group discovery.k8s.io")?;
    let has_v1 = group.versions.iter().any(|version| version.version == "v1");
    let version = if has_v1 { "v1" } else { "v1beta1" };
    let gvk = GroupVersionKind::gvk("discovery.k8s.io", version, "EndpointSlice");
    Ok(ApiResource::from_gvk_with_plural(&gvk, "endpointslices"))
}

/// Watches for ever.
pub async fn run(client: &Client, shared: &Shared, slices: &ApiResource) {
    let [namespaced, cluster] = kinds::policies();
    let dynamic = |resource: &ApiResource| Api::<DynamicObject>::all_with(client.clone(), resource);
    tokio::join!(
        follow_policies(shared, dynamic(&namespaced), &namespaced.kind),
        follow_policies(shared, dynamic(&cluster), &cluster.kind),
        follow(
            shared,
            "ArmorProfile",
            dynamic(&kinds::profiles()),
            |world, name, profile| drop(world.profiles.insert(name, profile.into())),
            |world, name| drop(world.profiles.remove(name)),
            |world| world.profiles.keys().cloned().collect(),
        ),
        follow(
            shared,
            kinds::KIND_ADDRESS_SLICE,
            dynamic(&kinds::address_slices()),
            |world, name, slice| drop(world.address_slices.insert(name, slice)),
            |world, name| drop(world.address_slices.remove(name)),
            |world| world.address_slices.keys().cloned().collect(),
        ),
        follow(
            shared,
            "ArmorNode",
            dynamic(&kinds::nodes()),
            |world, name, node: DynamicObject| world.reports.put(&name.1, &node.data["report"]),
            |world, name| world.reports.remove(&name.1),
            |world| {
                let names = world.reports.nodes();
                names.map(|name| (String::new(), name.to_owned())).collect()
            },
        ),
        follow(
            shared,
            "Service",
            Api::<v1::Service>::all(client.clone()),
            |world, name, object| {
                let changed = put(&mut world.addresses.services, name, service(object));
                world.addresses_version += u64::from(changed);
            },
            |world, name| {
                world.addresses.services.remove(name);
                world.addresses_version += 1;
            },
            |world| world.addresses.services.keys().cloned().collect(),
        ),
        follow(
            shared,
            "EndpointSlice",
            dynamic(slices),
            |world, name, object| {
                let changed = put(&mut world.addresses.slices, name, slice(object));
                world.addresses_version += u64::from(changed);
            },
            |world, name| {
                world.addresses.slices.remove(name);
                world.addresses_version += 1;
            },
            |world| world.addresses.slices.keys().cloned().collect(),
        ),
        follow(
            shared,
            "Pod",
            Api::<v1::Pod>::all(client.clone()),
            |world, name, object| {
                let mut pod = pod(object);
                pod.labels = world.addresses.label_sets.share(pod.labels);
                let changed = put(&mut world.addresses.pods, name, pod);
                world.addresses_version += u64::from(changed);
            },
            |world, name| {
                world.addresses.pods.remove(name);
                world.addresses_version += 1;
            },
            |world| world.addresses.pods.keys().cloned().collect(),
        ),
    );
}

/// Whether the value was another, or none.
fn put<T: PartialEq>(map: &mut BTreeMap<Name, T>, name: Name, new: T) -> bool {
    let changed = map.get(&name) != Some(&new);
    if changed {
        map.insert(name, new);
    }
    changed
}

async fn follow_policies(shared: &Shared, api: Api<DynamicObject>, kind: &str) {
    let key = |name: &Name| -> PolicyKey { (kind.to_owned(), name.0.clone(), name.1.clone()) };
    follow(
        shared,
        kind,
        api,
        |world, name, policy| drop(world.policies.insert(key(&name), policy.into())),
        |world, name| drop(world.policies.remove(&key(name))),
        |world| {
            let keys = world.policies.keys().filter(|key| key.0 == kind);
            keys.map(|key| (key.1.clone(), key.2.clone())).collect()
        },
    )
    .await;
}

/// Keeps one kind of objects; a list that is read again says what is gone.
async fn follow<K>(
    shared: &Shared,
    what: &str,
    api: Api<K>,
    put: impl Fn(&mut World, Name, K),
    remove: impl Fn(&mut World, &Name),
    known: impl Fn(&World) -> Vec<Name>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    let mut events = pin!(events);
    let mut listed = std::collections::BTreeSet::new();
    let mut told = false;
    loop {
        match events.try_next().await {
            Ok(None) => return,
            Ok(Some(event)) => {
                told = false;
                match event {
                    Event::Init => listed.clear(),
                    Event::InitApply(mut object) => {
                        strip(&mut object);
                        let name = name(&object);
                        listed.insert(name.clone());
                        shared.change(what, |world| put(world, name, object));
                    }
                    Event::Apply(mut object) => {
                        strip(&mut object);
                        shared.change(what, |world| put(world, name(&object), object));
                    }
                    Event::Delete(object) => {
                        shared.change(what, |world| remove(world, &name(&object)))
                    }
                    Event::InitDone => shared.change(what, |world| {
                        for gone in known(world).iter().filter(|name| !listed.contains(*name)) {
                            remove(world, gone);
                        }
                        world.listed.insert(what.to_owned());
                    }),
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{what}: {error}");
                }
            }
        }
    }
}

/// Takes away what nobody here looks at, and is as long as the rest.
fn strip<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    // Such as the whole object once more, of kubectl.
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == kinds::POLICY_GONE);
    }
}

fn name<K: Resource>(object: &K) -> Name {
    let metadata = object.meta();
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn service(object: v1::Service) -> Service {
    let spec = object.spec.unwrap_or_default();
    let mut addresses: Vec<String> = spec.cluster_ips.unwrap_or_default();
    addresses.extend(spec.cluster_ip);
    // "None" for headless services.
    addresses.retain(|address| address.parse::<std::net::IpAddr>().is_ok());
    addresses.sort();
    addresses.dedup();
    Service {
        labels: object.metadata.labels.unwrap_or_default(),
        addresses,
    }
}

/// A slice of either version: they agree on what is read here.
fn slice(object: DynamicObject) -> Slice {
    let labels = object.metadata.labels.unwrap_or_default();
    let list = |name: &str| object.data[name].as_array().into_iter().flatten();
    // Names (FQDN) are no addresses.
    let mut addresses: Vec<String> = list("endpoints")
        .flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten())
        .filter_map(|address| address.as_str().map(str::to_owned))
        .filter(|address| address.parse::<std::net::IpAddr>().is_ok())
        .collect();
    addresses.sort();
    Slice {
        service: labels.get(SERVICE_NAME).cloned().unwrap_or_default(),
        addresses,
        ports: list("ports").filter_map(port).collect(),
        labels,
    }
}

fn pod(object: v1::Pod) -> Pod {
    let status = object.status.unwrap_or_default();
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut addresses: Vec<String> = Vec::new();
    if !has_ended {
        let all = status.pod_ips.into_iter().flatten().map(|one| one.ip);
        addresses.extend(all.chain(status.pod_ip));
        addresses.sort();
        addresses.dedup();
    }
    Pod {
        labels: object.metadata.labels.unwrap_or_default().into(),
        addresses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_slice_of_either_version_is_read() {
        for version in ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"] {
            let object = json!({
                "apiVersion": version, "kind": "EndpointSlice",
                "metadata": {"name": "db-x", "namespace": "demo", "labels": {"kubernetes.io/service-name": "db"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1", "a.example.org"]}],
                "ports": [{"name": "", "port": 5432, "protocol": "TCP"}, {"name": "any"}],
            });
            let slice = slice(serde_json::from_value(object).unwrap());
            assert_eq!((&*slice.service, &slice.ports[..]), ("db", &[5432][..]));
            assert_eq!(slice.addresses, ["10.0.0.1", "10.0.0.2"]);
        }
    }

    #[test]
    fn addresses_of_services_and_pods() {
        let headless = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        assert!(
            service(serde_json::from_value(headless).unwrap())
                .addresses
                .is_empty()
        );
        let both =
            json!({"spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}});
        let both = service(serde_json::from_value(both).unwrap());
        assert_eq!(both.addresses, ["10.96.0.1", "fd00::1"]);
        let status = |phase: &str| json!({"status": {"phase": phase, "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}});
        let addresses = |phase: &str| pod(serde_json::from_value(status(phase)).unwrap()).addresses;
        assert_eq!(addresses("Running"), ["10.0.0.1"]);
        assert!(
            addresses("Succeeded").is_empty(),
            "another pod may have it by now"
        );
    }
}
