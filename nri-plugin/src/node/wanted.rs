// SPDX-License-Identifier: Apache-2.0
//! Which profiles must be loaded: the own ones of all policies, and those of policies that hold together for a container
//! of this node. There are as many of these as containers need, and not one for every set of policies that there could be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use varmor_node_state::{CompositionRecord, ProfileName};
use varmor_policy::enforcer::Enforcers;
use varmor_policy::matching::{ContainerFacts, Selection, select};
use varmor_policy::plan::PolicyRef;

use super::{Node, State};
use crate::containers::{Pod, title};
use crate::store::Profile;

/// A profile that a container waited for in vain stays wanted for so long: the kubelet tries again, and what takes longer
/// to load than the container may wait must be there then.
const AWAITED_FOR: Duration = Duration::from_secs(120);
/// Most names of containers that a new pod's profiles are loaded for before its containers come.
const MAX_EXPECTED: usize = 16;

/// What must be loaded, by name.
pub(super) type Wanted = BTreeMap<String, Arc<Profile>>;

/// The profile that holds for a container now.
pub(super) struct Chosen {
    pub(super) profile: Arc<Profile>,
    pub(super) enforcers: Enforcers,
}

impl Chosen {
    /// Whether the policies ask for this enforcer, for this container.
    pub(super) fn wants(&self, enforcer: varmor_policy::enforcer::Enforcer) -> bool {
        use varmor_policy::enforcer::Enforcer;
        self.enforcers.contains(enforcer)
            && match enforcer {
                Enforcer::AppArmor => self.profile.has_apparmor,
                Enforcer::Bpf => self.profile.has_bpf,
                Enforcer::Seccomp => self.profile.seccomp.is_some(),
                Enforcer::NetworkProxy => true,
            }
    }
}

/// A container that is to be created and whose profile is not loaded yet.
#[derive(Debug, Clone)]
pub struct Awaited {
    pod: Pod,
    container: String,
    until: Instant,
}

impl Node {
    /// The profile of the policies that select a container.
    pub(super) fn choose(&self, state: &State, facts: &ContainerFacts) -> Option<Chosen> {
        match select(&state.desired.objects, facts, &self.settings.opt_in) {
            Selection::Selected(members, enforcers) => {
                let policies: Vec<PolicyRef> = members.iter().map(|one| one.reference()).collect();
                let profile = state.desired.profile_of(&policies)?;
                Some(Chosen { profile, enforcers })
            }
            Selection::OptedOut(_) | Selection::NotSelected | Selection::Unknown(_) => None,
        }
    }

    /// Keeps a profile wanted for a container that is not there yet.
    pub(super) fn await_profile(&self, pod: &Pod, container: &str) {
        let awaited = Awaited {
            pod: pod.clone(),
            container: container.to_owned(),
            until: Instant::now() + AWAITED_FOR,
        };
        let mut state = self.state();
        state.awaited.insert(title(pod, container), awaited);
        drop(state);
        self.wake();
    }

    /// Has the profiles loaded that the containers of a new pod may need, before these come and can't wait for long.
    pub(super) fn expect_containers(&self, pod: &Pod) {
        if !self.state().facts(pod, "").opted_in(&self.settings.opt_in) {
            return;
        }
        let expected: Vec<String> = {
            let state = self.state();
            let named: BTreeSet<&String> = state
                .desired
                .objects
                .iter()
                .filter(|policy| policy.spec().policy.merge)
                .filter(|policy| policy.namespace().is_none_or(|its| its == pod.namespace))
                .flat_map(|policy| &policy.spec().target.containers)
                .take(MAX_EXPECTED)
                .collect();
            // One that no policy names stands for all such.
            let names = named.into_iter().cloned().chain([String::new()]);
            names
                .filter(|name| {
                    let chosen = self.choose(&state, &state.facts(pod, name));
                    chosen.is_some_and(|chosen| !state.has_tried(&chosen.profile))
                })
                .collect()
        };
        for container in expected {
            self.await_profile(pod, &container);
        }
    }

    /// What must be loaded now. Notes which compositions there are, on disk too.
    pub(super) fn wanted(&self, state: &mut State, troubles: &mut Vec<String>) -> Wanted {
        let now = Instant::now();
        state.awaited.retain(|_, awaited| awaited.until > now);
        let desired = Arc::clone(&state.desired);
        let mut wanted: Wanted = desired
            .policies
            .values()
            .map(|policy| (policy.profile.name.clone(), Arc::clone(&policy.profile)))
            .collect();
        let containers = state.containers.values();
        let facts = containers
            .map(|container| state.facts(&container.pod, &container.name))
            .chain(
                state
                    .awaited
                    .values()
                    .map(|awaited| state.facts(&awaited.pod, &awaited.container)),
            );
        let composed: Vec<Arc<Profile>> = facts
            .filter_map(|facts| Some(self.choose(state, &facts)?.profile))
            .filter(|profile| profile.is_composed())
            .collect();
        for profile in composed {
            match self.note(state, &profile) {
                Ok(()) => drop(wanted.insert(profile.name.clone(), profile)),
                Err(trouble) => troubles.push(trouble),
            }
        }
        for (name, policies) in &state.compositions {
            if !wanted.contains_key(name) && state.may_be_used(name) {
                let left = desired.present(policies);
                if !left.is_empty() {
                    wanted.insert(name.clone(), Arc::new(Profile::remaining(name, &left)));
                }
            }
        }
        wanted
    }

    /// Notes what a composition is made of, before it is loaded.
    fn note(&self, state: &mut State, profile: &Profile) -> Result<(), String> {
        if let Some(other) = state.namesake(profile) {
            return Err(other);
        }
        if state.compositions.contains_key(&profile.name) {
            return Ok(());
        }
        let record = ProfileName::new(&*profile.name).map(|name| CompositionRecord {
            profile: name,
            policies: profile.policies.clone(),
        });
        let saved = record
            .map_err(|error| error.to_string())
            .and_then(|record| {
                let saved = self.adapters.files.save_composition(&record);
                saved.map_err(|error| error.to_string())
            });
        saved.map_err(|error| {
            format!(
                "{} can't be put in force together: {error}",
                profile.title()
            )
        })?;
        state
            .compositions
            .insert(profile.name.clone(), profile.policies.clone());
        Ok(())
    }

    /// Takes note of the compositions that an earlier daemon left.
    pub(super) fn adopt_compositions(&self) {
        let files = &self.adapters.files;
        let mut state = self.state();
        for name in files.compositions().unwrap_or_default() {
            match files.load_composition(&name) {
                Ok(Some(record)) => {
                    state.names.profile(name.as_str(), &record.policies);
                    state.compositions.insert(name.into(), record.policies);
                }
                Ok(None) => {}
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    /// Forgets compositions that nobody wants and of which nothing is left in the kernel.
    pub(super) fn forget_compositions(&self, state: &mut State, wanted: &Wanted) -> Vec<String> {
        let mut troubles = Vec::new();
        let gone: Vec<String> = state
            .compositions
            .keys()
            .filter(|name| {
                !wanted.contains_key(*name)
                    && !state.apparmor.contains(*name)
                    && !state.profiles.contains_key(*name)
                    && !state.left_over.contains(*name)
            })
            .cloned()
            .collect();
        for name in gone {
            let removed = ProfileName::new(&*name)
                .map_err(|error| error.to_string())
                .and_then(|name| {
                    let removed = self.adapters.files.remove_composition(&name);
                    removed.map_err(|error| error.to_string())
                });
            match removed {
                Ok(()) => drop(state.compositions.remove(&name)),
                Err(error) => troubles.push(error),
            }
        }
        troubles
    }
}

impl State {
    /// Whether this version of a profile was loaded, or can't be.
    fn has_tried(&self, profile: &Profile) -> bool {
        let loaded = self.profiles.get(&profile.name);
        loaded.is_some_and(|loaded| loaded.profile.is_same(profile))
    }

    /// Why a composition can't have the name that it has: 64 bits of a hash of names that tenants choose are not always
    /// different. Whichever was first keeps it.
    pub(super) fn namesake(&self, profile: &Profile) -> Option<String> {
        let known = self.compositions.get(&profile.name)?;
        (profile.is_composed() && *known != profile.policies).then(|| {
            format!(
                "the profile of {} would have the name {} of another one, of {}; rename one of the policies",
                profile.title(),
                profile.name,
                crate::store::title(known)
            )
        })
    }

    /// Whether a container may be under a composed profile that none of them needs any more: it keeps its AppArmor
    /// profile for life, and its BPF profile while the next one can't be loaded. Before the runtime has told which
    /// containers there are, any profile may be somebody's.
    fn may_be_used(&self, profile: &String) -> bool {
        let keeps = |container: &crate::containers::Container| {
            container.marker.apparmor.as_ref() == Some(profile)
                || container.profile.as_ref() == Some(profile)
        };
        !self.adopted || self.held.contains(profile) || self.containers.values().any(keeps)
    }
}
