// SPDX-License-Identifier: Apache-2.0
//! Names of profiles.

use super::Settings;
use crate::error::PolicyError;
use crate::types::PolicyObject;
use std::collections::BTreeMap;

/// Longest name: it is a label's value and a file's name elsewhere.
pub const MAX_PROFILE_NAME_BYTES: usize = 63;

/// `varmor-<namespace>-<name>`, or `varmor-cluster-<cluster namespace>-<name>`; lower case. Not checked for length.
pub fn profile_name(object: &PolicyObject, settings: &Settings) -> String {
    let name = &object.policy().metadata.name;
    match object {
        PolicyObject::Namespaced(_) => {
            format!("varmor-{}-{name}", object.namespace().unwrap_or_default())
        }
        PolicyObject::Cluster(_) => format!("varmor-cluster-{}-{name}", settings.cluster_namespace),
    }
    .to_ascii_lowercase()
}

/// Policies whose profiles would have one name (`a-b`/`c` and `a`/`b-c`): one error for each but the first.
pub fn collisions(objects: &[PolicyObject], settings: &Settings) -> Vec<PolicyError> {
    let mut owners = BTreeMap::new();
    let mut errors = Vec::new();
    for object in objects {
        let name = profile_name(object, settings);
        if let Some(owner) = owners.get(&name) {
            errors.push(PolicyError {
                object: object.reference(),
                field: "metadata.name".to_owned(),
                text_line: None,
                message: format!("its profile would be named `{name}`, as that of {owner}; rename one of the policies"),
            });
        } else {
            owners.insert(name, object.reference());
        }
    }
    errors
}
