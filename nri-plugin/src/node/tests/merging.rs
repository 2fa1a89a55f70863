// SPDX-License-Identifier: Apache-2.0
//! Policies that hold together.

use std::sync::atomic::Ordering;

use varmor_node_api::api;
use varmor_policy::compile::composed_profile_name;
use varmor_policy::plan::PolicyRef;

use super::*;

const APPARMOR: &str = "AppArmor, merge: true";
const BPF: &str = "BPF, merge: true";
const BOTH: &str = "AppArmorBPF, merge: true";

fn policies(names: &[&str]) -> Vec<PolicyRef> {
    let reference = |name: &&str| PolicyRef {
        kind: "VarmorPolicy".into(),
        namespace: "demo".into(),
        name: (*name).into(),
    };
    names.iter().map(reference).collect()
}

/// Name of the profile of these policies together.
fn merged(names: &[&str]) -> String {
    composed_profile_name(&policies(names))
}

impl Fixture {
    /// What the AppArmor profile of this name says.
    fn apparmor(&self, profile: &str) -> Option<String> {
        self.world.apparmor.lock().unwrap().get(profile).cloned()
    }

    fn is_under(&self, container: &str, profile: &str) -> bool {
        self.world.bound(container) == Some(profile_key(Some(profile)))
    }

    fn records(&self) -> Vec<String> {
        let names = self.node.adapters.files.compositions().unwrap();
        names.into_iter().map(String::from).collect()
    }

    fn list(&self) -> api::ListResponse {
        self.node.list(&api::ListRequest::new())
    }
}

#[tokio::test]
async fn a_container_is_under_one_profile_of_all_the_policies_that_merge() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture
        .policies(&[
            ("a", APPARMOR),
            ("b", BPF),
            ("c", "BPF"),
            ("d", "Seccomp, merge: true"),
        ])
        .await;
    let name = merged(&["a", "b", "d"]);
    assert_eq!(fixture.apparmor(&name), None, "nobody needs it");
    fixture.run("x", 7).await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of a"))
    );
    assert!(fixture.is_under("x", &name));
    let marker = fixture.marker("x").unwrap();
    assert_eq!(marker.policy, policies(&["a"]).pop());
    assert_eq!(marker.profile.unwrap().as_str(), name);
    assert_eq!(marker.apparmor.as_ref(), Some(&name));
    assert_eq!(marker.bpf, BpfDemand::Profile);
    assert!(marker.seccomp.is_some());
    assert_eq!(fixture.shortfalls("x"), Vec::<String>::new());

    let who = fixture.node.who(
        varmor_bpf_abi::keys::container_key("x"),
        profile_key(Some(&name)),
    );
    assert_eq!(
        (who.profile, who.policies),
        (name.clone(), policies(&["a", "b", "d"]))
    );
    let list = fixture.list();
    assert_eq!(list.compositions.len(), 1);
    let composition = &list.compositions[0];
    assert_eq!(composition.profile, name);
    let names: Vec<&str> = composition
        .policies
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "d"]);
    assert_eq!(composition.containers.len(), 1);
    assert_eq!(composition.containers[0].policies.len(), 3);
    assert!(
        composition.enforcers.len() == 3 && composition.enforcers.iter().all(|one| one.in_force)
    );
    // Each of them has the container, and the one that does not merge has none.
    let counts: Vec<usize> = list
        .policies
        .iter()
        .map(|one| one.containers.len())
        .collect();
    assert_eq!(counts, [1, 1, 0, 1]);
}

#[tokio::test]
async fn a_policy_that_does_not_merge_and_comes_first_holds_alone() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture
        .policies(&[("a", "BPF"), ("b", BPF), ("c", BPF)])
        .await;
    fixture.run("x", 7).await;
    assert_eq!(fixture.world.bound("x"), Some(key("a")));
    fixture
        .policies(&[("a", BPF), ("b", BPF), ("c", "BPF")])
        .await;
    assert!(fixture.is_under("x", &merged(&["a", "b"])));
    fixture.policies(&[("c", "BPF")]).await;
    assert_eq!(fixture.world.bound("x"), Some(key("c")));
    assert_eq!(
        *fixture.world.profiles.lock().unwrap(),
        BTreeSet::from(["varmor-demo-c".to_owned()])
    );
    assert!(fixture.list().compositions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_changes_or_goes_takes_nothing_of_the_others_along() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BOTH), ("b", BOTH)]).await;
    let name = merged(&["a", "b"]);
    fixture.run("x", 7).await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of a b"))
    );

    fixture.policies(&[("a", BOTH), ("b", BPF)]).await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of a"))
    );
    assert!(fixture.is_under("x", &name));

    // A running task keeps its AppArmor profile, which is now that of the one policy that is left.
    fixture.policies(&[("b", BOTH)]).await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of b"))
    );
    assert_eq!(fixture.world.bound("x"), Some(key("b")));
    assert_eq!(fixture.shortfalls("x"), Vec::<String>::new());
    fixture.policies(&[("b", APPARMOR), ("c", BPF)]).await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of b"))
    );
    assert!(fixture.is_under("x", &merged(&["b", "c"])));
    assert_eq!(
        fixture.shortfalls("x"),
        ["AppArmor: takes effect when the container is created anew"]
    );

    fixture.policies(&[]).await;
    assert_eq!(fixture.apparmor(&name).as_deref(), Some("allow all"));
    assert_eq!(fixture.world.bound("x"), Some(0));
    assert_eq!(fixture.records(), std::slice::from_ref(&name));
    fixture.policies(&[("a", BOTH), ("b", BOTH)]).await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of a b"))
    );
    assert!(fixture.is_under("x", &name));

    fixture.node.stopped("x");
    fixture.node.removed("x");
    tokio::time::advance(std::time::Duration::from_secs(121)).await;
    fixture.node.reconcile().await;
    assert_eq!(fixture.apparmor(&name), None);
    assert!(!fixture.world.profiles.lock().unwrap().contains(&name));
    assert!(fixture.records().is_empty());
}

#[tokio::test]
async fn a_member_that_does_not_go_with_the_others_is_named_and_takes_nothing_away() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BOTH), ("b", BPF)]).await;
    fixture.run("x", 7).await;
    let name = merged(&["a", "b"]);
    fixture
        .policies(&[("a", BOTH), ("b", BPF), ("poison", BPF)])
        .await;
    assert!(fixture.is_under("x", &name), "what holds already stays");
    let shortfalls = fixture.shortfalls("x");
    let failed = merged(&["a", "b", "poison"]);
    assert!(
        shortfalls.contains(&"BPF: VarmorPolicy demo/poison: spec: broken".to_owned())
            && shortfalls.contains(&format!("BPF: {name} holds in place of {failed}")),
        "{shortfalls:?}"
    );
    let (refusal, _) = tokio::join!(
        fixture.node.create(fixture.new_container("y")),
        fixture.node.reconcile()
    );
    assert_eq!(
        refusal.unwrap_err(),
        "container demo/web/c1 is refused: VarmorPolicy demo/a merged with VarmorPolicy demo/b merged with VarmorPolicy \
         demo/poison can't be enforced: AppArmor: VarmorPolicy demo/poison: spec: broken"
    );
    let list = fixture.list();
    assert!(
        list.files[0].error.contains("demo/poison: spec: broken"),
        "{:?}",
        list.files
    );
    assert!(!list.errors.is_empty());

    // While it is there, the others change, ...
    fixture
        .policies(&[("a", BPF), ("b", BPF), ("poison", BPF)])
        .await;
    assert!(fixture.is_under("x", &name));
    assert_eq!(
        fixture.apparmor(&name).as_deref(),
        Some("allow all"),
        "a has no AppArmor rules any more"
    );
    // ... and go: what is left of them stays, and holds by itself.
    fixture.policies(&[("a", BOTH), ("poison", BPF)]).await;
    assert!(fixture.is_under("x", &name));
    fixture.node.reconcile().await;
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of a"))
    );
    fixture.policies(&[("a", BOTH), ("b", BPF)]).await;
    assert!(fixture.is_under("x", &name));
    assert_eq!(fixture.shortfalls("x"), Vec::<String>::new());
    assert!(
        fixture.list().errors.is_empty(),
        "{:?}",
        fixture.list().errors
    );
}

#[tokio::test]
async fn the_first_policy_holds_by_itself_where_it_did_not_hold_before() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("poison", BPF)]).await;
    fixture.run("x", 7).await;
    assert_eq!(fixture.world.bound("x"), Some(key("poison")));
    fixture.policies(&[("a", BPF), ("poison", BPF)]).await;
    assert_eq!(fixture.world.bound("x"), Some(key("a")));
    // A policy of this node's that can't be loaded leaves what there is, also when it comes alone.
    fixture.world.broken.store(true, Ordering::Relaxed);
    fixture.policies(&[("q", "BPF")]).await;
    assert_eq!(fixture.world.bound("x"), Some(key("a")));
    fixture.world.broken.store(false, Ordering::Relaxed);
    fixture.policies(&[("q", BPF)]).await;
    assert_eq!(fixture.world.bound("x"), Some(key("q")));
    assert_eq!(
        *fixture.world.profiles.lock().unwrap(),
        BTreeSet::from(["varmor-demo-q".to_owned()])
    );
}

#[tokio::test]
async fn failure_policy_ignore_starts_a_container_under_the_first_policy() {
    let fixture = Fixture::new(FailurePolicy::Ignore);
    fixture.policies(&[("a", BPF), ("poison", BPF)]).await;
    fixture.run("x", 7).await;
    assert_eq!(fixture.world.bound("x"), Some(key("a")));
    assert!(
        fixture.shortfalls("x")[0].contains("demo/poison"),
        "{:?}",
        fixture.shortfalls("x")
    );
}

#[tokio::test]
async fn a_restart_keeps_what_holds_until_the_runtime_tells_who_is_there() {
    let first = Fixture::new(FailurePolicy::Fail);
    first.policies(&[("a", BOTH), ("b", BOTH)]).await;
    first.run("x", 7).await;
    let name = merged(&["a", "b"]);

    let second = Fixture::restart(first.world, first.directory, FailurePolicy::Fail);
    // One member is gone meanwhile, and the other one changed: no runtime is needed to see to that.
    second.policies(&[("b", BPF)]).await;
    assert!(second.is_under("x", &name));
    assert!(second.world.profiles.lock().unwrap().contains(&name));
    second.policies(&[("b", BOTH)]).await;
    assert_eq!(second.apparmor(&name), Some(format!("profile {name} of b")));
    second
        .node
        .adopt(vec![pod()], vec![existing("x", Stage::Running, 7)]);
    second.node.reconcile().await;
    assert_eq!(second.world.bound("x"), Some(key("b")));
    assert_eq!(second.apparmor(&name), Some(format!("profile {name} of b")));

    second.policies(&[("a", BOTH), ("b", BOTH)]).await;
    assert!(second.is_under("x", &name));
    assert_eq!(second.shortfalls("x"), Vec::<String>::new());
    let third = Fixture::restart(second.world, second.directory, FailurePolicy::Fail);
    third.policies(&[("a", BOTH), ("b", BOTH)]).await;
    assert!(third.is_under("x", &name));
    assert_eq!(third.records(), [name]);
}

#[tokio::test]
async fn a_change_before_the_start_reaches_the_marker() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BPF)]).await;
    fixture
        .node
        .create(fixture.new_container("x"))
        .await
        .unwrap();
    fixture.policies(&[("a", BPF), ("b", BPF)]).await;
    let marker = fixture.marker("x").unwrap();
    assert_eq!(marker.profile.unwrap().as_str(), merged(&["a", "b"]));
    fixture.policies(&[("a", BPF), ("poison", BPF)]).await;
    let marker = fixture.marker("x").unwrap();
    assert_eq!(marker.profile.unwrap().as_str(), "varmor-demo-a");
    assert_eq!(marker.bpf, BpfDemand::Profile);
}

#[tokio::test]
async fn the_profile_is_there_before_the_pods_first_container() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BPF), ("b", BPF)]).await;
    fixture.node.pod_started(pod());
    assert!(!fixture.node.reconcile().await, "it is looked at again");
    let name = merged(&["a", "b"]);
    assert!(fixture.world.profiles.lock().unwrap().contains(&name));
    let admission = fixture
        .node
        .create(fixture.new_container("x"))
        .await
        .unwrap();
    assert_eq!(admission.profile, Some(name));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_was_waited_for_in_vain_goes_after_a_while() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BPF), ("b", BPF)]).await;
    let refusal = fixture.node.create(fixture.new_container("x")).await;
    assert!(refusal.unwrap_err().contains("still being loaded"));
    let name = merged(&["a", "b"]);
    fixture.node.reconcile().await;
    assert!(fixture.world.profiles.lock().unwrap().contains(&name));
    tokio::time::advance(std::time::Duration::from_secs(121)).await;
    assert!(fixture.node.reconcile().await);
    assert!(!fixture.world.profiles.lock().unwrap().contains(&name));
    assert!(fixture.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_comes_while_its_profile_is_to_go_keeps_it() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BOTH), ("b", BPF)]).await;
    fixture.run("x", 7).await;
    fixture.node.stopped("x");
    fixture.node.removed("x");
    tokio::time::advance(std::time::Duration::from_secs(121)).await;
    // There is something to load, so that the container comes in the middle of a pass.
    fixture.folder(&[("a", BOTH), ("b", BPF), ("z", "BPF")]);
    let new = fixture.new_container("y");
    let (_, admission) = tokio::join!(fixture.node.reconcile(), fixture.node.create(new));
    let name = merged(&["a", "b"]);
    assert_eq!(admission.unwrap().profile.as_ref(), Some(&name));
    assert!(fixture.world.profiles.lock().unwrap().contains(&name));
    assert_eq!(
        fixture.apparmor(&name),
        Some(format!("profile {name} of a"))
    );
}

#[tokio::test]
async fn names_and_keys_that_hashes_share_belong_to_the_first() {
    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("a", BPF), ("b", BPF)]).await;
    let name = merged(&["a", "b"]);
    let others = policies(&["c", "d"]);
    fixture
        .node
        .state()
        .compositions
        .insert(name.clone(), others);
    fixture
        .world
        .apparmor
        .lock()
        .unwrap()
        .insert(name.clone(), "of c d".into());
    fixture.node.state().apparmor.insert(name.clone());
    fixture.world.used.lock().unwrap().insert(name.clone());
    let refusal = fixture.node.create(fixture.new_container("x")).await;
    assert!(
        refusal
            .as_ref()
            .is_err_and(|text| text.contains("of another one, of VarmorPolicy demo/c")),
        "{refusal:?}"
    );

    let fixture = Fixture::new(FailurePolicy::Fail);
    fixture.policies(&[("p", "BPF")]).await;
    fixture
        .node
        .state()
        .names
        .with_key_of("varmor-demo-q", "varmor-demo-p");
    fixture
        .policies(&[("p", "BPF"), ("a-q", "AppArmor"), ("q", "BPF")])
        .await;
    assert!(
        !fixture
            .world
            .profiles
            .lock()
            .unwrap()
            .contains("varmor-demo-q")
    );
    let errors = fixture.list().errors;
    assert!(
        errors[0]
            .message
            .contains("same key in the BPF maps as varmor-demo-p"),
        "{errors:?}"
    );
}
