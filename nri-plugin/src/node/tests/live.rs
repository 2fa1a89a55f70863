// SPDX-License-Identifier: Apache-2.0
//! Policies that change, and daemons that come and go, while containers run.

use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn policies_come_and_go_while_a_container_runs() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.run("a", 7).await;
    fixture.policies(&[("p", "BPF")]).await;
    assert_eq!(fixture.world.bound("a"), Some(key("p")));
    fixture.policies(&[("q", "AppArmorBPFSeccomp")]).await;
    assert_eq!(fixture.world.bound("a"), Some(key("q")));
    assert_eq!(
        *fixture.world.profiles.lock().unwrap(),
        BTreeSet::from(["varmor-demo-q".to_owned()])
    );
    let shortfalls = fixture.shortfalls("a");
    assert_eq!(
        shortfalls.len(),
        2,
        "AppArmor and seccomp need a new container: {shortfalls:?}"
    );
    fixture.policies(&[]).await;
    assert_eq!(fixture.world.bound("a"), Some(0));
    assert!(fixture.world.profiles.lock().unwrap().is_empty());
    assert!(fixture.world.apparmor.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_apparmor_profile_goes_with_its_last_container() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "AppArmor")]).await;
    fixture.run("a", 7).await;
    fixture.policies(&[]).await;
    let text = || {
        fixture
            .world
            .apparmor
            .lock()
            .unwrap()
            .get("varmor-demo-p")
            .cloned()
    };
    assert_eq!(text().as_deref(), Some("allow all"));
    // The policy comes back: its rules hold again in the container that still runs.
    fixture.policies(&[("p", "AppArmor")]).await;
    assert_eq!(text().as_deref(), Some("profile varmor-demo-p of p"));
    fixture.policies(&[]).await;
    fixture
        .world
        .used
        .lock()
        .unwrap()
        .insert("varmor-demo-p".into());
    fixture.node.stopped("a");
    fixture.node.removed("a");
    fixture.node.reconcile().await;
    assert_eq!(
        text().as_deref(),
        Some("allow all"),
        "a process still runs under it"
    );
    fixture.world.used.lock().unwrap().clear();
    fixture.node.reconcile().await;
    assert_eq!(text(), None);
}

#[tokio::test]
async fn a_failed_update_leaves_the_old_version_enforced_and_refuses_new_containers() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "BPF")]).await;
    fixture.run("a", 7).await;
    fixture.world.broken.store(true, Ordering::Relaxed);
    fixture.policies(&[("p", "AppArmorBPF")]).await;
    assert_eq!(fixture.world.bound("a"), Some(key("p")));
    assert!(
        fixture
            .shortfalls("a")
            .contains(&"BPF: it is broken".to_owned()),
        "{:?}",
        fixture.shortfalls("a")
    );
    assert!(
        fixture
            .node
            .create(fixture.new_container("b"))
            .await
            .unwrap_err()
            .contains("it is broken")
    );
}

#[tokio::test]
async fn a_restart_adopts_what_runs() {
    let first = Fixture::new(FailurePolicy::Fail);
    first.policies(&[("p", "AppArmorBPF")]).await;
    first.run("a", 7).await;
    // One that was started behind the daemon's back, and one that ended meanwhile.
    first.run("gone", 9).await;
    let marker = first
        .node
        .adapters
        .files
        .layout()
        .marker(&ContainerId::new("gone").unwrap());
    std::fs::File::open(&marker)
        .unwrap()
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600))
        .unwrap();

    let second = Fixture::restart(first.world, first.directory, FailurePolicy::Fail);
    second
        .policies(&[("p", "AppArmorBPF"), ("unused", "AppArmor")])
        .await;
    second.node.adopt(
        vec![pod()],
        vec![
            existing("a", Stage::Running, 7),
            existing("x", Stage::Running, 8),
        ],
    );
    second.node.reconcile().await;
    assert_eq!(second.world.bound("a"), Some(key("p")));
    assert_eq!(second.world.bound("x"), Some(key("p")));
    assert_eq!(second.world.bound("gone"), None);
    assert_eq!(second.marker("gone"), None);
    assert_eq!(second.shortfalls("a"), Vec::<String>::new());
    assert!(second.shortfalls("x")[0].starts_with("AppArmor"));
    // Profiles that an earlier daemon left are known and collected.
    second.policies(&[]).await;
    let left: Vec<String> = second
        .world
        .apparmor
        .lock()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(left, ["varmor-demo-p"], "still in use by a");
}

#[tokio::test]
async fn a_policy_changed_before_the_start_reaches_the_marker() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "BPF")]).await;
    fixture
        .node
        .create(fixture.new_container("a"))
        .await
        .unwrap();
    fixture.policies(&[]).await;
    assert_eq!(fixture.marker("a").unwrap().bpf, BpfDemand::Bound);
    fixture.policies(&[("q", "BPF")]).await;
    let marker = fixture.marker("a").unwrap();
    assert_eq!(marker.profile.unwrap().as_str(), "varmor-demo-q");
    assert_eq!(marker.bpf, BpfDemand::Profile);
}
