// SPDX-License-Identifier: Apache-2.0
//! The node as the node API shows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use varmor_node_api::api;
use varmor_policy::enforcer::{Enforcer, Enforcers};
use varmor_policy::index::FailurePolicy;
use varmor_policy::plan::PolicyRef;

use super::{Loaded, Node, State};
use crate::containers::{Container, Stage};
use crate::policies_dir::File;
use crate::store::Policy;

/// The enforcers that a node has.
const ENFORCERS: [Enforcer; 3] = [Enforcer::AppArmor, Enforcer::Bpf, Enforcer::Seccomp];

impl Node {
    /// How the node is.
    pub fn status(&self, with_containers: bool) -> api::StatusResponse {
        let state = self.state();
        let settings = &self.settings;
        let mut status = api::StatusResponse::new();
        status.node.clone_from(&settings.node);
        env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
        status.enforcers = ENFORCERS.map(|enforcer| self.availability(enforcer)).into();
        for (name, consequence) in self.adapters.bpf.missing() {
            let mut missing = api::MissingHook::new();
            (missing.name, missing.consequence) = (name, consequence);
            status.missing_hooks.push(missing);
        }
        status.versions = self.versions();
        status.runtime_connected = self.connected.load(Ordering::Relaxed);
        status.settled = state.is_settled();
        status.policy_errors = policy_errors(&state);
        status.troubles.clone_from(&state.troubles);
        status.troubles.extend(state.folder_error.clone());
        if with_containers {
            status.containers = sorted(state.containers.values());
        }
        status.failure_policy = match settings.failure_policy {
            FailurePolicy::Fail => "Fail".to_owned(),
            FailurePolicy::Ignore => "Ignore".to_owned(),
        };
        let label = settings.opt_in.0.as_ref();
        status.opt_in_label = label
            .map(|(key, value)| format!("{key}={value}"))
            .unwrap_or_default();
        status.uptime_s = self.began.elapsed().as_secs();
        status.counters = Some(self.counters(&state)).into();
        status
    }

    /// The policies that a request asks for.
    pub fn list(&self, request: &api::ListRequest) -> api::ListResponse {
        let state = self.state();
        let asked = |asked: &str, has: &str| asked.is_empty() || asked == has;
        let asked_for = |policy: &PolicyRef| {
            asked(&request.kind, &policy.kind)
                && asked(&request.namespace, &policy.namespace)
                && asked(&request.name, &policy.name)
        };
        let mut response = api::ListResponse::new();
        response.policies = state
            .desired
            .policies
            .values()
            .filter(|policy| asked_for(&policy.reference))
            .map(|policy| policy_status(&state, policy))
            .collect();
        let listed: Vec<&PolicyRef> = state
            .desired
            .policies
            .keys()
            .filter(|policy| asked_for(policy))
            .collect();
        response.compositions = state
            .profiles
            .values()
            .filter(|loaded| loaded.profile.is_composed())
            .filter(|loaded| {
                let mut policies = loaded.profile.policies.iter();
                policies.any(|policy| listed.contains(&policy))
            })
            .map(|loaded| composition_status(&state, loaded))
            .collect();
        response.errors = policy_errors(&state);
        response.files = state
            .files
            .iter()
            .map(|(path, file)| file_status(&state, path, file))
            .collect();
        response
    }

    fn availability(&self, enforcer: Enforcer) -> api::EnforcerAvailability {
        let reason = match enforcer {
            Enforcer::AppArmor => self.adapters.apparmor.unavailable(),
            Enforcer::Bpf => self.adapters.bpf.unavailable(),
            Enforcer::Seccomp | Enforcer::NetworkProxy => None,
        };
        let mut availability = api::EnforcerAvailability::new();
        enforcer.name().clone_into(&mut availability.enforcer);
        availability.available = reason.is_none();
        availability.reason = reason.unwrap_or_default();
        availability
    }

    fn versions(&self) -> std::collections::HashMap<String, String> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut versions =
            std::collections::HashMap::from([("kernel".to_owned(), kernel.trim().to_owned())]);
        if let Some(runtime) = self
            .runtime
            .lock()
            .expect("a panic aborts the process")
            .as_ref()
        {
            versions.insert(
                "runtime".to_owned(),
                format!("{} {}", runtime.runtime, runtime.version),
            );
            if let Some(nri) = &runtime.nri {
                versions.insert("nri".to_owned(), nri.to_string());
            }
        }
        versions
    }

    fn counters(&self, state: &State) -> api::Counters {
        let counted = &self.counters;
        let mut counters = api::Counters::new();
        counters.denied = counted.denied.get();
        counters.audited = counted.audited.get();
        counters.lost = counted.lost_in_kernel.get() + counted.lost_on_the_way.get();
        counters.dropped_for_subscribers = counted.dropped_for_subscribers.get();
        counters.internal_failures = counted.internal_failures.get();
        counters.refused_containers = counted.refused_containers.get();
        counters.runtime_connections = counted.runtime_connections.get();
        let in_force = |policy: &&Arc<Policy>| state.failures(policy).is_some_and(<[_]>::is_empty);
        counters.policies = state.desired.policies.values().filter(in_force).count() as u64;
        counters.containers = state.containers.len() as u64;
        let protected = state
            .containers
            .values()
            .filter(|container| !container.policies.is_empty());
        counters.protected_containers = protected.count() as u64;
        counters
    }
}

impl State {
    /// Whether everything that is wanted was dealt with.
    pub fn is_settled(&self) -> bool {
        self.reconciled >= self.generation
    }

    /// What of a policy's present version could not be loaded; `None` while it was not tried.
    fn failures(&self, policy: &Policy) -> Option<&[(Enforcer, String)]> {
        let loaded = self.profiles.get(&policy.profile.name)?;
        (loaded.profile.is_same(&policy.profile)).then_some(&loaded.failures)
    }

    /// What of a policy could not be loaded, by itself or together with others.
    fn failure_text(&self, policy: &Policy) -> Vec<String> {
        let own = self.failures(policy).unwrap_or_default();
        let own = own.iter().map(|failure| (&policy.profile, failure));
        let composed = self
            .profiles
            .values()
            .filter(|loaded| loaded.profile.is_composed())
            .filter(|loaded| loaded.profile.policies.contains(&policy.reference))
            .flat_map(|loaded| {
                let failures = loaded.failures.iter();
                failures.map(|failure| (&loaded.profile, failure))
            });
        own.chain(composed)
            .map(|(profile, (enforcer, reason))| {
                format!("{}: {}: {reason}", profile.title(), enforcer.name())
            })
            .collect()
    }
}

fn reference(policy: &PolicyRef) -> api::PolicyRef {
    let mut reference = api::PolicyRef::new();
    reference.kind.clone_from(&policy.kind);
    reference.namespace.clone_from(&policy.namespace);
    reference.name.clone_from(&policy.name);
    reference
}

fn policy_status(state: &State, policy: &Arc<Policy>) -> api::PolicyStatus {
    let mut status = api::PolicyStatus::new();
    status.policy = Some(reference(&policy.reference)).into();
    status.source = state
        .desired
        .sources
        .get(&policy.reference)
        .cloned()
        .unwrap_or_default();
    status.profile.clone_from(&policy.profile.name);
    status.mode.clone_from(&policy.object.spec().policy.mode);
    let enforcers = Enforcers::parse(&policy.object.spec().policy.enforcer).unwrap_or_default();
    status.enforcers = enforcer_states(enforcers, state.failures(policy));
    let under = state
        .containers
        .values()
        .filter(|container| container.policies.contains(&policy.reference));
    status.containers = sorted(under);
    status.digest.clone_from(&policy.digest);
    status
}

fn composition_status(state: &State, loaded: &Loaded) -> api::CompositionStatus {
    let profile = &loaded.profile;
    let mut status = api::CompositionStatus::new();
    status.profile.clone_from(&profile.name);
    status.policies = profile.policies.iter().map(reference).collect();
    let enforcers = [
        (Enforcer::AppArmor, profile.has_apparmor),
        (Enforcer::Bpf, profile.has_bpf),
        (Enforcer::Seccomp, profile.seccomp.is_some()),
    ];
    let enforcers = enforcers.into_iter().filter(|(_, has)| *has);
    let enforcers = enforcers.map(|(enforcer, _)| enforcer).collect();
    status.enforcers = enforcer_states(enforcers, Some(&loaded.failures));
    let under = state
        .containers
        .values()
        .filter(|container| container.policies == profile.policies);
    status.containers = sorted(under);
    status
}

/// How enforcers do; without failures, since nothing was tried yet, all of them are still to come.
fn enforcer_states(
    enforcers: Enforcers,
    failures: Option<&[(Enforcer, String)]>,
) -> Vec<api::EnforcerState> {
    let state = |enforcer: Enforcer| {
        let reason =
            failures.map(|failures| failures.iter().find(|(failed, _)| *failed == enforcer));
        let mut state = api::EnforcerState::new();
        enforcer.name().clone_into(&mut state.enforcer);
        state.in_force = reason == Some(None);
        state.reason = match reason {
            None => "is being loaded".to_owned(),
            Some(None) => String::new(),
            Some(Some((_, reason))) => reason.clone(),
        };
        state
    };
    enforcers.iter().map(state).collect()
}

fn policy_errors(state: &State) -> Vec<api::SourceError> {
    let mut errors = Vec::new();
    let mut add = |source: &str, message: &str, last_good: bool| {
        let mut error = api::SourceError::new();
        source.clone_into(&mut error.source);
        message.clone_into(&mut error.message);
        error.last_good_in_force = last_good;
        errors.push(error);
    };
    for (path, file) in &state.files {
        if let Some(error) = &file.error {
            add(path, error, file.accepted.is_some());
        }
    }
    for (source, conflict) in &state.desired.conflicts {
        add(source, conflict, false);
    }
    for policy in state.desired.policies.values() {
        let source = state
            .desired
            .sources
            .get(&policy.reference)
            .map(String::as_str)
            .unwrap_or_default();
        for failure in state.failure_text(policy) {
            add(source, &failure, false);
        }
    }
    errors
}

fn file_status(state: &State, path: &str, file: &File<Vec<Arc<Policy>>>) -> api::SourceFile {
    let mut status = api::SourceFile::new();
    path.clone_into(&mut status.path);
    status.seen = file.seen.clone().unwrap_or_default();
    let mut errors: Vec<String> = file.error.iter().cloned().collect();
    errors.extend(
        state
            .desired
            .conflicts
            .iter()
            .filter(|(source, _)| source == path)
            .map(|(_, text)| text.clone()),
    );
    if let Some(accepted) = &file.accepted {
        let failed: Vec<String> = accepted
            .content
            .iter()
            .flat_map(|policy| state.failure_text(policy))
            .collect();
        if state.is_settled() && failed.is_empty() {
            status.in_force.clone_from(&accepted.digest);
        }
        errors.extend(failed);
    }
    status.error = errors.join("; ");
    status
}

fn sorted<'a>(containers: impl Iterator<Item = &'a Container>) -> Vec<api::ContainerStatus> {
    let mut list: Vec<api::ContainerStatus> = containers.map(container_status).collect();
    list.sort_by(|a, b| {
        (&a.namespace, &a.pod, &a.name, &a.id).cmp(&(&b.namespace, &b.pod, &b.name, &b.id))
    });
    list
}

fn container_status(container: &Container) -> api::ContainerStatus {
    let mut status = api::ContainerStatus::new();
    status.id = container.id.to_string();
    status.name.clone_from(&container.name);
    status.pod.clone_from(&container.pod.name);
    status.namespace.clone_from(&container.pod.namespace);
    status.pod_uid.clone_from(&container.pod.uid);
    status.pid = container.pid.unwrap_or_default();
    status.state = match container.stage {
        Stage::Created => "created".to_owned(),
        Stage::Running => "running".to_owned(),
        Stage::Stopped => "stopped".to_owned(),
    };
    status.profile = container.profile.clone().unwrap_or_default();
    status.policy = container.policies.first().map(reference).into();
    if container.policies.len() > 1 {
        status.policies = container.policies.iter().map(reference).collect();
    }
    status.shortfalls.clone_from(&container.shortfalls);
    status
}
