// SPDX-License-Identifier: Apache-2.0
//! What the OCI hook needs to decide alone, when the daemon did not see a container: which pods could be selected.

use crate::matching::{
    OptIn, Subject, enforcers_of, matches_target, merges, names_container, policy_covers_namespace,
    precedence, remove_opted_out,
};
use crate::owner::{Owner, Owners};
use crate::plan::PolicyRef;
use crate::types::PolicyObject;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happens to a container that a policy could select while nobody can protect it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailurePolicy {
    /// It is refused.
    #[default]
    Fail,
    /// It starts unprotected, with a warning.
    Ignore,
}

/// Whether a policy could select a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Could {
    /// No policy does.
    No,
    /// These policies do, and no others: the members that [`crate::matching::select`] would find, in order.
    Yes(Vec<PolicyRef>),
    /// This policy does or does not, alone or beside others, depending on labels that are not known.
    Unknown(PolicyRef),
}

/// A container that the index is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod_name: &'a str,
    /// The pod's labels, where they are known.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The pod's annotations, where they are known.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// The workload that the pod belongs to.
    pub owner: &'a Owner,
    /// The container's name in the pod.
    pub container_name: &'a str,
}

/// The targets of all policies, as a file that the daemon leaves for the hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyIndex {
    /// The label that pods opt in with.
    pub opt_in: OptIn,
    /// What to do when in doubt.
    pub failure_policy: FailurePolicy,
    policies: Vec<PolicyObject>,
    /// The workloads that policies can look at; nothing on a node without an API server.
    #[serde(default)]
    owners: Owners,
}

impl PolicyIndex {
    /// An index of the policies in force. Rules are left out: the hook matches and does not compile.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = &'a PolicyObject>,
        opt_in: OptIn,
        failure_policy: FailurePolicy,
    ) -> Self {
        let mut policies: Vec<PolicyObject> = policies.into_iter().map(without_rules).collect();
        policies.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
        Self {
            opt_in,
            failure_policy,
            policies,
            owners: Owners::default(),
        }
    }

    /// An index that also knows workloads.
    #[must_use]
    pub fn with_owners(mut self, owners: Owners) -> Self {
        self.owners = owners;
        self
    }

    /// Whether a policy could select a container; `labels` are the pod's, `None` when nobody knows them.
    pub fn could_select(
        &self,
        namespace: &str,
        pod_name: &str,
        labels: Option<&BTreeMap<String, String>>,
        container_name: &str,
    ) -> Could {
        let subject = Asked {
            namespace,
            pod_name,
            labels,
            annotations: None,
            owner: &Owner::Unknown,
            container_name,
        };
        self.could_select_asked(&subject)
    }

    /// As [`Self::could_select`], for a pod of which more may be known: annotations can opt the container out, and the
    /// workload is what some policies look at.
    pub fn could_select_asked(&self, asked: &Asked<'_>) -> Could {
        let Asked {
            namespace, labels, ..
        } = *asked;
        let owner = self.owner_of(asked);
        let pod = Subject {
            name: asked.pod_name,
            labels,
        };
        // In order of precedence: the first match that is certain decides who can follow, unless an uncertain one comes
        // before it.
        let mut members = Vec::new();
        let mut any_enforcer = false;
        for policy in &self.policies {
            let target = &policy.spec().target;
            if !policy_covers_namespace(policy, namespace)
                || !names_container(target, asked.container_name)
                || (!members.is_empty() && !merges(policy))
            {
                continue;
            }
            let matched = matches_target(target, &pod, &owner, &self.opt_in);
            if matched == Some(false) {
                continue;
            }
            let mut enforcers = enforcers_of(policy);
            if let Some(annotations) = asked.annotations {
                remove_opted_out(&mut enforcers, annotations, asked.container_name);
            }
            if matched.is_some() {
                members.push(policy.reference());
                any_enforcer |= !enforcers.is_empty();
                if !merges(policy) {
                    break;
                }
            } else if !enforcers.is_empty() {
                return Could::Unknown(policy.reference());
            }
        }
        if any_enforcer {
            Could::Yes(members)
        } else {
            Could::No
        }
    }

    /// Whether a pod or its workload is known to have opted in.
    pub fn opted_in(&self, asked: &Asked<'_>) -> bool {
        asked.labels.is_some_and(|labels| self.opt_in.holds(labels))
            || self.owner_of(asked).opted_in(&self.opt_in)
    }

    /// The owner as it was told, else by what is known.
    fn owner_of(&self, asked: &Asked<'_>) -> Owner {
        if !asked.owner.is_unknown() {
            return asked.owner.clone();
        }
        match Owners::told_by_labels(asked.annotations, asked.labels) {
            Owner::Unknown => self
                .owners
                .inferred(asked.namespace, asked.pod_name, asked.labels),
            told => told,
        }
    }
}

fn without_rules(policy: &PolicyObject) -> PolicyObject {
    let mut policy = policy.clone();
    let (PolicyObject::Namespaced(body) | PolicyObject::Cluster(body)) = &mut policy;
    let rules = &mut body.spec.policy;
    (
        rules.enhance_protect,
        rules.modeling_options,
        rules.defense_in_depth,
    ) = (None, None, None);
    rules.network_proxy_config = None;
    body.metadata.annotations = None;
    body.metadata.labels = None;
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(opt_in: OptIn) -> PolicyIndex {
        let yaml = "
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: by-name, namespace: demo}
spec: {target: {kind: Pod, name: web-1}, policy: {enforcer: BPF, mode: AlwaysAllow}}
---
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: by-label, namespace: labels}
spec: {target: {kind: Pod, selector: {matchLabels: {app: web}}, containers: [c1]}, policy: {enforcer: BPF, mode: AlwaysAllow}}
";
        let policies = crate::parse(yaml).expect("valid");
        PolicyIndex::new(&policies, opt_in, FailurePolicy::Fail)
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn word(could: &Could) -> String {
        match could {
            Could::No => "no".into(),
            Could::Yes(members) => {
                let names: Vec<_> = members.iter().map(|policy| policy.name.as_str()).collect();
                format!("yes {}", names.join("+"))
            }
            Could::Unknown(policy) => format!("unknown {}", policy.name),
        }
    }

    #[test]
    fn table() {
        let in_web = labels(&[("sandbox.varmor.org/enable", "true"), ("app", "web")]);
        let in_other = labels(&[("sandbox.varmor.org/enable", "true"), ("app", "api")]);
        let out_web = labels(&[("app", "web")]);
        let cases = [
            ("demo", "web-1", Some(&in_other), "c9", "yes by-name"),
            ("demo", "web-1", Some(&out_web), "c9", "no"),
            ("demo", "web-1", None, "c9", "unknown by-name"),
            ("demo", "web-2", None, "c9", "no"),
            ("labels", "any", Some(&in_web), "c1", "yes by-label"),
            ("labels", "any", Some(&in_web), "c2", "no"),
            ("labels", "any", Some(&in_other), "c1", "no"),
            ("labels", "any", None, "c1", "unknown by-label"),
            ("labels", "any", None, "c2", "no"),
            ("kube-system", "any", None, "c1", "no"),
        ];
        let index = index(OptIn::default());
        let index: PolicyIndex =
            serde_json::from_str(&serde_json::to_string(&index).expect("writes"))
                .expect("reads back");
        for (namespace, pod, labels, container, expected) in cases {
            let could = index.could_select(namespace, pod, labels, container);
            assert_eq!(
                word(&could),
                expected,
                "{namespace}/{pod}/{container} {labels:?}"
            );
        }
    }

    #[test]
    fn without_an_opt_in_label_a_name_alone_decides() {
        let could = index(OptIn(None)).could_select("demo", "web-1", None, "c");
        assert_eq!(word(&could), "yes by-name");
    }

    #[test]
    fn annotations_opt_out() {
        let out = labels(&[("container.bpf.security.beta.varmor.org/c", "unconfined")]);
        let pod = labels(&[("sandbox.varmor.org/enable", "true")]);
        let could = index(OptIn::default()).could_select_asked(&Asked {
            namespace: "demo",
            pod_name: "web-1",
            labels: Some(&pod),
            annotations: Some(&out),
            owner: &Owner::None,
            container_name: "c",
        });
        assert_eq!(could, Could::No);
    }

    #[test]
    fn compositions_are_told_with_all_their_members() {
        let cluster = |name: &str, target: &str, body: &str| {
            format!(
                "---\napiVersion: crd.varmor.org/v1beta1\nkind: VarmorClusterPolicy\nmetadata: {{name: {name}}}\n\
                 spec: {{target: {{kind: Pod, {target}}}, policy: {{mode: AlwaysAllow, {body}}}}}\n"
            )
        };
        let by_name = cluster("by-name", "name: web-1", "merge: true, enforcer: BPF");
        let by_label = cluster(
            "by-label",
            "selector: {matchLabels: {app: web}}",
            "merge: true, enforcer: AppArmor",
        );
        let alone = cluster("z-alone", "name: web-2", "enforcer: BPF");
        let policies = crate::parse(&[by_name, by_label, alone].concat()).expect("valid");
        let web = labels(&[("sandbox.varmor.org/enable", "true"), ("app", "web")]);
        let other = labels(&[("sandbox.varmor.org/enable", "true")]);
        let default = PolicyIndex::new(&policies, OptIn::default(), FailurePolicy::Fail);
        let no_label = PolicyIndex::new(&policies, OptIn(None), FailurePolicy::Fail);
        for (index, pod, labels, expected) in [
            (&default, "web-1", Some(&web), "yes by-label+by-name"),
            (&default, "web-1", Some(&other), "yes by-name"),
            (&default, "web-1", None, "unknown by-label"),
            (&default, "web-2", Some(&web), "yes by-label"),
            (&default, "web-2", Some(&other), "yes z-alone"),
            (&default, "web-3", Some(&other), "no"),
            // Whether the other one is a member is not known, and the two of them are another profile than one.
            (&no_label, "web-1", None, "unknown by-label"),
            (&no_label, "web-2", None, "unknown by-label"),
        ] {
            let could = index.could_select("demo", pod, labels, "c1");
            assert_eq!(word(&could), expected, "{pod} {labels:?}");
        }
    }

    /// With everything known the hook decides as the daemon does, whatever the policies are.
    #[test]
    fn agrees_with_select() {
        use crate::matching::{ContainerFacts, Selection, select};
        let mut yaml = String::new();
        for (kind, namespace) in [
            ("VarmorPolicy", ", namespace: demo"),
            ("VarmorClusterPolicy", ""),
        ] {
            for merge in [true, false] {
                for (enforcer, target) in [
                    ("BPF", "Pod"),
                    ("AppArmor", "Deployment"),
                    ("AppArmorSeccomp", "Pod"),
                ] {
                    let name = format!("{}-{merge}", enforcer.to_lowercase());
                    yaml += &format!(
                        "---\napiVersion: crd.varmor.org/v1beta1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n\
                         spec: {{target: {{kind: {target}, selector: {{}}}}, policy: {{mode: AlwaysAllow, merge: {merge}, enforcer: {enforcer}}}}}\n"
                    );
                }
            }
        }
        let all = crate::parse(&yaml).expect("valid");
        let pod = labels(&[("sandbox.varmor.org/enable", "true")]);
        let annotation = |enforcer: &str| {
            labels(&[(
                &format!("container.{enforcer}.security.beta.varmor.org/c1"),
                "unconfined",
            )])
        };
        for set in 0u32..1 << all.len() {
            let chosen: Vec<_> = (0..all.len())
                .filter(|bit| set & 1 << bit != 0)
                .map(|bit| all[bit].clone())
                .collect();
            let index = PolicyIndex::new(&chosen, OptIn::default(), FailurePolicy::Fail);
            let workload = Owner::Workload(crate::owner::Workload {
                name: crate::owner::WorkloadName::new("Deployment", "demo", "web"),
                labels: pod.clone(),
            });
            for (annotations, owner) in [
                (BTreeMap::new(), Owner::None),
                (annotation("bpf"), workload.clone()),
                (annotation("apparmor"), workload),
                (BTreeMap::new(), Owner::Unknown),
                (annotation("apparmor"), Owner::Unknown),
            ] {
                let mut labels = pod.clone();
                if owner.is_unknown() {
                    labels.insert("pod-template-hash".into(), "1".into());
                }
                let facts = ContainerFacts {
                    namespace: "demo".into(),
                    pod_name: "web".into(),
                    pod_labels: labels,
                    pod_annotations: annotations,
                    container_name: "c1".into(),
                    owner,
                };
                let could = index.could_select_asked(&Asked {
                    namespace: "demo",
                    pod_name: "web",
                    labels: Some(&facts.pod_labels),
                    annotations: Some(&facts.pod_annotations),
                    owner: &facts.owner,
                    container_name: "c1",
                });
                let expected = match select(&chosen, &facts, &OptIn::default()) {
                    Selection::Selected(members, _) => {
                        Could::Yes(members.iter().map(|policy| policy.reference()).collect())
                    }
                    Selection::OptedOut(_) | Selection::NotSelected => Could::No,
                    Selection::Unknown(policy) => Could::Unknown(policy),
                };
                assert_eq!(could, expected, "{chosen:?}");
            }
        }
    }

    #[test]
    fn workloads_that_are_known_answer_for_new_pods() {
        use crate::owner::{Workload, WorkloadName};
        let yaml = "
apiVersion: crd.varmor.org/v1beta1
kind: VarmorClusterPolicy
metadata: {name: p}
spec: {target: {kind: Deployment, selector: {matchLabels: {tier: front}}}, policy: {enforcer: BPF, mode: AlwaysAllow}}
";
        let mut owners = Owners::new("varmor");
        owners.set(Workload {
            name: WorkloadName::new("Deployment", "demo", "web"),
            labels: labels(&[("sandbox.varmor.org/enable", "true"), ("tier", "front")]),
        });
        owners.saw(&WorkloadName::new("Deployment", "demo", "other"));
        let policies = crate::parse(yaml).expect("valid");
        let index =
            PolicyIndex::new(&policies, OptIn::default(), FailurePolicy::Fail).with_owners(owners);
        let text = serde_json::to_string(&index).expect("writes");
        let index: PolicyIndex = serde_json::from_str(&text).expect("reads back");
        let hash = labels(&[("pod-template-hash", "77")]);
        for (namespace, pod, labels, expected) in [
            ("demo", "web-77-abcde", Some(&hash), "yes p"),
            ("demo", "other-77-abcde", Some(&hash), "no"),
            ("demo", "new-77-abcde", Some(&hash), "unknown p"),
            ("demo", "web-77-abcde", None, "unknown p"),
            ("demo", "bare", Some(&BTreeMap::new()), "no"),
            ("varmor", "policy-sync-abcde", None, "no"),
        ] {
            let could = index.could_select(namespace, pod, labels, "c");
            assert_eq!(word(&could), expected, "{namespace}/{pod}");
        }
    }
}
