// SPDX-License-Identifier: Apache-2.0
//! The ArmorAddressSlices of policies: what should be there, and the actions from what there is. Those that a profile will
//! name are written before it, and none is deleted while a profile names it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use varmor_policy::types::API_VERSION;

use super::kept::{self, Digest};
use super::plan::{Action, World};
use super::profile::{self, Accepted, owners};
use super::resolve::Name;
use super::slicing::{self, Slices};
use crate::address_slice::{AddressSlice, LABEL_PROFILE};
use crate::kinds;

/// An accepted policy, with its addresses in slices.
#[derive(Debug, PartialEq)]
pub struct Sliced {
    /// The policy.
    pub accepted: Accepted,
    slices: Slices,
    names: Vec<String>,
    /// Of the spec of the profile.
    profile: Digest,
}

impl Sliced {
    /// Distributes the addresses of a policy with this UID, over the slices that it has as far as possible: those that
    /// were planned last, and after a restart those that there are.
    pub fn new(
        accepted: Accepted,
        planned: Option<&Self>,
        world: &World,
        namespace: &str,
        uid: &str,
    ) -> Self {
        let prefix = prefix(&accepted);
        let planned = planned.filter(|planned| self::prefix(&planned.accepted) == prefix);
        let there = world
            .address_slices
            .range((namespace.to_owned(), prefix.clone())..);
        let there: BTreeMap<u32, &DynamicObject> = there
            .map_while(|(name, object)| {
                let is_here = name.0 == namespace;
                is_here
                    .then(|| name.1.strip_prefix(&prefix))
                    .flatten()
                    .map(|rest| (rest, object))
            })
            .filter_map(|(rest, object)| Some((rest.parse().ok()?, object)))
            .collect();
        let before = match planned {
            Some(planned) => planned.slices.clone(),
            None => there
                .iter()
                .filter(|(_, object)| is_owned(object, uid))
                .filter_map(|(number, object)| Some((*number, AddressSlice::read(object).ok()?)))
                .collect(),
        };
        let taken: BTreeSet<u32> = there.into_keys().collect();
        let slices = slicing::assign(&before, &accepted.wanted, &taken);
        let names: Vec<String> = slices
            .keys()
            .map(|number| format!("{prefix}{number}"))
            .collect();
        Self {
            profile: kept::digest(&profile::spec(&accepted, &names)),
            names,
            accepted,
            slices,
        }
    }

    /// The digest of the spec that its profile should have.
    pub fn profile(&self) -> Digest {
        self.profile
    }

    /// The names of its slices.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Writes the slices that are not as they should be.
    pub fn actions(
        &self,
        world: &World,
        namespace: &str,
        policy: &ObjectMeta,
        kind: &str,
    ) -> Vec<(Option<String>, Action)> {
        let mut actions = Vec::new();
        let owners = owners(policy, kind);
        for (name, slice) in self.names.iter().zip(self.slices.values()) {
            let object = json!({
                "apiVersion": API_VERSION,
                "kind": kinds::KIND_ADDRESS_SLICE,
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {LABEL_PROFILE: self.accepted.profile},
                    "ownerReferences": owners,
                },
                "spec": slice.spec(),
            });
            let name = (namespace.to_owned(), name.clone());
            let there = world.address_slices.get(&name);
            if there.is_some_and(|there| is_same(there, &object)) {
                continue;
            }
            let version = there.and_then(|there| there.metadata.resource_version.clone());
            let before = there.and_then(|there| AddressSlice::read(there).ok());
            let adds = before.is_none_or(|before| !slice.addresses.is_subset(&before.addresses));
            let profile = (namespace.to_owned(), self.accepted.profile.clone());
            let action = Action::ApplySlice {
                slice: name,
                profile,
                object,
                adds,
            };
            actions.push((version, action));
        }
        actions
    }
}

/// What the names of a policy's slices begin with. Other rules about services and pods have other slices, so that a node
/// goes over to all of them at once.
fn prefix(accepted: &Accepted) -> String {
    format!("{}-{}-", accepted.profile, accepted.rules)
}

fn is_owned(object: &DynamicObject, uid: &str) -> bool {
    let mut owners = object.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.uid == uid)
}

fn is_same(there: &DynamicObject, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let owner = metadata["ownerReferences"][0]["uid"].as_str();
    let labels = there.metadata.labels.as_ref();
    there.data.get("spec") == object.get("spec")
        && labels
            .and_then(|labels| labels.get(LABEL_PROFILE))
            .map(String::as_str)
            == metadata["labels"][LABEL_PROFILE].as_str()
        && owner.is_some_and(|uid| is_owned(there, uid))
}

/// What profiles were last written to name, until the watch shows it.
#[derive(Debug, Default)]
pub struct Unseen(BTreeMap<Name, (Vec<String>, BTreeSet<String>)>);

impl Unseen {
    /// A profile is written that names these slices.
    pub fn wrote(&mut self, profile: &Name, names: &[String]) {
        let (last, all) = self.0.entry(profile.clone()).or_default();
        *last = names.to_vec();
        all.extend(names.iter().cloned());
    }

    /// Forgets what can be seen.
    pub fn look(&mut self, world: &World) {
        self.0.retain(|name, (last, _)| {
            let profile = world.profiles.get(name);
            profile.is_none_or(|profile| profile.slices() != *last)
        });
    }

    /// Deletes the slices that are not wanted, and that no profile names.
    pub fn unneeded(
        &self,
        world: &World,
        wanted: &BTreeSet<Name>,
    ) -> Vec<(Option<String>, Action)> {
        let is_named = |name: &Name, object: &DynamicObject| {
            let labels = object.metadata.labels.as_ref();
            // Not ours.
            let Some(profile) = labels.and_then(|labels| labels.get(LABEL_PROFILE)) else {
                return true;
            };
            let profile = (name.0.clone(), profile.clone());
            let unseen = self.0.get(&profile);
            unseen.is_some_and(|(_, names)| names.contains(&name.1))
                || world
                    .profiles
                    .get(&profile)
                    .is_some_and(|profile| profile.slices().contains(&name.1))
        };
        world
            .address_slices
            .iter()
            .filter(|(name, object)| {
                let goes = object.metadata.deletion_timestamp.is_some();
                !goes && !wanted.contains(*name) && !is_named(name, object)
            })
            .map(|(name, object)| {
                let version = object.metadata.resource_version.clone();
                (version, Action::DeleteSlice(name.clone()))
            })
            .collect()
    }
}
