// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::node::tests::Fixture;
use crate::store::tests::text;
use varmor_node_api::Service as _;
use varmor_policy::index::FailurePolicy;

#[test]
fn documents_are_told_apart() {
    let cases: [(&str, usize); 8] = [
        ("a: 1\n", 1),
        ("---\na: 1\n---\nb: 2\n---\n# nothing\n", 2),
        ("a: |\n  ---\n  x\n", 1),
        ("--- {a: 1}\n--- {b: 2}", 2),
        ("", 0),
        ("{\"kind\": \"VarmorPolicy\"}", 1),
        ("[{}, {}]", 2),
        ("{\"kind\": \"List\", \"items\": [{}, {}, {}]}", 3),
    ];
    for (text, count) in cases {
        assert_eq!(documents(text).unwrap().len(), count, "{text}");
    }
    assert!(documents("{\"kind\": \"List\"}").is_err());
}

struct Daemon {
    fixture: Fixture,
    service: Service,
}

impl Daemon {
    fn new() -> Self {
        let fixture = Fixture::new(FailurePolicy::Fail);
        let applied = Applied::new(fixture.directory.path().join("applied"));
        let service = Service::new(
            Arc::clone(&fixture.node),
            applied,
            fixture.directory.path().join("inventory.json"),
            Arc::default(),
        );
        let node = Arc::clone(&fixture.node);
        tokio::spawn(async move { node.reconcile_for_ever().await });
        Self { fixture, service }
    }

    async fn apply(
        &self,
        source: &str,
        objects: &str,
        replace_all: bool,
    ) -> Vec<(Outcome, String)> {
        let request = api::ApplyRequest {
            objects: objects.into(),
            source: source.into(),
            wait_ms: 5000,
            replace_all,
            ..Default::default()
        };
        let response = self.service.apply(request).await.unwrap();
        assert!(!response.timed_out);
        let results = response.results.into_iter();
        results
            .map(|result| (result.outcome.enum_value().unwrap(), result.message))
            .collect()
    }

    async fn policies(&self) -> Vec<String> {
        let list = self.service.list(api::ListRequest::new()).await.unwrap();
        list.policies
            .iter()
            .map(|policy| format!("{} {}", policy.policy.name, policy.source))
            .collect()
    }
}

#[tokio::test]
async fn objects_come_and_go_each_with_its_result() {
    let daemon = Daemon::new();
    let objects = text(&[("a", "BPF"), ("broken", "BPF"), ("b", "BPF")]);
    let results = daemon.apply("sync", &objects, false).await;
    let outcomes: Vec<Outcome> = results.iter().map(|result| result.0).collect();
    assert_eq!(
        outcomes,
        [Outcome::CREATED, Outcome::REJECTED, Outcome::CREATED]
    );
    assert_eq!(results[1].1, "VarmorPolicy demo/broken: spec: broken");
    assert_eq!(daemon.policies().await, ["a sync", "b sync"]);
    let status = daemon
        .service
        .status(api::StatusRequest::new())
        .await
        .unwrap();
    assert_eq!((status.counters.policies, status.settled), (2, true));

    let results = daemon
        .apply("sync", &text(&[("a", "BPF"), ("b", "AppArmorBPF")]), false)
        .await;
    assert_eq!(
        results.iter().map(|result| result.0).collect::<Vec<_>>(),
        [Outcome::UNCHANGED, Outcome::CONFIGURED]
    );
    let results = daemon
        .apply("sync", &text(&[("b", "AppArmorBPF")]), true)
        .await;
    assert_eq!(
        results.iter().map(|result| result.0).collect::<Vec<_>>(),
        [Outcome::UNCHANGED, Outcome::DELETED]
    );
    assert_eq!(daemon.policies().await, ["b sync"]);
}

#[tokio::test]
async fn only_who_brought_a_policy_changes_it() {
    let daemon = Daemon::new();
    daemon.apply("sync", &text(&[("a", "BPF")]), false).await;
    let refused = daemon.apply("", &text(&[("a", "AppArmor")]), false).await;
    assert_eq!(refused[0].0, Outcome::REJECTED);
    assert!(refused[0].1.contains("was brought by sync"), "{refused:?}");
    assert_eq!(daemon.apply("", "", true).await, []);
    let mut policy = api::PolicyRef::new();
    (policy.kind, policy.namespace, policy.name) =
        ("VarmorPolicy".into(), "demo".into(), "a".into());
    let delete = |source: &str| api::DeleteRequest {
        policies: vec![policy.clone(), api::PolicyRef::new()],
        source: source.into(),
        wait_ms: 5000,
        ..Default::default()
    };
    let refused = daemon.service.delete(delete("other")).await.unwrap();
    assert_eq!(refused.results[0].outcome, Outcome::REJECTED.into());
    let deleted = daemon.service.delete(delete("sync")).await.unwrap();
    assert_eq!(deleted.results[0].outcome, Outcome::DELETED.into());
    assert_eq!(deleted.results[1].outcome, Outcome::NOT_FOUND.into());
    assert_eq!(daemon.policies().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_file_wins() {
    let daemon = Daemon::new();
    let request = api::ApplyRequest {
        objects: text(&[("a", "BPF")]),
        dry_run: true,
        ..Default::default()
    };
    let response = daemon.service.apply(request).await.unwrap();
    assert_eq!(response.results[0].outcome, Outcome::CREATED.into());
    assert_eq!(daemon.policies().await, Vec::<String>::new());

    daemon.fixture.policies(&[("a", "BPF")]).await;
    let refused = daemon.apply("sync", &text(&[("a", "BPF")]), false).await;
    assert_eq!(refused[0].0, Outcome::REJECTED);
    assert!(refused[0].1.contains("p.yaml"), "{refused:?}");
}
