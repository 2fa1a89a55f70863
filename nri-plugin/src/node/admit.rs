// SPDX-License-Identifier: Apache-2.0
//! Containers that are being made: what they must carry, or why they are refused.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use varmor_node_state::{BpfDemand, ContainerId, Marker, ProfileName};
use varmor_policy::enforcer::Enforcer;
use varmor_policy::index::FailurePolicy;
use varmor_policy::plan::Seccomp;

use super::in_spec::NOT_SET_YET;
use super::wanted::Chosen;
use super::{Node, State};
use crate::config::ANSWER_WITHIN;
use crate::containers::{Container, Pod, Stage, title};
use crate::enforcers::Start;

/// A container that the runtime is about to create.
pub struct New {
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// Its image, where the runtime says it.
    pub image: String,
    /// Its own seccomp filter (OCI `linux.seccomp`), where this runtime shows it and takes another; the outer `None`
    /// means that the specification must be updated later.
    pub filter: Option<Option<Value>>,
}

/// What CreateContainer adds to a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admission {
    /// The OCI hook.
    pub hook: bool,
    /// The profile that selects it.
    pub profile: Option<String>,
    /// Its new seccomp filter (OCI `linux.seccomp`).
    pub filter: Option<Value>,
}

enum Decision {
    /// No policy selects the container, or what is listed can't be enforced and nobody minds.
    Go(Option<Chosen>, Vec<Enforcer>),
    /// The profile is not loaded yet.
    Wait(Chosen),
    /// The profile can't be enforced.
    Refuse(Chosen, String),
}

impl Node {
    /// Decides about a new container, waiting for its profile if need be.
    ///
    /// # Errors
    /// One sentence for the runtime's client: which container is refused, for which policy, why, and what to do.
    pub async fn create(&self, new: New) -> Result<Admission, String> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let facts = match self.facts_of_new(&new.pod, &new.name).await {
            Ok(facts) => facts,
            Err(reason) => return Err(self.refused(&new.pod, &new.name, None, &reason)),
        };
        let opted_in = facts.opted_in(&self.settings.opt_in);
        let mut progress = self.progress();
        let (chosen, missing) = loop {
            let decision = {
                let state = self.state();
                self.decide(&state, self.choose(&state, &facts))
            };
            match decision {
                Decision::Go(chosen, missing) => break (chosen, missing),
                Decision::Refuse(chosen, reason) => {
                    return Err(self.refused(&new.pod, &new.name, Some(&chosen), &reason));
                }
                Decision::Wait(chosen) => {
                    if chosen.profile.is_composed() {
                        self.await_profile(&new.pod, &new.name);
                    } else {
                        self.wake();
                    }
                    if timeout_at(deadline, progress.changed()).await.is_err() {
                        let reason =
                            "its profile is still being loaded; the kubelet tries again by itself";
                        return Err(self.refused(&new.pod, &new.name, Some(&chosen), reason));
                    }
                }
            }
        };
        self.admit(new, opted_in, chosen.as_ref(), &missing)
    }

    fn decide(&self, state: &State, chosen: Option<Chosen>) -> Decision {
        let Some(chosen) = chosen else {
            return Decision::Go(None, Vec::new());
        };
        if let Some(namesake) = state.namesake(&chosen.profile) {
            return Decision::Refuse(chosen, namesake);
        }
        let loaded = match state.profiles.get(&chosen.profile.name) {
            Some(loaded) if loaded.profile.is_same(&chosen.profile) && !loaded.stale => loaded,
            _ => return Decision::Wait(chosen),
        };
        let mut missing = Vec::new();
        for enforcer in chosen
            .enforcers
            .iter()
            .filter(|enforcer| chosen.wants(*enforcer))
        {
            let Some(reason) = loaded.failure(enforcer) else {
                continue;
            };
            if self.settings.failure_policy == FailurePolicy::Fail {
                let reason = format!("{}: {reason}", enforcer.name());
                return Decision::Refuse(chosen, reason);
            }
            tracing::warn!(
                "{} can't be enforced with {}: {reason}",
                chosen.profile.title(),
                enforcer.name()
            );
            missing.push(enforcer);
        }
        Decision::Go(Some(chosen), missing)
    }

    fn admit(
        &self,
        new: New,
        opted_in: bool,
        chosen: Option<&Chosen>,
        missing: &[Enforcer],
    ) -> Result<Admission, String> {
        let refuse = |reason: String| self.refused(&new.pod, &new.name, chosen, &reason);
        let wants = |enforcer| {
            chosen.is_some_and(|chosen| chosen.wants(enforcer)) && !missing.contains(&enforcer)
        };
        let profile = chosen.map(|chosen| &chosen.profile);
        let policies = profile.map_or_else(Vec::new, |profile| profile.policies.clone());
        let asked = profile
            .and_then(|profile| profile.seccomp.as_ref())
            .filter(|_| wants(Enforcer::Seccomp));
        let (filter, filter_digest) = match (asked, &new.filter) {
            (None, _) => (None, None),
            // The runtime's default filter depends on the capabilities, which only the specification tells.
            (Some(_), None)
            | (Some(Seccomp::RuntimeDefault | Seccomp::RuntimeDefaultAndRules(_)), Some(None)) => {
                (None, Some(NOT_SET_YET.to_owned()))
            }
            (Some(asked), Some(own)) => match self.join(own.as_ref(), asked, &[]) {
                Ok(joined) => joined.unzip(),
                Err(reason) if self.settings.failure_policy == FailurePolicy::Ignore => {
                    tracing::warn!(
                        "{} starts without seccomp: {reason}",
                        title(&new.pod, &new.name)
                    );
                    (None, None)
                }
                Err(reason) => return Err(refuse(format!("Seccomp: {reason}"))),
            },
        };
        let bpf = match (
            opted_in && self.adapters.bpf.unavailable().is_none(),
            wants(Enforcer::Bpf),
        ) {
            (false, _) => BpfDemand::Nothing,
            (true, false) => BpfDemand::Bound,
            (true, true) => BpfDemand::Profile,
        };
        let id = ContainerId::new(&*new.id).map_err(|error| refuse(error.to_string()))?;
        let name = profile
            .map(|profile| ProfileName::new(&*profile.name))
            .transpose();
        let marker = Marker {
            container_id: id.clone(),
            namespace: new.pod.namespace.clone(),
            pod: new.pod.name.clone(),
            pod_uid: new.pod.uid.clone(),
            container: new.name.clone(),
            policy: policies.first().cloned(),
            profile: name.map_err(|error| refuse(error.to_string()))?,
            bpf,
            apparmor: profile
                .filter(|_| wants(Enforcer::AppArmor))
                .map(|profile| profile.name.clone()),
            seccomp: filter_digest,
            addresses: new.pod.addresses.clone(),
        };
        if let Err(error) = self.adapters.files.save_marker(&marker) {
            // Without its marker the hook would refuse the container anyway, if a policy can select it.
            if opted_in {
                return Err(refuse(error.to_string()));
            }
            tracing::warn!("{}: {error}", title(&new.pod, &new.name));
        }
        let name = profile.map(|profile| profile.name.clone());
        let container = Container {
            id,
            pod: new.pod,
            name: new.name,
            image: new.image,
            stage: Stage::Created,
            pid: None,
            marker,
            admitted: true,
            in_spec: Arc::default(),
            created_under: profile.cloned(),
            policies,
            profile: name.clone(),
            shortfalls: Vec::new(),
        };
        let mut state = self.state();
        state.names.container(&container);
        state.awaited.remove(&container.title());
        state.containers.insert(new.id, container);
        drop(state);
        Ok(Admission {
            hook: opted_in,
            profile: name,
            filter,
        })
    }

    /// A container's init waits for its execve: everything must be in place. It counts as running from then on; when the
    /// runtime fails to start it, it says that the container has stopped (containerd 1.7 to 2.3).
    ///
    /// # Errors
    /// One sentence for the runtime's client.
    pub fn starting(&self, id: &str, pid: u32) -> Result<(), String> {
        let (container, chosen) = {
            let mut state = self.state();
            let Some(container) = state.containers.get_mut(id) else {
                return Ok(());
            };
            container.pid = (pid != 0).then_some(pid);
            let container = container.clone();
            let chosen = self.choose(&state, &state.facts(&container.pod, &container.name));
            (container, chosen)
        };
        if let Err(reason) = self.ensure_bound(&container, chosen.as_ref()) {
            if self.settings.failure_policy == FailurePolicy::Fail {
                return Err(self.refused(
                    &container.pod,
                    &container.name,
                    chosen.as_ref(),
                    &reason,
                ));
            }
            tracing::warn!("{} starts unprotected: {reason}", container.title());
        }
        if let Some(container) = self.state().containers.get_mut(id) {
            container.stage = Stage::Running;
        }
        // The policy may have changed since the hook looked.
        self.wake();
        Ok(())
    }

    /// Binds a container under what its marker asks for, if the hook has not, or the marker has changed since.
    fn ensure_bound(&self, container: &Container, chosen: Option<&Chosen>) -> Result<(), String> {
        let in_spec = [Enforcer::AppArmor, Enforcer::Seccomp];
        if !container.admitted
            && chosen.is_some_and(|chosen| in_spec.iter().any(|enforcer| chosen.wants(*enforcer)))
        {
            return Err(
                "it was created while the node daemon was away; delete it, and it is created anew"
                    .to_owned(),
            );
        }
        let bpf = &self.adapters.bpf;
        let Some(init) = container
            .pid
            .filter(|_| container.marker.bpf != BpfDemand::Nothing)
        else {
            return Ok(());
        };
        let profile = match container.marker.bpf {
            BpfDemand::Profile => container
                .marker
                .profile
                .as_ref()
                .map(|profile| profile.as_str().to_owned()),
            _ => None,
        };
        let bound = bpf.binding(container.id.as_str())?;
        if bound.is_some_and(|binding| binding.init == init) {
            // The policies may have changed since the hook read the marker.
            return self.bind(container, profile.as_deref());
        }
        // The hook did not run: NRI was bypassed when the container was created.
        let addresses = container.pod.addresses.clone();
        let start = Start {
            container: container.id.to_string(),
            init,
            profile,
            addresses,
        };
        bpf.bind_starting(&start)
    }

    /// A container has ended. It stays bound until it is removed: processes that share the host's pid namespace may
    /// outlive it.
    pub fn stopped(&self, id: &str) {
        if let Some(container) = self.state().containers.get_mut(id) {
            container.stage = Stage::Stopped;
            container.pid = None;
        }
        self.wake();
    }

    /// A container is gone.
    pub fn removed(&self, id: &str) {
        {
            let mut state = self.state();
            state.containers.remove(id);
            state.names.container_gone(id);
            state.by_hand.remove(id);
        }
        self.forget(id);
        self.wake();
    }

    /// The sentence that the runtime's client gets to see.
    fn refused(&self, pod: &Pod, container: &str, chosen: Option<&Chosen>, reason: &str) -> String {
        self.counters.refused_containers.add(1);
        let container = title(pod, container);
        match chosen {
            Some(chosen) => {
                let policies = chosen.profile.title();
                format!("container {container} is refused: {policies} can't be enforced: {reason}")
            }
            None => format!("container {container} is refused: {reason}"),
        }
    }

    /// Removes what was left for the hook and in the maps about a container that does not exist.
    pub(super) fn forget(&self, id: &str) {
        let Ok(container) = ContainerId::new(id) else {
            return;
        };
        if let Err(error) = self.adapters.files.remove_marker(&container) {
            tracing::warn!("{error}");
        }
        if self.adapters.bpf.unavailable().is_none()
            && let Err(error) = self.adapters.bpf.unbind(id)
        {
            tracing::warn!("container {id} can't be unbound: {error}");
        }
    }
}

/// Answers in time are part of the contract with the runtime.
const _: () = assert!(ANSWER_WITHIN.as_millis() < Duration::from_secs(2).as_millis());
