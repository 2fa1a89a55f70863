// SPDX-License-Identifier: Apache-2.0
//! The node's logic against adapters that only remember.

mod admission;
mod live;
mod merging;
mod workloads;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use varmor_node_state::{BpfDemand, ContainerId, Layout, Marker, NodeState, Spec, seccomp_digest};
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
    async fn spec(&self, container: &str) -> Result<Spec, String> {
        self.0.check()?;
        let specs = self.0.specs.lock().unwrap();
        let spec = specs.get(container).ok_or("no such container")?;
        Spec::parse(spec.to_string().as_bytes()).map_err(|error| error.to_string())
    }
    async fn replace(&self, container: &str, spec: &Spec) -> Result<(), String> {
        let spec = serde_json::from_slice(&spec.to_json().unwrap()).unwrap();
        let mut specs = self.0.specs.lock().unwrap();
        specs.insert(container.to_owned(), spec);
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
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let fixture = Self::restart(Arc::default(), directory, failure_policy);
        fixture.node.adopt(vec![], vec![]);
        fixture
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
                own_namespace: "varmor".into(),
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

    /// Puts these policies (name, enforcer) into the folder, and them in force.
    pub async fn policies(&self, policies: &[(&str, &str)]) {
        self.folder(policies);
        self.node.reconcile().await;
    }

    /// Puts these policies into the folder.
    fn folder(&self, policies: &[(&str, &str)]) {
        if policies.is_empty() {
            self.node.files_changed(BTreeMap::new(), None);
        } else {
            self.file(&store::tests::text(policies));
        }
    }

    /// Puts a file with this text, and no other, into the folder.
    fn file(&self, text: &str) {
        let content = store::read(text, &store::tests::compiler).unwrap();
        let accepted = Accepted {
            digest: "d".into(),
            content: Arc::new(content),
        };
        let file = File {
            seen: None,
            accepted: Some(accepted),
            error: None,
        };
        self.node
            .files_changed(BTreeMap::from([("p.yaml".to_owned(), file)]), None);
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
        let new = self.new_container(id);
        // The profile may have to be loaded for it.
        let (admission, _) = tokio::join!(self.node.create(new), self.node.reconcile());
        admission.unwrap();
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
