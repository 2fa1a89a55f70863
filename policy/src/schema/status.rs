// SPDX-License-Identifier: Apache-2.0
//! `status` of a policy object, as the cluster's controller writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far the policy is enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Name of the profile in every enforcer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_name: Option<String>,
    /// Whether every node that should enforce the policy does.
    #[serde(default)]
    pub ready: bool,
    /// Where in its life the policy is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// `metadata.generation` of the version that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What happened last; one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where in its life a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not all nodes have it yet.
    Pending,
    /// All nodes enforce it.
    Protecting,
    /// Behaviour is being gathered.
    Modeling,
    /// Behaviour has been gathered.
    Completed,
    /// A node could not load it, or it is wrong.
    Error,
    /// Kept for objects of vArmor.
    Failed,
    /// Kept for objects of vArmor.
    Unknown,
    /// Kept for objects of vArmor.
    Unchanged,
}

/// Something that happened to a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about: Created, Updated or Ready.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// When the status changed last, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
