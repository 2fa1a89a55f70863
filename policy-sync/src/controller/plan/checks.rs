// SPDX-License-Identifier: Apache-2.0
//! What becomes of each policy, checked once for each version of it, its profile and its addresses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use varmor_policy::compile::Settings;

use super::World;
use crate::controller::PolicyKey;
use crate::controller::address_slices::Sliced;
use crate::controller::kept::{Digest, Kept};
use crate::controller::profile;
use crate::kinds;

/// What was checked, so that nothing is compiled twice. Of what it was only the digests are kept: thousands of policies would
/// be most of this program's memory.
struct Checked {
    uid: String,
    /// `spec` of the policy.
    spec: Digest,
    generation: i64,
    /// `spec` of the profile.
    before: Option<Digest>,
    /// Version of the addresses, for a policy that has any.
    addresses: Option<u64>,
    outcome: Outcome,
}

/// What becomes of a policy.
#[derive(Clone)]
pub struct Outcome {
    /// The version that is in force, or will be; none if there is none, or its addresses can't be found.
    pub sliced: Option<Arc<Sliced>>,
    /// Why the present version is refused.
    pub refused: Option<String>,
}

/// What was checked.
#[derive(Default)]
pub struct Checks(HashMap<PolicyKey, Checked>);

impl Checks {
    /// Forgets all other policies.
    pub fn keep_only(&mut self, policies: &BTreeMap<PolicyKey, Kept>) {
        self.0.retain(|key, _| policies.contains_key(key));
    }

    /// Checks a policy, whose profile is `present`, unless it, the profile and its addresses are as they were.
    pub fn check(
        &mut self,
        settings: &Settings,
        world: &World,
        key: &PolicyKey,
        namespace: &str,
        policy: &Kept,
        present: Option<&Kept>,
    ) -> Outcome {
        let uid = policy.metadata.uid.as_deref().unwrap_or_default();
        let generation = policy.metadata.generation.unwrap_or_default();
        let before_digest = present.map(Kept::digest);
        let known = self.0.get(key);
        if let Some(checked) = known
            && (checked.spec, checked.generation) == (policy.digest(), generation)
            && checked.uid == uid
            && checked.before == before_digest
            && checked
                .addresses
                .is_none_or(|version| version == world.addresses_version)
        {
            return checked.outcome.clone();
        }
        let document = kinds::policy_document(&key.0, &policy.metadata, policy.spec());
        let before = present.map(Kept::spec);
        let before = before.as_ref();
        let has_targets = before.is_some_and(|spec| spec.get("targets").is_some());
        let addresses =
            (has_targets || has_addresses(&document)).then_some(world.addresses_version);
        let planned = known.and_then(|checked| checked.outcome.sliced.as_deref());
        let before_policy = before.and_then(|spec| spec.get("policy"));
        let result = profile::accept(
            &document,
            generation,
            before_policy,
            &world.addresses,
            settings,
        );
        let (accepted, refused) = match result {
            Ok(accepted) => (Some(accepted), None),
            Err(message) => {
                let again =
                    present.and_then(|profile| profile::again(profile, &world.addresses, settings));
                (again, Some(message))
            }
        };
        let sliced = accepted
            .map(|accepted| Arc::new(Sliced::new(accepted, planned, world, namespace, uid)));
        let outcome = Outcome { sliced, refused };
        let checked = Checked {
            uid: uid.to_owned(),
            spec: policy.digest(),
            generation,
            before: before_digest,
            addresses,
            outcome: outcome.clone(),
        };
        self.0.insert(key.clone(), checked);
        outcome
    }
}

/// Whether what a policy means depends on where services and pods are. May say so of one where that is not so.
fn has_addresses(document: &Value) -> bool {
    let text = document.to_string().to_ascii_lowercase().replace('_', "-");
    [
        "toservices",
        "topods",
        "kube-apiserver",
        "ingress-nightmare",
    ]
    .iter()
    .any(|word| text.contains(word))
}
