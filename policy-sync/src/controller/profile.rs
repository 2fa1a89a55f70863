// SPDX-License-Identifier: Apache-2.0
//! From a policy to its ArmorProfile, or to why it is refused. Pure.

use std::sync::Arc;

use serde_json::{Value, json};
use varmor_policy::PolicyObject;
use varmor_policy::compile::Settings;
use varmor_policy::compile::profile_name::profile_name;
use varmor_policy::types::API_VERSION;
use varmor_policy::validate;

use super::resolve::{Addresses, resolve};
use crate::kinds::KIND_PROFILE;

/// Keeps a profile while its policy is there, whoever deletes it.
pub const FINALIZER: &str = "varmor.org/ap-protection";

/// A policy as a node gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The profile's name.
    pub profile: String,
    /// The policy, with addresses: as a text, which is an eighth as long in memory as the tree.
    policy: Arc<str>,
}

impl Accepted {
    /// The policy, with addresses.
    pub fn policy(&self) -> Value {
        serde_json::from_str(&self.policy).unwrap_or_default()
    }
}

/// Checks a policy, alone and as a change of what was accepted before, and resolves it.
///
/// # Errors
/// Every reason, each with its field and the fix.
pub fn accept(
    document: &Value,
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
    resolve(&mut object, addresses).map_err(|error| format!("{}: {error}", object.reference()))?;
    varmor_policy::compile(&object, settings).map_err(|errors| join(&errors))?;
    Ok(Accepted {
        profile: profile_name(&object, settings),
        policy: serde_json::to_string(&object)
            .map_err(|error| error.to_string())?
            .into(),
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

/// The object of a profile.
pub fn object(
    accepted: &Accepted,
    namespace: &str,
    policy: &kube::api::DynamicObject,
    kind: &str,
) -> Value {
    let metadata = &policy.metadata;
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND_PROFILE,
        "metadata": {
            "name": accepted.profile,
            "namespace": namespace,
            "labels": metadata.labels.clone().unwrap_or_default(),
            "finalizers": [FINALIZER],
            "ownerReferences": [{
                "apiVersion": API_VERSION,
                "kind": kind,
                "name": metadata.name,
                "uid": metadata.uid,
                "controller": true,
                "blockOwnerDeletion": false,
            }],
        },
        "spec": {
            "policy": accepted.policy(),
            "generation": metadata.generation.unwrap_or_default(),
        },
    })
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
