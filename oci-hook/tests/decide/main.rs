// SPDX-License-Identifier: Apache-2.0
//! Every decision, as a table: which files there are and what they say, what config.json carries, what becomes of it.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use varmor_node_state::{
    BpfDemand, ContainerId, Layout, Marker, NodeState, ProfileName, SandboxRecord, seccomp_digest,
};
use varmor_oci_hook::hook::decide::{Bind, Decision, decide};
use varmor_oci_hook::oci::Config;
use varmor_policy::index::{FailurePolicy, PolicyIndex};
use varmor_policy::matching::OptIn;
use varmor_policy::plan::PolicyRef;

mod alone;
mod marker;

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
---
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: one, namespace: merging}
spec: {target: {kind: Pod, name: web-1}, policy: {enforcer: BPF, mode: AlwaysAllow, merge: true}}
---
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: two, namespace: merging}
spec: {target: {kind: Pod, selector: {matchLabels: {app: web}}}, policy: {enforcer: AppArmor, mode: AlwaysAllow, merge: true}}
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
        owner: varmor_policy::owner::Owner::Unknown,
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
