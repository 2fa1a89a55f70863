// SPDX-License-Identifier: Apache-2.0
//! A policy object, or several that hold together, to what each enforcer loads for them.

pub mod apparmor;
pub(crate) mod bpf;
mod compose;
pub(crate) mod effect;
mod enhance;
pub mod profile_name;
pub(crate) mod seccomp;
mod services;
pub(crate) mod target;

pub use compose::{
    MAX_MEMBERS, compile_as, compile_composed, composed_profile_name, is_composed_profile_name,
    seccomp_of_both,
};

use crate::enforcer::{Enforcer, Enforcers};
use crate::error::{Findings, PolicyError};
use crate::plan::{EnforcementPlan, PolicyRef, Seccomp};
use crate::types::{EnhanceProtect, PolicyObject};
use crate::validate;
use effect::Effect;
use enhance::Enhance;
pub use services::{ServiceAddress, ServiceAddresses, ServiceName};
use std::collections::BTreeSet;

/// What a cluster and a node fix for all their policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace that cluster policies' profiles are named after; vArmor's own namespace.
    pub cluster_namespace: String,
    /// The node's disks and their partitions, as /proc/partitions names them (`sda1`); names for which
    /// [`is_disk_name`] does not hold are left out.
    pub disk_devices: BTreeSet<String>,
    /// Services that rules name.
    pub services: ServiceAddresses,
}

/// Whether a name of /proc/partitions can stand in an AppArmor profile as it is.
pub fn is_disk_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_!.-".contains(&b);
    !name.is_empty() && name.bytes().all(plain)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_namespace: "varmor".to_owned(),
            disk_devices: BTreeSet::new(),
            services: ServiceAddresses::new(),
        }
    }
}

/// How strict a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    AlwaysAllow,
    RuntimeDefault,
    EnhanceProtect,
}

/// Compiles a policy.
///
/// # Errors
/// Everything that is wrong with the object, each with its field and the fix.
pub fn compile(
    object: &PolicyObject,
    settings: &Settings,
) -> Result<EnforcementPlan, Vec<PolicyError>> {
    let mut errors = Vec::new();
    let (profile, part) = understand(object, settings, &mut errors);
    build(
        object.reference(),
        profile,
        part.into_iter().collect(),
        errors,
    )
}

/// What one policy brings into the profile that it is compiled into, alone or beside others.
pub(crate) struct Part<'a> {
    pub(crate) enforcers: Enforcers,
    /// Whether it starts from what RuntimeDefault refuses; else nothing is refused at first.
    pub(crate) restricted: bool,
    /// What the base and the built-in rules do.
    pub(crate) effect: Effect,
    /// What the cluster and the node fix.
    pub(crate) fixed: &'a Settings,
    /// The rules of mode EnhanceProtect.
    pub(crate) enhance: Option<Enhance<'a>>,
    pub(crate) findings: Findings,
}

/// The name of the policy's own profile, and its part unless it is so wrong that there is none.
fn understand<'a>(
    object: &'a PolicyObject,
    settings: &'a Settings,
    errors: &mut Vec<PolicyError>,
) -> (String, Option<Part<'a>>) {
    let mut findings = Findings::new(object.reference());
    let profile = validate::object(object, settings, &mut findings);
    if is_composed_profile_name(&profile) {
        findings.add(
            "metadata.name",
            format!("the profile would be named `{profile}`, as those of merged policies are; rename the policy"),
        );
    }
    let enforcers = validate::enforcers(object, &mut findings);
    let mode = validate::mode(object, &mut findings);
    let (Some(enforcers), Some(mode)) = (enforcers, mode) else {
        errors.extend(found(findings));
        return (profile, None);
    };
    let mut part = Part {
        enforcers,
        restricted: mode == Mode::RuntimeDefault,
        effect: Effect::DENY,
        fixed: settings,
        enhance: None,
        findings,
    };
    // Validation has reported a mode without its settings.
    if let (Mode::EnhanceProtect, Some(rules)) = (mode, &object.spec().policy.enhance_protect) {
        let enhance = Enhance::new(rules, enforcers, settings, &mut part.findings);
        part.restricted = !rules.privileged;
        part.effect = enhance.effect;
        part.enhance = Some(enhance);
    } else if let Some(rules) = &object.spec().policy.enhance_protect {
        errors.extend(errors_out_of_force(object, rules, settings));
    }
    (profile, Some(part))
}

/// What is wrong with rules that the mode leaves out of force, for whatever enforcer they are: a change of the mode must
/// not be what finds it.
fn errors_out_of_force(
    object: &PolicyObject,
    rules: &EnhanceProtect,
    settings: &Settings,
) -> Vec<PolicyError> {
    let mut findings = Findings::new(object.reference());
    let enhance = Enhance::new(rules, Enforcers::NODE, settings, &mut findings);
    let part = Part {
        enforcers: Enforcers::NODE,
        restricted: !rules.privileged,
        effect: enhance.effect,
        fixed: settings,
        enhance: Some(enhance),
        findings,
    };
    // The name is looked at elsewhere; the profile is thrown away.
    let outcome = build(object.reference(), String::new(), vec![part], Vec::new());
    outcome.err().unwrap_or_default()
}

/// The union of parts.
fn build(
    policy: PolicyRef,
    profile: String,
    mut parts: Vec<Part<'_>>,
    mut errors: Vec<PolicyError>,
) -> Result<EnforcementPlan, Vec<PolicyError>> {
    let apparmor = apparmor::profile(&profile, &mut of(&mut parts, Enforcer::AppArmor));
    let bpf = bpf::profile(&mut of(&mut parts, Enforcer::Bpf));
    let mut raw_rules = 0;
    let seccomp = of(&mut parts, Enforcer::Seccomp)
        .into_iter()
        .map(|part| match (&part.enhance, part.restricted) {
            (Some(enhance), _) => {
                let rules = seccomp::enhance(enhance, &mut raw_rules, &mut part.findings);
                Seccomp::Rules(rules)
            }
            (None, true) => Seccomp::RuntimeDefault,
            (None, false) => Seccomp::Rules(seccomp::allow_everything()),
        })
        .reduce(seccomp_of_both);
    errors.extend(parts.into_iter().flat_map(|part| found(part.findings)));
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(EnforcementPlan {
        policy,
        profile,
        apparmor,
        seccomp,
        bpf,
    })
}

fn found(findings: Findings) -> Vec<PolicyError> {
    findings.finish(()).err().unwrap_or_default()
}

/// The parts that an enforcer has something to do for.
fn of<'p, 'a>(parts: &'p mut [Part<'a>], enforcer: Enforcer) -> Vec<&'p mut Part<'a>> {
    parts
        .iter_mut()
        .filter(|part| part.enforcers.contains(enforcer))
        .collect()
}

#[cfg(test)]
mod tests;
