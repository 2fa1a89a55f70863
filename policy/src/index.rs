//! What the OCI hook needs to decide alone, when the daemon did not see a container: which pods could be selected.

use crate::enforcer::Enforcers;
use crate::matching::{
    OptIn, matches_pod, names_container, policy_covers_namespace, precedence, remove_opted_out,
};
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
    /// This policy does.
    Yes(PolicyRef),
    /// This policy does or does not, depending on labels that are not known.
    Unknown(PolicyRef),
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
        }
    }

    /// Whether a policy could select a container; `labels` are the pod's, `None` when nobody knows them.
    pub fn could_select(
        &self,
        namespace: &str,
        pod_name: &str,
        labels: Option<&BTreeMap<String, String>>,
        container_name: &str,
    ) -> Could {
        self.could_select_annotated(namespace, pod_name, labels, None, container_name)
    }

    /// As [`Self::could_select`], for a pod whose annotations are known: they can opt the container out.
    pub fn could_select_annotated(
        &self,
        namespace: &str,
        pod_name: &str,
        labels: Option<&BTreeMap<String, String>>,
        annotations: Option<&BTreeMap<String, String>>,
        container_name: &str,
    ) -> Could {
        if labels.is_some_and(|labels| !self.opt_in.holds(labels)) {
            return Could::No;
        }
        // In order of precedence: the first match that is certain decides, unless an uncertain one comes before it.
        for policy in &self.policies {
            let target = &policy.spec().target;
            if !policy_covers_namespace(policy, namespace)
                || !names_container(target, container_name)
            {
                continue;
            }
            let matched = matches_pod(target, pod_name, labels);
            if matched == Some(false) {
                continue;
            }
            let mut enforcers =
                Enforcers::parse(&policy.spec().policy.enforcer).unwrap_or_default();
            if let Some(annotations) = annotations {
                remove_opted_out(&mut enforcers, annotations, container_name);
            }
            let opted_in = labels.is_some() || self.opt_in.0.is_none();
            match (enforcers.is_empty(), matched.is_some() && opted_in) {
                (true, true) => return Could::No,
                (true, false) => {}
                (false, true) => return Could::Yes(policy.reference()),
                (false, false) => return Could::Unknown(policy.reference()),
            }
        }
        Could::No
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
            Could::Yes(policy) => format!("yes {}", policy.name),
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
        let could = index(OptIn::default()).could_select_annotated(
            "demo",
            "web-1",
            Some(&pod),
            Some(&out),
            "c",
        );
        assert_eq!(could, Could::No);
    }
}
