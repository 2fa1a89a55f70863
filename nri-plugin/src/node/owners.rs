// SPDX-License-Identifier: Apache-2.0
//! Which workload a pod belongs to: what policy-sync told, asking it, and what to do when nobody answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use varmor_node_api::api;
use varmor_policy::index::FailurePolicy;
use varmor_policy::matching::{ContainerFacts, KIND_POD, Selection, select};
use varmor_policy::owner::{Owner, Owners};
use varmor_policy::plan::PolicyRef;

use super::{Node, State};
use crate::config::ANSWER_WITHIN;
use crate::containers::{Pod, title};
use crate::inventory::Inventory;

/// How long a container waits for an answer: what is left of the time for its own answer must do for loading a profile.
const OWNER_WITHIN: Duration = Duration::from_millis(1000);
const _: () = assert!(OWNER_WITHIN.as_millis() < ANSWER_WITHIN.as_millis());
/// Questions that one who answers may leave unread.
const MAX_QUESTIONS: usize = 256;

impl State {
    /// What matching looks at, for one of a pod's containers.
    pub(super) fn facts(&self, pod: &Pod, container: &str) -> ContainerFacts {
        ContainerFacts {
            owner: self.owner(pod),
            ..pod.facts(container)
        }
    }

    /// The workload of a pod.
    pub(super) fn owner(&self, pod: &Pod) -> Owner {
        match &self.inventory {
            Some(inventory) => inventory.owner(pod),
            None => Owners::told_by_labels(Some(&pod.annotations), Some(&pod.labels)),
        }
    }
}

impl Node {
    /// The policy that may hold for a container, if that depends on a workload that nobody has told.
    pub(super) fn undecided(&self, state: &State, facts: &ContainerFacts) -> Option<PolicyRef> {
        match select(&state.desired.objects, facts, &self.settings.opt_in) {
            Selection::Unknown(policy) => Some(policy),
            _ => None,
        }
    }

    /// The facts of a container that is to be created, for which somebody may have to be asked.
    ///
    /// # Errors
    /// Nobody answers, and the container is not to start then: which policy could hold.
    pub(super) async fn facts_of_new(
        &self,
        pod: &Pod,
        container: &str,
    ) -> Result<ContainerFacts, String> {
        let until = Instant::now() + OWNER_WITHIN;
        let mut progress = self.progress();
        let undecided = |state: &State| {
            let facts = state.facts(pod, container);
            self.undecided(state, &facts).map_or(Ok(facts), Err)
        };
        if let Ok(facts) = undecided(&self.state()) {
            return Ok(facts);
        }
        let mut waits = self.ask(pod);
        while waits {
            waits = timeout_at(until, progress.changed()).await.is_ok();
            if let Ok(facts) = undecided(&self.state()) {
                return Ok(facts);
            }
        }
        let policy = {
            let mut state = self.state();
            if let Some(inventory) = &mut state.inventory {
                inventory.infer(pod);
            }
            match undecided(&state) {
                Ok(facts) => {
                    tracing::warn!(
                        "{}: policy-sync does not answer; its workload is taken from what was known last",
                        title(pod, container)
                    );
                    return Ok(facts);
                }
                Err(policy) => policy,
            }
        };
        let reason = format!(
            "{policy} may select it: which workload pod {}/{} belongs to is not known, since policy-sync on this node \
             does not answer",
            pod.namespace, pod.name
        );
        if self.settings.failure_policy == FailurePolicy::Fail {
            return Err(format!("{reason}; the kubelet tries again by itself"));
        }
        tracing::warn!("{} starts unprotected: {reason}", title(pod, container));
        let mut facts = pod.facts(container);
        facts.owner = Owner::None;
        Ok(facts)
    }

    /// Asks which workload a pod belongs to; false when nobody is there to answer.
    pub(super) fn ask(&self, pod: &Pod) -> bool {
        let mut question = api::Question::new();
        question.namespace.clone_from(&pod.namespace);
        question.pod.clone_from(&pod.name);
        question.uid.clone_from(&pod.uid);
        let mut answerers = self.answerers.lock().expect("a panic aborts the process");
        answerers.retain(|sender| !sender.is_closed());
        let sent = answerers
            .iter()
            .filter(|sender| sender.try_send(question.clone()).is_ok());
        sent.count() > 0
    }

    /// Somebody who answers questions.
    pub fn answerer(&self) -> mpsc::Receiver<api::Question> {
        let (sender, receiver) = mpsc::channel(MAX_QUESTIONS);
        let mut answerers = self.answerers.lock().expect("a panic aborts the process");
        answerers.push(sender);
        receiver
    }

    /// Takes what was known before the daemon started.
    pub fn inventory_found(&self, inventory: Inventory) {
        self.state().inventory = Some(inventory);
    }

    /// Takes what policy-sync tells; what is known then, if that is something else than before.
    pub fn tell(&self, request: &api::TellRequest) -> Option<Inventory> {
        let mut state = self.state();
        let running: BTreeSet<String> = state.pods.values().map(|pod| pod.uid.clone()).collect();
        let before = state.inventory.clone();
        let mut inventory = before
            .clone()
            .unwrap_or_else(|| Inventory::new(&self.settings.own_namespace));
        inventory.tell(request, &running);
        if before.as_ref() == Some(&inventory) {
            return None;
        }
        let pods: Vec<Arc<Pod>> = state.pods.values().cloned().collect();
        let owners: Vec<Owner> = pods.iter().map(|pod| state.owner(pod)).collect();
        state.inventory = Some(inventory.clone());
        let moved: Vec<Arc<Pod>> = pods
            .into_iter()
            .zip(owners)
            .filter(|(pod, owner)| state.owner(pod) != *owner)
            .map(|(pod, _)| pod)
            .collect();
        drop(state);
        for pod in &moved {
            self.leave_sandbox(pod);
            self.expect_containers(pod);
        }
        self.progressed();
        self.wake();
        Some(inventory)
    }

    /// The workloads that the hook must know: none while no policy looks at workloads.
    pub(super) fn owners_for_hook(&self, objects: &[varmor_policy::PolicyObject]) -> Owners {
        let looks_at_workloads = objects
            .iter()
            .any(|object| object.spec().target.kind != KIND_POD);
        let state = self.state();
        match &state.inventory {
            Some(inventory) if looks_at_workloads => inventory.owners.clone(),
            _ => Owners::new(&self.settings.own_namespace),
        }
    }
}
