// SPDX-License-Identifier: Apache-2.0
use super::*;

fn policy(kind: &str, name: &str, created: &str, target: &str) -> PolicyObject {
    policy_with(kind, name, created, target, "enforcer: AppArmorBPF")
}

fn policy_with(kind: &str, name: &str, created: &str, target: &str, body: &str) -> PolicyObject {
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
