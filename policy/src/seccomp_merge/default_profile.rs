// SPDX-License-Identifier: Apache-2.0
//! The filter of a container that has none and asks for the runtime's default.
//!
//! containerd writes its default filter into the spec itself; it cannot be asked for it afterwards. This one allows the
//! same calls for the same capabilities, and what the kernel got since.

use super::architectures;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DATA: &str = include_str!("../../data/seccomp-default.json");

/// The data file: names of calls and rules, some of them for containers with (or without) a capability.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    allow: Vec<String>,
    allow_with_capability: BTreeMap<String, Vec<String>>,
    rules: Vec<Value>,
    rules_without_capability: BTreeMap<String, Vec<Value>>,
}

/// The runtime's default filter for a container with these capabilities (`CAP_SYS_ADMIN`).
pub fn runtime_default<S: AsRef<str>>(capabilities: &[S]) -> Value {
    let profile: Profile = serde_json::from_str(DATA).expect("the data file is tested");
    let has = |name: &str| {
        capabilities
            .iter()
            .any(|capability| capability.as_ref() == name)
    };
    let mut allowed = profile.allow;
    for (capability, names) in profile.allow_with_capability {
        if has(&capability) {
            allowed.extend(names);
        }
    }
    allowed.sort_unstable();
    allowed.dedup();
    let mut rules = vec![json!({"names": allowed, "action": "SCMP_ACT_ALLOW"})];
    rules.extend(profile.rules);
    for (capability, more) in profile.rules_without_capability {
        if !has(&capability) {
            rules.extend(more);
        }
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures(),
        "syscalls": rules,
    })
}
