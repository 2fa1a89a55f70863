//! A policy object to what each enforcer loads for it.

pub mod apparmor;
pub(crate) mod bpf;
mod effect;
mod enhance;
pub mod profile_name;
mod seccomp;
mod services;
mod target;

use crate::enforcer::{Enforcer, Enforcers};
use crate::error::{Findings, PolicyError};
use crate::plan::{EnforcementPlan, Seccomp, bpf::BpfProfile};
use crate::types::PolicyObject;
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
    let mut findings = Findings::new(object.reference());
    let profile = validate::object(object, settings, &mut findings);
    let enforcers = validate::enforcers(object, &mut findings);
    let mode = validate::mode(object, &mut findings);
    let mut plan = EnforcementPlan {
        policy: object.reference(),
        profile,
        apparmor: None,
        seccomp: None,
        bpf: None,
    };
    if let (Some(enforcers), Some(mode)) = (enforcers, mode) {
        match mode {
            Mode::AlwaysAllow | Mode::RuntimeDefault => {
                simple_modes(&mut plan, enforcers, mode, &mut findings)
            }
            Mode::EnhanceProtect => {
                // Validation has reported a mode without its settings.
                if let Some(rules) = &object.spec().policy.enhance_protect {
                    let enhance = Enhance::new(rules, enforcers, settings, &mut findings);
                    enhance_protect(&mut plan, &enhance, &mut findings);
                }
            }
        }
    }
    findings.finish(plan)
}

fn simple_modes(
    plan: &mut EnforcementPlan,
    enforcers: Enforcers,
    mode: Mode,
    findings: &mut Findings,
) {
    let restricted = mode == Mode::RuntimeDefault;
    if enforcers.contains(Enforcer::AppArmor) {
        plan.apparmor = Some(apparmor::simple(&plan.profile, restricted));
    }
    if enforcers.contains(Enforcer::Bpf) {
        plan.bpf = if restricted {
            bpf::runtime_default(Effect::DENY, findings)
        } else {
            Some(BpfProfile::default())
        };
    }
    if enforcers.contains(Enforcer::Seccomp) {
        plan.seccomp = Some(if restricted {
            Seccomp::RuntimeDefault
        } else {
            Seccomp::Rules(seccomp::allow_everything())
        });
    }
}

fn enhance_protect(plan: &mut EnforcementPlan, enhance: &Enhance<'_>, findings: &mut Findings) {
    if enhance.enforcers.contains(Enforcer::AppArmor) {
        plan.apparmor = apparmor::enhance(&plan.profile, enhance, findings);
    }
    if enhance.enforcers.contains(Enforcer::Bpf) {
        plan.bpf = bpf::enhance(enhance, findings);
    }
    if enhance.enforcers.contains(Enforcer::Seccomp) {
        plan.seccomp = Some(Seccomp::Rules(seccomp::enhance(enhance, findings)));
    }
}

#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
