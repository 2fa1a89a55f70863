// SPDX-License-Identifier: Apache-2.0
//! What the files say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use varmor_policy::owner::Owner;
use varmor_policy::plan::{PolicyRef, Seccomp};

use crate::id::{ContainerId, ProfileName};

/// What a container must carry when its runtime starts it. Written before the container can start; the hook refuses a
/// container that carries anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Marker {
    /// The container; also the file's name.
    pub container_id: ContainerId,
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's uid; empty when unknown.
    pub pod_uid: String,
    /// Its name within the pod.
    pub container: String,
    /// The policy that selects it, of several that hold together the first; none when no policy does, which is also a
    /// decision.
    pub policy: Option<PolicyRef>,
    /// The profile of the policy, or of those that hold together; set exactly when `policy` is.
    pub profile: Option<ProfileName>,
    /// What must be bound in the BPF maps.
    pub bpf: BpfDemand,
    /// The profile that `process.apparmorProfile` must name.
    pub apparmor: Option<String>,
    /// [`crate::seccomp_digest`] of the filter that `linux.seccomp` must be.
    pub seccomp: Option<String>,
    /// The pod's own addresses, for rules about the pod itself; empty lets the hook look them up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// What the BPF maps must hold for a container before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BpfDemand {
    /// Nothing: the container did not opt in, or this node has no BPF LSM.
    Nothing,
    /// A binding without a profile (key 0): the container opted in, and a later policy must find all of its tasks.
    Bound,
    /// A binding to the marker's profile, which must be in the `profiles` map.
    Profile,
}

/// A pod sandbox seen by the daemon: what the OCI spec of its containers does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRecord {
    /// The sandbox; also the file's name.
    pub sandbox_id: ContainerId,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The pod's addresses, as far as the runtime said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The workload that the pod belongs to.
    #[serde(default = "unknown", skip_serializing_if = "Owner::is_unknown")]
    pub owner: Owner,
}

/// What a record says that an earlier version wrote.
fn unknown() -> Owner {
    Owner::Unknown
}

/// A profile in force on this node: what a container needs to be put under it without asking the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileRecord {
    /// The profile; also the file's name.
    pub profile: ProfileName,
    /// The policy that it was compiled from; of several that hold together, the first.
    pub policy: PolicyRef,
    /// The AppArmor profile, when it is loaded in the kernel.
    pub apparmor: Option<String>,
    /// What the container's seccomp filter must be merged with.
    pub seccomp: Option<SeccompRecord>,
    /// Whether the profile is in the pinned BPF maps (its key is the hash of its name).
    pub bpf: bool,
}

/// The policies that the profile of several is named after. Written before the profile is loaded: while a container runs
/// under its AppArmor profile, the daemon must know what that profile is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompositionRecord {
    /// The profile; also the file's name.
    pub profile: ProfileName,
    /// The policies, in order of precedence.
    pub policies: Vec<PolicyRef>,
}

/// [`Seccomp`] as a file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeccompRecord {
    /// See [`Seccomp::RuntimeDefault`].
    RuntimeDefault,
    /// See [`Seccomp::Rules`].
    Rules(serde_json::Value),
    /// See [`Seccomp::RuntimeDefaultAndRules`].
    RuntimeDefaultAndRules(serde_json::Value),
}

impl From<Seccomp> for SeccompRecord {
    fn from(seccomp: Seccomp) -> Self {
        match seccomp {
            Seccomp::RuntimeDefault => Self::RuntimeDefault,
            Seccomp::Rules(rules) => Self::Rules(rules),
            Seccomp::RuntimeDefaultAndRules(rules) => Self::RuntimeDefaultAndRules(rules),
        }
    }
}

impl From<SeccompRecord> for Seccomp {
    fn from(record: SeccompRecord) -> Self {
        match record {
            SeccompRecord::RuntimeDefault => Self::RuntimeDefault,
            SeccompRecord::Rules(rules) => Self::Rules(rules),
            SeccompRecord::RuntimeDefaultAndRules(rules) => Self::RuntimeDefaultAndRules(rules),
        }
    }
}
