//! Every decision, as a table: which files there are and what they say, what config.json carries, what becomes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use varmor_node_state::{
    BpfDemand, ContainerId, Layout, Marker, NodeState, ProfileName, SandboxRecord, seccomp_digest,
};
use varmor_oci_hook::hook::decide::{Bind, Decision, decide};
use varmor_oci_hook::oci::Config;
use varmor_policy::index::{FailurePolicy, PolicyIndex};
use varmor_policy::matching::OptIn;
use varmor_policy::plan::PolicyRef;

const POLICIES: &str = "
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: by-name, namespace: demo}
spec: {target: {kind: Pod, name: web-1}, policy: {enforcer: BPF, mode: AlwaysAllow}}
---
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: by-label, namespace: demo}
spec: {target: {kind: Pod, selector: {matchLabels: {app: web}}, containers: [c1]}, policy: {enforcer: BPF, mode: AlwaysAllow}}
---
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: for-ctr, namespace: default}
spec: {target: {kind: Pod, name: abc}, policy: {enforcer: BPF, mode: AlwaysAllow}}
";

struct Node {
    directory: tempfile::TempDir,
    state: NodeState,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout {
            run: directory.path().join("run"),
            state: directory.path().join("state"),
        };
        Self {
            directory,
            state: NodeState::new(layout),
        }
    }

    fn with_index(failure_policy: FailurePolicy) -> Self {
        Self::with_opt_in(failure_policy, OptIn::default())
    }

    fn with_opt_in(failure_policy: FailurePolicy, opt_in: OptIn) -> Self {
        let node = Self::new();
        let policies = varmor_policy::parse(POLICIES).unwrap();
        node.state
            .save_index(&PolicyIndex::new(&policies, opt_in, failure_policy))
            .unwrap();
        node
    }

    fn labels(self, labels: &[(&str, &str)]) -> Self {
        self.state.save_sandbox(&sandbox(labels)).unwrap();
        self
    }

    fn marker(self, marker: &Marker) -> Self {
        self.state.save_marker(marker).unwrap();
        self
    }

    fn write(self, file: &str, content: &str) -> Self {
        let path = self.directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn decide(&self, config: &Value) -> Decision {
        let config = Config::parse(config.to_string().as_bytes()).unwrap();
        decide(&self.state, &ContainerId::new("abc").unwrap(), &config)
    }
}

fn sandbox(labels: &[(&str, &str)]) -> SandboxRecord {
    SandboxRecord {
        sandbox_id: ContainerId::new("sandbox-1").unwrap(),
        namespace: "demo".into(),
        name: "web-1".into(),
        uid: "uid-1".into(),
        labels: map(labels),
        annotations: BTreeMap::new(),
        addresses: vec![],
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn pod(name: &str, container: &str) -> Value {
    json!({"annotations": {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": "sandbox-1",
        "io.kubernetes.cri.sandbox-namespace": "demo",
        "io.kubernetes.cri.sandbox-name": name,
        "io.kubernetes.cri.sandbox-uid": "uid-1",
        "io.kubernetes.cri.container-name": container,
    }})
}

fn policy() -> PolicyRef {
    PolicyRef {
        kind: "VarmorPolicy".into(),
        namespace: "demo".into(),
        name: "by-name".into(),
    }
}

fn marker() -> Marker {
    Marker {
        container_id: ContainerId::new("abc").unwrap(),
        namespace: "demo".into(),
        pod: "web-1".into(),
        pod_uid: "uid-1".into(),
        container: "c1".into(),
        policy: Some(policy()),
        profile: Some(ProfileName::new("varmor-demo-by-name").unwrap()),
        bpf: BpfDemand::Profile,
        apparmor: Some("varmor-demo-by-name".into()),
        seccomp: Some(seccomp_digest(&filter()).unwrap()),
        addresses: vec!["10.0.0.7".parse().unwrap()],
    }
}

fn filter() -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["unshare"], "action": "SCMP_ACT_ERRNO"}]})
}

fn carrying_all() -> Value {
    let mut config = pod("web-1", "c1");
    config["process"] = json!({"apparmorProfile": "varmor-demo-by-name"});
    config["linux"] = json!({"seccomp": filter()});
    config
}

const OPTED_IN: (&str, &str) = ("sandbox.varmor.org/enable", "true");

#[track_caller]
fn refused(decision: &Decision, parts: &[&str]) {
    let Decision::Refuse(sentence) = decision else {
        panic!("not refused: {decision:?}");
    };
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
    }
}

fn start(bind: Bind) -> Decision {
    Decision::Start(bind)
}

#[test]
fn a_container_that_carries_what_its_marker_says_is_bound() {
    let decision = Node::new().marker(&marker()).decide(&carrying_all());
    let bind = Bind::Required {
        profile: Some(ProfileName::new("varmor-demo-by-name").unwrap()),
        policy: Some(policy()),
        addresses: vec!["10.0.0.7".parse().unwrap()],
    };
    assert_eq!(decision, start(bind));
}

#[test]
fn a_container_that_lacks_what_its_marker_says_is_refused() {
    let node = Node::new().marker(&marker());
    let cases: [(&str, Value, &[&str]); 7] = [
        (
            "/process/apparmorProfile",
            json!(""),
            &["AppArmor profile \"varmor-demo-by-name\"", "has none"],
        ),
        (
            "/process/apparmorProfile",
            json!("unconfined"),
            &["has \"unconfined\""],
        ),
        (
            "/process/apparmorProfile",
            json!("cri-containerd.apparmor.d"),
            &["has \"cri-containerd.apparmor.d\""],
        ),
        ("/process", json!(null), &["AppArmor", "has none"]),
        (
            "/linux/seccomp",
            json!(null),
            &["a seccomp filter, its OCI spec has none"],
        ),
        (
            "/linux/seccomp/syscalls",
            json!([]),
            &["a seccomp filter, its OCI spec has another one"],
        ),
        (
            "/linux/seccomp/defaultAction",
            json!(7),
            &["not an OCI linux.seccomp object"],
        ),
    ];
    for (pointer, value, parts) in cases {
        let mut config = carrying_all();
        *config.pointer_mut(pointer).unwrap() = value;
        let decision = node.decide(&config);
        refused(&decision, parts);
        refused(
            &decision,
            &[
                "container c1 of pod demo/web-1",
                "VarmorPolicy demo/by-name demands",
                "recreate the pod",
            ],
        );
    }
}

#[test]
fn a_marker_decides_whatever_the_failure_policy_and_the_container_type() {
    let node = Node::with_index(FailurePolicy::Ignore).marker(&marker());
    refused(&node.decide(&pod("web-1", "c1")), &["AppArmor"]);
    let mut config = pod("web-1", "c1");
    config["annotations"]["io.kubernetes.cri.container-type"] = json!("sandbox");
    refused(&node.decide(&config), &["AppArmor"]);
    refused(&node.decide(&json!({})), &["AppArmor"]);
}

#[test]
fn a_marker_without_a_policy_binds_as_it_says() {
    let free = Marker {
        policy: None,
        profile: None,
        apparmor: None,
        seccomp: None,
        addresses: vec![],
        ..marker()
    };
    let bound = Bind::Required {
        profile: None,
        policy: None,
        addresses: vec![],
    };
    for (bpf, expected) in [
        (BpfDemand::Nothing, Bind::Nothing),
        (BpfDemand::Bound, bound),
    ] {
        // The index would select it: the marker is newer.
        let node = Node::with_index(FailurePolicy::Fail)
            .labels(&[OPTED_IN])
            .marker(&Marker {
                bpf,
                ..free.clone()
            });
        assert_eq!(node.decide(&pod("web-1", "c1")), start(expected));
    }
    let node = Node::new().marker(&Marker {
        bpf: BpfDemand::Profile,
        ..free
    });
    refused(&node.decide(&pod("web-1", "c1")), &["without saying which"]);
}

#[test]
fn a_damaged_marker_refuses() {
    let other = Marker {
        container_id: ContainerId::new("other").unwrap(),
        ..marker()
    };
    for content in [
        "",
        "{",
        "null",
        "{}",
        &serde_json::to_string(&other).unwrap(),
    ] {
        let node =
            Node::with_index(FailurePolicy::Ignore).write("run/containers/abc.json", content);
        refused(
            &node.decide(&carrying_all()),
            &["container abc", "containers/abc.json", "recreate the pod"],
        );
    }
}

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
    let cases: [(&str, &str, Option<&[(&str, &str)]>, &str); 9] = [
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

#[test]
fn an_unreadable_marker_is_not_no_marker() {
    let node = Node::with_index(FailurePolicy::Fail).labels(&[]);
    fs::create_dir_all(Path::new(&node.state.layout().run).join("containers/abc.json")).unwrap();
    refused(&node.decide(&pod("web-1", "c1")), &["containers/abc.json"]);
}
