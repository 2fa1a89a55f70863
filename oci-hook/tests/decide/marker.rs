// SPDX-License-Identifier: Apache-2.0
//! With a marker.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use varmor_node_state::{BpfDemand, ContainerId, Marker, ProfileName};
use varmor_oci_hook::hook::decide::Bind;
use varmor_policy::index::FailurePolicy;

use crate::{Node, OPTED_IN, carrying_all, marker, pod, policy, refused, start};

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
fn an_unreadable_marker_is_not_no_marker() {
    let node = Node::with_index(FailurePolicy::Fail).labels(&[]);
    fs::create_dir_all(Path::new(&node.state.layout().run).join("containers/abc.json")).unwrap();
    refused(&node.decide(&pod("web-1", "c1")), &["containers/abc.json"]);
}
