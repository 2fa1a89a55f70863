// SPDX-License-Identifier: Apache-2.0
//! From a policy to its ArmorProfile, or to why it is refused. Pure.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use varmor_policy::PolicyObject;
use varmor_policy::compile::Settings;
use varmor_policy::compile::profile_name::profile_name;
use varmor_policy::types::API_VERSION;
use varmor_policy::validate;

use super::kept::Kept;
use super::resolve::{self, Addresses, Targets};
use super::slicing::Wanted;
use crate::kinds::KIND_PROFILE;

/// Keeps a profile while its policy is there, whoever deletes it.
pub const FINALIZER: &str = "varmor.org/ap-protection";

/// A policy as a node gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The profile's name.
    pub profile: String,
    /// The version of the policy.
    pub generation: i64,
    /// The policy, without its rules about services and pods: as a text, which is an eighth as long in memory as the tree.
    policy: Arc<str>,
    /// The services and pods of those rules.
    pub targets: Targets,
    /// A hash of them: slices of another one are of another version.
    pub rules: String,
    /// The addresses in their place.
    pub wanted: Wanted,
}

impl Accepted {
    /// The policy, without its rules about services and pods.
    pub fn policy(&self) -> Value {
        serde_json::from_str(&self.policy).unwrap_or_default()
    }

    /// The same version with the addresses of now; none if they can't be found.
    pub fn again(&self, addresses: &Addresses, settings: &Settings) -> Option<Self> {
        let (policy, targets) = (Arc::clone(&self.policy), self.targets.clone());
        once_more(policy, self.generation, targets, addresses, settings)
    }
}

/// Checks a version of a policy, alone and as a change of what was accepted before, and finds its addresses.
///
/// # Errors
/// Every reason, each with its field and the fix.
pub fn accept(
    document: &Value,
    generation: i64,
    before: Option<&Value>,
    addresses: &Addresses,
    settings: &Settings,
) -> Result<Accepted, String> {
    let mut object = parse(document)?;
    if let Some(before) = before {
        // What was accepted by an earlier version, and is not understood any more, can only be replaced.
        if let Ok(before) = parse(before) {
            validate::update(&before, &object).map_err(|errors| join(&errors))?;
        }
    }
    let targets = resolve::take(&mut object);
    resolved(object, generation, targets, addresses, settings)
}

/// What a profile was made of, with the addresses of now: it stays in force while the policy's next version is refused.
/// None if that can't be told.
pub fn again(profile: &Kept, addresses: &Addresses, settings: &Settings) -> Option<Accepted> {
    let spec = profile.spec();
    let targets = serde_json::from_value(spec.get("targets")?.clone()).ok()?;
    let generation = spec.get("generation")?.as_i64()?;
    let policy = spec.get("policy")?.to_string().into();
    once_more(policy, generation, targets, addresses, settings)
}

/// A version that was accepted before, with the addresses of now. Its text stays as it was, byte for byte.
fn once_more(
    policy: Arc<str>,
    generation: i64,
    targets: Targets,
    addresses: &Addresses,
    settings: &Settings,
) -> Option<Accepted> {
    let document: Value = serde_json::from_str(&policy).ok()?;
    let object = parse(&document).ok()?;
    let accepted = resolved(object, generation, targets, addresses, settings).ok()?;
    Some(Accepted { policy, ..accepted })
}

fn resolved(
    mut object: PolicyObject,
    generation: i64,
    targets: Targets,
    addresses: &Addresses,
    settings: &Settings,
) -> Result<Accepted, String> {
    let wanted = resolve::find(&targets, addresses)
        .map_err(|error| format!("{}: {error}", object.reference()))?;
    let policy = serde_json::to_string(&object)
        .map_err(|error| error.to_string())?
        .into();
    let text = serde_json::to_string(&targets).map_err(|error| error.to_string())?;
    let hash = Sha256::digest(text);
    resolve::put(&mut object, &wanted);
    varmor_policy::compile(&object, settings).map_err(|errors| join(&errors))?;
    Ok(Accepted {
        profile: profile_name(&object, settings),
        generation,
        policy,
        targets,
        rules: hash[..4].iter().map(|byte| format!("{byte:02x}")).collect(),
        wanted,
    })
}

fn parse(document: &Value) -> Result<PolicyObject, String> {
    let mut objects = varmor_policy::parse(&document.to_string()).map_err(|errors| {
        // The lines of a document that the user did not write help nobody.
        let texts: Vec<String> = errors
            .iter()
            .map(|error| match error.to_string().split_once(": ") {
                Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
                _ => error.to_string(),
            })
            .collect();
        join(&texts)
    })?;
    objects.pop().ok_or_else(|| "there is no policy".to_owned())
}

fn join<E: ToString>(errors: &[E]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The object of a profile that needs these slices.
pub fn object(
    accepted: &Accepted,
    namespace: &str,
    metadata: &ObjectMeta,
    kind: &str,
    slices: &[String],
) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND_PROFILE,
        "metadata": {
            "name": accepted.profile,
            "namespace": namespace,
            "labels": metadata.labels.clone().unwrap_or_default(),
            "finalizers": [FINALIZER],
            "ownerReferences": owners(metadata, kind),
        },
        "spec": spec(accepted, slices),
    })
}

/// The spec of a profile that needs these slices.
pub fn spec(accepted: &Accepted, slices: &[String]) -> Value {
    let mut spec = json!({
        "policy": accepted.policy(),
        "generation": accepted.generation,
    });
    if !accepted.targets.is_empty() {
        spec["targets"] = json!(accepted.targets);
    }
    if !slices.is_empty() {
        spec["addresses"] = json!(slices);
    }
    spec
}

/// The owner of what is made of a policy.
pub fn owners(policy: &ObjectMeta, kind: &str) -> Value {
    json!([{
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": policy.name,
        "uid": policy.uid,
        "controller": true,
        "blockOwnerDeletion": false,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(target: &str, enforcer: &str) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": "VarmorPolicy",
            "metadata": {"name": "p", "namespace": "demo", "creationTimestamp": "2026-01-31T09:00:00Z"},
            "spec": {"target": {"kind": "Deployment", "name": target},
                     "policy": {"enforcer": enforcer, "mode": "AlwaysAllow"}},
        })
    }

    fn accepted(document: &Value, before: Option<&Value>) -> Result<Accepted, String> {
        accept(
            document,
            1,
            before,
            &Addresses::default(),
            &Settings::default(),
        )
    }

    #[test]
    fn a_valid_policy_has_a_profile() {
        let first = accepted(&policy("web", "AppArmorBPF"), None).unwrap();
        assert_eq!(first.profile, "varmor-demo-p");
        assert_eq!(first.policy()["spec"]["target"]["name"], "web");
        // What was accepted is what the next version is compared with.
        accepted(&policy("web", "AppArmor"), Some(&first.policy())).unwrap();
        let refused = accepted(&policy("web", "BPF"), Some(&first.policy())).unwrap_err();
        assert!(
            refused.contains("spec.policy.enforcer") && refused.contains("lacks what"),
            "{refused}"
        );
        let refused = accepted(&policy("db", "AppArmorBPF"), Some(&first.policy())).unwrap_err();
        assert!(refused.contains("spec.target: "), "{refused}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let refused = accepted(&policy("web", "Bogus"), None).unwrap_err();
        assert!(
            refused.starts_with("VarmorPolicy demo/p: spec.policy.enforcer"),
            "{refused}"
        );
        let mut misspelt = policy("web", "BPF");
        misspelt["spec"]["targets"] = json!({});
        let refused = accepted(&misspelt, None).unwrap_err();
        assert!(
            refused.contains("targets") && !refused.contains("line "),
            "{refused}"
        );
    }
}
