// SPDX-License-Identifier: Apache-2.0
//! Whether a container may start, and with which binding: files in, a decision out.

use varmor_node_state::{
    BpfDemand, ContainerId, Marker, NodeState, ProfileName, StateError, seccomp_digest,
};
use varmor_policy::index::{Could, FailurePolicy, PolicyIndex};
use varmor_policy::plan::PolicyRef;

use crate::oci::Config;
use crate::subject::{Origin, Subject, asks, origin, policies_words, policy_words};

/// What becomes of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It starts, bound like this.
    Start(Bind),
    /// It starts although a policy selects it or may: `failurePolicy: Ignore`.
    StartUnprotected(String),
    /// It does not start.
    Refuse(String),
}

/// What goes into the BPF maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Nothing; and what an earlier container with the same mount namespace number left is removed.
    Nothing,
    /// A binding without a profile, where the maps are there.
    IfPossible,
    /// A binding that must succeed.
    Required {
        /// The profile; none for a container that only opted in.
        profile: Option<ProfileName>,
        /// The policy that demands it, for the sentence when it fails.
        policy: Option<PolicyRef>,
        /// The pod's own addresses, when the daemon knew them.
        addresses: Vec<std::net::IpAddr>,
    },
}

/// Decides for one container: by its marker, else alone.
pub fn decide(state: &NodeState, id: &ContainerId, config: &Config) -> Decision {
    match state.load_marker(id) {
        Ok(Some(marker)) => by_marker(&marker, config),
        Ok(None) => alone(state, id, config),
        Err(error) => Decision::Refuse(format!(
            "varmor-nri refused container {id}: what it must carry can't be known ({error}); recreate the pod, and \
             restart varmor-nri if that does not help"
        )),
    }
}

fn by_marker(marker: &Marker, config: &Config) -> Decision {
    let who = format!(
        "container {} of pod {}/{}",
        marker.container, marker.namespace, marker.pod
    );
    let demand = match &marker.policy {
        Some(policy) => format!("{} demands", policy_words(policy)),
        None => "its marker demands".to_owned(),
    };
    let refuse = |found: String| {
        Decision::Refuse(format!(
            "varmor-nri refused {who}: {demand} {found}; varmor-nri could not finish preparing it, or another plugin \
             changed it: recreate the pod, and see the log of varmor-nri if that does not help"
        ))
    };
    if let Some(expected) = &marker.apparmor
        && config.apparmor.as_ref() != Some(expected)
    {
        let found = config
            .apparmor
            .as_deref()
            .map_or("none".to_owned(), |found| format!("{found:?}"));
        return refuse(format!(
            "AppArmor profile {expected:?}, its OCI spec has {found}"
        ));
    }
    if let Some(expected) = &marker.seccomp {
        match seccomp_of(config) {
            Ok(Some(found)) if found == *expected => {}
            Ok(Some(_)) => {
                return refuse("a seccomp filter, its OCI spec has another one".to_owned());
            }
            Ok(None) => return refuse("a seccomp filter, its OCI spec has none".to_owned()),
            Err(error) => return refuse(format!("a seccomp filter, and in its OCI spec {error}")),
        }
    }
    let required = |profile| Bind::Required {
        profile,
        policy: marker.policy.clone(),
        addresses: marker.addresses.clone(),
    };
    match (marker.bpf, &marker.profile) {
        (BpfDemand::Nothing, _) => Decision::Start(Bind::Nothing),
        (BpfDemand::Bound, _) => Decision::Start(required(None)),
        (BpfDemand::Profile, Some(profile)) => Decision::Start(required(Some(profile.clone()))),
        (BpfDemand::Profile, None) => refuse("a BPF profile without saying which".to_owned()),
    }
}

fn seccomp_of(config: &Config) -> Result<Option<String>, String> {
    let Some(raw) = &config.seccomp else {
        return Ok(None);
    };
    let filter = serde_json::from_str(raw.get())
        .map_err(|error| format!("the seccomp filter is unusable: {error}"))?;
    seccomp_digest(&filter)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Without a marker NRI was bypassed, or the container is none of CRI's.
fn alone(state: &NodeState, id: &ContainerId, config: &Config) -> Decision {
    let origin = origin(
        state,
        id,
        &config.annotations,
        crate::subject::DEFAULT_NAMESPACE,
    );
    let unknown = |error: StateError| {
        Decision::Refuse(format!(
            "varmor-nri refused container {id}: it did not prepare this container, and which policies there are can't be \
             known ({error}); start varmor-nri, which writes that file anew, or remove the file to start containers \
             unprotected until then"
        ))
    };
    match &origin {
        Origin::Sandbox => return Decision::Start(Bind::Nothing),
        Origin::Other(subject) => match asks(state, subject) {
            Ok(true) => {}
            Ok(false) => return Decision::Start(Bind::Nothing),
            Err(error) => return unknown(error),
        },
        Origin::Cri(_) | Origin::CriUnknown { .. } => {}
    }
    let index: PolicyIndex = match state.load_index() {
        Ok(Some(index)) => index,
        // The daemon has never run on this node.
        Ok(None) => return Decision::Start(Bind::Nothing),
        Err(error) => return unknown(error),
    };
    match origin {
        Origin::Sandbox => Decision::Start(Bind::Nothing),
        Origin::CriUnknown { missing } => doubt(
            &index,
            format!(
                "container {id}: a policy may select it, its OCI spec lacks the annotation {missing}"
            ),
            "start varmor-nri and use a containerd of 1.7 or later",
        ),
        Origin::Other(subject) => judge(
            &index,
            &subject,
            format!("container {id}"),
            "it was not started through varmor-runtime",
            "set BinaryName of containerd's runc options to varmor-runtime",
        ),
        Origin::Cri(subject) => {
            let who = format!(
                "container {} of pod {}/{}",
                subject.container, subject.namespace, subject.pod
            );
            judge(
                &index,
                &subject,
                who,
                "varmor-nri did not prepare it (stopped, or too slow)",
                "start varmor-nri",
            )
        }
    }
}

fn judge(index: &PolicyIndex, subject: &Subject, who: String, why: &str, fix: &str) -> Decision {
    let asked = subject.asked();
    match index.could_select_asked(&asked) {
        Could::No if index.opted_in(&asked) => Decision::Start(Bind::IfPossible),
        Could::No => Decision::Start(Bind::Nothing),
        Could::Yes(policies) => doubt(
            index,
            format!("{who}: {} selects it, {why}", policies_words(&policies)),
            fix,
        ),
        Could::Unknown(policy) => doubt(
            index,
            format!(
                "{who}: {} may select it (its pod's {} not known), {why}",
                policy_words(&policy),
                match subject.labels {
                    None => "labels are",
                    Some(_) => "workload is",
                }
            ),
            fix,
        ),
    }
}

fn doubt(index: &PolicyIndex, reason: String, fix: &str) -> Decision {
    match index.failure_policy {
        FailurePolicy::Fail => Decision::Refuse(format!("varmor-nri refused {reason}; {fix}")),
        FailurePolicy::Ignore => Decision::StartUnprotected(format!(
            "varmor-nri let {reason} start unprotected (failurePolicy Ignore); {fix}"
        )),
    }
}
