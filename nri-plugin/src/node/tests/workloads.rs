// SPDX-License-Identifier: Apache-2.0
//! Policies for workloads: the plugin is told what a pod belongs to, asks, or goes by what it knew last.

use std::time::Duration;

use varmor_node_api::api;

use super::*;

/// A policy for Deployment demo/web, and what else the test needs.
async fn fixture(failure_policy: FailurePolicy) -> Fixture {
    let fixture = Fixture::new(failure_policy);
    let text = store::tests::text(&[("p", "BPF")])
        .replace("kind: Pod, selector: {}", "kind: Deployment, name: web");
    fixture.file(&text);
    fixture.node.reconcile().await;
    fixture
}

/// A pod of Deployment demo/web, which has not opted in itself.
fn of_deployment(uid: &str) -> Pod {
    Pod {
        uid: uid.into(),
        name: "web-77-abcde".into(),
        labels: BTreeMap::from([("pod-template-hash".into(), "77".into())]),
        ..pod()
    }
}

fn new(fixture: &Fixture, uid: &str) -> New {
    let base = fixture.new_container("a");
    New {
        pod: fixture.node.pod_started(of_deployment(uid)),
        ..base
    }
}

/// That Deployment demo/web has opted in, and that a pod belongs to it.
fn told(uid: &str) -> api::TellRequest {
    let mut request = api::TellRequest::new();
    let mut workload = api::Workload::new();
    (workload.kind, workload.namespace) = ("Deployment".into(), "demo".into());
    workload.name = "web".into();
    workload
        .labels
        .insert("sandbox.varmor.org/enable".into(), "true".into());
    request.workloads.push(workload);
    let mut owner = api::PodOwner::new();
    (owner.uid, owner.namespace) = (uid.into(), "demo".into());
    (owner.kind, owner.name) = ("Deployment".into(), "web".into());
    request.pods.push(owner);
    request
}

#[tokio::test]
async fn what_was_told_decides() {
    let fixture = fixture(FailurePolicy::Fail).await;
    fixture.node.tell(&told("u1")).unwrap();
    assert!(fixture.node.tell(&told("u1")).is_none(), "nothing new");
    let admission = fixture.node.create(new(&fixture, "u1")).await.unwrap();
    assert!(admission.hook);
    assert_eq!(admission.profile.as_deref(), Some("varmor-demo-p"));
    assert_eq!(fixture.marker("a").unwrap().bpf, BpfDemand::Profile);
}

#[tokio::test]
async fn a_container_waits_for_the_answer_to_a_question() {
    let fixture = fixture(FailurePolicy::Fail).await;
    let mut questions = fixture.node.answerer();
    let answer = async {
        let question = questions.recv().await.unwrap();
        assert_eq!((&*question.pod, &*question.uid), ("web-77-abcde", "u1"));
        fixture.node.tell(&told(&question.uid));
    };
    let (admission, ()) = tokio::join!(fixture.node.create(new(&fixture, "u1")), answer);
    assert_eq!(admission.unwrap().profile.as_deref(), Some("varmor-demo-p"));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_failure_policy_decides() {
    let fixture = fixture(FailurePolicy::Fail).await;
    let questions = fixture.node.answerer();
    let began = tokio::time::Instant::now();
    let refused = fixture.node.create(new(&fixture, "u1")).await.unwrap_err();
    assert!(
        refused.contains("VarmorPolicy demo/p may select it") && refused.contains("policy-sync"),
        "{refused}"
    );
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_millis(900) && waited < crate::config::ANSWER_WITHIN,
        "{waited:?}"
    );
    drop(questions);
    let began = tokio::time::Instant::now();
    fixture.node.create(new(&fixture, "u1")).await.unwrap_err();
    assert!(began.elapsed().is_zero(), "nobody is there to wait for");

    let lenient = self::fixture(FailurePolicy::Ignore).await;
    let admission = lenient.node.create(new(&lenient, "u1")).await.unwrap();
    assert_eq!(admission.profile, None);
}

#[tokio::test]
async fn without_an_answer_a_new_pod_of_a_known_workload_is_protected_and_others_start() {
    let fixture = fixture(FailurePolicy::Fail).await;
    fixture.node.tell(&told("another"));
    let admission = fixture.node.create(new(&fixture, "u9")).await.unwrap();
    assert_eq!(admission.profile.as_deref(), Some("varmor-demo-p"));
    // No workload makes such a pod: nobody needs to be asked.
    let bare = New {
        pod: fixture.node.pod_started(Pod {
            labels: BTreeMap::new(),
            ..of_deployment("u8")
        }),
        ..fixture.new_container("b")
    };
    assert_eq!(fixture.node.create(bare).await.unwrap().profile, None);
}

#[tokio::test]
async fn a_running_container_follows_its_workload_and_keeps_what_it_has_while_that_is_not_known() {
    let fixture = fixture(FailurePolicy::Fail).await;
    fixture.node.tell(&told("u1"));
    fixture.node.create(new(&fixture, "u1")).await.unwrap();
    let start = Start {
        container: "a".into(),
        init: 7,
        profile: Some("varmor-demo-p".into()),
        addresses: vec![],
    };
    fixture.world.bind(&start, true).unwrap();
    fixture.node.starting("a", 7).unwrap();
    fixture.node.reconcile().await;
    assert_eq!(fixture.world.bound("a"), Some(key("p")));

    fixture.node.state().inventory = None;
    fixture.node.reconcile().await;
    assert_eq!(fixture.world.bound("a"), Some(key("p")));
    assert!(
        fixture.shortfalls("a")[0].contains("not known yet"),
        "{:?}",
        fixture.shortfalls("a")
    );

    let mut out = told("u1");
    out.workloads_gone = std::mem::take(&mut out.workloads);
    fixture.node.tell(&out);
    fixture.node.reconcile().await;
    assert_ne!(fixture.world.bound("a"), Some(key("p")));
    fixture.node.tell(&told("u1"));
    fixture.node.reconcile().await;
    assert_eq!(fixture.world.bound("a"), Some(key("p")));
}

#[tokio::test]
async fn the_hook_is_told_too() {
    let fixture = fixture(FailurePolicy::Fail).await;
    let files = &fixture.node.adapters.files;
    new(&fixture, "u1");
    let record = || {
        let id = ContainerId::new("s1").unwrap();
        files.load_sandbox(&id).unwrap().unwrap().owner
    };
    assert!(record().is_unknown());
    fixture.node.tell(&told("u1"));
    assert!(record().opted_in(&OptIn::default()));
    fixture.node.reconcile().await;
    let index: PolicyIndex = files.load_index().unwrap().unwrap();
    let labels = of_deployment("u9").labels;
    let could = index.could_select("demo", "web-77-zzzzz", Some(&labels), "c1");
    assert!(matches!(could, Could::Yes(_)), "{could:?}");
}
