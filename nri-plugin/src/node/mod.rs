// SPDX-License-Identifier: Apache-2.0
//! The node's state and the one loop that brings what is in force to what should be.
//!
//! Everything that changes (files, the node API, the runtime's events) only notes what it saw and wakes the loop in
//! [`reconcile`]; an event that must be answered ([`admit`]) waits for the loop where it has to.

mod admit;
mod adopt;
mod in_spec;
mod owners;
mod place;
mod reconcile;
mod retire;
mod status;
#[cfg(test)]
pub mod tests;
mod wanted;
mod who;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use containerd_nri::RuntimeVersion;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use varmor_node_api::api;
use varmor_node_state::NodeState;
use varmor_policy::enforcer::Enforcer;
use varmor_policy::index::FailurePolicy;
use varmor_policy::matching::OptIn;
use varmor_policy::plan::{PolicyRef, Seccomp};

use crate::applied::Brought;
use crate::containers::{Container, Pod};
use crate::counters::Counters;
use crate::enforcers::{AppArmor, Bpf, profile_key};
use crate::inventory::Inventory;
use crate::policies_dir::File;
use crate::spec_update::SpecStore;
use crate::store::{Compiler, Desired, Policy, Profile};

pub use admit::New;
pub use adopt::Existing;
pub use reconcile::Retry;

/// What does not change while the daemon runs.
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// Which pods can be selected at all.
    pub opt_in: OptIn,
    /// What happens to a selected container that can't be protected.
    pub failure_policy: FailurePolicy,
    /// The namespace of this project's own pods.
    pub own_namespace: String,
}

/// The adapters to the kernel, to containerd and to the disk.
pub struct Adapters {
    /// AppArmor.
    pub apparmor: Box<dyn AppArmor>,
    /// BPF.
    pub bpf: Arc<dyn Bpf>,
    /// OCI specifications.
    pub specs: Box<dyn SpecStore>,
    /// Files shared with the OCI hook.
    pub files: NodeState,
    /// Joins a container's own seccomp filter with a policy's.
    pub merge: Merge,
    /// From policy to plan.
    pub compiler: Arc<Compiler>,
}

/// From a container's own filter (OCI `linux.seccomp`), if it has one, a policy's part and the container's bounding set to
/// the filter of both; none when the container has none and needs none.
pub type Merge = fn(Option<&Value>, &Seccomp, &[String]) -> Result<Option<Value>, String>;

/// The node.
pub struct Node {
    /// Settings.
    pub settings: Settings,
    /// Adapters.
    pub adapters: Adapters,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// Whether a runtime is connected and has said what it has.
    pub connected: AtomicBool,
    /// The runtime that was connected last.
    pub runtime: Mutex<Option<RuntimeVersion>>,
    began: Instant,
    /// Who answers questions about pods.
    answerers: Mutex<Vec<mpsc::Sender<api::Question>>>,
    state: Mutex<State>,
    wake: Notify,
    progress: watch::Sender<u64>,
}

/// What is wanted and what was done about it.
#[derive(Default)]
pub struct State {
    /// The files of the folder by path.
    pub files: BTreeMap<String, File<Vec<Arc<Policy>>>>,
    /// Why the folder can't be read, if that is so.
    pub folder_error: Option<String>,
    /// Policies from the node API.
    pub applied: BTreeMap<PolicyRef, Brought>,
    /// What policy-sync told of pods and workloads.
    pub inventory: Option<Inventory>,
    /// All policies together.
    pub desired: Arc<Desired>,
    /// Counts changes of `desired`.
    pub generation: u64,
    /// The generation that is in force, as far as it can be.
    pub reconciled: u64,
    /// By profile name, what was loaded.
    pub profiles: BTreeMap<String, Loaded>,
    /// What the profiles of several policies that hold together are named after, by profile name.
    pub compositions: BTreeMap<String, Vec<PolicyRef>>,
    /// Containers that are to be created and whose profiles should be there, by their titles.
    pub awaited: BTreeMap<String, wanted::Awaited>,
    /// BPF profiles that containers are under because those that hold for them can't be loaded.
    pub held: BTreeSet<String>,
    /// Whether a runtime has told which containers there are.
    pub adopted: bool,
    /// AppArmor profiles of ours that the kernel has.
    pub apparmor: BTreeSet<String>,
    /// Those that were made harmless because their policy is gone and somebody still runs under them.
    pub retired: BTreeSet<String>,
    /// BPF profiles that were there before this daemon, or that no policy asks for and that are not removed yet.
    pub left_over: BTreeSet<String>,
    /// Pods by sandbox id.
    pub pods: HashMap<String, Arc<Pod>>,
    /// Containers by id.
    pub containers: HashMap<String, Container>,
    /// Profiles that somebody put containers under through the node API, whatever the policies select.
    pub by_hand: HashMap<String, Option<String>>,
    /// Names for reports.
    pub names: who::Names,
    /// What went wrong beyond a single policy.
    pub troubles: Vec<String>,
    /// Digest of the index that the hook has.
    pub index_digest: Option<String>,
}

/// A profile that the loop has dealt with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it is made of.
    pub profile: Arc<Profile>,
    /// Enforcers that have no version of it, or an older one, and why.
    pub failures: Vec<(Enforcer, String)>,
    /// Whether some version of it is in the BPF maps.
    pub in_bpf: bool,
    /// Whether nobody wanted it for a while, so that not all of it may be there any more.
    pub stale: bool,
    /// When a failure is tried again.
    pub retry: Option<Retry>,
}

impl Loaded {
    /// Why `policy` can't be enforced with `enforcer`.
    pub fn failure(&self, enforcer: Enforcer) -> Option<&str> {
        self.failures
            .iter()
            .find(|(failed, _)| *failed == enforcer)
            .map(|(_, reason)| reason.as_str())
    }
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(settings: Settings, adapters: Adapters) -> Arc<Self> {
        Arc::new(Self {
            settings,
            adapters,
            state: Mutex::default(),
            wake: Notify::new(),
            progress: watch::Sender::new(0),
            counters: Arc::default(),
            connected: AtomicBool::new(false),
            runtime: Mutex::new(None),
            began: Instant::now(),
            answerers: Mutex::default(),
        })
    }

    /// The state; never held across an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic aborts the process")
    }

    /// Makes the loop look again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    fn progressed(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// Tells when the loop has done something.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Takes the folder as it was read.
    pub fn files_changed(
        &self,
        files: BTreeMap<String, File<Vec<Arc<Policy>>>>,
        error: Option<String>,
    ) {
        let mut state = self.state();
        state.files = files;
        state.folder_error = error;
        state.join_sources();
        drop(state);
        self.wake();
    }

    /// Takes a policy from the node API, or takes it away.
    pub fn applied_changed(&self, reference: &PolicyRef, policy: Option<Brought>) {
        let mut state = self.state();
        match policy {
            Some(policy) => drop(state.applied.insert(reference.clone(), policy)),
            None => drop(state.applied.remove(reference)),
        }
        state.join_sources();
        drop(state);
        self.wake();
    }

    /// Waits until everything that is wanted now is in force, as far as it can be.
    pub async fn settled(&self) {
        let mut progress = self.progress();
        let wanted = self.state().generation;
        while self.state().reconciled < wanted {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }
}

impl State {
    fn join_sources(&mut self) {
        let files = self.files.iter().filter_map(|(name, file)| {
            file.accepted
                .as_ref()
                .map(|accepted| (name.as_str(), accepted.content.as_slice()))
        });
        let applied = self.applied.values().map(|brought| {
            (
                brought.source.as_str(),
                std::slice::from_ref(&brought.policy),
            )
        });
        let desired = Desired::new(files.chain(applied));
        for (source, conflict) in &desired.conflicts {
            if !self
                .desired
                .conflicts
                .iter()
                .any(|known| known.1 == *conflict)
            {
                tracing::error!(source, "{conflict}");
            }
        }
        self.desired = Arc::new(desired);
        self.generation += 1;
    }

    /// Whether some version of a profile of these policies is in the BPF maps.
    fn has_in_bpf(&self, profile: &Profile) -> bool {
        let loaded = self.profiles.get(&profile.name);
        loaded.is_some_and(|loaded| loaded.in_bpf && loaded.profile.policies == profile.policies)
    }

    /// The profile that has this key in the BPF maps.
    fn in_bpf_by_key(&self, key: u64) -> Option<&Loaded> {
        let loaded = self.profiles.get(self.names.profile_name(key)?)?;
        loaded.in_bpf.then_some(loaded)
    }

    /// Why a profile can't be in the BPF maps: its key there, 64 bits of a hash of names that tenants choose, is that of
    /// another one. Whichever was first keeps it.
    fn same_key(&self, profile: &Profile) -> Option<String> {
        let key = profile_key(Some(&profile.name));
        let other = self.names.profile_name(key)?;
        let is_there = self.left_over.contains(other)
            || self.profiles.get(other).is_some_and(|loaded| loaded.in_bpf);
        (*other != profile.name && is_there).then(|| {
            format!(
                "its profile {} has the same key in the BPF maps as {other}; rename a policy",
                profile.name
            )
        })
    }
}
