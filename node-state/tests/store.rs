// SPDX-License-Identifier: Apache-2.0
//! The files themselves: what is written is what is read, and what can't be believed is an error that names the file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use varmor_node_state::{
    BpfDemand, CompositionRecord, ContainerId, Layout, Marker, NodeState, ProfileName,
    ProfileRecord, SandboxRecord, SeccompRecord, StateError,
};
use varmor_policy::plan::PolicyRef;

fn state(directory: &Path) -> NodeState {
    NodeState::new(Layout {
        run: directory.join("run"),
        state: directory.join("state"),
    })
}

fn policy() -> PolicyRef {
    PolicyRef {
        kind: "VarmorPolicy".into(),
        namespace: "demo".into(),
        name: "p".into(),
    }
}

fn marker(id: &str) -> Marker {
    Marker {
        container_id: ContainerId::new(id).unwrap(),
        namespace: "demo".into(),
        pod: "web".into(),
        pod_uid: "u".into(),
        container: "c1".into(),
        policy: Some(policy()),
        profile: Some(ProfileName::new("varmor-demo-p").unwrap()),
        bpf: BpfDemand::Profile,
        apparmor: Some("varmor-demo-p".into()),
        seccomp: None,
        addresses: vec!["10.0.0.3".parse().unwrap()],
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_marker_lives_from_save_to_remove() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let id = ContainerId::new("abc").unwrap();
    assert!(state.load_marker(&id).unwrap().is_none());
    assert!(state.markers().unwrap().is_empty());
    state.save_marker(&marker("abc")).unwrap();
    assert_eq!(state.load_marker(&id).unwrap().unwrap(), marker("abc"));
    assert_eq!(state.markers().unwrap(), std::slice::from_ref(&id));
    let path = state.layout().marker(&id);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    state.remove_marker(&id).unwrap();
    state.remove_marker(&id).unwrap();
    assert!(state.load_marker(&id).unwrap().is_none());
}

#[test]
fn a_sandbox_a_profile_and_the_index_come_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    state.prepare().unwrap();
    let sandbox = SandboxRecord {
        sandbox_id: ContainerId::new("s").unwrap(),
        namespace: "demo".into(),
        name: "web".into(),
        uid: "u".into(),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        annotations: BTreeMap::new(),
        addresses: vec![],
        owner: varmor_policy::owner::Owner::Unknown,
    };
    state.save_sandbox(&sandbox).unwrap();
    assert_eq!(
        state.load_sandbox(&sandbox.sandbox_id).unwrap().unwrap(),
        sandbox
    );
    assert_eq!(
        state.sandboxes().unwrap(),
        std::slice::from_ref(&sandbox.sandbox_id)
    );
    state.remove_sandbox(&sandbox.sandbox_id).unwrap();
    assert!(state.sandboxes().unwrap().is_empty());

    let profile = ProfileRecord {
        profile: ProfileName::new("varmor-demo-p").unwrap(),
        policy: policy(),
        apparmor: None,
        seccomp: Some(SeccompRecord::Rules(
            json!({"defaultAction": "SCMP_ACT_ALLOW"}),
        )),
        bpf: true,
    };
    state.save_profile(&profile).unwrap();
    assert_eq!(
        state.load_profile(&profile.profile).unwrap().unwrap(),
        profile
    );
    assert_eq!(
        state.profiles().unwrap(),
        std::slice::from_ref(&profile.profile)
    );
    state.remove_profile(&profile.profile).unwrap();
    assert!(state.load_profile(&profile.profile).unwrap().is_none());

    let composition = CompositionRecord {
        profile: ProfileName::new("varmor-merged-0123456789abcdef").unwrap(),
        policies: vec![policy(), policy()],
    };
    state.save_composition(&composition).unwrap();
    assert_eq!(
        state.load_composition(&composition.profile).unwrap(),
        Some(composition.clone())
    );
    assert_eq!(
        state.compositions().unwrap(),
        std::slice::from_ref(&composition.profile)
    );
    state.remove_composition(&composition.profile).unwrap();
    assert!(state.compositions().unwrap().is_empty());

    assert!(state.load_index::<serde_json::Value>().unwrap().is_none());
    state.save_index(&json!({"x": 1})).unwrap();
    assert_eq!(
        state.load_index::<serde_json::Value>().unwrap().unwrap(),
        json!({"x": 1})
    );
    assert_eq!(mode(&state.layout().policy_index()), 0o600);
}

#[test]
fn what_cannot_be_believed_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    state.prepare().unwrap();
    let id = ContainerId::new("abc").unwrap();
    let path = state.layout().marker(&id);
    let good = serde_json::to_value(marker("abc")).unwrap();
    let mut with_more = good.clone();
    with_more["landlock"] = json!(true);
    let mut without_bpf = good.clone();
    without_bpf.as_object_mut().unwrap().remove("bpf");
    let mut other_id = good.clone();
    other_id["containerId"] = json!("../../abc");
    for bad in [
        "".to_owned(),
        "{".into(),
        good.to_string()[..40].into(),
        "null".into(),
        with_more.to_string(),
        without_bpf.to_string(),
        other_id.to_string(),
    ] {
        fs::write(&path, &bad).unwrap();
        let error = state.load_marker(&id).unwrap_err();
        assert!(
            matches!(error, StateError::Malformed { .. }),
            "{bad}: {error:?}"
        );
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    fs::write(&path, " ".repeat(65 << 10)).unwrap();
    assert!(matches!(
        state.load_marker(&id).unwrap_err(),
        StateError::TooLarge { .. }
    ));
    fs::write(&path, serde_json::to_vec(&marker("other")).unwrap()).unwrap();
    assert!(matches!(
        state.load_marker(&id).unwrap_err(),
        StateError::Misplaced { .. }
    ));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(
        state.load_marker(&id).unwrap_err(),
        StateError::Read { .. }
    ));
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_litter() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    state.prepare().unwrap();
    let path = state.layout().marker(&ContainerId::new("abc").unwrap());
    // The target is a directory: the rename fails after the bytes are written.
    fs::create_dir(&path).unwrap();
    let error = state.save_marker(&marker("abc")).unwrap_err();
    assert!(matches!(error, StateError::Write { .. }), "{error:?}");
    let names: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["abc.json"]);
}

#[test]
fn prepare_closes_the_directories_and_sweeps_old_leftovers_only() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let containers = state.layout().run.join("containers");
    fs::create_dir_all(&containers).unwrap();
    fs::set_permissions(&containers, fs::Permissions::from_mode(0o777)).unwrap();
    let old = containers.join(".abc.json.1.0.tmp");
    let fresh = containers.join(".abd.json.1.0.tmp");
    for path in [&old, &fresh] {
        fs::write(path, "").unwrap();
    }
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(past)
        .unwrap();
    state.prepare().unwrap();
    assert_eq!(mode(&containers), 0o700);
    assert!(!old.exists());
    assert!(fresh.exists());
    assert!(state.markers().unwrap().is_empty());
}

#[test]
fn a_reader_never_sees_half_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let id = ContainerId::new("abc").unwrap();
    let mut long = marker("abc");
    let short = long.clone();
    long.pod = "x".repeat(30_000);
    state.save_marker(&short).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..400 {
                let next = if round % 2 == 0 { &long } else { &short };
                state.save_marker(next).unwrap();
            }
        });
        while !writer.is_finished() {
            let read = state.load_marker(&id).unwrap().unwrap();
            assert!(read == long || read == short);
        }
    });
}
