// SPDX-License-Identifier: Apache-2.0
//! Which policies hold for a container, as the node sees it: namespace, pod name, pod labels, container name, and the
//! name and labels of the workload that the pod belongs to.
//!
//! A policy looks at one object: the pod where its target's kind is Pod, else the workload of that kind. That object must
//! have opted in.
//!
//! Those that match stand in an order: a cluster policy before a namespaced one; then by `creationTimestamp`, the oldest
//! first (an object without one counts as newer than any with one); then by name in byte order. The first one holds
//! alone, as in vArmor, unless it says `merge: true`: then every other one that says so holds with it, and those that do
//! not say so hold no more than they would beside a policy that does not merge.

use crate::enforcer::{Enforcer, Enforcers};
use crate::owner::Owner;
use crate::plan::PolicyRef;
use crate::types::{KIND_CLUSTER, PolicyObject, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The one target kind that the node resolves without the API server: a pod knows its own labels and name, and not
/// those of the workload that made it ([`crate::owner`]).
pub const KIND_POD: &str = "Pod";
/// Every target kind.
pub const TARGET_KINDS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", KIND_POD];

/// What [`OptIn`] asks for unless it is told otherwise.
pub const OPT_IN_LABEL: &str = "sandbox.varmor.org/enable=true";

/// What must be on a pod for any policy to select it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptIn(
    /// Label key and value; `None` when every pod may be selected.
    pub Option<(String, String)>,
);

impl Default for OptIn {
    fn default() -> Self {
        Self::parse(OPT_IN_LABEL).expect("a label")
    }
}

impl OptIn {
    /// Reads `key=value`; an empty text switches the requirement off.
    ///
    /// # Errors
    /// A sentence, when the text has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.contains('=') => {
                Ok(Self(Some((key.to_owned(), value.to_owned()))))
            }
            _ => Err(format!(
                "`{text}` is no label; write `key=value`, or nothing to ask for no label"
            )),
        }
    }

    /// Whether a pod has opted in.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(key, value)| labels.get(key) == Some(value))
    }
}

/// What the node knows of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's labels.
    pub pod_labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub pod_annotations: BTreeMap<String, String>,
    /// The container's name in the pod.
    pub container_name: String,
    /// The workload that the pod belongs to.
    pub owner: Owner,
}

impl ContainerFacts {
    /// Whether any policy may select the container.
    pub fn opted_in(&self, opt_in: &OptIn) -> bool {
        opt_in.holds(&self.pod_labels) || self.owner.opted_in(opt_in)
    }
}

/// The outcome for one container.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection<'a> {
    /// These policies hold, in order and at least one, with these of the enforcers that any of them has.
    Selected(Vec<&'a PolicyObject>, Enforcers),
    /// These policies would hold, but annotations `unconfined` take every enforcer of theirs away.
    OptedOut(Vec<&'a PolicyObject>),
    /// No policy selects the container.
    NotSelected,
    /// Whether this policy holds, alone or beside others, depends on the pod's workload, which is not known.
    Unknown(PolicyRef),
}

/// The policies that hold for a container.
///
/// Annotations take enforcers away, not policies: a policy that is left without any still counts in the order, and still
/// is a member of the composition, so that all the containers that the same policies select are under one profile.
pub fn select<'a>(
    policies: &'a [PolicyObject],
    facts: &ContainerFacts,
    opt_in: &OptIn,
) -> Selection<'a> {
    let mut candidates: Vec<(&PolicyObject, Option<bool>)> = policies
        .iter()
        .map(|policy| (policy, policy_matches(policy, facts, opt_in)))
        .filter(|(_, matched)| *matched != Some(false))
        .collect();
    candidates.sort_by(|(a, _), (b, _)| precedence(a).cmp(&precedence(b)));
    let left_of = |members: &[&PolicyObject]| {
        let mut enforcers: Enforcers = members
            .iter()
            .flat_map(|policy| enforcers_of(policy).iter())
            .collect();
        remove_opted_out(
            &mut enforcers,
            &facts.pod_annotations,
            &facts.container_name,
        );
        enforcers
    };
    let mut members: Vec<&PolicyObject> = Vec::new();
    for (policy, matched) in candidates {
        if !members.is_empty() && !merges(policy) {
            continue;
        }
        if matched.is_none() {
            if left_of(&[policy]).is_empty() {
                continue;
            }
            return Selection::Unknown(policy.reference());
        }
        members.push(policy);
        if !merges(policy) {
            break;
        }
    }
    if members.is_empty() {
        return Selection::NotSelected;
    }
    let enforcers = left_of(&members);
    if enforcers.is_empty() {
        Selection::OptedOut(members)
    } else {
        Selection::Selected(members, enforcers)
    }
}

/// Whether a policy lets others hold beside it.
pub(crate) fn merges(policy: &PolicyObject) -> bool {
    policy.spec().policy.merge
}

/// The enforcers that a policy names. A text that names none is refused by validation, so nothing is lost by the
/// default here.
pub(crate) fn enforcers_of(policy: &PolicyObject) -> Enforcers {
    Enforcers::parse(&policy.spec().policy.enforcer).unwrap_or_default()
}

/// `None` when that depends on a workload that is not known.
fn policy_matches(policy: &PolicyObject, facts: &ContainerFacts, opt_in: &OptIn) -> Option<bool> {
    let target = &policy.spec().target;
    if !policy_covers_namespace(policy, &facts.namespace)
        || !names_container(target, &facts.container_name)
    {
        return Some(false);
    }
    let pod = Subject {
        name: &facts.pod_name,
        labels: Some(&facts.pod_labels),
    };
    matches_target(target, &pod, &facts.owner, opt_in)
}

/// Whether a policy's scope includes a namespace.
pub(crate) fn policy_covers_namespace(policy: &PolicyObject, namespace: &str) -> bool {
    match policy {
        PolicyObject::Cluster(_) => true,
        PolicyObject::Namespaced(_) => policy.namespace() == Some(namespace),
    }
}

/// Whether a target includes the container; an empty list includes all, init containers too.
pub(crate) fn names_container(target: &Target, container_name: &str) -> bool {
    target.containers.is_empty() || target.containers.iter().any(|name| name == container_name)
}

/// The object that a target selects by name or by labels.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    /// `None` when they are not known.
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
}

impl Subject<'_> {
    /// `None` when that depends on labels that are not known.
    fn is_selected(&self, target: &Target, opt_in: &OptIn) -> Option<bool> {
        let opted_in = match (self.labels, &opt_in.0) {
            (Some(labels), _) => Some(opt_in.holds(labels)),
            (None, None) => Some(true),
            (None, Some(_)) => None,
        };
        let matches = match (&target.name, &target.selector) {
            (Some(name), None) => Some(name == self.name),
            (None, Some(selector)) => self.labels.map(|labels| selector.matches(labels)),
            // Both or none: refused by validation.
            _ => Some(false),
        };
        match (opted_in, matches) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }
}

/// Whether a target includes a pod, by itself or by its workload; `None` when that depends on what is not known.
pub(crate) fn matches_target(
    target: &Target,
    pod: &Subject<'_>,
    owner: &Owner,
    opt_in: &OptIn,
) -> Option<bool> {
    if target.kind == KIND_POD {
        return pod.is_selected(target, opt_in);
    }
    match owner {
        Owner::None => Some(false),
        Owner::Unknown => None,
        Owner::Workload(workload) if workload.name.kind != target.kind => Some(false),
        Owner::Workload(workload) => {
            let subject = Subject {
                name: &workload.name.name,
                labels: Some(&workload.labels),
            };
            subject.is_selected(target, opt_in)
        }
    }
}

/// The order of the policies that match; the least one comes first.
pub(crate) fn precedence(policy: &PolicyObject) -> impl Ord + use<'_> {
    let metadata = &policy.policy().metadata;
    // RFC 3339 in UTC with whole seconds, as validation asks for, sorts as text.
    let created = metadata.creation_timestamp.as_deref();
    (
        policy.policy().kind != KIND_CLUSTER,
        created.is_none(),
        created,
        metadata.name.as_str(),
    )
}

/// Annotation prefixes (the container's name follows) whose value `unconfined` takes an enforcer away.
const OPT_OUT: [(&str, Enforcer); 4] = [
    ("container.bpf.security.beta.varmor.org/", Enforcer::Bpf),
    (
        "container.apparmor.security.beta.varmor.org/",
        Enforcer::AppArmor,
    ),
    (
        "container.apparmor.security.beta.kubernetes.io/",
        Enforcer::AppArmor,
    ),
    (
        "container.seccomp.security.beta.varmor.org/",
        Enforcer::Seccomp,
    ),
];

/// Takes away the enforcers that annotations opt the container out of.
pub(crate) fn remove_opted_out(
    enforcers: &mut Enforcers,
    annotations: &BTreeMap<String, String>,
    container_name: &str,
) {
    for (prefix, enforcer) in OPT_OUT {
        if annotations
            .get(&format!("{prefix}{container_name}"))
            .is_some_and(|value| value == "unconfined")
        {
            enforcers.remove(enforcer);
        }
    }
}

#[cfg(test)]
mod tests;
