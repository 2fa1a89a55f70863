// SPDX-License-Identifier: Apache-2.0
//! Policies that hold together for one container: one profile that refuses what any of them refuses and reports what any
//! of them reports.
//!
//! A member's enforcers count for that member's rules only. Every limit of one policy is a limit of all the members
//! together, so that a profile never grows beyond what one policy could make of it.

use super::{Settings, build, understand};
use crate::error::PolicyError;
use crate::plan::{EnforcementPlan, PolicyRef, Seccomp};
use crate::types::PolicyObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Most policies that hold together for one container.
pub const MAX_MEMBERS: usize = 64;

/// What the names of composed profiles begin with; 16 hexadecimal digits follow.
const PREFIX: &str = "varmor-merged-";
const DIGITS: usize = 16;

/// Compiles policies that hold together, in order of precedence, as [`crate::matching::select`] finds them. A single one
/// is compiled as [`super::compile`] does, into its own profile.
///
/// # Errors
/// Everything that is wrong with any of them, and what is too much when they are taken together, which is said of the
/// member that goes beyond. None is left out for being wrong.
///
/// # Panics
/// Without a member.
pub fn compile_composed(
    members: &[&PolicyObject],
    settings: &Settings,
) -> Result<EnforcementPlan, Vec<PolicyError>> {
    compile_members(None, members, settings)
}

/// As [`compile_composed`], into a profile of another name: what remains of a composition that containers run under
/// when some of its members are gone. A task cannot be put under another AppArmor profile.
///
/// # Errors
/// As [`compile_composed`].
///
/// # Panics
/// Without a member.
pub fn compile_as(
    profile: &str,
    members: &[&PolicyObject],
    settings: &Settings,
) -> Result<EnforcementPlan, Vec<PolicyError>> {
    compile_members(Some(profile), members, settings)
}

fn compile_members(
    profile: Option<&str>,
    members: &[&PolicyObject],
    settings: &Settings,
) -> Result<EnforcementPlan, Vec<PolicyError>> {
    let references: Vec<PolicyRef> = members.iter().map(|member| member.reference()).collect();
    let mut errors = Vec::new();
    if let Some(beyond) = references.get(MAX_MEMBERS) {
        errors.push(PolicyError {
            object: beyond.clone(),
            field: "spec.policy.merge".to_owned(),
            text_line: None,
            message: format!(
                "{} policies would hold together for one container, of at most {MAX_MEMBERS}; put rules into fewer \
                 policies, or narrow their targets",
                members.len()
            ),
        });
        return Err(errors);
    }
    let mut parts = Vec::new();
    let mut name = String::new();
    for member in members {
        let (own, part) = understand(member, settings, &mut errors);
        name = own;
        parts.extend(part);
    }
    if let Some(profile) = profile {
        profile.clone_into(&mut name);
    } else if members.len() > 1 {
        name = composed_profile_name(&references);
    }
    let first = references.into_iter().next().expect("a member at least");
    build(first, name, parts, errors)
}

/// Name of the profile of several policies that hold together, in order: `varmor-merged-` and the first 8 bytes of a
/// SHA-256 over their references.
pub fn composed_profile_name(members: &[PolicyRef]) -> String {
    let mut hash = Sha256::new();
    for PolicyRef {
        kind,
        namespace,
        name,
    } in members
    {
        // No object's kind, namespace or name has a NUL in it, so that no two lists read alike.
        for text in [kind, namespace, name] {
            hash.update(text.as_bytes());
            hash.update([0]);
        }
    }
    let digits: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{PREFIX}{}", &digits[..DIGITS])
}

/// Whether a profile's name is that of a composition. No policy's own profile may have such a name.
pub fn is_composed_profile_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// What a container's filter must be merged with when two policies hold. Rules for one call stand side by side:
/// [`crate::seccomp_merge`] takes the strictest.
pub fn seccomp_of_both(one: Seccomp, other: Seccomp) -> Seccomp {
    let (one_default, mut rules) = taken_apart(one);
    let (other_default, others) = taken_apart(other);
    for rule in others {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    let mut filter = super::seccomp::allow_everything();
    let has_rules = !rules.is_empty();
    if has_rules {
        filter["syscalls"] = json!(rules);
    }
    match (one_default || other_default, has_rules) {
        (true, false) => Seccomp::RuntimeDefault,
        (true, true) => Seccomp::RuntimeDefaultAndRules(filter),
        (false, _) => Seccomp::Rules(filter),
    }
}

/// Whether the runtime's default is asked for, and the rules.
fn taken_apart(seccomp: Seccomp) -> (bool, Vec<Value>) {
    let (default, mut filter) = match seccomp {
        Seccomp::RuntimeDefault => return (true, Vec::new()),
        Seccomp::RuntimeDefaultAndRules(filter) => (true, filter),
        Seccomp::Rules(filter) => (false, filter),
    };
    match filter.get_mut("syscalls").map(Value::take) {
        Some(Value::Array(rules)) => (default, rules),
        _ => (default, Vec::new()),
    }
}

#[cfg(test)]
mod tests;
