// SPDX-License-Identifier: Apache-2.0
//! `varmor-runtime` and the containers of pods.

use serde_json::Value;
use varmor_node_state::{ContainerId, SandboxRecord};
use varmor_policy::index::FailurePolicy;

use crate::support::{Init, Node, sentence};
use crate::wrapper::{PROFILE, asking, create, executed, marker, node, policy};

fn pod(container_type: &str) -> Value {
    let mut config = asking(&[
        ("io.kubernetes.cri.container-type", container_type),
        ("io.kubernetes.cri.sandbox-id", "s"),
        ("io.kubernetes.cri.sandbox-namespace", "default"),
        ("io.kubernetes.cri.sandbox-name", "web"),
        ("io.kubernetes.cri.container-name", "c1"),
    ]);
    config["annotations"].as_object_mut().unwrap().remove("app");
    config
}

fn save_sandbox(node: &Node, app: &str) {
    let labels = [("sandbox.varmor.org/enable", "true"), ("app", app)];
    let record = SandboxRecord {
        sandbox_id: ContainerId::new("s").unwrap(),
        namespace: "default".into(),
        name: "web".into(),
        uid: "u".into(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        annotations: Default::default(),
        addresses: vec![],
        owner: varmor_policy::owner::Owner::Unknown,
    };
    node.state.save_sandbox(&record).unwrap();
}

#[test]
fn sandboxes_and_what_the_daemon_prepared_are_left_alone() {
    let node = node(FailurePolicy::Fail);
    node.write_config(&pod("sandbox"));
    executed(&node, &create(&node));
    assert_eq!(node.config(), pod("sandbox"));

    node.write_config(&asking(&[]));
    executed(&node, &create(&node));
    let prepared = marker(&node).unwrap();
    save_sandbox(&node, "web");
    let mut config = pod("container");
    config["hooks"] = serde_json::json!({"createRuntime": [{"path": "/opt/varmor-oci-hook"}]});
    node.write_config(&config);
    executed(&node, &create(&node));
    assert_eq!(node.config(), config);
    assert_eq!(marker(&node).unwrap(), prepared);

    // The marker is there, the daemon's hook got lost: what is wrong must be found.
    node.write_config(&pod("container"));
    executed(&node, &create(&node));
    assert_eq!(
        node.config()["hooks"]["createRuntime"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let output = node.hook("createRuntime", &node.oci_state("abc", 1));
    assert!(
        sentence(&output).contains("demands AppArmor profile"),
        "{output:?}"
    );
}

#[test]
fn a_pod_that_nri_missed_is_protected_or_left_to_the_hook() {
    let node = node(FailurePolicy::Fail);
    save_sandbox(&node, "web");
    node.write_config(&pod("container"));
    executed(&node, &create(&node));
    assert_eq!(node.config()["process"]["apparmorProfile"], PROFILE);
    let found = marker(&node).unwrap();
    assert_eq!(
        (found.pod.as_str(), found.container.as_str(), found.policy),
        ("web", "c1", Some(policy()))
    );

    for app in [Some("api"), None] {
        node.state
            .remove_marker(&ContainerId::new("abc").unwrap())
            .unwrap();
        node.state
            .remove_sandbox(&ContainerId::new("s").unwrap())
            .unwrap();
        if let Some(app) = app {
            save_sandbox(&node, app);
        }
        node.write_config(&pod("container"));
        executed(&node, &create(&node));
        assert!(marker(&node).is_none());
        let hooks = node
            .config()
            .pointer("/hooks/createRuntime")
            .map_or(0, |hooks| hooks.as_array().unwrap().len());
        assert_eq!(
            hooks,
            usize::from(app.is_none()),
            "the hook decides when the labels are not known"
        );
    }
    let init = Init::new();
    let output = node.hook("createRuntime", &node.oci_state("abc", init.pid()));
    assert_eq!(output.status.code(), Some(1));
    assert!(sentence(&output).contains("may select it"));
}
