// SPDX-License-Identifier: Apache-2.0
//! The objects of `crd.varmor.org/v1beta1` as users write them.
//!
//! Every struct refuses unknown fields: a misspelt field must not become a rule that is not there.

mod apparmor;
mod bpf;
mod egress_proxy;
mod selector;
mod syscall;

pub use apparmor::{AppArmorRawRule, AttackProtectionRule};
pub use bpf::{
    BpfRawRules, Destination, FileRule, MountRule, NetworkEgressRule, NetworkRawRules,
    NetworkSocketRule, PodTarget, Port, PtraceRule, ServiceTarget,
};
pub use egress_proxy::{
    HeaderMutation, HttpMatch, HttpRule, InjectedHeader, Mitm, NetworkProxyConfig,
    NetworkProxyRules, PathMatch, ProxyEgress, ProxyL4Rule, SecretKeyRef,
};
pub use selector::{LabelSelector, SelectorOperator, SelectorRequirement};
pub use syscall::{SyscallArg, SyscallRule};

use crate::plan::PolicyRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The only version of the policy API.
pub const API_VERSION: &str = "crd.varmor.org/v1beta1";
/// Kind of a policy for one namespace.
pub const KIND_NAMESPACED: &str = "VarmorPolicy";
/// Kind of a policy for all namespaces.
pub const KIND_CLUSTER: &str = "VarmorClusterPolicy";

/// A policy object of either scope. The two share one spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Policy", into = "Policy")]
pub enum PolicyObject {
    /// A VarmorPolicy: holds in its own namespace.
    Namespaced(Policy),
    /// A VarmorClusterPolicy: holds in every namespace and beats every VarmorPolicy.
    Cluster(Policy),
}

impl PolicyObject {
    /// The object whatever its scope.
    pub fn policy(&self) -> &Policy {
        match self {
            Self::Namespaced(policy) | Self::Cluster(policy) => policy,
        }
    }

    /// The spec.
    pub fn spec(&self) -> &PolicySpec {
        &self.policy().spec
    }

    /// Kind, namespace and name.
    pub fn reference(&self) -> PolicyRef {
        let policy = self.policy();
        PolicyRef {
            kind: policy.kind.clone(),
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            name: policy.metadata.name.clone(),
        }
    }

    /// The one namespace that the policy holds in; `None` for a cluster policy.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespaced(policy) => policy.metadata.namespace.as_deref(),
            Self::Cluster(_) => None,
        }
    }
}

impl TryFrom<Policy> for PolicyObject {
    type Error = String;

    fn try_from(policy: Policy) -> Result<Self, Self::Error> {
        if policy.api_version != API_VERSION {
            return Err(format!(
                "apiVersion is `{}`; write `{API_VERSION}`",
                policy.api_version
            ));
        }
        match policy.kind.as_str() {
            KIND_NAMESPACED => Ok(Self::Namespaced(policy)),
            KIND_CLUSTER => Ok(Self::Cluster(policy)),
            other => Err(format!(
                "kind is `{other}`; write `{KIND_NAMESPACED}` or `{KIND_CLUSTER}`"
            )),
        }
    }
}

impl From<PolicyObject> for Policy {
    fn from(object: PolicyObject) -> Self {
        match object {
            PolicyObject::Namespaced(policy) | PolicyObject::Cluster(policy) => policy,
        }
    }
}

/// A whole object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// [`KIND_NAMESPACED`] or [`KIND_CLUSTER`].
    pub kind: String,
    /// Name, namespace and what Kubernetes adds.
    pub metadata: ObjectMeta,
    /// What the user asks for.
    pub spec: PolicySpec,
    /// Present in `kubectl get -o yaml`; what it says is never input.
    #[serde(default, skip_serializing)]
    pub status: Option<serde_json::Value>,
}

/// Kubernetes' ObjectMeta. Fields that mean nothing here are accepted, as `kubectl get -o yaml` prints them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectMeta {
    /// `metadata.name`.
    pub name: String,
    /// The namespace; never set for a cluster policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels of the policy object itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the policy object itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// RFC 3339 in UTC, as the API server writes it (`2026-01-31T09:00:00Z`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Set by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Set by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Set by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Accepted from `kubectl get -o yaml`.
    #[serde(default, skip_serializing)]
    pub generate_name: Option<String>,
    /// Accepted from `kubectl get -o yaml`.
    #[serde(default, skip_serializing)]
    pub self_link: Option<String>,
    /// Accepted from `kubectl get -o yaml`.
    #[serde(default, skip_serializing)]
    pub deletion_timestamp: Option<String>,
    /// Accepted from `kubectl get -o yaml`.
    #[serde(default, skip_serializing)]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Accepted from `kubectl get -o yaml`.
    #[serde(default, skip_serializing)]
    pub finalizers: Option<Vec<String>>,
    /// Accepted from `kubectl get -o yaml`.
    #[serde(default, skip_serializing)]
    pub owner_references: Option<Vec<serde_json::Value>>,
    /// Accepted from `kubectl get -o yaml --show-managed-fields`.
    #[serde(default, skip_serializing)]
    pub managed_fields: Option<Vec<serde_json::Value>>,
}

/// `spec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// Whom the policy selects.
    pub target: Target,
    /// What it enforces.
    pub policy: PolicyBody,
    /// Restart matching workloads when the policy is made or deleted; the cluster controller's matter.
    #[serde(default)]
    pub update_existing_workloads: bool,
}

/// `spec.target`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// `Deployment`, `StatefulSet`, `DaemonSet` or `Pod`.
    pub kind: String,
    /// Exact name of the workload; exclusive with `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the workload object (for kind Pod: of the pod).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Names of the containers to protect; empty is all of them, init containers included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
}

/// `spec.policy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyBody {
    /// Names of enforcers written together in any order: `AppArmorBPFSeccomp`.
    pub enforcer: String,
    /// `AlwaysAllow`, `RuntimeDefault`, `EnhanceProtect`, `BehaviorModeling` or `DefenseInDepth`.
    pub mode: String,
    /// Not in vArmor: where this policy holds for a container, every other policy that selects the container and says
    /// so too holds with it. See [`crate::matching`] for which policies these are, and
    /// [`crate::compile::compile_composed`] for what they are together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merge: bool,
    /// Needed by mode EnhanceProtect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhance_protect: Option<EnhanceProtect>,
    /// Needed by mode BehaviorModeling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modeling_options: Option<ModelingOptions>,
    /// Needed by mode DefenseInDepth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defense_in_depth: Option<DefenseInDepth>,
    /// Settings of the network proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_proxy_config: Option<NetworkProxyConfig>,
}

/// `spec.policy.enhanceProtect`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnhanceProtect {
    /// Built-in rules that make a container harder to break out of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hardening_rules: Vec<String>,
    /// Built-in rules against steps of an attack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attack_protection_rules: Vec<AttackProtectionRule>,
    /// Built-in rules against single vulnerabilities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vul_mitigation_rules: Vec<String>,
    /// Rules in AppArmor's language.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_armor_raw_rules: Vec<AppArmorRawRule>,
    /// Rules for the BPF enforcer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf_raw_rules: Option<BpfRawRules>,
    /// Rules for the seccomp enforcer, as in the OCI runtime specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscall_raw_rules: Vec<SyscallRule>,
    /// Rules for the network proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_proxy_raw_rules: Option<NetworkProxyRules>,
    /// Start from AlwaysAllow instead of RuntimeDefault.
    #[serde(default)]
    pub privileged: bool,
    /// Report violations of the base and built-in rules.
    #[serde(default)]
    pub audit_violations: bool,
    /// Let violations of the base and built-in rules happen.
    #[serde(default)]
    pub allow_violations: bool,
}

/// `spec.policy.modelingOptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelingOptions {
    /// Minutes.
    pub duration: u64,
}

/// `spec.policy.defenseInDepth`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefenseInDepth {
    /// Where the AppArmor profile comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_armor: Option<DefenseInDepthAppArmor>,
    /// Where the seccomp profile comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<DefenseInDepthSeccomp>,
    /// Rules of the network proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_proxy: Option<NetworkProxyRules>,
    /// Report violations and let them happen.
    #[serde(default)]
    pub allow_violations: bool,
}

/// `spec.policy.defenseInDepth.appArmor`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefenseInDepthAppArmor {
    /// `BehaviorModel` or `Custom`.
    pub profile_type: String,
    /// Whole profile text, for `Custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_profile: Option<String>,
    /// Rules added to the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_armor_raw_rules: Vec<AppArmorRawRule>,
}

/// `spec.policy.defenseInDepth.seccomp`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefenseInDepthSeccomp {
    /// `BehaviorModel` or `Custom`.
    pub profile_type: String,
    /// Whole profile as OCI JSON, for `Custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_profile: Option<String>,
    /// Rules added to the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscall_raw_rules: Vec<SyscallRule>,
}
