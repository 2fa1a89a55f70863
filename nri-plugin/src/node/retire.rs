// SPDX-License-Identifier: Apache-2.0
//! Taking profiles away when no policy asks for them any more, without leaving a container that is under one of them
//! unconfined (AppArmor) or refused everything (BPF).

use std::collections::BTreeSet;

use super::wanted::Wanted;
use super::{Node, State};

impl Node {
    /// Takes away what no policy asks for any more; what went wrong.
    pub(super) async fn retire(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let wanted = {
            // A container that came during this pass may need what nobody needed when it began. What it finds gone from
            // `profiles` it waits for.
            let mut state = self.state();
            let wanted = self.wanted(&mut state, &mut Vec::new());
            if self.adapters.bpf.unavailable().is_none() {
                troubles.extend(self.retire_bpf(&mut state, &wanted));
            }
            state.forget_profiles(&wanted);
            wanted
        };
        troubles.extend(self.retire_all_apparmor(&wanted).await);
        troubles.extend(self.forget_records(&wanted));
        troubles
    }

    async fn retire_all_apparmor(&self, wanted: &Wanted) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut unwanted = self.state().apparmor.clone();
        unwanted.retain(|name| wanted.get(name).is_none_or(|profile| !profile.has_apparmor));
        if unwanted.is_empty() {
            return troubles;
        }
        let mut used = match self.adapters.apparmor.in_use() {
            Ok(used) => used,
            Err(error) => {
                troubles.push(format!(
                    "can't tell which AppArmor profiles are in use: {error}"
                ));
                return troubles;
            }
        };
        // Containers that do not run yet.
        let files = &self.adapters.files;
        let markers = files.markers().unwrap_or_default();
        used.extend(
            markers
                .iter()
                .filter_map(|id| files.load_marker(id).ok().flatten()?.apparmor),
        );
        for profile in &unwanted {
            if let Err(error) = self.retire_apparmor(profile, used.contains(profile)).await {
                troubles.push(format!(
                    "AppArmor profile {profile}, which no policy asks for any more: {error}"
                ));
            }
        }
        troubles
    }

    /// Removing a profile would leave its tasks unconfined for good, also by a policy that comes back: what still runs
    /// under it gets one that allows everything, and it is removed with the last of them.
    async fn retire_apparmor(&self, profile: &str, used: bool) -> Result<(), String> {
        if !used {
            self.adapters
                .apparmor
                .remove(profile)
                .map_err(|error| error.to_string())?;
            let mut state = self.state();
            state.apparmor.remove(profile);
            state.retired.remove(profile);
            tracing::info!("AppArmor profile {profile} is removed");
        } else if !self.state().retired.contains(profile) {
            self.adapters.apparmor.neutralise(profile).await?;
            self.state().retired.insert(profile.to_owned());
            tracing::info!(
                "AppArmor profile {profile} allows everything until its last container is gone"
            );
        }
        Ok(())
    }

    fn retire_bpf(&self, state: &mut State, wanted: &Wanted) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut wanted: BTreeSet<String> = wanted
            .values()
            .filter(|profile| profile.has_bpf)
            .map(|profile| profile.name.clone())
            .collect();
        wanted.extend(state.held.iter().cloned());
        let loaded = state
            .profiles
            .iter()
            .filter(|(_, loaded)| loaded.in_bpf)
            .map(|(name, _)| name);
        let unwanted: BTreeSet<String> = loaded
            .chain(&state.left_over)
            .filter(|name| !wanted.contains(*name))
            .cloned()
            .collect();
        for name in unwanted {
            let removed = self.adapters.bpf.remove_profile(&name);
            if removed == Ok(true) {
                state.left_over.remove(&name);
            } else {
                state.left_over.insert(name.clone());
            }
            if let Some(loaded) = state.profiles.get_mut(&name) {
                loaded.in_bpf = false;
            }
            if let Err(error) = removed {
                troubles.push(format!(
                    "BPF profile {name}, which no policy asks for any more: {error}"
                ));
            }
        }
        state.left_over.retain(|name| !wanted.contains(name));
        troubles
    }

    /// Removes the records of what nobody wants.
    fn forget_records(&self, wanted: &Wanted) -> Vec<String> {
        let mut state = self.state();
        let mut troubles = self.forget_compositions(&mut state, wanted);
        for profile in self.adapters.files.profiles().unwrap_or_default() {
            if !wanted.contains_key(profile.as_str())
                && let Err(error) = self.adapters.files.remove_profile(&profile)
            {
                troubles.push(error.to_string());
            }
        }
        troubles
    }
}

impl State {
    /// Forgets what was loaded for policies that are gone, but for what containers are held under.
    fn forget_profiles(&mut self, wanted: &Wanted) {
        let held = &self.held;
        self.profiles
            .retain(|name, _| wanted.contains_key(name) || held.contains(name));
        for (name, loaded) in &mut self.profiles {
            loaded.stale |= !wanted.contains_key(name);
        }
    }
}
