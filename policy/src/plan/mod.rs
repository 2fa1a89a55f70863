// SPDX-License-Identifier: Apache-2.0
//! What a policy compiles to: one plan per policy, shared by all the containers that the policy selects. Policies that
//! hold together compile to one plan of them all.

pub mod automaton;
pub mod bpf;
pub mod egress;

use serde::{Deserialize, Serialize};

/// Which policy object a plan comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// `VarmorPolicy` or `VarmorClusterPolicy`.
    pub kind: String,
    /// The policy's namespace; empty for a cluster policy.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// Everything that must be loaded for one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct EnforcementPlan {
    /// The policy that this plan was compiled from; of several that hold together, the first.
    pub policy: PolicyRef,
    /// Name of the profile in every enforcer: `varmor-<namespace>-<name>`, or `varmor-merged-<16 hex digits>` of several
    /// policies; at most 63 bytes, lower case.
    pub profile: String,
    /// The AppArmor profile's whole text for `apparmor_parser`; it defines `profile` and its children only.
    pub apparmor: Option<String>,
    /// What the container's seccomp filter must be merged with.
    pub seccomp: Option<crate::plan::Seccomp>,
    /// The tables of the BPF programs.
    pub bpf: Option<bpf::BpfProfile>,
}

/// The seccomp part of a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Seccomp {
    /// Mode RuntimeDefault: a container that has no filter gets the runtime's default one; one that has a filter keeps it.
    RuntimeDefault,
    /// Rules merged into the container's own filter, as an OCI `linux.seccomp` object whose default action allows.
    Rules(serde_json::Value),
    /// Both, of policies that hold together: rules merged into the container's own filter, or into the runtime's default
    /// one where it has none.
    RuntimeDefaultAndRules(serde_json::Value),
}

impl std::fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}
