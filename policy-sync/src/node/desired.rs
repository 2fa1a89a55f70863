// SPDX-License-Identifier: Apache-2.0
//! What the daemon should know, what it has been sent, and the difference. No I/O: [`super::push`] sends the difference.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use varmor_node_api::api;
use varmor_policy::owner::WorkloadName;

/// Labels.
pub type Labels = BTreeMap<String, String>;

/// Kind, namespace (empty for a cluster policy) and name.
pub type PolicyKey = (String, String, String);

/// A pod's workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOwner {
    /// The pod's namespace.
    pub namespace: String,
    /// The workload; none for a pod that belongs to none of the three kinds.
    pub workload: Option<WorkloadName>,
}

/// A policy for the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The object.
    pub object: Value,
    /// `metadata.generation` of the policy that the user wrote.
    pub generation: i64,
}

/// Everything as the API server has it.
#[derive(Debug, Default, Clone)]
pub struct Desired {
    /// Policies.
    pub policies: BTreeMap<PolicyKey, Wanted>,
    /// Workloads that have opted in.
    pub workloads: BTreeMap<WorkloadName, Labels>,
    /// Pods of this node by UID.
    pub pods: BTreeMap<String, PodOwner>,
    /// Whether the policies have been listed once: before, what the daemon has from before must stay.
    pub has_policies: bool,
    /// Whether workloads and pods have been listed once.
    pub has_pods: bool,
}

/// What the daemon has been sent over this connection.
#[derive(Debug, Default)]
pub struct Sent {
    policies: BTreeMap<PolicyKey, Wanted>,
    all_policies: bool,
    workloads: BTreeMap<WorkloadName, Labels>,
    pods: BTreeMap<String, PodOwner>,
    all_pods: bool,
}

/// Policies to send.
#[derive(Debug, PartialEq)]
pub struct PolicyDelta {
    /// New and changed ones.
    pub apply: Vec<(PolicyKey, Wanted)>,
    /// Those that are gone.
    pub delete: Vec<PolicyKey>,
    /// Whether `apply` is all that there are.
    pub all: bool,
}

impl Desired {
    /// What of pods and workloads the daemon does not know yet.
    pub fn untold(&self, sent: &Sent) -> Option<api::TellRequest> {
        if !self.has_pods {
            return None;
        }
        let mut request = api::TellRequest::new();
        request.replace_all = !sent.all_pods;
        for (name, labels) in &self.workloads {
            if sent.workloads.get(name) != Some(labels) {
                let mut one = workload(name);
                one.labels = labels.clone().into_iter().collect();
                request.workloads.push(one);
            }
        }
        let gone = sent.workloads.keys();
        request.workloads_gone = gone
            .filter(|name| !self.workloads.contains_key(name))
            .map(workload)
            .collect();
        for (uid, owner) in &self.pods {
            if sent.pods.get(uid) != Some(owner) {
                let mut one = api::PodOwner::new();
                one.uid.clone_from(uid);
                one.namespace.clone_from(&owner.namespace);
                if let Some(name) = &owner.workload {
                    one.kind.clone_from(&name.kind);
                    one.name.clone_from(&name.name);
                }
                request.pods.push(one);
            }
        }
        let gone = sent.pods.keys();
        request.pods_gone = gone
            .filter(|uid| !self.pods.contains_key(*uid))
            .cloned()
            .collect();
        let is_empty = request.workloads.is_empty()
            && request.workloads_gone.is_empty()
            && request.pods.is_empty()
            && request.pods_gone.is_empty();
        (request.replace_all || !is_empty).then_some(request)
    }

    /// The policies that the daemon does not have yet, and those that it should have no longer.
    pub fn unsent(&self, sent: &Sent) -> Option<PolicyDelta> {
        // Policies for workloads make no sense to a daemon that was never told of any.
        if !self.has_policies || !sent.all_pods {
            return None;
        }
        let changed = self.policies.iter();
        let apply: Vec<(PolicyKey, Wanted)> = changed
            .filter(|(key, wanted)| sent.policies.get(*key) != Some(wanted))
            .map(|(key, wanted)| (key.clone(), wanted.clone()))
            .collect();
        let delete: Vec<PolicyKey> = sent
            .policies
            .keys()
            .filter(|key| !self.policies.contains_key(*key))
            .cloned()
            .collect();
        let all = !sent.all_policies;
        (all || !apply.is_empty() || !delete.is_empty()).then_some(PolicyDelta {
            apply,
            delete,
            all,
        })
    }
}

impl Sent {
    /// Notes that the daemon has pods and workloads as they are in `desired`.
    pub fn told(&mut self, desired: &Desired) {
        self.workloads.clone_from(&desired.workloads);
        self.pods.clone_from(&desired.pods);
        self.all_pods = true;
    }

    /// Notes that the daemon has taken a difference; what it refused counts too, until it changes.
    pub fn sent(&mut self, delta: PolicyDelta) {
        self.policies.extend(delta.apply);
        for key in &delta.delete {
            self.policies.remove(key);
        }
        self.all_policies = true;
    }

    /// A pod is asked for: it is told again.
    pub fn ask(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// The generation of a policy that was sent.
    pub fn generation(&self, key: &PolicyKey) -> i64 {
        self.policies.get(key).map_or(0, |wanted| wanted.generation)
    }
}

fn workload(name: &WorkloadName) -> api::Workload {
    let mut one = api::Workload::new();
    one.kind.clone_from(&name.kind);
    one.namespace.clone_from(&name.namespace);
    one.name.clone_from(&name.name);
    one
}

/// A list that is being read again: what it does not name is gone when it ends.
#[derive(Debug)]
pub struct Relist<K>(Option<BTreeSet<K>>);

impl<K> Default for Relist<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Ord + Clone> Relist<K> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.0 = Some(BTreeSet::new());
    }

    /// An object is there.
    pub fn saw(&mut self, key: &K) {
        if let Some(listed) = &mut self.0 {
            listed.insert(key.clone());
        }
    }

    /// The list ends: the keys among `known` that it did not name.
    pub fn end<'a>(&mut self, known: impl Iterator<Item = &'a K>) -> Vec<K>
    where
        K: 'a,
    {
        let listed = self.0.take().unwrap_or_default();
        known.filter(|key| !listed.contains(key)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> PolicyKey {
        ("VarmorPolicy".into(), "demo".into(), name.into())
    }

    fn wanted(generation: i64) -> Wanted {
        Wanted {
            object: json!({ "generation": generation }),
            generation,
        }
    }

    fn desired() -> Desired {
        let web = WorkloadName::new("Deployment", "demo", "web");
        let labels = Labels::from([("app".into(), "web".into())]);
        let owner = |workload| PodOwner {
            namespace: "demo".into(),
            workload,
        };
        Desired {
            policies: BTreeMap::from([(key("a"), wanted(1)), (key("b"), wanted(1))]),
            workloads: BTreeMap::from([(web.clone(), labels)]),
            pods: BTreeMap::from([("1".into(), owner(Some(web))), ("2".into(), owner(None))]),
            has_policies: true,
            has_pods: true,
        }
    }

    #[test]
    fn nothing_is_sent_before_everything_was_listed() {
        let mut desired = desired();
        (desired.has_pods, desired.has_policies) = (false, false);
        let mut sent = Sent::default();
        assert!(desired.untold(&sent).is_none() && desired.unsent(&sent).is_none());
        desired.has_policies = true;
        assert!(desired.unsent(&sent).is_none(), "pods come first");
        desired.has_pods = true;
        let first = desired.untold(&sent).unwrap();
        assert!(first.replace_all);
        assert_eq!((first.pods.len(), first.workloads.len()), (2, 1));
        sent.told(&desired);
        let first = desired.unsent(&sent).unwrap();
        assert!(first.all && first.apply.len() == 2 && first.delete.is_empty());
    }

    #[test]
    fn later_only_differences_are_sent() {
        let mut desired = desired();
        let mut sent = Sent::default();
        sent.told(&desired);
        let delta = desired.unsent(&sent).unwrap();
        sent.sent(delta);
        assert!(desired.untold(&sent).is_none() && desired.unsent(&sent).is_none());

        desired.policies.remove(&key("a"));
        desired.policies.insert(key("b"), wanted(2));
        desired.policies.insert(key("c"), wanted(1));
        let delta = desired.unsent(&sent).unwrap();
        let names: Vec<&str> = delta.apply.iter().map(|(key, _)| &*key.2).collect();
        assert_eq!(
            (names, &delta.delete[..], delta.all),
            (vec!["b", "c"], &[key("a")][..], false)
        );
        sent.sent(delta);
        assert_eq!(
            (sent.generation(&key("b")), sent.generation(&key("a"))),
            (2, 0)
        );

        desired.pods.remove("2");
        desired.workloads.clear();
        let told = desired.untold(&sent).unwrap();
        assert_eq!((told.pods.len(), told.replace_all), (0, false));
        assert_eq!(
            (told.pods_gone, told.workloads_gone.len()),
            (vec!["2".to_owned()], 1)
        );
        sent.told(&desired);
        sent.ask("1");
        assert_eq!(desired.untold(&sent).unwrap().pods.len(), 1, "told again");
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let mut relist = Relist::default();
        relist.saw(&0);
        relist.begin();
        relist.saw(&1);
        relist.saw(&3);
        assert_eq!(relist.end([1, 2, 3, 4].iter()), [2, 4]);
    }
}
