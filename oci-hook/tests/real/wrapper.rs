// SPDX-License-Identifier: Apache-2.0
//! `varmor-runtime`, in front of a runtime that writes down how it was called.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use varmor_bpf_abi::{container_key, profile_key};
use varmor_node_state::{
    BpfDemand, ContainerId, Marker, ProfileName, ProfileRecord, SeccompRecord, seccomp_digest,
};
use varmor_policy::index::{FailurePolicy, PolicyIndex};
use varmor_policy::matching::OptIn;
use varmor_policy::plan::PolicyRef;

use crate::support::{Init, Node, sentence, succeeded};

pub const PROFILE: &str = "varmor-default-p";

pub fn policy() -> PolicyRef {
    PolicyRef {
        kind: "VarmorPolicy".into(),
        namespace: "default".into(),
        name: "p".into(),
    }
}

/// A policy for containers of app=web in namespace default, in force.
pub fn node(failure_policy: FailurePolicy) -> Node {
    let node = Node::with_maps(&[PROFILE]);
    let policies = varmor_policy::parse(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {name: p, namespace: default}\n\
         spec: {target: {kind: Pod, selector: {matchLabels: {app: web}}}, policy: {enforcer: AppArmorBPFSeccomp, mode: AlwaysAllow}}\n",
    )
    .unwrap();
    node.state
        .save_index(&PolicyIndex::new(
            &policies,
            OptIn::default(),
            failure_policy,
        ))
        .unwrap();
    node.state.save_profile(&record()).unwrap();
    let runtime = node.path("real-runc");
    fs::write(
        &runtime,
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"${0%/*}/called\"\nexit 42\n",
    )
    .unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    node
}

fn record() -> ProfileRecord {
    ProfileRecord {
        profile: ProfileName::new(PROFILE).unwrap(),
        policy: policy(),
        apparmor: Some(PROFILE.into()),
        seccomp: Some(SeccompRecord::Rules(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        }))),
        bpf: true,
    }
}

pub fn asking(more: &[(&str, &str)]) -> Value {
    let mut annotations = json!({"sandbox.varmor.org/enable": "true", "app": "web"});
    for (key, value) in more {
        annotations[*key] = json!(value);
    }
    json!({"ociVersion": "1.2.0", "process": {"args": ["sh"], "cwd": "/"}, "linux": {}, "annotations": annotations})
}

fn command(node: &Node) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_varmor-runtime"));
    command
        .env("VARMOR_RUN_DIR", node.path("run"))
        .env("VARMOR_STATE_DIR", node.path("state"))
        .env("VARMOR_BPF_PIN_DIR", node.bpf())
        .env("VARMOR_HOOK_LOG", node.path("hook.log"))
        .env("VARMOR_RUNTIME_PATH", node.path("real-runc"))
        .stdin(Stdio::null());
    command
}

pub fn create(node: &Node) -> Output {
    let _ = fs::remove_file(node.path("called"));
    let bundle = node.bundle();
    let arguments = [
        "--root",
        "/run/containerd/runc/default",
        "--log-format",
        "json",
        "--log",
    ];
    command(node)
        .args(arguments)
        .arg(node.path("log.json"))
        .args(["create", "--bundle"])
        .arg(bundle)
        .arg("abc")
        .output()
        .unwrap()
}

fn called(node: &Node) -> Option<Vec<String>> {
    let text = fs::read_to_string(node.path("called")).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

#[track_caller]
pub fn executed(node: &Node, output: &Output) {
    assert_eq!(output.status.code(), Some(42), "{output:?}");
    let bundle = node.bundle();
    let log = node.path("log.json");
    let expected = [
        "--root",
        "/run/containerd/runc/default",
        "--log-format",
        "json",
        "--log",
    ];
    let mut expected: Vec<_> = expected.iter().map(|word| (*word).to_owned()).collect();
    expected.extend([
        log.display().to_string(),
        "create".into(),
        "--bundle".into(),
        bundle.display().to_string(),
        "abc".into(),
    ]);
    assert_eq!(called(node).unwrap(), expected);
}

#[track_caller]
fn refused(node: &Node, output: &Output, part: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(called(node), None, "the runtime was executed");
    let sentence = sentence(output);
    assert!(sentence.contains(part), "{sentence}");
    let log = fs::read_to_string(node.path("log.json")).unwrap();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line, json!({"level": "error", "msg": sentence}));
}

pub fn marker(node: &Node) -> Option<Marker> {
    node.state
        .load_marker(&ContainerId::new("abc").unwrap())
        .unwrap()
}

#[test]
fn a_selected_container_gets_everything_and_the_hook_lets_it_pass() {
    let node = node(FailurePolicy::Fail);
    node.write_config(&asking(&[]));
    executed(&node, &create(&node));

    let config = node.config();
    assert_eq!(
        config["process"],
        json!({"args": ["sh"], "cwd": "/", "apparmorProfile": PROFILE})
    );
    let rules = config["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    assert!(
        rules
            .iter()
            .any(|rule| rule["names"] == json!(["unshare"]) && rule["action"] == "SCMP_ACT_ERRNO"),
        "{rules:?}"
    );
    let mut arguments = vec!["varmor-oci-hook".to_owned()];
    arguments.extend(node.options());
    for point in ["createRuntime", "poststop"] {
        let hooks = config["hooks"][point].as_array().unwrap();
        assert_eq!(hooks.len(), 1);
        assert_eq!(hooks[0]["path"], env!("CARGO_BIN_EXE_varmor-oci-hook"));
        let expected: Vec<String> = arguments
            .iter()
            .cloned()
            .chain([point.to_owned()])
            .collect();
        assert_eq!(hooks[0]["args"], json!(expected));
    }
    let expected = Marker {
        container_id: ContainerId::new("abc").unwrap(),
        namespace: "default".into(),
        pod: "abc".into(),
        pod_uid: String::new(),
        container: "abc".into(),
        policy: Some(policy()),
        profile: Some(ProfileName::new(PROFILE).unwrap()),
        bpf: BpfDemand::Profile,
        apparmor: Some(PROFILE.into()),
        seccomp: Some(seccomp_digest(&config["linux"]["seccomp"]).unwrap()),
        addresses: vec![],
    };
    assert_eq!(marker(&node).unwrap(), expected);

    let init = Init::new();
    // The maps of the test have no network namespace to read addresses from: init shares the runtime's.
    succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
    assert_eq!(
        node.maps()
            .container(container_key("abc"))
            .unwrap()
            .unwrap()
            .profile,
        profile_key(PROFILE)
    );

    // Made again from its own result: nothing is added twice.
    executed(&node, &create(&node));
    assert_eq!(node.config()["hooks"], config["hooks"]);
    assert_eq!(node.config()["process"], config["process"]);
}

#[test]
fn a_filter_of_the_containers_own_is_kept() {
    let node = node(FailurePolicy::Fail);
    let mut config = asking(&[]);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "unshare"], "action": "SCMP_ACT_ALLOW"}],
    });
    node.write_config(&config);
    executed(&node, &create(&node));
    let seccomp = &node.config()["linux"]["seccomp"];
    assert_eq!(seccomp["defaultAction"], "SCMP_ACT_ERRNO");
    for rule in seccomp["syscalls"].as_array().unwrap() {
        let allows = rule["action"] == "SCMP_ACT_ALLOW";
        let unshare = rule["names"]
            .as_array()
            .unwrap()
            .contains(&json!("unshare"));
        assert!(!(allows && unshare), "{rule}");
    }
}

#[test]
fn a_container_that_asks_and_is_not_selected_is_bound_for_later() {
    let node = node(FailurePolicy::Fail);
    for more in [
        [("app", "api")],
        [("sandbox.varmor.org/namespace", "other")],
    ] {
        node.write_config(&asking(&more));
        executed(&node, &create(&node));
        let marker = marker(&node).unwrap();
        assert_eq!((marker.policy, marker.bpf), (None, BpfDemand::Bound));
        assert_eq!(node.config()["process"].get("apparmorProfile"), None);
        let init = Init::new();
        succeeded(&node.hook("createRuntime", &node.oci_state("abc", init.pid())));
        assert_eq!(
            node.maps()
                .container(container_key("abc"))
                .unwrap()
                .unwrap()
                .profile,
            0
        );
        succeeded(&node.hook("poststop", &node.oci_state("abc", 0)));
    }
}

#[test]
fn other_containers_are_left_alone_and_lose_an_old_marker() {
    let node = node(FailurePolicy::Fail);
    node.write_config(&asking(&[]));
    executed(&node, &create(&node));
    assert!(marker(&node).is_some());
    for config in [
        json!({"process": {}}),
        json!({"annotations": {"sandbox.varmor.org/enable": "no", "app": "web"}}),
    ] {
        node.write_config(&config);
        executed(&node, &create(&node));
        assert_eq!(node.config(), config);
        assert!(marker(&node).is_none());
    }
}

#[test]
fn a_policy_that_is_not_in_force_refuses_or_is_let_pass() {
    let node = node(FailurePolicy::Fail);
    node.state.remove_profile(&record().profile).unwrap();
    node.write_config(&asking(&[]));
    refused(
        &node,
        &create(&node),
        "VarmorPolicy default/p selects it and is not in force",
    );
    assert_eq!(node.config(), asking(&[]));
    assert!(marker(&node).is_none());

    let node = self::node(FailurePolicy::Ignore);
    let other = ProfileRecord {
        policy: PolicyRef {
            name: "q".into(),
            ..policy()
        },
        ..record()
    };
    node.state.save_profile(&other).unwrap();
    node.write_config(&asking(&[]));
    executed(&node, &create(&node));
    assert_eq!(node.config(), asking(&[]));
    assert_eq!(node.log()[0]["level"], "warn");
    assert!(
        node.log()[0]["message"]
            .as_str()
            .unwrap()
            .contains("start unprotected (failurePolicy Ignore)")
    );
}

#[test]
fn policies_that_hold_together_are_applied_together_or_not_at_all() {
    let policy = |name: &str| {
        format!(
            "---\napiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{target: {{kind: Pod, selector: {{matchLabels: {{app: web}}}}}}, policy: {{enforcer: BPF, mode: AlwaysAllow, merge: true}}}}\n"
        )
    };
    let policies = varmor_policy::parse(&[policy("p"), policy("q")].concat()).unwrap();
    let references: Vec<PolicyRef> = policies.iter().map(|policy| policy.reference()).collect();
    let merged = varmor_policy::compile::composed_profile_name(&references);
    let node = node(FailurePolicy::Fail);
    let index = PolicyIndex::new(&policies, OptIn::default(), FailurePolicy::Fail);
    node.state.save_index(&index).unwrap();
    node.write_config(&asking(&[]));
    refused(
        &node,
        &create(&node),
        "VarmorPolicy default/p, merged with VarmorPolicy default/q, selects it and is not in force",
    );
    let together = ProfileRecord {
        profile: ProfileName::new(&*merged).unwrap(),
        apparmor: Some(merged.clone()),
        ..record()
    };
    node.state.save_profile(&together).unwrap();
    executed(&node, &create(&node));
    assert_eq!(node.config()["process"]["apparmorProfile"], json!(merged));
    assert_eq!(marker(&node).unwrap().profile.unwrap().as_str(), merged);

    // Where the first one holds alone, the profile of both is another one's.
    node.state.remove_profile(&record().profile).unwrap();
    let index = PolicyIndex::new(&policies[..1], OptIn::default(), FailurePolicy::Fail);
    node.state.save_index(&index).unwrap();
    node.write_config(&asking(&[]));
    refused(
        &node,
        &create(&node),
        "VarmorPolicy default/p selects it and is not in force",
    );
}

#[test]
fn what_cannot_be_read_refuses() {
    let node = node(FailurePolicy::Ignore);
    for (config, part) in [
        ("{", "config.json is not an OCI configuration: EOF"),
        ("", "config.json is not an OCI configuration: EOF"),
        (
            "null",
            "config.json is not an OCI configuration: invalid type: null",
        ),
        (r#"{"annotations": {"a": 1}}"#, "invalid type: integer"),
        (r#"{"annotations": []}"#, "invalid type: sequence"),
        (
            r#"{"process": []}"#,
            "config.json is not an OCI configuration",
        ),
    ] {
        fs::write(node.bundle().join("config.json"), config).unwrap();
        refused(&node, &create(&node), part);
    }
    let node = self::node(FailurePolicy::Fail);
    fs::write(node.state.layout().profile(&record().profile), "{").unwrap();
    node.write_config(&asking(&[]));
    refused(
        &node,
        &create(&node),
        "profiles/varmor-default-p.json is damaged",
    );
    fs::write(node.state.layout().policy_index(), "{").unwrap();
    refused(&node, &create(&node), "policy-index.json is damaged");
    node.write_config(&json!({}));
    executed(&node, &create(&node));
}

#[test]
fn a_process_that_joins_gets_the_containers_profile() {
    let node = node(FailurePolicy::Fail);
    node.write_config(&asking(&[]));
    executed(&node, &create(&node));
    let file = node.path("process.json");
    let exec = |id: &str, process: &str| {
        fs::write(&file, process).unwrap();
        let _ = fs::remove_file(node.path("called"));
        let output = command(&node)
            .arg("--log")
            .arg(node.path("log.json"))
            .args(["exec", "--process"])
            .arg(&file)
            .arg(id)
            .output();
        output.unwrap()
    };
    let read = || serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap();
    for found in [
        "",
        r#","apparmorProfile":"","#,
        r#","apparmorProfile":"unconfined","#,
    ] {
        let found = found.trim_end_matches(',');
        let output = exec("abc", &format!(r#"{{"cwd":"/"{found}}}"#));
        assert_eq!(output.status.code(), Some(42), "{output:?}");
        assert_eq!(read(), json!({"cwd": "/", "apparmorProfile": PROFILE}));
    }
    // Another container has no marker, and nothing to demand.
    assert_eq!(exec("other", r#"{"cwd":"/"}"#).status.code(), Some(42));
    assert_eq!(read(), json!({"cwd": "/"}));
    refused(
        &node,
        &exec("abc", "{"),
        "process refused that was to join container abc: cannot read",
    );
    refused(&node, &exec("abc", "[]"), "must hold a process, an object");
    fs::write(node.path("run/containers/abc.json"), "{").unwrap();
    refused(&node, &exec("abc", "{}"), "containers/abc.json is damaged");
}

#[test]
fn everything_else_is_handed_on_untouched() {
    let node = node(FailurePolicy::Fail);
    let strange = OsString::from_vec(b"a\xffb".to_vec());
    for arguments in [
        vec!["--root", "/r", "delete", "--force", "abc"],
        vec![],
        vec!["--unknown", "state", "abc"],
    ] {
        let output = command(&node)
            .args(&arguments)
            .arg(&strange)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(42));
        let mut expected = arguments.join("\n").into_bytes();
        expected.extend_from_slice(if arguments.is_empty() {
            b"a\xffb\n"
        } else {
            b"\na\xffb\n"
        });
        assert_eq!(fs::read(node.path("called")).unwrap(), expected);
    }
}

#[test]
fn it_never_executes_itself() {
    let node = node(FailurePolicy::Fail);
    let own = env!("CARGO_BIN_EXE_varmor-runtime");
    let output = command(&node)
        .env("VARMOR_RUNTIME_PATH", own)
        .arg("state")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        sentence(&output).contains("varmor-runtime itself"),
        "{output:?}"
    );
    let copy = node.path("copy");
    fs::copy(own, &copy).unwrap();
    let output = command(&node)
        .env("VARMOR_RUNTIME_PATH", copy)
        .arg("state")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        sentence(&output).contains("varmor-runtime again"),
        "{output:?}"
    );
}
