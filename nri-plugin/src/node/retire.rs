//! Taking profiles away when no policy asks for them any more, without leaving a container that is under one of them
//! unconfined (AppArmor) or refused everything (BPF).

use std::collections::BTreeSet;

use super::Node;

impl Node {
    /// Takes away what no policy asks for any more; what went wrong.
    pub(super) async fn retire(&self) -> Vec<String> {
        let mut troubles = if self.adapters.bpf.unavailable().is_none() {
            self.retire_bpf()
        } else {
            Vec::new()
        };
        troubles.extend(self.forget_profiles());
        let (wanted, loaded): (BTreeSet<String>, BTreeSet<String>) = {
            let state = self.state();
            let wanted = state
                .desired
                .policies
                .values()
                .filter(|policy| policy.has_apparmor);
            (
                wanted.map(|policy| policy.profile.clone()).collect(),
                state.apparmor.clone(),
            )
        };
        let unwanted: Vec<&String> = loaded.difference(&wanted).collect();
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
        for profile in unwanted {
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

    fn retire_bpf(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut state = self.state();
        let wanted: BTreeSet<String> = state
            .desired
            .policies
            .values()
            .filter(|policy| policy.has_bpf)
            .map(|policy| policy.profile.clone())
            .collect();
        let loaded = state
            .profiles
            .iter()
            .filter(|(_, loaded)| loaded.in_bpf)
            .map(|(name, _)| name);
        let unwanted: Vec<String> = loaded
            .chain(&state.left_over)
            .filter(|name| !wanted.contains(*name))
            .cloned()
            .collect();
        for name in unwanted {
            match self.adapters.bpf.remove_profile(&name) {
                Ok(removed) => {
                    if let Some(loaded) = state.profiles.get_mut(&name) {
                        loaded.in_bpf = false;
                    }
                    if removed {
                        state.left_over.remove(&name);
                    } else {
                        state.left_over.insert(name);
                    }
                }
                Err(error) => {
                    troubles.push(format!(
                        "BPF profile {name}, which no policy asks for any more: {error}"
                    ));
                }
            }
        }
        state.left_over.retain(|name| !wanted.contains(name));
        troubles
    }

    /// Forgets what was loaded for policies that are gone.
    fn forget_profiles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut state = self.state();
        let wanted: BTreeSet<String> = state
            .desired
            .policies
            .values()
            .map(|policy| policy.profile.clone())
            .collect();
        state
            .profiles
            .retain(|name, loaded| wanted.contains(name) || loaded.in_bpf);
        for profile in self.adapters.files.profiles().unwrap_or_default() {
            if !wanted.contains(profile.as_str())
                && let Err(error) = self.adapters.files.remove_profile(&profile)
            {
                troubles.push(error.to_string());
            }
        }
        troubles
    }
}
