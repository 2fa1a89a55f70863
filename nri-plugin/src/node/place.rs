// SPDX-License-Identifier: Apache-2.0
//! Putting containers under the profiles that hold for them now.

use std::collections::BTreeSet;

use varmor_node_state::{BpfDemand, ProfileName};
use varmor_policy::enforcer::Enforcer;

use super::wanted::{Chosen, Wanted};
use super::{Node, State};
use crate::containers::{Container, Stage};
use crate::enforcers::{Start, profile_key};
use crate::store::Profile;

impl Node {
    /// Puts every container under the profile of the policies that select it now; what went wrong.
    pub(super) fn move_containers(&self, wanted: &Wanted) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut state = self.state();
        let ids: Vec<String> = state.containers.keys().cloned().collect();
        // A profile that goes takes along what was put under it by hand.
        state.by_hand.retain(|_, profile| {
            profile
                .as_ref()
                .is_none_or(|profile| wanted.contains_key(profile))
        });
        let mut held = BTreeSet::new();
        for id in ids {
            let Some(container) = state.containers.get(&id) else {
                continue;
            };
            if container.stage == Stage::Stopped {
                continue;
            }
            let facts = state.facts(&container.pod, &container.name);
            let chosen = self.choose(&state, &facts);
            let mut container = container.clone();
            if chosen.is_none()
                && let Some(policy) = self.undecided(&state, &facts)
            {
                // It keeps what it has until somebody tells.
                held.extend(container.profile.clone());
                let reason = format!("{policy} may select it: its pod's workload is not known yet");
                container.shortfalls = vec![reason];
                state.containers.insert(id, container);
                continue;
            }
            match self.move_container(&state, &mut container, chosen.as_ref()) {
                Ok(stands_in) => held.extend(stands_in),
                Err(trouble) => {
                    // It may still be under what it was under.
                    held.extend(container.profile.clone());
                    troubles.push(format!("{}: {trouble}", container.title()));
                }
            }
            state.containers.insert(id, container);
        }
        state.held = held;
        troubles
    }

    /// The BPF profile that the container is under in place of the one that holds for it, if that can't be loaded.
    fn move_container(
        &self,
        state: &State,
        container: &mut Container,
        chosen: Option<&Chosen>,
    ) -> Result<Option<String>, String> {
        let policies = chosen.map_or_else(Vec::new, |chosen| chosen.profile.policies.clone());
        let profile = chosen.map(|chosen| chosen.profile.name.clone());
        let in_bpf = chosen
            .filter(|chosen| chosen.wants(Enforcer::Bpf))
            .map(|chosen| &chosen.profile);
        let (bpf_profile, stands_in) = match in_bpf {
            None => (None, None),
            Some(wanted) if state.has_in_bpf(wanted) => (Some(wanted.name.clone()), None),
            Some(wanted) => {
                let other = self.stand_in(state, container, wanted)?;
                (other.clone(), other)
            }
        };
        container.shortfalls = shortfalls(state, container, chosen, stands_in.as_deref());
        let first = policies.first().cloned();
        container.policies = policies;
        container.profile = stands_in.clone().or(profile);
        if self.adapters.bpf.unavailable().is_some() {
            return Ok(None);
        }
        let by_hand = state.by_hand.get(container.id.as_str());
        let opted_in = || {
            let facts = state.facts(&container.pod, &container.name);
            facts.opted_in(&self.settings.opt_in)
        };
        // A workload can opt out while its containers run.
        let is_bound = self.adapters.bpf.binding(container.id.as_str())?.is_some();
        if by_hand.is_none() && !is_bound && !opted_in() {
            return Ok(None);
        }
        if container.stage == Stage::Created && container.admitted {
            // The hook binds it by its marker. What its specification carries is settled, the profile is not.
            let mut marker = container.marker.clone();
            marker.policy = first;
            marker.profile = container
                .profile
                .as_ref()
                .and_then(|profile| ProfileName::new(&**profile).ok());
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
        self.bind(container, bpf_profile.as_deref())?;
        Ok(stands_in)
    }

    /// The BPF profile for a container while the one that holds for it is not there. A policy that does not go together
    /// with others, or that this node can't enforce, must not take from a container what holds for it already: it keeps
    /// its profile where the first of the policies is in that, else it gets the first policy's own, else it keeps what it
    /// has.
    fn stand_in(
        &self,
        state: &State,
        container: &Container,
        wanted: &Profile,
    ) -> Result<Option<String>, String> {
        if self.adapters.bpf.unavailable().is_some() {
            return Ok(None);
        }
        let first = &wanted.policies[0];
        let bound = self.adapters.bpf.binding(container.id.as_str())?;
        let current = bound.and_then(|binding| state.in_bpf_by_key(binding.profile));
        if let Some(loaded) = current.filter(|loaded| loaded.profile.policies.contains(first)) {
            return Ok(Some(loaded.profile.name.clone()));
        }
        let own = state.desired.policies.get(first);
        let own = own.filter(|policy| state.has_in_bpf(&policy.profile));
        let name = own
            .map(|policy| &policy.profile.name)
            .or(current.map(|loaded| &loaded.profile.name));
        Ok(name.cloned())
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

    /// Puts a container under a profile, or under none.
    pub(super) fn bind(&self, container: &Container, profile: Option<&str>) -> Result<(), String> {
        let bpf = &self.adapters.bpf;
        let id = container.id.as_str();
        match (bpf.binding(id)?, container.stage, container.pid) {
            (Some(binding), _, _) if binding.profile == profile_key(profile) => Ok(()),
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

/// What the policies of a container ask for and the container does not have.
fn shortfalls(
    state: &State,
    container: &Container,
    chosen: Option<&Chosen>,
    stands_in: Option<&str>,
) -> Vec<String> {
    let Some(chosen) = chosen else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let profile = &chosen.profile;
    if let Some(namesake) = state.namesake(profile) {
        found.push(namesake);
    } else if let Some(loaded) = state.profiles.get(&profile.name) {
        for (enforcer, reason) in &loaded.failures {
            if chosen.wants(*enforcer) {
                found.push(format!("{}: {reason}", enforcer.name()));
            }
        }
    }
    if let Some(other) = stands_in {
        found.push(format!("BPF: {other} holds in place of {}", profile.name));
    }
    // The profile that it was created under may have come to be of the same policies since.
    let is_of_them = |name: &String| {
        let loaded = state.profiles.get(name);
        *name == profile.name
            || loaded.is_some_and(|loaded| {
                loaded.profile.policies == profile.policies
                    && loaded.failure(Enforcer::AppArmor).is_none()
            })
    };
    if chosen.wants(Enforcer::AppArmor)
        && !container.marker.apparmor.as_ref().is_some_and(is_of_them)
    {
        found.push("AppArmor: takes effect when the container is created anew".to_owned());
    }
    if chosen.wants(Enforcer::Seccomp) {
        let made_of = container
            .created_under
            .as_ref()
            .map(|profile| profile.seccomp_digest());
        let outdated = made_of.is_some_and(|made_of| made_of != profile.seccomp_digest());
        if container.marker.seccomp.is_none() || outdated {
            found.push("Seccomp: takes effect when the container is created anew".to_owned());
        }
    }
    found
}
