//! The loop: from what is wanted to what is in force.
//!
//! Each pass does, in this order: leave the index for the hook; load the profiles that are new or changed; put every
//! container under the profile of the policy that selects it now; then take away what nobody wants any more. A container
//! is always moved before its profile is removed, since a container whose profile is missing is refused everything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use varmor_node_state::{BpfDemand, ProfileName, ProfileRecord};
use varmor_policy::enforcer::{Enforcer, Enforcers};
use varmor_policy::index::PolicyIndex;
use varmor_policy::matching::{Selection, select};

use super::{Loaded, Node, State};
use crate::containers::{Container, Stage};
use crate::enforcers::Start;
use crate::policies_dir::digest;
use crate::store::Policy;

/// What failed is tried again after this long, then after twice as long, and so on ...
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// ... up to this long.
const LAST_RETRY: Duration = Duration::from_secs(640);

/// When a profile that could not be loaded is tried again.
#[derive(Debug, Clone)]
pub struct Retry {
    at: Instant,
    delay: Duration,
}

impl Retry {
    fn after(previous: Option<Self>) -> Self {
        let delay = previous.map_or(FIRST_RETRY, |previous| (previous.delay * 2).min(LAST_RETRY));
        Self {
            at: Instant::now() + delay,
            delay,
        }
    }
}

/// The policy that holds for a container now.
pub(super) struct Chosen {
    pub(super) policy: Arc<Policy>,
    pub(super) enforcers: Enforcers,
}

impl Chosen {
    /// Whether the policy asks for this enforcer, for this container.
    pub(super) fn wants(&self, enforcer: Enforcer) -> bool {
        self.enforcers.contains(enforcer)
            && match enforcer {
                Enforcer::AppArmor => self.policy.has_apparmor,
                Enforcer::Bpf => self.policy.has_bpf,
                Enforcer::Seccomp => self.policy.seccomp.is_some(),
                Enforcer::NetworkProxy => true,
            }
    }
}

impl Node {
    /// Runs for ever.
    pub async fn reconcile_for_ever(&self) {
        loop {
            let complete = self.reconcile().await;
            if complete {
                self.wake.notified().await;
            } else {
                let _ = tokio::time::timeout(FIRST_RETRY, self.wake.notified()).await;
            }
        }
    }

    /// One pass; false when something should be tried again.
    pub async fn reconcile(&self) -> bool {
        let (generation, desired) = {
            let state = self.state();
            (state.generation, state.desired.clone())
        };
        let mut troubles = Vec::new();
        if let Err(error) = self.leave_index(&desired.objects).await {
            troubles.push(format!("the hook's policy index can't be written: {error}"));
        }
        for policy in desired.policies.values() {
            if self.is_due(policy) {
                self.load(policy).await;
                self.progressed();
                // An answer that NRI waits for goes before the next profile.
                tokio::task::yield_now().await;
            }
        }
        let stuck = self.move_containers();
        if stuck.is_empty() {
            troubles.extend(self.retire().await);
        }
        troubles.extend(stuck);
        let mut state = self.state();
        for trouble in &troubles {
            if !state.troubles.contains(trouble) {
                tracing::error!("{trouble}");
            }
        }
        // Whoever still runs under a retired profile ends without a sign.
        let complete = troubles.is_empty()
            && state.retired.is_empty()
            && state.left_over.is_empty()
            && state
                .profiles
                .values()
                .all(|loaded| loaded.failures.is_empty());
        state.troubles = troubles;
        state.reconciled = state.reconciled.max(generation);
        drop(state);
        self.progressed();
        complete
    }

    async fn leave_index(&self, objects: &[varmor_policy::PolicyObject]) -> anyhow::Result<()> {
        let settings = &self.settings;
        let index = PolicyIndex::new(objects, settings.opt_in.clone(), settings.failure_policy);
        let fresh = digest(&serde_json::to_vec(&index)?);
        if self.state().index_digest.as_ref() == Some(&fresh) {
            return Ok(());
        }
        let files = self.adapters.files.clone();
        // It is flushed to the disk, which may be slow.
        tokio::task::spawn_blocking(move || files.save_index(&index)).await??;
        self.state().index_digest = Some(fresh);
        Ok(())
    }

    fn is_due(&self, policy: &Policy) -> bool {
        let state = self.state();
        let known = state.profiles.get(&policy.profile);
        match known {
            Some(loaded) if loaded.policy.digest == policy.digest => loaded
                .retry
                .as_ref()
                .is_some_and(|retry| retry.at <= Instant::now()),
            _ => true,
        }
    }

    async fn load(&self, policy: &Arc<Policy>) {
        let mut failures = Vec::new();
        let previous = self.state().profiles.get(&policy.profile).cloned();
        let mut in_bpf = previous.as_ref().is_some_and(|loaded| loaded.in_bpf);
        let (taken, compiler) = (Arc::clone(policy), Arc::clone(&self.adapters.compiler));
        let plan = tokio::task::spawn_blocking(move || taken.take_plan(&*compiler)).await;
        let plan = match plan.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(plan) => Some(plan),
            Err(error) => {
                failures.extend([(Enforcer::AppArmor, error.clone()), (Enforcer::Bpf, error)]);
                None
            }
        };
        if let Some(text) = plan.as_ref().and_then(|plan| plan.apparmor.as_deref()) {
            let result = match self.adapters.apparmor.unavailable() {
                Some(reason) => Err(reason),
                None => self.adapters.apparmor.load(&policy.profile, text).await,
            };
            match result {
                Ok(()) => {
                    let mut state = self.state();
                    state.apparmor.insert(policy.profile.clone());
                    state.retired.remove(&policy.profile);
                }
                Err(reason) => failures.push((Enforcer::AppArmor, reason)),
            }
        }
        if let Some(tables) = plan.and_then(|plan| plan.bpf) {
            let result = match self.adapters.bpf.unavailable() {
                Some(reason) => Err(reason),
                None => {
                    // The kernel waits until no program uses the old version.
                    let (bpf, profile) = (Arc::clone(&self.adapters.bpf), policy.profile.clone());
                    let set =
                        tokio::task::spawn_blocking(move || bpf.set_profile(&profile, &tables))
                            .await;
                    set.unwrap_or_else(|error| Err(error.to_string()))
                }
            };
            match result {
                Ok(()) => in_bpf = true,
                Err(reason) => failures.push((Enforcer::Bpf, reason)),
            }
        }
        let known = previous.filter(|loaded| loaded.policy.digest == policy.digest);
        for (enforcer, reason) in &failures {
            let told = known.as_ref().and_then(|loaded| loaded.failure(*enforcer))
                == Some(reason.as_str());
            if !told {
                tracing::error!("{}: {}: {reason}", policy.reference, enforcer.name());
            }
        }
        let retry =
            (!failures.is_empty()).then(|| Retry::after(known.and_then(|loaded| loaded.retry)));
        let loaded = Loaded {
            policy: Arc::clone(policy),
            failures,
            in_bpf,
            retry,
        };
        if let Err(error) = self.leave_profile(&loaded) {
            tracing::error!(
                "{}: the record of profile {} can't be written: {error}",
                policy.reference,
                policy.profile
            );
        }
        if loaded.failures.is_empty() {
            tracing::info!("{} is loaded as {}", policy.reference, policy.profile);
        }
        let mut state = self.state();
        state.names.profile(&policy.profile, &policy.reference);
        state.profiles.insert(policy.profile.clone(), loaded);
    }

    /// The record from which the runtime wrapper protects containers that CRI does not know.
    fn leave_profile(&self, loaded: &Loaded) -> anyhow::Result<()> {
        let policy = &loaded.policy;
        let profile = ProfileName::new(&*policy.profile)?;
        if !loaded.failures.is_empty() {
            return Ok(self.adapters.files.remove_profile(&profile)?);
        }
        Ok(self.adapters.files.save_profile(&ProfileRecord {
            profile,
            policy: policy.reference.clone(),
            apparmor: policy.has_apparmor.then(|| policy.profile.clone()),
            seccomp: policy.seccomp.clone().map(Into::into),
            bpf: policy.has_bpf,
        })?)
    }

    /// The policy that selects a container.
    pub(super) fn choose(
        &self,
        state: &State,
        facts: &varmor_policy::matching::ContainerFacts,
    ) -> Option<Chosen> {
        match select(&state.desired.objects, facts, &self.settings.opt_in) {
            Selection::Selected(object, enforcers) => {
                let policy = Arc::clone(state.desired.policies.get(&object.reference())?);
                Some(Chosen { policy, enforcers })
            }
            Selection::OptedOut(_) | Selection::NotSelected => None,
        }
    }

    fn move_containers(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut state = self.state();
        let ids: Vec<String> = state.containers.keys().cloned().collect();
        // A profile that goes takes along what was put under it by hand.
        let profiles: BTreeSet<String> = state
            .desired
            .policies
            .values()
            .map(|policy| policy.profile.clone())
            .collect();
        state.by_hand.retain(|_, profile| {
            profile
                .as_ref()
                .is_none_or(|profile| profiles.contains(profile))
        });
        for id in ids {
            let Some(container) = state.containers.get(&id) else {
                continue;
            };
            if container.stage == Stage::Stopped {
                continue;
            }
            let chosen = self.choose(&state, &container.pod.facts(&container.name));
            let mut container = container.clone();
            if let Err(trouble) = self.move_container(&state, &mut container, chosen.as_ref()) {
                troubles.push(format!("{}: {trouble}", container.title()));
            }
            state.containers.insert(id, container);
        }
        troubles
    }

    fn move_container(
        &self,
        state: &State,
        container: &mut Container,
        chosen: Option<&Chosen>,
    ) -> Result<(), String> {
        let policy = chosen.map(|chosen| chosen.policy.reference.clone());
        let profile = chosen.map(|chosen| chosen.policy.profile.clone());
        let in_bpf = |profile: &String| {
            state
                .profiles
                .get(profile)
                .is_some_and(|loaded| loaded.in_bpf)
        };
        let bpf_profile = profile.clone().filter(|profile| {
            chosen.is_some_and(|chosen| chosen.wants(Enforcer::Bpf)) && in_bpf(profile)
        });
        container.shortfalls = shortfalls(state, container, chosen);
        container.policy.clone_from(&policy);
        container.profile.clone_from(&profile);
        let by_hand = state.by_hand.get(container.id.as_str());
        let followed = by_hand.is_some() || self.settings.opt_in.holds(&container.pod.labels);
        if !followed || self.adapters.bpf.unavailable().is_some() {
            return Ok(());
        }
        if container.stage == Stage::Created && container.admitted {
            // The hook binds it by its marker. What its specification carries is settled, the profile is not.
            let mut marker = container.marker.clone();
            marker.policy = policy;
            marker.profile = profile.and_then(|profile| ProfileName::new(profile).ok());
            marker.bpf = if bpf_profile.is_some() {
                BpfDemand::Profile
            } else {
                BpfDemand::Bound
            };
            if marker != container.marker {
                self.adapters
                    .files
                    .save_marker(&marker)
                    .map_err(|error| error.to_string())?;
                container.marker = marker;
            }
        }
        let bpf_profile = by_hand.cloned().unwrap_or(bpf_profile);
        self.bind(container, bpf_profile.as_deref())
    }

    /// Puts a container that runs under a profile, whatever the policies select; the number of tasks that were marked.
    ///
    /// # Errors
    /// Why it can't be: for the caller of the node API.
    pub fn bind_by_hand(
        &self,
        id: &str,
        init: u32,
        profile: Option<String>,
    ) -> Result<u32, String> {
        let bpf = &self.adapters.bpf;
        if let Some(reason) = bpf.unavailable() {
            return Err(reason);
        }
        let mut state = self.state();
        if let Some(profile) = &profile
            && !state
                .profiles
                .get(profile)
                .is_some_and(|loaded| loaded.in_bpf)
        {
            return Err(format!("no policy has a BPF profile {profile}"));
        }
        let tasks = if bpf.binding(id)?.is_some() {
            bpf.switch(id, profile.as_deref())?;
            0
        } else {
            let addresses = Vec::new();
            bpf.bind_running(&Start {
                container: id.to_owned(),
                init,
                profile: profile.clone(),
                addresses,
            })?
        };
        if state.containers.contains_key(id) {
            state.by_hand.insert(id.to_owned(), profile);
        }
        Ok(tasks)
    }

    /// What a policy asks for and this node has not.
    pub fn shortcomings(&self, policy: &Policy) -> Vec<String> {
        let adapters = &self.adapters;
        let apparmor = policy
            .has_apparmor
            .then(|| adapters.apparmor.unavailable())
            .flatten();
        let bpf = policy.has_bpf.then(|| adapters.bpf.unavailable()).flatten();
        apparmor.into_iter().chain(bpf).collect()
    }

    /// Puts a container under a profile, or under none.
    pub(super) fn bind(&self, container: &Container, profile: Option<&str>) -> Result<(), String> {
        let bpf = &self.adapters.bpf;
        let id = container.id.as_str();
        match (bpf.binding(id)?, container.stage, container.pid) {
            (Some(binding), _, _) if binding.profile == crate::enforcers::profile_key(profile) => {
                Ok(())
            }
            (Some(_), _, _) => {
                bpf.switch(id, profile)?;
                tracing::info!(
                    "{} is now under {}",
                    container.title(),
                    profile.unwrap_or("no profile")
                );
                Ok(())
            }
            (None, Stage::Running, Some(init)) => {
                let start = Start {
                    container: id.to_owned(),
                    init,
                    profile: profile.map(str::to_owned),
                    addresses: container.pod.addresses.clone(),
                };
                bpf.bind_running(&start)?;
                tracing::info!(
                    "{} runs and is now under {}",
                    container.title(),
                    profile.unwrap_or("no profile")
                );
                Ok(())
            }
            // Not there yet, or not there any more.
            (None, _, _) => Ok(()),
        }
    }
}

/// What a container's policy asks for and the container does not have.
fn shortfalls(state: &State, container: &Container, chosen: Option<&Chosen>) -> Vec<String> {
    let Some(chosen) = chosen else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let policy = &chosen.policy;
    if let Some(loaded) = state.profiles.get(&policy.profile) {
        for (enforcer, reason) in &loaded.failures {
            if chosen.wants(*enforcer) {
                found.push(format!("{}: {reason}", enforcer.name()));
            }
        }
    }
    if chosen.wants(Enforcer::AppArmor)
        && container.marker.apparmor.as_ref() != Some(&policy.profile)
    {
        found.push("AppArmor: takes effect when the container is created anew".to_owned());
    }
    if chosen.wants(Enforcer::Seccomp) {
        let made_of = container
            .created_under
            .as_ref()
            .map(|policy| policy.seccomp_digest());
        let outdated = made_of.is_some_and(|made_of| made_of != policy.seccomp_digest());
        if container.marker.seccomp.is_none() || outdated {
            found.push("Seccomp: takes effect when the container is created anew".to_owned());
        }
    }
    found
}
