// SPDX-License-Identifier: Apache-2.0
//! The loop: from what is wanted to what is in force.
//!
//! Each pass does, in this order: leave the index for the hook; load the profiles that are new or changed; put every
//! container under the profile of the policies that select it now; then take away what nobody wants any more. A container
//! is always moved before its profile is removed, since a container whose profile is missing is refused everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use varmor_node_state::{ProfileName, ProfileRecord};
use varmor_policy::enforcer::Enforcer;
use varmor_policy::index::PolicyIndex;

use super::{Loaded, Node};
use crate::policies_dir::digest;
use crate::store::{Policy, Profile};

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
        let mut troubles = Vec::new();
        let (generation, desired, wanted) = {
            let mut state = self.state();
            let wanted = self.wanted(&mut state, &mut troubles);
            (state.generation, Arc::clone(&state.desired), wanted)
        };
        if let Err(error) = self.leave_index(&desired.objects).await {
            troubles.push(format!("the hook's policy index can't be written: {error}"));
        }
        for profile in wanted.values() {
            if self.is_due(profile) {
                self.load(profile).await;
                self.progressed();
                // An answer that NRI waits for goes before the next profile.
                tokio::task::yield_now().await;
            }
        }
        let stuck = self.move_containers(&wanted);
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
        // Whoever still runs under a retired profile ends without a sign, and so does the wait for a container.
        let complete = troubles.is_empty()
            && state.awaited.is_empty()
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
        let index = PolicyIndex::new(objects, settings.opt_in.clone(), settings.failure_policy)
            .with_owners(self.owners_for_hook(objects));
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

    fn is_due(&self, profile: &Profile) -> bool {
        let state = self.state();
        let known = state.profiles.get(&profile.name);
        match known {
            Some(loaded) if loaded.profile.is_same(profile) && !loaded.stale => loaded
                .retry
                .as_ref()
                .is_some_and(|retry| retry.at <= Instant::now()),
            _ => true,
        }
    }

    async fn load(&self, profile: &Arc<Profile>) {
        let mut failures = Vec::new();
        let name = &profile.name;
        let (previous, left, same_key) = {
            let state = self.state();
            let previous = state.profiles.get(name).cloned();
            (
                previous,
                state.left_over.contains(name),
                state.same_key(profile),
            )
        };
        let mut in_bpf = left || previous.as_ref().is_some_and(|loaded| loaded.in_bpf);
        let (taken, compiler) = (Arc::clone(profile), Arc::clone(&self.adapters.compiler));
        let plan = tokio::task::spawn_blocking(move || taken.take_plan(&*compiler)).await;
        let plan = match plan.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(plan) => Some(plan),
            Err(error) => {
                let enforcers = [Enforcer::AppArmor, Enforcer::Bpf, Enforcer::Seccomp];
                failures.extend(enforcers.map(|enforcer| (enforcer, error.clone())));
                None
            }
        };
        if let Some(text) = plan.as_ref().and_then(|plan| plan.apparmor.as_deref()) {
            let result = match self.adapters.apparmor.unavailable() {
                Some(reason) => Err(reason),
                None => self.adapters.apparmor.load(name, text).await,
            };
            match result {
                Ok(()) => {
                    let mut state = self.state();
                    state.apparmor.insert(name.clone());
                    state.retired.remove(name);
                }
                Err(reason) => failures.push((Enforcer::AppArmor, reason)),
            }
        }
        if let Some(tables) = plan.and_then(|plan| plan.bpf) {
            let result = match self.adapters.bpf.unavailable().or(same_key) {
                Some(reason) => Err(reason),
                None => {
                    // The kernel waits until no program uses the old version.
                    let (bpf, profile) = (Arc::clone(&self.adapters.bpf), name.clone());
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
        let known = previous.filter(|loaded| loaded.profile.is_same(profile));
        for (enforcer, reason) in &failures {
            let told = known.as_ref().and_then(|loaded| loaded.failure(*enforcer))
                == Some(reason.as_str());
            if !told {
                tracing::error!("{}: {}: {reason}", profile.title(), enforcer.name());
            }
        }
        let retry =
            (!failures.is_empty()).then(|| Retry::after(known.and_then(|loaded| loaded.retry)));
        let loaded = Loaded {
            profile: Arc::clone(profile),
            failures,
            in_bpf,
            stale: false,
            retry,
        };
        if let Err(error) = self.leave_profile(&loaded) {
            tracing::error!(
                "{}: the record of profile {name} can't be written: {error}",
                profile.title()
            );
        }
        if loaded.failures.is_empty() {
            tracing::info!("{} is loaded as {name}", profile.title());
        }
        let mut state = self.state();
        if state.same_key(profile).is_none() {
            state.names.profile(name, &profile.policies);
        }
        state.profiles.insert(name.clone(), loaded);
    }

    /// The record from which the runtime wrapper protects containers that CRI does not know.
    fn leave_profile(&self, loaded: &Loaded) -> anyhow::Result<()> {
        let profile = &loaded.profile;
        let name = ProfileName::new(&*profile.name)?;
        if !loaded.failures.is_empty() {
            return Ok(self.adapters.files.remove_profile(&name)?);
        }
        Ok(self.adapters.files.save_profile(&ProfileRecord {
            profile: name,
            policy: profile.policies[0].clone(),
            apparmor: profile.has_apparmor.then(|| profile.name.clone()),
            seccomp: profile.seccomp.clone().map(Into::into),
            bpf: profile.has_bpf,
        })?)
    }

    /// What a policy asks for and this node has not.
    pub fn shortcomings(&self, policy: &Policy) -> Vec<String> {
        let adapters = &self.adapters;
        let profile = &policy.profile;
        let apparmor = profile
            .has_apparmor
            .then(|| adapters.apparmor.unavailable())
            .flatten();
        let bpf = profile
            .has_bpf
            .then(|| adapters.bpf.unavailable())
            .flatten();
        apparmor.into_iter().chain(bpf).collect()
    }
}
