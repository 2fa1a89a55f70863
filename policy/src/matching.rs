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

/// What must be on a pod for any policy to select it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptIn(
    /// Label key and value; `None` when every pod may be selected.
    pub Option<(String, String)>,
);

impl Default for OptIn {
    fn default() -> Self {
        Self(Some((
            "sandbox.varmor.org/enable".to_owned(),
            "true".to_owned(),
        )))
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
mod tests {
    use super::*;

    fn policy(kind: &str, name: &str, created: &str, target: &str) -> PolicyObject {
        policy_with(kind, name, created, target, "enforcer: AppArmorBPF")
    }

    fn policy_with(
        kind: &str,
        name: &str,
        created: &str,
        target: &str,
        body: &str,
    ) -> PolicyObject {
        let namespace = if kind == KIND_CLUSTER {
            ""
        } else {
            ", namespace: demo"
        };
        let created = if created.is_empty() {
            String::new()
        } else {
            format!(", creationTimestamp: '{created}'")
        };
        let yaml = format!(
            "apiVersion: crd.varmor.org/v1beta1\nkind: {kind}\nmetadata: {{name: {name}{namespace}{created}}}\n\
             spec: {{target: {target}, policy: {{{body}, mode: AlwaysAllow}}}}\n"
        );
        crate::parse(&yaml).expect("valid").remove(0)
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn facts() -> ContainerFacts {
        ContainerFacts {
            namespace: "demo".into(),
            pod_name: "web-1".into(),
            pod_labels: map(&[("sandbox.varmor.org/enable", "true"), ("app", "web")]),
            pod_annotations: BTreeMap::new(),
            container_name: "c1".into(),
            owner: Owner::None,
        }
    }

    fn chosen(policies: &[PolicyObject], facts: &ContainerFacts) -> String {
        match select(policies, facts, &OptIn::default()) {
            Selection::Selected(members, enforcers) => format!("{} {enforcers}", names(&members)),
            Selection::OptedOut(members) => format!("{} opted out", names(&members)),
            Selection::NotSelected => "none".into(),
            Selection::Unknown(policy) => format!("{} unknown", policy.name),
        }
    }

    fn names(members: &[&PolicyObject]) -> String {
        let names: Vec<_> = members
            .iter()
            .map(|p| p.policy().metadata.name.as_str())
            .collect();
        names.join("+")
    }

    #[test]
    fn targets() {
        let cases = [
            ("{kind: Pod, name: web-1}", true),
            ("{kind: Pod, name: web}", false),
            ("{kind: Pod, selector: {}}", true),
            ("{kind: Pod, selector: {matchLabels: {app: web}}}", true),
            (
                "{kind: Pod, selector: {matchLabels: {app: web, tier: x}}}",
                false,
            ),
            (
                "{kind: Pod, selector: {matchExpressions: [{key: app, operator: In, values: [web, api]}]}}",
                true,
            ),
            (
                "{kind: Pod, selector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}",
                false,
            ),
            (
                "{kind: Pod, selector: {matchExpressions: [{key: tier, operator: NotIn, values: [web]}]}}",
                true,
            ),
            (
                "{kind: Pod, selector: {matchExpressions: [{key: app, operator: Exists}]}}",
                true,
            ),
            (
                "{kind: Pod, selector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}",
                false,
            ),
            (
                "{kind: Pod, selector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}",
                true,
            ),
            ("{kind: Pod, name: web-1, containers: [c1]}", true),
            ("{kind: Pod, name: web-1, containers: [c2]}", false),
            ("{kind: Deployment, name: web-1}", false),
        ];
        for (target, expected) in cases {
            let policies = [policy("VarmorPolicy", "p", "", target)];
            assert_eq!(chosen(&policies, &facts()) != "none", expected, "{target}");
        }
    }

    #[test]
    fn a_namespaced_policy_stays_in_its_namespace() {
        let elsewhere = ContainerFacts {
            namespace: "other".into(),
            ..facts()
        };
        assert_eq!(
            chosen(
                &[policy("VarmorPolicy", "p", "", "{kind: Pod, selector: {}}")],
                &elsewhere
            ),
            "none"
        );
        let cluster = [policy(
            "VarmorClusterPolicy",
            "p",
            "",
            "{kind: Pod, selector: {}}",
        )];
        assert_eq!(chosen(&cluster, &elsewhere), "p AppArmorBPF");
    }

    #[test]
    fn the_order_is_fixed() {
        let all = "{kind: Pod, selector: {}}";
        let mut policies = vec![
            policy("VarmorPolicy", "b-young", "2026-01-02T00:00:00Z", all),
            policy("VarmorPolicy", "c-file", "", all),
            policy("VarmorPolicy", "b-old", "2025-12-31T23:59:59Z", all),
            policy("VarmorPolicy", "a-file", "", all),
            policy("VarmorClusterPolicy", "z", "2026-01-03T00:00:00Z", all),
        ];
        for expected in ["z", "b-old", "b-young", "a-file", "c-file"] {
            let (forward, mut reversed) = (policies.clone(), policies.clone());
            reversed.reverse();
            assert_eq!(
                chosen(&forward, &facts()),
                format!("{expected} AppArmorBPF")
            );
            assert_eq!(
                chosen(&reversed, &facts()),
                format!("{expected} AppArmorBPF")
            );
            policies.retain(|p| p.policy().metadata.name != expected);
        }
    }

    #[test]
    fn opting_in_and_out() {
        let policies = [policy("VarmorPolicy", "p", "", "{kind: Pod, selector: {}}")];
        let mut facts = facts();
        facts
            .pod_labels
            .insert("sandbox.varmor.org/enable".into(), "yes".into());
        assert_eq!(chosen(&policies, &facts), "none");
        assert!(matches!(
            select(&policies, &facts, &OptIn(None)),
            Selection::Selected(..)
        ));
        facts
            .pod_labels
            .insert("sandbox.varmor.org/enable".into(), "true".into());

        let prefix = "container.bpf.security.beta.varmor.org/";
        facts.pod_annotations = map(&[(&format!("{prefix}c2"), "unconfined")]);
        assert_eq!(chosen(&policies, &facts), "p AppArmorBPF");
        facts.pod_annotations = map(&[(&format!("{prefix}c1"), "localhost/x")]);
        assert_eq!(chosen(&policies, &facts), "p AppArmorBPF");
        facts.pod_annotations = map(&[(&format!("{prefix}c1"), "unconfined")]);
        assert_eq!(chosen(&policies, &facts), "p AppArmor");
        let beta = "container.apparmor.security.beta.kubernetes.io/c1";
        facts
            .pod_annotations
            .insert(beta.into(), "unconfined".into());
        assert_eq!(chosen(&policies, &facts), "p opted out");
    }

    #[test]
    fn policies_that_merge_hold_together_behind_the_first() {
        let all = "{kind: Pod, selector: {}}";
        let merged = |kind: &str, name: &str, enforcer: &str| {
            let body = format!("merge: true, enforcer: {enforcer}");
            policy_with(kind, name, "", all, &body)
        };
        let cluster = || merged("VarmorClusterPolicy", "z", "BPF");
        let namespaced = || merged("VarmorPolicy", "m", "AppArmor");
        let alone = |kind: &str, name: &str| policy(kind, name, "", all);
        let elsewhere = policy_with(
            "VarmorPolicy",
            "other",
            "",
            "{kind: Pod, name: other}",
            "merge: true, enforcer: Seccomp",
        );
        let cases = [
            (vec![namespaced()], "m AppArmor"),
            (vec![namespaced(), cluster()], "z+m AppArmorBPF"),
            // What does not merge is left out behind a policy that does, ...
            (
                vec![alone("VarmorPolicy", "a"), namespaced(), cluster()],
                "z+m AppArmorBPF",
            ),
            // ... and leaves all others out where it is the first.
            (
                vec![alone("VarmorClusterPolicy", "a"), namespaced(), cluster()],
                "a AppArmorBPF",
            ),
            (
                vec![alone("VarmorPolicy", "a"), namespaced()],
                "a AppArmorBPF",
            ),
            (vec![elsewhere, namespaced(), cluster()], "z+m AppArmorBPF"),
            (
                vec![
                    merged("VarmorPolicy", "b", "Seccomp"),
                    merged("VarmorPolicy", "a", "Seccomp"),
                    cluster(),
                ],
                "z+a+b BPFSeccomp",
            ),
        ];
        for (mut policies, expected) in cases {
            assert_eq!(chosen(&policies, &facts()), expected);
            policies.reverse();
            assert_eq!(chosen(&policies, &facts()), expected);
        }
        // Annotations take enforcers away and leave the members as they are.
        let policies = [namespaced(), cluster()];
        let mut facts = facts();
        let out = |enforcer: &str| {
            (
                format!("container.{enforcer}.security.beta.varmor.org/c1"),
                "unconfined".to_owned(),
            )
        };
        facts.pod_annotations.extend([out("bpf")]);
        assert_eq!(chosen(&policies, &facts), "z+m AppArmor");
        facts.pod_annotations.extend([out("apparmor")]);
        assert_eq!(chosen(&policies, &facts), "z+m opted out");
    }

    #[test]
    fn the_opt_in_label_is_read_or_refused() {
        assert_eq!(
            OptIn::parse("a.b/c=d"),
            Ok(OptIn(Some(("a.b/c".into(), "d".into()))))
        );
        assert_eq!(OptIn::parse(""), Ok(OptIn(None)));
        assert!(OptIn::parse("abc").is_err());
        assert!(OptIn::parse("=abc").is_err());
    }

    #[test]
    fn policies_for_workloads_look_at_the_workload() {
        use crate::owner::{Workload, WorkloadName};
        let owner = |kind: &str, name: &str, labels: &[(&str, &str)]| {
            Owner::Workload(Workload {
                name: WorkloadName::new(kind, "demo", name),
                labels: map(labels),
            })
        };
        const IN: (&str, &str) = ("sandbox.varmor.org/enable", "true");
        let by_name = "{kind: Deployment, name: web}";
        let by_label = "{kind: Deployment, selector: {matchExpressions: [{key: tier, operator: In, values: [front]}]}}";
        let front = owner("Deployment", "web", &[IN, ("tier", "front")]);
        for (target, owner, expected) in [
            (by_name, front.clone(), "p AppArmorBPF"),
            (by_label, front.clone(), "p AppArmorBPF"),
            (by_label, owner("Deployment", "web", &[IN]), "none"),
            // The workload must have opted in, whatever its pods say.
            (by_name, owner("Deployment", "web", &[]), "none"),
            (
                by_label,
                owner("Deployment", "web", &[("tier", "front")]),
                "none",
            ),
            (by_name, owner("StatefulSet", "web", &[IN]), "none"),
            (by_name, owner("Deployment", "web-1", &[IN]), "none"),
            (
                "{kind: DaemonSet, name: web}",
                owner("DaemonSet", "web", &[IN]),
                "p AppArmorBPF",
            ),
            (
                "{kind: Deployment, name: web, containers: [c2]}",
                Owner::Unknown,
                "none",
            ),
            (by_name, Owner::None, "none"),
            (by_name, Owner::Unknown, "p unknown"),
        ] {
            let policies = [policy("VarmorPolicy", "p", "", target)];
            let facts = ContainerFacts {
                owner: owner.clone(),
                ..facts()
            };
            assert_eq!(chosen(&policies, &facts), expected, "{target} {owner:?}");
        }
        // A pod that has not opted in itself is selected through its workload, and not as a pod.
        let policies = [
            policy("VarmorPolicy", "a", "", "{kind: Pod, selector: {}}"),
            policy("VarmorPolicy", "b", "", by_name),
        ];
        let facts = ContainerFacts {
            owner: front,
            pod_labels: BTreeMap::new(),
            ..facts()
        };
        assert_eq!(chosen(&policies, &facts), "b AppArmorBPF");
        assert!(facts.opted_in(&OptIn::default()));
    }

    #[test]
    fn an_unknown_workload_matters_only_where_it_could_change_the_outcome() {
        let workload = "{kind: Deployment, name: web}";
        let first = policy(
            "VarmorClusterPolicy",
            "first",
            "",
            "{kind: Pod, name: web-1}",
        );
        let unknown = policy("VarmorPolicy", "second", "", workload);
        let merged = |kind: &str, name: &str, target: &str| {
            policy_with(kind, name, "", target, "enforcer: BPF, merge: true")
        };
        let facts = ContainerFacts {
            owner: Owner::Unknown,
            ..facts()
        };
        assert_eq!(
            chosen(&[first, unknown.clone()], &facts),
            "first AppArmorBPF"
        );
        let pod = merged("VarmorClusterPolicy", "pod", "{kind: Pod, name: web-1}");
        assert_eq!(chosen(&[pod.clone(), unknown], &facts), "pod BPF");
        let beside = merged("VarmorPolicy", "beside", workload);
        assert_eq!(chosen(&[pod, beside], &facts), "beside unknown");
    }
}
