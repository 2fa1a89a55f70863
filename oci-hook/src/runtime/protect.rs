// SPDX-License-Identifier: Apache-2.0
//! Putting a container under its policy before the real runtime reads its config.json.

use std::path::{Path, PathBuf};

use serde_json::Value;
use varmor_node_state::{
    BpfDemand, ContainerId, Marker, NodeState, ProfileName, ProfileRecord, SeccompShapeError, Spec,
    SpecError, StateError, seccomp_digest,
};
use varmor_policy::compile::{composed_profile_name, is_composed_profile_name};
use varmor_policy::index::{Could, FailurePolicy, PolicyIndex};
use varmor_policy::plan::{PolicyRef, Seccomp};
use varmor_policy::seccomp_merge::{self, MergeError};

use super::json_file::{JsonFile, JsonFileError};
use crate::oci::{Config, OciError};
use crate::spec_hooks::{HooksShapeError, runs_hook, with_hook};
use crate::subject::{Origin, Subject, asks, origin, policies_words};

/// The container can't be put under its policy, and `failurePolicy` is Fail or can't be known.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// A file of the node's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The bundle's config.json.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The bundle's config.json, or the file of a process.
    #[error(transparent)]
    File(#[from] JsonFileError),
    /// The bundle's config.json.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The bundle's config.json.
    #[error(transparent)]
    Hooks(#[from] HooksShapeError),
    /// The file of a process.
    #[error("{path} must hold a process, an object")]
    Process {
        /// The file.
        path: PathBuf,
    },
    /// The bundle's config.json.
    #[error(transparent)]
    Seccomp(#[from] SeccompShapeError),
    /// The policy's seccomp rules don't go together with the container's.
    #[error("the seccomp rules of {policy} can't be merged with the container's own: {source}")]
    Merge {
        /// The policy.
        policy: String,
        /// Why.
        source: MergeError,
    },
    /// The policy selects the container, and the daemon has not put it in force.
    #[error("{policy} selects it and is not in force on this node; see the log of varmor-nri")]
    NotInForce {
        /// The policy.
        policy: String,
    },
}

/// What became of a container.
#[derive(Debug, PartialEq, Eq)]
pub enum Protected {
    /// It is none of the wrapper's business: nothing was changed.
    Untouched,
    /// The hook will see it; its config.json and marker say what it must carry.
    Prepared,
    /// A policy selects it, it can't be put under it, and `failurePolicy` is Ignore. The sentence goes to the log.
    Unprotected(String),
}

/// Where things are.
#[derive(Debug)]
pub struct Places<'a> {
    /// The daemon's files.
    pub state: &'a NodeState,
    /// The hook.
    pub hook: &'a Path,
    /// Options that the hook needs.
    pub hook_options: &'a [String],
    /// Whether the BPF maps are pinned.
    pub bpf: bool,
}

/// Prepares one container: merges the policy's seccomp rules, sets the AppArmor profile, adds the hooks, writes the marker.
///
/// `namespace` is containerd's, for a container that names none.
pub fn protect(
    places: &Places<'_>,
    id: &ContainerId,
    bundle: &Path,
    namespace: &str,
) -> Result<Protected, ProtectError> {
    let state = places.state;
    // Most containers are none of the wrapper's business: the few fields that tell are read first.
    let config = Config::load(bundle)?;
    let subject = match origin(state, id, &config.annotations, namespace) {
        Origin::Sandbox => return Ok(Protected::Untouched),
        // The daemon has prepared it. The hook checks that, and it is the daemon that adds the hook: see to it.
        Origin::Cri(_) | Origin::CriUnknown { .. } if state.load_marker(id)?.is_some() => {
            let hooked = config.hooks.is_some_and(|hooks| runs_hook(&hooks));
            return if hooked {
                Ok(Protected::Untouched)
            } else {
                with_hook_alone(places, bundle)
            };
        }
        // Which pod it is can't be known here: the hook refuses it, or lets it pass.
        Origin::CriUnknown { .. } => return with_hook_alone(places, bundle),
        Origin::Cri(subject) => {
            let Some(index) = state.load_index::<PolicyIndex>()? else {
                return Ok(Protected::Untouched);
            };
            return match could(&index, &subject) {
                Could::No => Ok(Protected::Untouched),
                Could::Unknown(_) => with_hook_alone(places, bundle),
                Could::Yes(policies) => {
                    under_policies(places, id, bundle, &subject, &index, &policies)
                }
            };
        }
        Origin::Other(subject) => subject,
    };
    // Ids outside CRI are chosen by people and used again: a marker that is there is another container's.
    state.remove_marker(id)?;
    if !asks(state, &subject)? {
        return Ok(Protected::Untouched);
    }
    let Some(index) = state.load_index::<PolicyIndex>()? else {
        return Ok(Protected::Untouched);
    };
    match could(&index, &subject) {
        Could::Yes(policies) => under_policies(places, id, bundle, &subject, &index, &policies),
        // Its labels are its annotations, so that nothing is unknown.
        Could::Unknown(policy) => under_policies(
            places,
            id,
            bundle,
            &subject,
            &index,
            std::slice::from_ref(&policy),
        ),
        Could::No => {
            let bpf = if places.bpf {
                BpfDemand::Bound
            } else {
                BpfDemand::Nothing
            };
            finish(
                places,
                JsonFile::of_bundle(bundle)?,
                &marker(id, &subject, None, bpf),
            )
        }
    }
}

/// Puts a process that joins a container under the container's AppArmor profile: containerd makes the process's file from
/// the specification in its store, which knows nothing of what the wrapper wrote into the bundle, and runc 1.3 takes the
/// missing profile at its word. BPF follows the mount namespace, and runc itself keeps the container's seccomp filter.
pub fn protect_exec(
    state: &NodeState,
    id: &ContainerId,
    process: &Path,
) -> Result<(), ProtectError> {
    let Some(profile) = state.load_marker(id)?.and_then(|marker| marker.apparmor) else {
        return Ok(());
    };
    let mut file: JsonFile<Value> = JsonFile::load(process.to_owned())?;
    let members = file
        .content
        .as_object_mut()
        .ok_or_else(|| ProtectError::Process {
            path: process.to_owned(),
        })?;
    let profile = Value::String(profile);
    if members.get("apparmorProfile") != Some(&profile) {
        members.insert("apparmorProfile".to_owned(), profile);
        file.save()?;
    }
    Ok(())
}

fn under_policies(
    places: &Places<'_>,
    id: &ContainerId,
    bundle: &Path,
    subject: &Subject,
    index: &PolicyIndex,
    policies: &[PolicyRef],
) -> Result<Protected, ProtectError> {
    let result = apply(places, id, bundle, subject, policies);
    match (result, index.failure_policy) {
        (Err(error), FailurePolicy::Ignore) => {
            // Half done is not to be checked.
            places.state.remove_marker(id)?;
            Ok(Protected::Unprotected(error.to_string()))
        }
        (result, _) => result,
    }
}

fn apply(
    places: &Places<'_>,
    id: &ContainerId,
    bundle: &Path,
    subject: &Subject,
    policies: &[PolicyRef],
) -> Result<Protected, ProtectError> {
    let record = record_of(places.state, policies)?.ok_or_else(|| ProtectError::NotInForce {
        policy: policies_words(policies),
    })?;
    let mut config = JsonFile::of_bundle(bundle)?;
    let bpf = match (record.bpf, places.bpf) {
        (true, _) => BpfDemand::Profile,
        (false, true) => BpfDemand::Bound,
        (false, false) => BpfDemand::Nothing,
    };
    let mut marker = marker(id, subject, Some((record.policy, record.profile)), bpf);
    if let Some(profile) = record.apparmor {
        config.content.set_apparmor(&profile);
        marker.apparmor = Some(profile);
    }
    if let Some(rules) = record.seccomp {
        let filter = merge_seccomp(&mut config.content, &rules.into(), policies)?;
        marker.seccomp = filter.as_ref().map(seccomp_digest).transpose()?;
    }
    finish(places, config, &marker)
}

fn finish(
    places: &Places<'_>,
    mut config: JsonFile<Spec>,
    marker: &Marker,
) -> Result<Protected, ProtectError> {
    add_hook(places, &mut config.content)?;
    // The marker first: a container whose config.json was not replaced is then refused, and not let pass.
    places.state.save_marker(marker)?;
    config.save()?;
    Ok(Protected::Prepared)
}

fn with_hook_alone(places: &Places<'_>, bundle: &Path) -> Result<Protected, ProtectError> {
    let mut config = JsonFile::of_bundle(bundle)?;
    add_hook(places, &mut config.content)?;
    config.save()?;
    Ok(Protected::Prepared)
}

fn add_hook(places: &Places<'_>, spec: &mut Spec) -> Result<(), ProtectError> {
    let hooks = with_hook(spec.hooks()?, places.hook, places.hook_options)?;
    spec.set_hooks(&hooks);
    Ok(())
}

fn could(index: &PolicyIndex, subject: &Subject) -> Could {
    index.could_select_asked(&subject.asked())
}

fn marker(
    id: &ContainerId,
    subject: &Subject,
    policy: Option<(PolicyRef, ProfileName)>,
    bpf: BpfDemand,
) -> Marker {
    let (policy, profile) = policy.unzip();
    Marker {
        container_id: id.clone(),
        namespace: subject.namespace.clone(),
        pod: subject.pod.clone(),
        pod_uid: subject.pod_uid.clone(),
        container: subject.container.clone(),
        policy,
        profile,
        bpf,
        apparmor: None,
        seccomp: None,
        addresses: Vec::new(),
    }
}

/// The record of the profile of policies that hold together, or of one. A profile's name ends with the policy's, so that
/// the first one read is usually the one.
///
/// The daemon makes the profiles of several policies for containers that it sees. For one that CRI does not know there is
/// none unless a container of a pod needs the same, and then it is refused rather than put under some of its policies.
fn record_of(
    state: &NodeState,
    policies: &[PolicyRef],
) -> Result<Option<ProfileRecord>, StateError> {
    let [policy] = policies else {
        return state.load_profile(&ProfileName::new(composed_profile_name(policies))?);
    };
    let mut names = state.profiles()?;
    names.retain(|name| !is_composed_profile_name(name.as_str()));
    names.sort_by_key(|name| !name.as_str().ends_with(&policy.name));
    for name in names {
        // A record that goes away meanwhile is of a policy that is no longer in force.
        if let Some(record) = state.load_profile(&name)?
            && record.policy == *policy
        {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The filter that the container has now; none when neither it nor the policy has rules.
fn merge_seccomp(
    spec: &mut Spec,
    plan: &Seccomp,
    policies: &[PolicyRef],
) -> Result<Option<Value>, ProtectError> {
    let capabilities = spec.bounding_capabilities()?;
    let capabilities: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let own = spec.seccomp()?;
    let merged = seccomp_merge::merge(own.as_ref(), plan, &capabilities).map_err(|source| {
        ProtectError::Merge {
            policy: policies_words(policies),
            source,
        }
    })?;
    if let Some(filter) = &merged {
        spec.set_seccomp(filter);
    }
    Ok(merged)
}
