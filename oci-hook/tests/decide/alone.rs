// SPDX-License-Identifier: Apache-2.0
//! Without one.

use serde_json::json;
use varmor_node_state::{ContainerId, SandboxRecord};
use varmor_oci_hook::hook::decide::{Bind, Decision};
use varmor_policy::index::FailurePolicy;
use varmor_policy::matching::OptIn;

use crate::{Node, OPTED_IN, map, pod, refused, sandbox, start};

#[test]
fn without_an_index_everything_starts() {
    let node = Node::new().labels(&[OPTED_IN]);
    assert_eq!(node.decide(&pod("web-1", "c1")), start(Bind::Nothing));
    assert_eq!(
        node.decide(&json!({"annotations": map(&[OPTED_IN])})),
        start(Bind::Nothing)
    );
}

#[test]
fn a_damaged_index_refuses_what_may_be_selected() {
    for content in ["", "{", "null", "[]"] {
        let node = Node::new().write("state/policy-index.json", content);
        refused(
            &node.decide(&pod("web-1", "c1")),
            &["container abc", "policy-index.json", "start varmor-nri"],
        );
        refused(
            &node.decide(&json!({"annotations": map(&[OPTED_IN])})),
            &["policy-index.json"],
        );
        assert_eq!(
            node.decide(&json!({})),
            start(Bind::Nothing),
            "a container that is neither CRI's nor opted in"
        );
        let mut sandbox = pod("web-1", "c1");
        sandbox["annotations"]["io.kubernetes.cri.container-type"] = json!("sandbox");
        assert_eq!(node.decide(&sandbox), start(Bind::Nothing));
    }
}

#[test]
fn alone_the_index_and_the_labels_decide() {
    let web = [OPTED_IN, ("app", "web")];
    let opted_out = [("app", "web")];
    type Labels<'a> = Option<&'a [(&'a str, &'a str)]>;
    let cases: [(&str, &str, Labels, &str); 9] = [
        (
            "web-1",
            "c9",
            Some(&[OPTED_IN]),
            "selects VarmorPolicy demo/by-name",
        ),
        ("web-1", "c9", Some(&opted_out), "nothing"),
        ("web-1", "c9", None, "may VarmorPolicy demo/by-name"),
        ("web-2", "c1", None, "may VarmorPolicy demo/by-label"),
        ("web-2", "c2", None, "nothing"),
        // The record is of web-1: it says nothing of web-2.
        (
            "web-2",
            "c1",
            Some(&opted_out),
            "may VarmorPolicy demo/by-label",
        ),
        ("web-1", "c1", Some(&web), "selects VarmorPolicy demo/"),
        (
            "web-1",
            "c1",
            Some(&[("app", "web"), ("sandbox.varmor.org/enable", "false")]),
            "nothing",
        ),
        ("web-1", "c1", Some(&[]), "nothing"),
    ];
    for (pod_name, container, labels, expected) in cases {
        for failure_policy in [FailurePolicy::Fail, FailurePolicy::Ignore] {
            let mut node = Node::with_index(failure_policy);
            if let Some(labels) = labels {
                node = node.labels(labels);
            }
            let decision = node.decide(&pod(pod_name, container));
            let case =
                format!("{pod_name}/{container} {labels:?} {failure_policy:?}: {decision:?}");
            let sentence = match (&decision, failure_policy) {
                (Decision::Start(Bind::Nothing), _) => {
                    assert_eq!(expected, "nothing", "{case}");
                    continue;
                }
                (Decision::Refuse(sentence), FailurePolicy::Fail) => sentence,
                (Decision::StartUnprotected(sentence), FailurePolicy::Ignore) => sentence,
                _ => panic!("{case}"),
            };
            let (word, policy) = expected.split_once(' ').unwrap();
            let word = if word == "may" {
                "may select it (its pod's labels are not known)"
            } else {
                "selects it"
            };
            assert!(
                sentence.contains(&format!(
                    "container {container} of pod demo/{pod_name}: {policy}"
                )),
                "{case}"
            );
            assert!(
                sentence.contains(word) && sentence.contains("start varmor-nri"),
                "{case}"
            );
        }
    }
}

#[test]
fn policies_that_hold_together_are_all_named() {
    let in_merging = |name: &str| {
        let mut config = pod(name, "c1");
        config["annotations"]["io.kubernetes.cri.sandbox-namespace"] = json!("merging");
        config
    };
    let with_labels = |labels: &[(&str, &str)]| {
        let node = Node::with_index(FailurePolicy::Fail);
        let record = SandboxRecord {
            namespace: "merging".into(),
            ..sandbox(labels)
        };
        node.state.save_sandbox(&record).unwrap();
        node
    };
    let both = "VarmorPolicy merging/one, merged with VarmorPolicy merging/two, selects it";
    let one = "VarmorPolicy merging/one selects it";
    let web = [OPTED_IN, ("app", "web")];
    refused(&with_labels(&web).decide(&in_merging("web-1")), &[both]);
    refused(
        &with_labels(&[OPTED_IN]).decide(&in_merging("web-1")),
        &[one],
    );
    refused(
        &Node::with_index(FailurePolicy::Fail).decide(&in_merging("web-1")),
        &["VarmorPolicy merging/one may select it"],
    );
    let opted_out = with_labels(&[("app", "web")]).decide(&in_merging("web-1"));
    assert_eq!(opted_out, start(Bind::Nothing));
}

#[test]
fn a_sandbox_record_that_cannot_be_believed_counts_as_none() {
    let file = "run/sandboxes/sandbox-1.json";
    let mut records = vec!["{".to_owned(), String::new()];
    let out = sandbox(&[]);
    for other in [
        SandboxRecord {
            uid: "uid-2".into(),
            ..out.clone()
        },
        SandboxRecord {
            name: "web-2".into(),
            ..out.clone()
        },
        SandboxRecord {
            namespace: "other".into(),
            ..out.clone()
        },
        SandboxRecord {
            sandbox_id: ContainerId::new("sandbox-2").unwrap(),
            ..out
        },
    ] {
        records.push(serde_json::to_string(&other).unwrap());
    }
    for record in records {
        let node = Node::with_index(FailurePolicy::Fail).write(file, &record);
        refused(&node.decide(&pod("web-1", "c1")), &["may select it"]);
    }
    let mut config = pod("web-1", "c1");
    config["annotations"]["io.kubernetes.cri.sandbox-id"] = json!("../sandboxes/sandbox-1");
    refused(
        &Node::with_index(FailurePolicy::Fail)
            .labels(&[])
            .decide(&config),
        &["may select it"],
    );
}

#[test]
fn a_pod_that_cannot_be_named_is_in_doubt() {
    for missing in ["sandbox-namespace", "sandbox-name", "container-name"] {
        let mut config = pod("web-1", "c1");
        config["annotations"]
            .as_object_mut()
            .unwrap()
            .remove(&format!("io.kubernetes.cri.{missing}"));
        refused(
            &Node::with_index(FailurePolicy::Fail).decide(&config),
            &[missing],
        );
        let ignored = Node::with_index(FailurePolicy::Ignore).decide(&config);
        assert!(
            matches!(ignored, Decision::StartUnprotected(_)),
            "{ignored:?}"
        );
    }
    let mut config = pod("web-1", "c1");
    config["annotations"]["io.kubernetes.cri.container-type"] = json!("pause");
    refused(
        &Node::with_index(FailurePolicy::Fail).decide(&config),
        &["may select it"],
    );
}

#[test]
fn an_opted_in_pod_without_a_policy_is_bound_where_that_is_possible() {
    let node = Node::with_index(FailurePolicy::Fail).labels(&[OPTED_IN]);
    let mut record = sandbox(&[OPTED_IN]);
    record.name = "web-2".into();
    node.state.save_sandbox(&record).unwrap();
    assert_eq!(node.decide(&pod("web-2", "c1")), start(Bind::IfPossible));
}

#[test]
fn annotations_of_a_known_pod_opt_out() {
    let node = Node::with_index(FailurePolicy::Fail);
    let mut record = sandbox(&[OPTED_IN]);
    record.annotations = map(&[("container.bpf.security.beta.varmor.org/c9", "unconfined")]);
    node.state.save_sandbox(&record).unwrap();
    assert_eq!(node.decide(&pod("web-1", "c9")), start(Bind::IfPossible));
    refused(&node.decide(&pod("web-1", "c1")), &["selects it"]);
}

#[test]
fn a_container_without_cri_must_ask() {
    let node = Node::with_index(FailurePolicy::Fail);
    assert_eq!(node.decide(&json!({})), start(Bind::Nothing));
    assert_eq!(
        node.decide(&json!({"annotations": {"sandbox.varmor.org/enable": "yes"}})),
        start(Bind::Nothing)
    );
    let asking = json!({"annotations": map(&[OPTED_IN])});
    refused(
        &node.decide(&asking),
        &[
            "container abc: VarmorPolicy default/for-ctr selects it",
            "varmor-runtime",
        ],
    );
    let elsewhere =
        json!({"annotations": map(&[OPTED_IN, ("sandbox.varmor.org/namespace", "other")])});
    assert_eq!(node.decide(&elsewhere), start(Bind::IfPossible));
    // Where every pod is protected, the node's own containers are still asked.
    let node = Node::with_opt_in(FailurePolicy::Fail, OptIn(None));
    assert_eq!(node.decide(&json!({})), start(Bind::Nothing));
    refused(&node.decide(&asking), &["selects it"]);
}
