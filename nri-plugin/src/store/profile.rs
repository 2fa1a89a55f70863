// SPDX-License-Identifier: Apache-2.0
//! What a profile is made of: one policy, or several that hold together for some container.

use std::sync::{Arc, Mutex};

use varmor_policy::PolicyObject;
use varmor_policy::compile::{composed_profile_name, is_composed_profile_name, seccomp_of_both};
use varmor_policy::plan::{EnforcementPlan, PolicyRef, Seccomp};

use super::{Compiler, Policy};
use crate::policies_dir::digest;

/// A profile as it should be.
#[derive(Debug)]
pub struct Profile {
    /// Its name in every enforcer.
    pub name: String,
    /// The policies, in order of precedence and at least one.
    pub policies: Vec<PolicyRef>,
    /// SHA-256 (hex) of the policies' objects: equal digests need no new work.
    pub digest: String,
    /// Whether it has an AppArmor part.
    pub has_apparmor: bool,
    /// Whether it has a BPF part.
    pub has_bpf: bool,
    /// Its seccomp part.
    pub seccomp: Option<Seccomp>,
    objects: Vec<Arc<PolicyObject>>,
    /// The tables are large and needed once: taken when they are loaded, compiled again if that must be repeated.
    plan: Mutex<Option<EnforcementPlan>>,
}

impl Profile {
    /// A policy's own profile.
    pub(super) fn of_policy(
        object: Arc<PolicyObject>,
        digest: String,
        plan: EnforcementPlan,
    ) -> Self {
        Self {
            name: plan.profile.clone(),
            policies: vec![object.reference()],
            digest,
            has_apparmor: plan.apparmor.is_some(),
            has_bpf: plan.bpf.is_some(),
            seccomp: plan.seccomp.clone(),
            objects: vec![object],
            plan: Mutex::new(Some(plan)),
        }
    }

    /// The profile of policies that hold together. Whether they fit together shows when it is compiled.
    pub fn composed(members: &[Arc<Policy>]) -> Self {
        let references: Vec<PolicyRef> = members.iter().map(|one| one.reference.clone()).collect();
        Self::remaining(&composed_profile_name(&references), members)
    }

    /// The profile of this name, with what is left of the policies that it is named after.
    pub fn remaining(name: &str, members: &[Arc<Policy>]) -> Self {
        let parts = || members.iter().map(|member| &member.profile);
        let digests: Vec<&str> = parts().map(|part| part.digest.as_str()).collect();
        Self {
            name: name.to_owned(),
            policies: members.iter().map(|one| one.reference.clone()).collect(),
            digest: digest(digests.join(" ").as_bytes()),
            has_apparmor: parts().any(|part| part.has_apparmor),
            has_bpf: parts().any(|part| part.has_bpf),
            seccomp: parts()
                .filter_map(|part| part.seccomp.clone())
                .reduce(seccomp_of_both),
            objects: members.iter().map(|one| Arc::clone(&one.object)).collect(),
            plan: Mutex::new(None),
        }
    }

    /// Whether it is not a policy's own.
    pub fn is_composed(&self) -> bool {
        is_composed_profile_name(&self.name)
    }

    /// Whether two profiles are the same version of the same policies.
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.policies == other.policies
    }

    /// The policies, for messages.
    pub fn title(&self) -> String {
        title(&self.policies)
    }

    /// The plan, which is given away or made anew.
    pub fn take_plan(&self, compiler: &Compiler) -> Result<EnforcementPlan, String> {
        let kept = self.plan.lock().expect("no panic while it was held").take();
        match kept {
            Some(plan) => Ok(plan),
            None => {
                let objects: Vec<&PolicyObject> = self.objects.iter().map(|one| &**one).collect();
                let name = self.is_composed().then_some(self.name.as_str());
                compiler(&objects, name).map_err(|errors| super::join(&errors))
            }
        }
    }

    /// SHA-256 (hex) of the seccomp part, to tell whether a container's filter is made of this one.
    pub fn seccomp_digest(&self) -> Option<String> {
        let text = match self.seccomp.as_ref()? {
            Seccomp::RuntimeDefault => "RuntimeDefault".to_owned(),
            Seccomp::Rules(rules) => rules.to_string(),
            Seccomp::RuntimeDefaultAndRules(rules) => format!("RuntimeDefault {rules}"),
        };
        Some(digest(text.as_bytes()))
    }
}

/// Policies that hold together, for messages.
pub fn title(policies: &[PolicyRef]) -> String {
    let titles: Vec<String> = policies.iter().map(ToString::to_string).collect();
    titles.join(" merged with ")
}
