// SPDX-License-Identifier: Apache-2.0
//! `bpfRawRules`.

use super::selector::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec.policy.enhanceProtect.bpfRawRules`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BpfRawRules {
    /// Path rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRule>,
    /// Path rules too; the two lists mean the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<FileRule>,
    /// Network rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRawRules>,
    /// The ptrace rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ptrace: Option<PtraceRule>,
    /// Mount rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountRule>,
}

/// A rule for paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileRule {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// `all`, `read`, `write`, `append`, `exec` or `*`, `r`, `w`, `a`, `x`.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// A path pattern, see [`crate::pattern`].
    pub pattern: String,
}

/// `bpfRawRules.network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkRawRules {
    /// Which sockets may not be made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<NetworkSocketRule>,
    /// Which destinations may not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<NetworkEgressRule>,
}

/// A rule for socket(2). The lists are ANDed, the values of a list ORed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSocketRule {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// Address families.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Socket types; exclusive with `protocols`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// `icmp`, `tcp`, `udp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
}

/// `bpfRawRules.network.egress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkEgressRule {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_destinations: Vec<Destination>,
    /// Kubernetes services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_services: Vec<ServiceTarget>,
    /// Kubernetes pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_pods: Vec<PodTarget>,
}

/// Addresses and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// An address, `pod-self`, `unspecified` or `localhost`; exclusive with `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// An address block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Ports; empty is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// A port, or a range of ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// First port, 1 to 65535.
    pub port: u16,
    /// Last port of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

/// Services, by name or by selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceTarget {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// Namespace of the services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of one service; exclusive with `serviceSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
}

/// Pods, by selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTarget {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// Namespace of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels of pods.
    pub pod_selector: LabelSelector,
    /// Ports; empty is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// `bpfRawRules.ptrace`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PtraceRule {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// `all`, `trace`, `traceby`, `read`, `readby`.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Also between processes of one container.
    #[serde(default)]
    pub strict_mode: bool,
}

/// A rule for mount(2) and its relatives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountRule {
    /// `deny`, `audit`.
    #[serde(default)]
    pub qualifiers: Vec<String>,
    /// Pattern for the source of a mount, the target of an unmount, or the old place of a moved mount.
    pub source_pattern: String,
    /// File system type, or `*`.
    pub fstype: String,
    /// Names of flags, any of which makes the rule hold.
    pub flags: Vec<String>,
}
