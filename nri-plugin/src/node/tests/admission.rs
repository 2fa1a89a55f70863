// SPDX-License-Identifier: Apache-2.0
//! Containers that are being made.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn a_selected_container_gets_hook_marker_spec_and_profile() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "AppArmorBPFSeccomp")]).await;
    let admission = fixture
        .node
        .create(fixture.new_container("a"))
        .await
        .unwrap();
    assert!(admission.hook);
    assert_eq!(admission.profile.as_deref(), Some("varmor-demo-p"));
    let marker = fixture.marker("a").unwrap();
    assert_eq!(marker.bpf, BpfDemand::Profile);
    assert_eq!(marker.apparmor.as_deref(), Some("varmor-demo-p"));
    let before = marker.seccomp.unwrap();
    assert!(
        before.len() != 64,
        "no filter may have the digest of one that is not set yet: {before}"
    );

    fixture.run("a", 7).await;
    let spec = fixture.world.specs.lock().unwrap()["a"].clone();
    assert_eq!(
        spec["process"],
        json!({"args": ["sh"], "apparmorProfile": "varmor-demo-p"})
    );
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(
        fixture.marker("a").unwrap().seccomp,
        Some(seccomp_digest(&spec["linux"]["seccomp"]).unwrap())
    );
    assert_eq!(fixture.world.bound("a"), Some(key("p")));
    assert_eq!(fixture.shortfalls("a"), Vec::<String>::new());
}

#[tokio::test]
async fn a_runtime_that_shows_seccomp_is_answered_at_once() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "Seccomp")]).await;
    let own = json!({"defaultAction": "SCMP_ACT_KILL"});
    let new = New {
        filter: Some(Some(own)),
        ..fixture.new_container("a")
    };
    let filter = fixture.node.create(new).await.unwrap().filter.unwrap();
    assert_eq!(filter["defaultAction"], "SCMP_ACT_KILL");
    assert_eq!(
        fixture.marker("a").unwrap().seccomp,
        Some(seccomp_digest(&filter).unwrap())
    );
}

#[tokio::test]
async fn what_no_policy_selects_starts_and_is_followed() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.world.no_apparmor.store(true, Ordering::Relaxed);
    fixture.run("a", 7).await;
    assert_eq!(fixture.world.bound("a"), Some(0));
    let marker = fixture.marker("a").unwrap();
    assert_eq!((marker.policy, marker.bpf), (None, BpfDemand::Bound));

    fixture.policies(&[("p", "AppArmor")]).await;
    let mut other = pod();
    other.labels.clear();
    let new = New {
        pod: fixture.node.pod_started(other),
        ..fixture.new_container("b")
    };
    let admission = fixture
        .node
        .create(New {
            pod: Arc::new(Pod {
                labels: BTreeMap::new(),
                ..pod()
            }),
            ..new
        })
        .await;
    assert_eq!(admission.unwrap(), crate::node::admit::Admission::default());
    assert_eq!(fixture.marker("b").unwrap().bpf, BpfDemand::Nothing);
}

#[tokio::test]
async fn a_container_that_can_not_be_protected_is_refused_with_a_reason() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.world.no_apparmor.store(true, Ordering::Relaxed);
    fixture.policies(&[("p", "AppArmorBPF")]).await;
    let refusal = fixture
        .node
        .create(fixture.new_container("a"))
        .await
        .unwrap_err();
    assert_eq!(
        refusal,
        "container demo/web/c1 is refused: VarmorPolicy demo/p can't be enforced: AppArmor: AppArmor is not enabled in \
         this node's kernel"
    );
    assert_eq!(fixture.marker("a"), None);

    // An annotation that opts out of the missing enforcer makes the container startable.
    let annotation = (
        "container.apparmor.security.beta.varmor.org/c1".to_owned(),
        "unconfined".to_owned(),
    );
    let pod = Arc::new(Pod {
        annotations: BTreeMap::from([annotation]),
        ..pod()
    });
    fixture
        .node
        .create(New {
            pod,
            ..fixture.new_container("a")
        })
        .await
        .unwrap();
    assert_eq!(fixture.marker("a").unwrap().apparmor, None);
}

#[tokio::test]
async fn failure_policy_ignore_starts_with_what_there_is() {
    let fixture = Fixture::new(FailurePolicy::Ignore);
    fixture.world.no_apparmor.store(true, Ordering::Relaxed);
    fixture.policies(&[("p", "AppArmorBPF")]).await;
    fixture.run("a", 7).await;
    assert_eq!(fixture.marker("a").unwrap().apparmor, None);
    assert_eq!(fixture.world.bound("a"), Some(key("p")));
    assert!(
        fixture.shortfalls("a")[0].starts_with("AppArmor: AppArmor is not enabled"),
        "{:?}",
        fixture.shortfalls("a")
    );
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_is_being_loaded_is_waited_for_but_not_for_ever() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.folder(&[("p", "BPF")]);
    let began = tokio::time::Instant::now();
    let refusal = fixture
        .node
        .create(fixture.new_container("a"))
        .await
        .unwrap_err();
    assert!(refusal.contains("still being loaded"), "{refusal}");
    assert!(began.elapsed() < std::time::Duration::from_secs(2));

    let (admission, _) = tokio::join!(
        fixture.node.create(fixture.new_container("a")),
        fixture.node.reconcile()
    );
    assert_eq!(admission.unwrap().profile.as_deref(), Some("varmor-demo-p"));
}

#[tokio::test]
async fn a_spec_that_can_not_be_updated_is_left_to_the_hook() {
    for failure_policy in [FailurePolicy::Fail, FailurePolicy::Ignore] {
        let fixture = Fixture::new(failure_policy);
        fixture.policies(&[("p", "AppArmorSeccomp")]).await;
        fixture
            .node
            .create(fixture.new_container("a"))
            .await
            .unwrap();
        let result = fixture.node.created("a").await;
        let marker = fixture.marker("a").unwrap();
        if failure_policy == FailurePolicy::Fail {
            assert!(result.unwrap_err().contains("no such container"));
            assert!(
                marker.apparmor.is_some() && marker.seccomp.is_some(),
                "the hook must refuse it"
            );
        } else {
            result.unwrap();
            assert!(marker.apparmor.is_none() && marker.seccomp.is_none());
        }
    }
}

#[tokio::test]
async fn what_was_done_when_a_container_was_stored_is_not_done_again() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "AppArmorSeccomp")]).await;
    let new = fixture.new_container("a");
    fixture.node.create(new).await.unwrap();
    // What fails then is tried again when the runtime asks.
    fixture.node.stored("a").await;
    assert!(fixture.node.created("a").await.is_err());

    let spec = json!({"process": {}, "linux": {}});
    fixture.world.specs.lock().unwrap().insert("a".into(), spec);
    tokio::join!(fixture.node.stored("a"), fixture.node.stored("a"));
    let changed = fixture.world.specs.lock().unwrap().remove("a").unwrap();
    assert_eq!(changed["process"]["apparmorProfile"], "varmor-demo-p");
    let digest = seccomp_digest(&changed["linux"]["seccomp"]).unwrap();
    assert_eq!(fixture.marker("a").unwrap().seccomp, Some(digest));
    // containerd would not find it, were it asked.
    fixture.node.created("a").await.unwrap();
}

#[tokio::test]
async fn the_daemon_binds_at_start_what_the_hook_did_not() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "BPF")]).await;
    fixture
        .node
        .create(fixture.new_container("a"))
        .await
        .unwrap();
    fixture.node.starting("a", 7).unwrap();
    let binding = fixture.world.bindings.lock().unwrap()["a"].clone();
    assert_eq!(
        binding,
        Binding {
            profile: key("p"),
            init: 7,
            active: false
        }
    );

    fixture
        .node
        .create(fixture.new_container("b"))
        .await
        .unwrap();
    fixture.world.broken.store(true, Ordering::Relaxed);
    assert!(
        fixture
            .node
            .starting("b", 8)
            .unwrap_err()
            .contains("container demo/web/c1 is refused")
    );
}

#[tokio::test]
async fn a_container_created_behind_our_back_does_not_start_without_its_spec() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "AppArmorBPF")]).await;
    fixture
        .node
        .adopt(vec![pod()], vec![existing("a", Stage::Created, 0)]);
    fixture.node.reconcile().await;
    assert_eq!(fixture.marker("a"), None, "the hook decides by the index");
    assert!(
        fixture
            .node
            .starting("a", 7)
            .unwrap_err()
            .contains("delete it")
    );

    fixture.policies(&[("q", "BPF")]).await;
    fixture.node.starting("a", 7).unwrap();
    fixture.node.reconcile().await;
    assert_eq!(fixture.world.bound("a"), Some(key("q")));
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_process_to_bind() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture
        .node
        .adopt(vec![pod()], vec![existing("a", Stage::Created, 0)]);
    fixture.node.starting("a", 7).unwrap();
    // runc could not execute the entrypoint; process 7 is somebody else's by the time of the policy.
    fixture.node.stopped("a");
    fixture.policies(&[("q", "BPF")]).await;
    assert_eq!(fixture.world.bound("a"), Some(profile_key(None)));
}

#[tokio::test]
async fn the_hook_finds_the_index() {
    let fixture = Fixture::new(FailurePolicy::Ignore);
    fixture.policies(&[("p", "BPF")]).await;
    let index: PolicyIndex = fixture.node.adapters.files.load_index().unwrap().unwrap();
    assert_eq!(index.failure_policy, FailurePolicy::Ignore);
    assert!(matches!(
        index.could_select("demo", "web", Some(&pod().labels), "c1"),
        Could::Yes(_)
    ));
    fixture.policies(&[]).await;
    let index: PolicyIndex = fixture.node.adapters.files.load_index().unwrap().unwrap();
    assert_eq!(
        index.could_select("demo", "web", Some(&pod().labels), "c1"),
        Could::No
    );
}
