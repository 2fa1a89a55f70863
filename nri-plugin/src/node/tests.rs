//! The node's logic against adapters that only remember.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use varmor_node_state::{BpfDemand, ContainerId, Layout, Marker, NodeState, seccomp_digest};
use varmor_policy::index::{Could, FailurePolicy, PolicyIndex};
use varmor_policy::matching::OptIn;
use varmor_policy::plan::bpf::BpfProfile;

use super::{Adapters, Existing, New, Node, Settings};
use crate::containers::{Pod, Stage};
use crate::enforcers::{AppArmor, Binding, Bpf, Start, profile_key};
use crate::policies_dir::{Accepted, File};
use crate::spec_update::SpecStore;
use crate::store;

/// What the kernel and containerd have.
#[derive(Default)]
pub struct World {
    apparmor: Mutex<BTreeMap<String, String>>,
    used: Mutex<BTreeSet<String>>,
    profiles: Mutex<BTreeSet<String>>,
    bindings: Mutex<HashMap<String, Binding>>,
    specs: Mutex<HashMap<String, Value>>,
    no_apparmor: AtomicBool,
    no_bpf: AtomicBool,
    broken: AtomicBool,
}

impl World {
    fn check(&self) -> Result<(), String> {
        if self.broken.load(Ordering::Relaxed) {
            Err("it is broken".to_owned())
        } else {
            Ok(())
        }
    }

    fn bound(&self, container: &str) -> Option<u64> {
        self.bindings
            .lock()
            .unwrap()
            .get(container)
            .map(|binding| binding.profile)
    }

    fn bind(&self, start: &Start, active: bool) -> Result<(), String> {
        self.check()?;
        let binding = Binding {
            profile: profile_key(start.profile.as_deref()),
            init: start.init,
            active,
        };
        self.bindings
            .lock()
            .unwrap()
            .insert(start.container.clone(), binding);
        Ok(())
    }
}

struct Fake(Arc<World>);

#[async_trait]
impl AppArmor for Fake {
    fn unavailable(&self) -> Option<String> {
        self.0
            .no_apparmor
            .load(Ordering::Relaxed)
            .then(|| "AppArmor is not enabled in this node's kernel".to_owned())
    }
    async fn load(&self, profile: &str, text: &str) -> Result<(), String> {
        self.0.check()?;
        self.0
            .apparmor
            .lock()
            .unwrap()
            .insert(profile.to_owned(), text.to_owned());
        Ok(())
    }
    async fn neutralise(&self, profile: &str) -> Result<(), String> {
        self.load(profile, "allow all").await
    }
    fn loaded(&self) -> io::Result<BTreeSet<String>> {
        Ok(self.0.apparmor.lock().unwrap().keys().cloned().collect())
    }
    fn in_use(&self) -> io::Result<BTreeSet<String>> {
        Ok(self.0.used.lock().unwrap().clone())
    }
    fn remove(&self, profile: &str) -> io::Result<()> {
        self.0.apparmor.lock().unwrap().remove(profile);
        Ok(())
    }
}

impl Bpf for Fake {
    fn unavailable(&self) -> Option<String> {
        self.0
            .no_bpf
            .load(Ordering::Relaxed)
            .then(|| "the kernel has no BPF LSM".to_owned())
    }
    fn missing(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn set_profile(&self, profile: &str, _: &BpfProfile) -> Result<(), String> {
        self.0.check()?;
        self.0.profiles.lock().unwrap().insert(profile.to_owned());
        Ok(())
    }
    fn remove_profile(&self, profile: &str) -> Result<bool, String> {
        let key = profile_key(Some(profile));
        let used = self
            .0
            .bindings
            .lock()
            .unwrap()
            .values()
            .any(|binding| binding.profile == key);
        assert!(
            !used,
            "a container is under {profile}: it would be refused everything"
        );
        self.0.profiles.lock().unwrap().remove(profile);
        Ok(true)
    }
    fn binding(&self, container: &str) -> Result<Option<Binding>, String> {
        Ok(self.0.bindings.lock().unwrap().get(container).cloned())
    }
    fn switch(&self, container: &str, profile: Option<&str>) -> Result<(), String> {
        if let Some(profile) = profile {
            assert!(
                self.0.profiles.lock().unwrap().contains(profile),
                "{profile} is not loaded"
            );
        }
        self.0
            .bindings
            .lock()
            .unwrap()
            .get_mut(container)
            .unwrap()
            .profile = profile_key(profile);
        Ok(())
    }
    fn bind_starting(&self, start: &Start) -> Result<(), String> {
        self.0.bind(start, false)
    }
    fn bind_running(&self, start: &Start) -> Result<u32, String> {
        self.0.bind(start, true).map(|()| 1)
    }
    fn unbind(&self, container: &str) -> Result<(), String> {
        self.0.bindings.lock().unwrap().remove(container);
        Ok(())
    }
}

#[async_trait]
impl SpecStore for Fake {
    async fn spec(&self, container: &str) -> Result<Value, String> {
        self.0.check()?;
        self.0
            .specs
            .lock()
            .unwrap()
            .get(container)
            .cloned()
            .ok_or("no such container".to_owned())
    }
    async fn replace(&self, container: &str, spec: &Value) -> Result<(), String> {
        self.0
            .specs
            .lock()
            .unwrap()
            .insert(container.to_owned(), spec.clone());
        Ok(())
    }
}

fn merge(
    own: Option<&Value>,
    _: &varmor_policy::plan::Seccomp,
    _: &[String],
) -> Result<Option<Value>, String> {
    let default = own
        .and_then(|own| own["defaultAction"].as_str())
        .unwrap_or("SCMP_ACT_ALLOW");
    let rule = json!({"names": ["unshare"], "action": "SCMP_ACT_ERRNO"});
    Ok(Some(json!({"defaultAction": default, "syscalls": [rule]})))
}

/// A node whose adapters only remember.
pub struct Fixture {
    /// What they remember.
    pub world: Arc<World>,
    /// The node.
    pub node: Arc<Node>,
    /// Where its files are.
    pub directory: Arc<tempfile::TempDir>,
}

impl Fixture {
    /// A node that is new.
    pub fn new(failure_policy: FailurePolicy) -> Self {
        Self::restart(
            Arc::default(),
            Arc::new(tempfile::tempdir().unwrap()),
            failure_policy,
        )
    }

    /// The same node with a new daemon.
    fn restart(
        world: Arc<World>,
        directory: Arc<tempfile::TempDir>,
        failure_policy: FailurePolicy,
    ) -> Self {
        let files = NodeState::new(Layout {
            run: directory.path().join("run"),
            state: directory.path().join("state"),
        });
        let fake = || Box::new(Fake(Arc::clone(&world)));
        let node = Node::new(
            Settings {
                node: "n1".into(),
                opt_in: OptIn::default(),
                failure_policy,
            },
            Adapters {
                apparmor: fake(),
                bpf: Arc::new(Fake(Arc::clone(&world))),
                specs: fake(),
                files,
                merge,
                compiler: Arc::new(store::tests::compiler),
            },
        );
        node.adopt_profiles();
        Self {
            world,
            node,
            directory,
        }
    }

    /// Puts these policies (name, enforcer) into the folder.
    pub async fn policies(&self, policies: &[(&str, &str)]) {
        let mut files = BTreeMap::new();
        if !policies.is_empty() {
            let content =
                store::read(&store::tests::text(policies), &store::tests::compiler).unwrap();
            let accepted = Accepted {
                digest: "d".into(),
                content: Arc::new(content),
            };
            files.insert(
                "p.yaml".to_owned(),
                File {
                    seen: None,
                    accepted: Some(accepted),
                    error: None,
                },
            );
        }
        self.node.files_changed(files, None);
        self.node.reconcile().await;
    }

    fn new_container(&self, id: &str) -> New {
        New {
            pod: self.node.pod_started(pod()),
            id: id.into(),
            name: "c1".into(),
            image: String::new(),
            filter: None,
        }
    }

    fn marker(&self, id: &str) -> Option<Marker> {
        self.node
            .adapters
            .files
            .load_marker(&ContainerId::new(id).unwrap())
            .unwrap()
    }

    /// Creates and starts a container as containerd, runc and the hook do.
    async fn run(&self, id: &str, pid: u32) {
        self.node.create(self.new_container(id)).await.unwrap();
        let spec = json!({"process": {"args": ["sh"]}, "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}});
        self.world.specs.lock().unwrap().insert(id.into(), spec);
        self.node.created(id).await.unwrap();
        let marker = self.marker(id).unwrap();
        let profile =
            (marker.bpf == BpfDemand::Profile).then(|| marker.profile.unwrap().to_string());
        if marker.bpf != BpfDemand::Nothing {
            self.world
                .bind(
                    &Start {
                        container: id.into(),
                        init: pid,
                        profile,
                        addresses: vec![],
                    },
                    false,
                )
                .unwrap();
        }
        self.node.starting(id, pid).unwrap();
        self.node.started(id, pid);
        self.node.reconcile().await;
    }

    fn shortfalls(&self, id: &str) -> Vec<String> {
        self.node.state().containers[id].shortfalls.clone()
    }
}

fn pod() -> Pod {
    Pod {
        id: "s1".into(),
        namespace: "demo".into(),
        name: "web".into(),
        uid: "u1".into(),
        labels: BTreeMap::from([("sandbox.varmor.org/enable".into(), "true".into())]),
        annotations: BTreeMap::new(),
        addresses: vec![],
    }
}

fn existing(id: &str, stage: Stage, pid: u32) -> Existing {
    Existing {
        pod: "s1".into(),
        id: id.into(),
        name: "c1".into(),
        image: String::new(),
        stage,
        pid,
    }
}

fn key(policy: &str) -> u64 {
    profile_key(Some(&format!("varmor-demo-{policy}")))
}

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
    assert_eq!(admission.unwrap(), super::admit::Admission::default());
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
    let content = store::read(
        &store::tests::text(&[("p", "BPF")]),
        &store::tests::compiler,
    )
    .unwrap();
    let accepted = Accepted {
        digest: "d".into(),
        content: Arc::new(content),
    };
    let file = File {
        seen: None,
        accepted: Some(accepted),
        error: None,
    };
    fixture
        .node
        .files_changed(BTreeMap::from([("p.yaml".to_owned(), file)]), None);
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
    assert_eq!(text().as_deref(), Some("profile varmor-demo-p AppArmor"));
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
    fixture.node.started("a", 7);
    fixture.node.reconcile().await;
    assert_eq!(fixture.world.bound("a"), Some(key("q")));
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
