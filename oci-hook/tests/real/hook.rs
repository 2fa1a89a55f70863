// SPDX-License-Identifier: Apache-2.0
//! `varmor-oci-hook`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Init, Node, exists, sentence, succeeded};
use serde_json::{Value, json};
use varmor_bpf_abi::layout::CONTAINER_PENDING;
use varmor_bpf_abi::{Binding, container_key, profile_key};
use varmor_node_state::{BpfDemand, ContainerId, Marker, ProfileName};
use varmor_policy::index::{FailurePolicy, PolicyIndex};
use varmor_policy::matching::OptIn;
use varmor_policy::plan::PolicyRef;

const PROFILE: &str = "varmor-demo-p";

fn marker(id: &str) -> Marker {
    Marker {
        container_id: ContainerId::new(id).unwrap(),
        namespace: "demo".into(),
        pod: "web".into(),
        pod_uid: String::new(),
        container: "c1".into(),
        policy: Some(PolicyRef {
            kind: "VarmorPolicy".into(),
            namespace: "demo".into(),
            name: "p".into(),
        }),
        profile: Some(ProfileName::new(PROFILE).unwrap()),
        bpf: BpfDemand::Profile,
        apparmor: Some(PROFILE.into()),
        seccomp: None,
        addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::7".parse().unwrap()],
    }
}

fn carrying() -> Value {
    json!({"process": {"apparmorProfile": PROFILE}})
}

fn cri() -> Value {
    json!({"annotations": {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": "s",
        "io.kubernetes.cri.sandbox-namespace": "demo",
        "io.kubernetes.cri.sandbox-name": "web",
        "io.kubernetes.cri.container-name": "c1",
    }})
}

fn save_index(node: &Node, failure_policy: FailurePolicy) {
    let policies = varmor_policy::parse(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {name: p, namespace: demo}\n\
         spec: {target: {kind: Pod, name: web}, policy: {enforcer: BPF, mode: AlwaysAllow}}\n",
    )
    .unwrap();
    node.state
        .save_index(&PolicyIndex::new(
            &policies,
            OptIn::default(),
            failure_policy,
        ))
        .unwrap();
}

/// What another container left in `namespaces` under this number.
fn leave_stale(node: &Node, mntns: u32) {
    let stale = Binding {
        container_id: "old",
        init_tgid: 1,
        mntns,
        profile_key: 0,
        addresses: &[],
    };
    node.maps().bind(&stale).unwrap();
    assert_eq!(
        node.maps().namespace(mntns).unwrap(),
        Some(container_key("old"))
    );
}

#[test]
fn a_container_is_bound_and_unbound() {
    let (node, init) = (Node::with_maps(&[PROFILE]), Init::new());
    node.state.save_marker(&marker("abc")).unwrap();
    node.write_config(&carrying());
    leave_stale(&node, init.mntns());
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));

    let (maps, key) = (node.maps(), container_key("abc"));
    let container = maps.container(key).unwrap().unwrap();
    assert_eq!(container.profile, profile_key(PROFILE));
    assert_eq!(
        (container.mntns, container.init_tgid, container.addresses),
        (init.mntns(), init.pid(), 2)
    );
    assert_eq!(
        container.address[0],
        "::ffff:10.1.2.3"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
    );
    assert_eq!(maps.state(key).unwrap().unwrap().state, CONTAINER_PENDING);
    assert_eq!(maps.namespace(init.mntns()).unwrap(), Some(key));

    // Twice, as with base_runtime_spec and NRI both: the same.
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
    assert_eq!(maps.container(key).unwrap().unwrap(), container);

    for _ in 0..2 {
        succeeded(&node.hook("poststop", &node.oci_state("abc", 0)));
        assert!(maps.container(key).unwrap().is_none() && maps.state(key).unwrap().is_none());
        assert_eq!(maps.namespace(init.mntns()).unwrap(), None);
        assert!(
            node.state
                .load_marker(&ContainerId::new("abc").unwrap())
                .unwrap()
                .is_none()
        );
    }
    assert!(node.log().is_empty());
}

#[test]
fn poststop_leaves_the_next_containers_entry_alone() {
    let (node, init) = (Node::with_maps(&[PROFILE]), Init::new());
    node.write_config(&carrying());
    for id in ["abc", "next"] {
        node.state.save_marker(&marker(id)).unwrap();
        succeeded(&node.hook("createRuntime", &node.oci_state(id, init.pid())));
    }
    succeeded(&node.hook("poststop", &node.oci_state("abc", 0)));
    assert!(
        node.maps()
            .container(container_key("abc"))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        node.maps().namespace(init.mntns()).unwrap(),
        Some(container_key("next"))
    );
    assert!(
        node.state
            .load_marker(&ContainerId::new("next").unwrap())
            .unwrap()
            .is_some()
    );
}

#[test]
fn what_cannot_be_bound_is_refused_and_leaves_nothing() {
    let init = Init::new();
    let state_of = |node: &Node| {
        node.state.save_marker(&marker("abc")).unwrap();
        node.write_config(&carrying());
        node.oci_state("abc", init.pid())
    };
    let cases: [(Node, &str); 2] = [
        (
            Node::with_maps(&["varmor-demo-other"]),
            "the BPF profile varmor-demo-p is not loaded",
        ),
        (Node::new(), "the programs are not loaded"),
    ];
    for (node, part) in cases {
        let output = node.hook("createRuntime", &state_of(&node));
        assert_eq!(output.status.code(), Some(1));
        let sentence = sentence(&output);
        assert!(
            sentence.contains("container abc: VarmorPolicy demo/p demands BPF: "),
            "{sentence}"
        );
        assert!(sentence.contains(part), "{sentence}");
        assert_eq!(node.log()[0]["message"], sentence);
        assert_eq!(node.log()[0]["level"], "error");
    }

    let node = Node::with_maps(&[PROFILE]);
    state_of(&node);
    let gone = {
        let init = Init::new();
        init.pid()
    };
    let of_the_node = Init::of_the_node();
    for (pid, part) in [
        (gone, "/ns/mnt"),
        (0, "names no init process"),
        (of_the_node.pid(), "no mount namespace of its own"),
    ] {
        let output = node.hook("createRuntime", &node.oci_state("abc", pid));
        assert_eq!(output.status.code(), Some(1));
        assert!(sentence(&output).contains(part), "{output:?}");
        assert!(
            node.maps().containers().unwrap().is_empty()
                && node.maps().namespaces().unwrap().is_empty()
        );
    }
}

#[test]
fn a_container_that_lacks_its_profile_is_refused_and_not_bound() {
    let (node, init) = (Node::with_maps(&[PROFILE]), Init::new());
    node.state.save_marker(&marker("abc")).unwrap();
    node.write_config(&json!({"process": {"apparmorProfile": "cri-containerd.apparmor.d"}}));
    let output = node.hook("createRuntime", &node.oci_state("abc", init.pid()));
    assert_eq!(output.status.code(), Some(1));
    let expected = "varmor-nri refused container c1 of pod demo/web: VarmorPolicy demo/p demands AppArmor profile \
                    \"varmor-demo-p\", its OCI spec has \"cri-containerd.apparmor.d\"";
    assert!(sentence(&output).starts_with(expected), "{output:?}");
    assert!(node.maps().containers().unwrap().is_empty());
}

#[test]
fn a_container_of_no_policy_starts_and_loses_what_another_left() {
    let init = Init::new();
    let node = Node::with_maps(&[]);
    save_index(&node, FailurePolicy::Fail);
    node.write_config(&json!({}));
    leave_stale(&node, init.mntns());
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
    assert!(node.maps().namespaces().unwrap().is_empty());
    // And without maps, and with a process that is gone.
    let node = Node::new();
    node.write_config(&json!({}));
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", 0)));
    succeeded(&node.hook("poststop", &node.oci_state("abc", 0)));
}

#[test]
fn an_opted_in_container_is_bound_without_a_profile() {
    let init = Init::new();
    let asking = json!({"annotations": {"sandbox.varmor.org/enable": "true"}});
    let node = Node::with_maps(&[]);
    save_index(&node, FailurePolicy::Fail);
    node.write_config(&asking);
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
    assert_eq!(
        node.maps()
            .container(container_key("abc"))
            .unwrap()
            .unwrap()
            .profile,
        0
    );
    let node = Node::new();
    save_index(&node, FailurePolicy::Fail);
    node.write_config(&asking);
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
}

#[test]
fn without_a_marker_the_failure_policy_decides_and_the_log_keeps_the_warning() {
    let (node, init) = (Node::with_maps(&[PROFILE]), Init::new());
    node.write_config(&cri());
    save_index(&node, FailurePolicy::Fail);
    leave_stale(&node, init.mntns());
    let output = node.hook("createRuntime", &node.oci_state("abc", init.pid()));
    assert_eq!(output.status.code(), Some(1));
    let expected =
        "varmor-nri refused container c1 of pod demo/web: VarmorPolicy demo/p may select it";
    assert!(sentence(&output).starts_with(expected), "{output:?}");

    save_index(&node, FailurePolicy::Ignore);
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
    let log = node.log();
    assert_eq!(
        (&log[0]["level"], &log[1]["level"]),
        (&json!("error"), &json!("warn"))
    );
    assert_eq!(log[1]["containerId"], "abc");
    assert!(
        log[1]["message"]
            .as_str()
            .unwrap()
            .contains("start unprotected (failurePolicy Ignore)")
    );
    assert!(
        node.maps().namespaces().unwrap().is_empty(),
        "what another container left is gone"
    );
}

#[test]
fn a_warning_that_cannot_be_logged_is_said() {
    let (node, init) = (Node::new(), Init::new());
    node.write_config(&cri());
    save_index(&node, FailurePolicy::Ignore);
    std::fs::create_dir(node.path("hook.log")).unwrap();
    let output = node.hook("createRuntime", &node.oci_state("abc", init.pid()));
    assert!(output.status.success());
    assert!(
        sentence(&output).contains("start unprotected"),
        "{output:?}"
    );
}

#[test]
fn hostile_states_are_refused_with_a_sentence() {
    let node = Node::new();
    node.write_config(&json!({}));
    let outside = node.oci_state("../../state/policy-index", 1);
    for state in [
        "",
        "{",
        "[]",
        &"[".repeat(1 << 20),
        &"x".repeat(5 << 20),
        &outside,
    ] {
        for word in ["createRuntime", "poststop"] {
            let output = node.hook(word, state);
            assert_eq!(output.status.code(), Some(1), "{word} {state:.40}");
            assert!(sentence(&output).contains("OCI state"), "{output:?}");
        }
    }
    std::fs::write(node.bundle().join("config.json"), "{").unwrap();
    let output = node.hook("createRuntime", &node.oci_state("abc", 1));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        sentence(&output).contains("bundle/config.json is not an OCI configuration"),
        "{output:?}"
    );
}

#[test]
fn a_state_that_never_ends_is_given_up() {
    let node = Node::new();
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_varmor-oci-hook"))
        .args(node.options())
        .arg("createRuntime")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"{\"id\":").unwrap();
    let output = child.wait_with_output().unwrap();
    drop(pipe);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        sentence(&output).contains("did not end in time"),
        "{output:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "within the runtime's own patience"
    );
}

#[test]
fn the_base_specification_gets_the_hooks_once() {
    let run = |spec: &Value| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_varmor-oci-hook"))
            .args(["--hook", "/opt/varmor-oci-hook", "base-spec"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child
            .stdin
            .take()
            .unwrap()
            .write_all(spec.to_string().as_bytes());
        child.wait_with_output().unwrap()
    };
    let whole = json!({"ociVersion": "1.2.0", "process": {"cwd": "/"}, "root": {"path": "rootfs"}, "mounts": [], "linux": {}});
    let once = run(&whole);
    succeeded(&once);
    let once: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!(
        once["hooks"]["createRuntime"][0]["path"],
        "/opt/varmor-oci-hook"
    );
    assert_eq!(
        once["hooks"]["poststop"][0]["args"],
        json!(["varmor-oci-hook", "poststop"])
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&run(&once).stdout).unwrap(),
        once
    );
    let mut part = whole.clone();
    part.as_object_mut().unwrap().remove("linux");
    for bad in [json!({}), json!([]), part] {
        let output = run(&bad);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            output.stdout.is_empty() && sentence(&output).contains("not a whole one"),
            "{output:?}"
        );
    }
}

#[test]
fn wrong_usage_is_refused() {
    for words in [
        &[][..],
        &["prestart"],
        &["createRuntime", "--run-dir", "relative"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_varmor-oci-hook"))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(sentence(&output).contains("--help"), "{output:?}");
    }
}

#[test]
fn no_file_outside_the_state_is_touched_by_an_id() {
    let node = Node::new();
    let victim = node.path("victim.json");
    std::fs::write(&victim, "{}").unwrap();
    let output = node.hook("poststop", &node.oci_state("../../victim", 0));
    assert_eq!(output.status.code(), Some(1));
    assert!(exists(&victim));
}
