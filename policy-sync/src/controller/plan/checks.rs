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
    /// What is in force was read from the profile, where another one may have written a later version since.
    pub from_profile: bool,
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
        // What was accepted last. Others may have written into the profile, which only counts after a restart.
        let last = known
            .filter(|checked| checked.uid == uid)
            .and_then(|checked| checked.outcome.sliced.as_deref())
            .map(|sliced| &sliced.accepted);
        let before_policy = match (last, before) {
            (Some(last), _) => (last.generation != generation).then(|| last.policy()),
            (None, Some(spec)) => {
                (spec["generation"] != generation).then(|| spec["policy"].clone())
            }
            (None, None) => None,
        };
        let result = profile::accept(
            &document,
            generation,
            before_policy.as_ref(),
            &world.addresses,
            settings,
        );
        let (accepted, refused, from_profile) = match result {
            Ok(accepted) => (Some(accepted), None, false),
            Err(message) => {
                let again = match (last, present) {
                    (Some(last), _) => last.again(&world.addresses, settings),
                    (None, Some(profile)) => profile::again(profile, &world.addresses, settings),
                    (None, None) => None,
                };
                let was_read = known.is_some_and(|checked| checked.outcome.from_profile);
                (again, Some(message), last.is_none() || was_read)
            }
        };
        let sliced = accepted
            .map(|accepted| Arc::new(Sliced::new(accepted, planned, world, namespace, uid)));
        let outcome = Outcome {
            sliced,
            refused,
            from_profile,
        };
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
