// SPDX-License-Identifier: Apache-2.0
//! What the daemon should know, what it has been sent, and the difference. No I/O: [`super::push`] sends the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use varmor_node_api::api;
use varmor_policy::owner::WorkloadName;

use super::profiles::Waiting;

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
    /// The object. What is wanted and what was sent are mostly the same, and kept once.
    pub object: Arc<Value>,
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
    /// Versions of policies that are not among them yet: a part is missing.
    pub waiting: BTreeMap<PolicyKey, Waiting>,
    /// Policies of which the controller has said that they are gone.
    pub gone: BTreeSet<PolicyKey>,
    /// The policies are those that profiles have been made of: a policy without a profile may well be there.
    pub from_profiles: bool,
    /// Whether the policies have been listed once: before, what the daemon has from before must stay.
    pub has_policies: bool,
    /// Whether workloads and pods have been listed once.
    pub has_pods: bool,
    /// How many nodes report, as the controller counts them; none without one.
    pub nodes: usize,
}

/// What the daemon has.
#[derive(Debug, Default)]
pub struct Sent {
    /// Its policies; none as the content where it has one from an earlier connection.
    policies: BTreeMap<PolicyKey, Option<Wanted>>,
    /// Policies that it keeps although they are not wanted, since they are not known to be gone.
    kept: BTreeSet<PolicyKey>,
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
    /// Those that may be gone. They stay in force until that is certain: a controller that has not made its profiles
    /// yet, or makes one anew, must not take the policies away from every node.
    pub ask: Vec<PolicyKey>,
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
            .filter(|(key, wanted)| sent.policies.get(*key) != Some(&Some((*wanted).clone())))
            .map(|(key, wanted)| (key.clone(), wanted.clone()))
            .collect();
        let unwanted = sent.policies.keys();
        let (delete, ask): (Vec<PolicyKey>, Vec<PolicyKey>) = unwanted
            .filter(|key| !self.policies.contains_key(*key))
            .cloned()
            .partition(|key| !self.from_profiles || self.gone.contains(key));
        let mut ask = ask;
        // What waits has a profile: nobody needs to be asked.
        ask.retain(|key| !sent.kept.contains(key) && !self.waiting.contains_key(key));
        let is_empty = apply.is_empty() && delete.is_empty() && ask.is_empty();
        (!is_empty).then_some(PolicyDelta { apply, delete, ask })
    }
}

impl Sent {
    /// Notes that the daemon has pods and workloads as they are in `desired`.
    pub fn told(&mut self, desired: &Desired) {
        self.workloads.clone_from(&desired.workloads);
        self.pods.clone_from(&desired.pods);
        self.all_pods = true;
    }

    /// Notes that the daemon has these policies from before.
    pub fn found(&mut self, policies: impl IntoIterator<Item = PolicyKey>) {
        self.policies
            .extend(policies.into_iter().map(|key| (key, None)));
    }

    /// Notes that the daemon has taken policies; those that it refused count too, until they change.
    pub fn applied(&mut self, policies: Vec<(PolicyKey, Wanted)>) {
        for (key, wanted) in policies {
            self.kept.remove(&key);
            self.policies.insert(key, Some(wanted));
        }
    }

    /// Notes that the daemon has policies no longer.
    pub fn deleted(&mut self, policies: &[PolicyKey]) {
        for key in policies {
            self.kept.remove(key);
            self.policies.remove(key);
        }
    }

    /// Notes that policies stay for now.
    pub fn keep(&mut self, policies: impl IntoIterator<Item = PolicyKey>) {
        self.kept.extend(policies);
    }

    /// Whether anything stays that is not wanted.
    pub fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// What stays is to be asked about again.
    pub fn ask_again(&mut self) {
        self.kept.clear();
    }

    /// A pod is asked for: it is told again.
    pub fn ask(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// The generation of a policy that was sent.
    pub fn generation(&self, key: &PolicyKey) -> i64 {
        let sent = self.policies.get(key).and_then(Option::as_ref);
        sent.map_or(0, |wanted| wanted.generation)
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
    use super::super::profiles::{Profile, Profiles};
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> PolicyKey {
        ("VarmorPolicy".into(), "demo".into(), name.into())
    }

    fn wanted(generation: i64) -> Wanted {
        Wanted {
            object: json!({ "generation": generation }).into(),
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
            ..Desired::default()
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
        assert!(first.apply.len() == 2 && first.delete.is_empty() && first.ask.is_empty());
    }

    #[test]
    fn later_only_differences_are_sent() {
        let mut desired = desired();
        let mut sent = Sent::default();
        sent.told(&desired);
        let delta = desired.unsent(&sent).unwrap();
        sent.applied(delta.apply);
        assert!(desired.untold(&sent).is_none() && desired.unsent(&sent).is_none());

        desired.policies.remove(&key("a"));
        desired.policies.insert(key("b"), wanted(2));
        desired.policies.insert(key("c"), wanted(1));
        let delta = desired.unsent(&sent).unwrap();
        let names: Vec<&str> = delta.apply.iter().map(|(key, _)| &*key.2).collect();
        assert_eq!(
            (names, &delta.delete[..], &delta.ask[..]),
            (vec!["b", "c"], &[key("a")][..], &[][..])
        );
        sent.applied(delta.apply);
        sent.deleted(&delta.delete);
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
    fn a_policy_without_a_profile_stays_until_it_is_known_to_be_gone() {
        let mut desired = desired();
        desired.from_profiles = true;
        let mut sent = Sent::default();
        sent.told(&desired);
        // The daemon has policies as an earlier policy-sync took them; the controller has only made one profile.
        sent.found([key("a"), key("b"), key("old")]);
        desired.policies.remove(&key("b"));
        let delta = desired.unsent(&sent).unwrap();
        assert_eq!(delta.apply, [(key("a"), wanted(1))]);
        assert_eq!(
            (&delta.delete[..], delta.ask),
            (&[][..], vec![key("b"), key("old")])
        );
        sent.applied(delta.apply);
        // One is gone, the other is there or nobody answers.
        sent.deleted(&[key("old")]);
        sent.keep([key("b")]);
        assert!(desired.unsent(&sent).is_none() && sent.keeps());
        sent.ask_again();
        assert_eq!(desired.unsent(&sent).unwrap().ask, [key("b")]);
        sent.keep([key("b")]);
        // Its profile comes.
        desired.policies.insert(key("b"), wanted(1));
        let delta = desired.unsent(&sent).unwrap();
        assert!(delta.apply.len() == 1 && delta.ask.is_empty());
        sent.applied(delta.apply);
        assert!(!sent.keeps());
        // The profile goes: whether the policy is gone has to be asked, unless the controller has said so.
        desired.policies.remove(&key("a"));
        assert_eq!(desired.unsent(&sent).unwrap().ask, [key("a")]);
        sent.keep([key("a")]);
        desired.gone.insert(key("a"));
        assert_eq!(desired.unsent(&sent).unwrap().delete, [key("a")]);
    }

    #[test]
    fn what_waits_for_addresses_stays_as_it_was_without_a_question() {
        let mut desired = desired();
        desired.from_profiles = true;
        let profile = Profile {
            policy: desired.policies.remove(&key("a")).unwrap(),
            slices: vec![("demo".into(), "a-0".into())],
        };
        Profiles::default().put(key("a"), profile, &mut desired);
        let mut sent = Sent::default();
        sent.told(&desired);
        sent.found([key("a"), key("b")]);
        let delta = desired.unsent(&sent).unwrap();
        assert_eq!(delta.apply, [(key("b"), wanted(1))]);
        assert!(delta.delete.is_empty() && delta.ask.is_empty(), "{delta:?}");
        desired.waiting.clear();
        assert_eq!(desired.unsent(&sent).unwrap().ask, [key("a")]);
    }

    #[test]
    fn policies_as_they_are_written_need_no_question() {
        let mut sent = Sent::default();
        let desired = desired();
        sent.told(&desired);
        sent.found([key("a"), key("old")]);
        let delta = desired.unsent(&sent).unwrap();
        assert_eq!(
            (delta.apply.len(), &delta.delete[..]),
            (2, &[key("old")][..])
        );
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
