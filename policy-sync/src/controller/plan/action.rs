// SPDX-License-Identifier: Apache-2.0
//! What the controller does to the cluster.

use serde_json::Value;
use varmor_policy::owner::WorkloadName;

use crate::controller::PolicyKey;
use crate::controller::resolve::Name;
use crate::controller::restart::Restart;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make a profile, or change it.
    Apply {
        /// Namespace and name.
        profile: Name,
        /// The object.
        object: Value,
    },
    /// Make a slice of addresses, or change it.
    ApplySlice {
        /// Namespace and name.
        slice: Name,
        /// The profile that names it.
        profile: Name,
        /// The object.
        object: Value,
        /// It has addresses that were not in it.
        adds: bool,
    },
    /// Delete a slice that no profile names.
    DeleteSlice(Name),
    /// Say on a profile that its policy is gone: nodes keep it until then.
    Mark {
        /// Namespace and name.
        profile: Name,
        /// UID of the policy.
        policy: String,
    },
    /// Delete a profile whose policy is gone.
    Delete(Name),
    /// Let go of a profile that is being deleted.
    Release(Name),
    /// Write the status of a policy.
    PolicyStatus {
        /// Which.
        policy: PolicyKey,
        /// The status.
        status: Value,
        /// What an Event says, where people should know.
        event: Option<(String, String)>,
        /// UID of the policy, for the Event.
        uid: String,
        /// It says more than other numbers.
        is_news: bool,
    },
    /// Restart a workload.
    Restart(Restart),
    /// Write the status of a profile.
    ProfileStatus {
        /// Which.
        profile: Name,
        /// The status.
        status: Value,
        /// It says more than other numbers.
        is_news: bool,
    },
}

impl Action {
    /// Those of an earlier stage are done first: addresses come before the profile that needs them, and go after it.
    pub fn stage(&self) -> usize {
        match self {
            Self::ApplySlice { adds: true, .. } => 0,
            Self::ApplySlice { adds: false, .. } | Self::DeleteSlice(_) => 2,
            _ => 1,
        }
    }

    /// Whether it only tells.
    pub fn is_status(&self) -> bool {
        matches!(self, Self::PolicyStatus { .. } | Self::ProfileStatus { .. })
    }

    /// What comes first, where not all is done at once: what is enforced, then what is new of it, then numbers.
    pub fn rank(&self) -> usize {
        match self {
            Self::PolicyStatus { is_news: true, .. } => 1,
            Self::ProfileStatus { is_news: true, .. } => 2,
            Self::PolicyStatus { .. } => 3,
            Self::ProfileStatus { .. } => 4,
            _ => 0,
        }
    }

    /// What it is about: only the last action about a thing counts.
    pub fn subject(&self) -> String {
        match self {
            Self::Apply { profile, .. } => format!("profile {}/{}", profile.0, profile.1),
            Self::ApplySlice { slice, .. } => format!("slice {}/{}", slice.0, slice.1),
            Self::DeleteSlice(slice) => format!("delete slice {}/{}", slice.0, slice.1),
            Self::Mark { profile, .. } => format!("mark {}/{}", profile.0, profile.1),
            Self::Delete(profile) => format!("delete {}/{}", profile.0, profile.1),
            Self::Release(profile) => format!("release {}/{}", profile.0, profile.1),
            Self::PolicyStatus { policy, .. } => Self::status_of(policy),
            Self::Restart(Restart {
                workload, profile, ..
            }) => {
                let WorkloadName {
                    kind,
                    namespace,
                    name,
                } = workload;
                format!("restart {kind} {namespace}/{name} for {profile}")
            }
            Self::ProfileStatus { profile, .. } => Self::status_of_profile(profile),
        }
    }

    /// The subject of a policy's status.
    pub fn status_of(policy: &PolicyKey) -> String {
        format!("status {} {}/{}", policy.0, policy.1, policy.2)
    }

    /// The subject of a profile's status.
    pub fn status_of_profile(profile: &Name) -> String {
        format!("profile status {}/{}", profile.0, profile.1)
    }
}
