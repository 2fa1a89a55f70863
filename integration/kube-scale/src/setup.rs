// SPDX-License-Identifier: Apache-2.0
//! Fills the cluster.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use policy_sync::kinds;
use serde_json::{Value, json};

use crate::objects;

/// Requests at a time.
const AT_ONCE: usize = 32;

/// Does all of it, some at a time; the first error ends it.
async fn all<T>(
    what: &str,
    tasks: Vec<impl Future<Output = Result<T, kube::Error>>>,
) -> Result<()> {
    let mut running = futures_util::stream::iter(tasks).buffer_unordered(AT_ONCE);
    while let Some(result) = running.next().await {
        match result {
            Ok(_) => {}
            Err(error) => return Err(error).with_context(|| what.to_owned()),
        }
    }
    Ok(())
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of this program is well-formed")
}

async fn create<K>(api: Api<K>, value: Value) -> Result<K, kube::Error>
where
    K: Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), &object(value)).await
}

/// Namespaces with what belongs to each of their policies, before there are any.
pub async fn surroundings(client: &Client, policies: usize, deployments: usize) -> Result<()> {
    let namespaces = objects::namespaces(policies);
    let api: Api<Namespace> = Api::all(client.clone());
    let tasks = namespaces
        .iter()
        .map(|name| create(api.clone(), json!({"metadata": {"name": name}})));
    all("a namespace", tasks.collect()).await?;
    let accounts: Api<ServiceAccount> = Api::all(client.clone());
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let listed = accounts.list(&ListParams::default()).await?;
        let names = listed
            .items
            .iter()
            .filter(|one| one.metadata.name.as_deref() == Some("default"));
        let of_ours = names.filter(|one| {
            let namespace = one.metadata.namespace.as_ref();
            namespace.is_some_and(|namespace| namespaces.contains(namespace))
        });
        if of_ours.count() == namespaces.len() {
            break;
        }
        if Instant::now() > until {
            bail!(
                "namespaces without the service account `default`: is kube-controller-manager there?"
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let tasks = namespaces.iter().enumerate().map(|(index, name)| {
        let api: Api<Service> = Api::namespaced(client.clone(), name);
        create(
            api,
            objects::service(name, index * policies / namespaces.len()),
        )
    });
    all("a Service", tasks.collect()).await?;
    let tasks = (0..deployments).map(|index| {
        let api: Api<Deployment> = Api::namespaced(client.clone(), &objects::namespace_of(index));
        create(api, objects::deployment(index))
    });
    all("a Deployment", tasks.collect()).await
}

/// Nodes: their UIDs by name.
pub async fn nodes(client: &Client, count: usize) -> Result<HashMap<String, String>> {
    let api: Api<Node> = Api::all(client.clone());
    let tasks = (0..count).map(|index| create(api.clone(), objects::node_object(index)));
    all("a Node", tasks.collect()).await?;
    let listed = api.list_metadata(&ListParams::default()).await?;
    let uid = |metadata: kube::api::ObjectMeta| Some((metadata.name?, metadata.uid?));
    Ok(listed
        .items
        .into_iter()
        .filter_map(|node| uid(node.metadata))
        .collect())
}

/// Running pods, as scheduler and kubelet would have left them.
pub async fn pods(client: &Client, count: usize, nodes: usize, policies: usize) -> Result<()> {
    let tasks = (0..count).map(|index| async move {
        let value = objects::pod(index, nodes, policies);
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        create(api.clone(), value.clone()).await?;
        set_address(&api, index, index).await
    });
    all("a Pod", tasks.collect()).await
}

async fn set_address(api: &Api<Pod>, index: usize, address: usize) -> Result<(), kube::Error> {
    let status = objects::pod_status(address);
    let patch = Patch::Merge(&status);
    let name = format!("pod-{index:05}");
    api.patch_status(&name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Gives a pod another address.
pub async fn move_pod(
    client: &Client,
    index: usize,
    policies: usize,
    address: usize,
) -> Result<()> {
    let namespace = objects::namespace_of(index % policies);
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    Ok(set_address(&api, index, address).await?)
}

/// Policies, in their first version.
pub async fn policies(client: &Client, count: usize) -> Result<()> {
    let tasks =
        (0..count).map(|index| create(policy_api(client, index), objects::policy(index, 0)));
    all("a policy", tasks.collect()).await
}

fn policy_api(client: &Client, index: usize) -> Api<DynamicObject> {
    let [namespaced, _] = kinds::policies();
    Api::namespaced_with(client.clone(), &objects::namespace_of(index), &namespaced)
}

/// Makes a policy, or another version of it; the generation that it has then.
pub async fn apply(client: &Client, index: usize, version: usize) -> Result<i64> {
    let parameters = PatchParams::apply("kube-scale").force();
    let value = objects::policy(index, version);
    let policy = policy_api(client, index)
        .patch(
            &objects::policy_name(index),
            &parameters,
            &Patch::Apply(&value),
        )
        .await?;
    Ok(policy.metadata.generation.unwrap_or_default())
}

/// Changes the metadata of a Deployment, as a rollout does many times.
pub async fn touch_deployment(client: &Client, index: usize, round: usize) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &objects::namespace_of(index));
    let patch = json!({"metadata": {"annotations": {"example.org/round": round.to_string()}}});
    api.patch(
        &objects::policy_name(index),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await?;
    Ok(())
}

/// A namespace for a policy alone.
pub async fn namespace_only(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    match create(api, json!({"metadata": {"name": name}})).await {
        Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
        result => result.map(drop).context("a namespace"),
    }
}
