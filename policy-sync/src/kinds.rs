// SPDX-License-Identifier: Apache-2.0
//! The custom resources, as the API server names them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use varmor_policy::types::{API_VERSION, KIND_CLUSTER, KIND_NAMESPACED};

/// What the controller makes of a policy, and nodes enforce.
pub const KIND_PROFILE: &str = "ArmorProfile";
/// Addresses beside a profile.
pub const KIND_ADDRESS_SLICE: &str = "ArmorAddressSlice";
/// What a node reports.
pub const KIND_NODE: &str = "ArmorNode";

/// Annotation of a profile whose policy is gone: that policy's UID. A later policy of the same name has another.
pub const POLICY_GONE: &str = "varmor.org/policy-gone";

/// Whether the controller says of a profile that its policy is gone.
pub fn policy_is_gone(profile: &ObjectMeta) -> bool {
    let annotations = profile.annotations.as_ref();
    let mut owners = profile.owner_references.iter().flatten();
    annotations
        .and_then(|annotations| annotations.get(POLICY_GONE))
        .is_some_and(|gone| owners.any(|owner| owner.uid == *gone))
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or((API_VERSION, ""));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// The two kinds of policies.
pub fn policies() -> [ApiResource; 2] {
    [
        resource(KIND_NAMESPACED, "varmorpolicies"),
        resource(KIND_CLUSTER, "varmorclusterpolicies"),
    ]
}

/// ArmorProfiles.
pub fn profiles() -> ApiResource {
    resource(KIND_PROFILE, "armorprofiles")
}

/// ArmorAddressSlices.
pub fn address_slices() -> ApiResource {
    resource(KIND_ADDRESS_SLICE, "armoraddressslices")
}

/// The names of the ArmorAddressSlices that a profile needs, as its spec says.
pub fn slices_of(spec: &Value) -> impl Iterator<Item = &str> {
    let names = spec.get("addresses");
    let names = names.and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str)
}

/// How many nodes report, as the status of a profile says.
pub fn nodes_of(profile: &DynamicObject) -> Option<usize> {
    let count = profile.data.pointer("/status/desiredNumberLoaded")?;
    count.as_u64().and_then(|count| count.try_into().ok())
}

/// ArmorNodes.
pub fn nodes() -> ApiResource {
    resource(KIND_NODE, "armornodes")
}

/// A policy as it is compiled: what the API server adds and nothing depends on is left out, so that equal policies are
/// equal texts.
pub fn policy_document(kind: &str, metadata: &ObjectMeta, spec: Value) -> Value {
    let mut meta = json!({ "name": metadata.name });
    if let Some(namespace) = &metadata.namespace {
        meta["namespace"] = json!(namespace);
    }
    if let Some(created) = &metadata.creation_timestamp {
        meta["creationTimestamp"] = json!(created);
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": meta,
        "spec": spec,
    })
}
