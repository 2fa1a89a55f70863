// SPDX-License-Identifier: Apache-2.0
//! What the cluster has, what it should have, and the actions in between. Pure: [`super::send`] does them.

mod action;
mod checks;
mod tempo;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use varmor_policy::compile::Settings;

pub use action::Action;
use checks::{Checks, Outcome};
use tempo::Tempo;

use super::PolicyKey;
use super::address_slices::{Sliced, Unseen};
use super::kept::Kept;
use super::profile::{self, FINALIZER};
use super::reports::Reports;
use super::resolve::{Addresses, Name};
use super::restart::{self, Restarts};
use super::status::{Summary, policy_status, profile_status, summary};
use crate::kinds;

/// The lists that must be complete before anything is done.
pub const LISTS: usize = 8;

/// Requests of one plan.
const AT_A_TIME: usize = 100;
/// The numbers of a profile are written this often while nodes are still taking it: each time, it goes to every node.
pub const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Profiles that are sent to nodes because their numbers are others: so many in a second, all nodes together ...
const PROFILES_SENT: u32 = 1000;
/// ... and so many at once.
const PROFILES_SENT_AT_ONCE: u32 = 5000;
/// Statuses of policies that only say other numbers: in a second, and at once.
const NUMBERS: u32 = 20;
const NUMBERS_AT_ONCE: u32 = 200;

/// The cluster as the watches show it.
#[derive(Debug, Default)]
pub struct World {
    /// Policies.
    pub policies: BTreeMap<PolicyKey, Kept>,
    /// ArmorProfiles.
    pub profiles: BTreeMap<Name, Kept>,
    /// ArmorAddressSlices.
    pub address_slices: BTreeMap<Name, DynamicObject>,
    /// What nodes report of policies.
    pub reports: Reports,
    /// Where services and pods are.
    pub addresses: Addresses,
    /// Counts changes of `addresses`.
    pub addresses_version: u64,
    /// Lists that have been read once.
    pub listed: BTreeSet<String>,
}

impl World {
    /// Whether all is known that there is.
    pub fn is_listed(&self) -> bool {
        self.listed.len() >= LISTS
    }
}

/// Makes plans, and remembers what they were.
pub struct Planner {
    settings: Settings,
    namespace: String,
    checks: Checks,
    /// The version of a thing, and the action that was planned for it: the watch is behind for a while.
    planned: HashMap<String, (Option<String>, Action)>,
    unseen: Unseen,
    restarts: Restarts,
    /// Profiles whose numbers are not written yet, since they are about to change, and when they will be.
    counts_due: HashMap<Name, Instant>,
    /// When the numbers of a thing were written last: the turn of each comes.
    numbered: HashMap<String, Instant>,
    numbers: Tempo,
    profiles_sent: Tempo,
    has_more: bool,
    /// Numbers wait for their turn.
    has_numbers: bool,
}

impl Planner {
    /// A planner; profiles of cluster policies go to this namespace.
    pub fn new(settings: Settings, namespace: &str) -> Self {
        Self {
            settings,
            namespace: namespace.to_owned(),
            checks: Checks::default(),
            planned: HashMap::new(),
            unseen: Unseen::default(),
            restarts: Restarts::default(),
            counts_due: HashMap::new(),
            numbered: HashMap::new(),
            numbers: Tempo::new(NUMBERS, NUMBERS_AT_ONCE),
            profiles_sent: Tempo::new(PROFILES_SENT, PROFILES_SENT_AT_ONCE),
            has_more: false,
            has_numbers: false,
        }
    }

    /// Everything that is to be done now.
    pub fn plan(&mut self, world: &World, with_status: bool) -> Vec<Action> {
        let mut actions: Vec<(Option<String>, Action)> = Vec::new();
        let mut wanted: BTreeSet<Name> = BTreeSet::new();
        let mut wanted_slices: BTreeSet<Name> = BTreeSet::new();
        self.unseen.look(world);
        let mut waiting = Vec::new();
        let owned = owned_profiles(world);
        self.checks.keep_only(&world.policies);
        for (key, policy) in &world.policies {
            if policy.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let namespace = if key.1.is_empty() {
                &self.namespace
            } else {
                &key.1
            };
            let namespace = namespace.clone();
            let uid = policy.metadata.uid.as_deref().unwrap_or_default();
            let present = owned.get(&(namespace.as_str(), uid)).copied();
            let present_profile = present.map(|(_, profile)| profile);
            let Outcome {
                sliced,
                refused,
                from_profile,
            } = self.checks.check(
                &self.settings,
                world,
                key,
                &namespace,
                policy,
                present_profile,
            );
            let profile = match &sliced {
                Some(sliced) => Some((namespace.clone(), sliced.accepted.profile.clone())),
                None => present.map(|(name, _)| name.clone()),
            };
            wanted.extend(profile.clone());
            let generation = policy.metadata.generation.unwrap_or_default();
            if let (Some(sliced), Some(name)) = (&sliced, &profile) {
                let slices = sliced.names();
                wanted_slices.extend(slices.iter().map(|name| (namespace.clone(), name.clone())));
                let metadata = &policy.metadata;
                actions.extend(sliced.actions(world, &namespace, metadata, &key.0));
                let there = world.profiles.get(name);
                if !there.is_some_and(|there| is_same(there, sliced, metadata)) {
                    let mut object =
                        profile::object(&sliced.accepted, &namespace, metadata, &key.0, slices);
                    let version = there.and_then(|there| there.metadata.resource_version.clone());
                    if from_profile {
                        // A later one must not be lost.
                        object["metadata"]["resourceVersion"] = json!(version);
                    }
                    self.unseen.wrote(name, slices);
                    let action = Action::Apply {
                        profile: name.clone(),
                        object,
                    };
                    actions.push((version, action));
                }
            }
            if with_status {
                if let (Some(sliced), None) = (&sliced, &refused) {
                    let profile = &sliced.accepted.profile;
                    waiting.extend(restart::waiting(world, key, policy, profile));
                }
                let in_force = match &refused {
                    None => generation,
                    Some(_) => before_generation(world, profile.as_ref()),
                };
                let sum = summary(&world.reports, key, in_force);
                let counts = profile.as_ref().is_none_or(|name| self.counts(name, &sum));
                actions.extend(statuses(
                    world,
                    key,
                    policy,
                    profile.as_ref(),
                    refused.as_deref(),
                    &sum,
                    counts,
                ));
            }
        }
        let living = living(world);
        for (name, profile) in &world.profiles {
            let version = profile.metadata.resource_version.clone();
            let is_ours = profile
                .metadata
                .finalizers
                .iter()
                .flatten()
                .any(|one| one == FINALIZER);
            if !is_ours {
                continue;
            }
            let is_wanted = wanted.contains(name);
            if let Some(policy) = unmarked(&living, profile).filter(|_| !is_wanted) {
                let profile = name.clone();
                actions.push((version, Action::Mark { profile, policy }));
            // Also where somebody deletes it while its policy is there: it is made anew then.
            } else if profile.metadata.deletion_timestamp.is_some() {
                actions.push((version, Action::Release(name.clone())));
            } else if !is_wanted {
                actions.push((version, Action::Delete(name.clone())));
            }
        }
        actions.extend(self.unseen.unneeded(world, &wanted_slices));
        if with_status {
            self.counts_due
                .retain(|name, _| world.profiles.contains_key(name));
            self.forget_turns(world);
            let due = self.restarts.due(&waiting, Instant::now());
            actions.extend(due.into_iter().map(|one| (None, Action::Restart(one))));
        }
        self.only_new(actions, world.reports.nodes().len())
    }

    /// Whether there was more to do than is done at a time.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether something waits for its time.
    pub fn is_waiting(&self) -> bool {
        !self.counts_due.is_empty()
    }

    /// Whether numbers wait for their turn.
    pub fn has_numbers(&self) -> bool {
        self.has_numbers
    }

    /// Whether the numbers of a profile are to be written now: when all nodes have said what became of it, or some never do.
    fn counts(&mut self, profile: &Name, sum: &Summary) -> bool {
        let now = Instant::now();
        if sum.current + sum.failures.len() >= sum.desired {
            self.counts_due.remove(profile);
            return true;
        }
        let due = self.counts_due.entry(profile.clone());
        let due = due.or_insert(now + COUNT_EVERY);
        *due <= now
    }

    /// Forgets the turns of what is gone.
    fn forget_turns(&mut self, world: &World) {
        if self.numbered.len() > world.policies.len() + world.profiles.len() {
            let policies = world.policies.keys().map(Action::status_of);
            let profiles = world.profiles.keys().map(Action::status_of_profile);
            let there: HashSet<String> = policies.chain(profiles).collect();
            self.numbered.retain(|subject, _| there.contains(subject));
        }
    }

    /// Plans these again.
    pub fn forget(&mut self, failed: &[Action]) {
        for action in failed {
            self.planned.remove(&action.subject());
            if let Action::Restart(restart) = action {
                self.restarts.forget(restart);
            }
        }
    }

    /// Those that were not planned before. Not too many: what comes meanwhile must not wait for all of them, least of all
    /// for statuses. Numbers come at their own pace, those first that have waited longest.
    fn only_new(
        &mut self,
        mut actions: Vec<(Option<String>, Action)>,
        nodes: usize,
    ) -> Vec<Action> {
        let now = Instant::now();
        actions.sort_by_cached_key(|(_, action)| {
            let written = self.numbered.get(&action.subject());
            (action.rank(), written.copied())
        });
        let mut planned = HashMap::new();
        let mut fresh = Vec::new();
        (self.has_more, self.has_numbers) = (false, false);
        for (version, action) in actions {
            let subject = action.subject();
            let entry = (version, action);
            if self.planned.get(&subject) != Some(&entry) {
                let may_wait = matches!(entry.1, Action::Apply { .. }) || entry.1.is_status();
                if may_wait && fresh.len() >= AT_A_TIME {
                    self.has_more = true;
                    continue;
                }
                let is_its_turn = match &entry.1 {
                    Action::PolicyStatus { is_news: false, .. } => self.numbers.take(1, now),
                    Action::ProfileStatus { .. } => self.profiles_sent.take(nodes.max(1), now),
                    _ => true,
                };
                if !is_its_turn {
                    self.has_numbers = true;
                    continue;
                }
                if entry.1.is_status() {
                    self.numbered.insert(subject.clone(), now);
                }
                if let Action::ProfileStatus { profile, .. } = &entry.1
                    && let Some(due) = self.counts_due.get_mut(profile)
                {
                    *due = now + COUNT_EVERY;
                }
                fresh.push(entry.1.clone());
            }
            planned.insert(subject, entry);
        }
        self.planned = planned;
        fresh
    }
}

/// Profiles by namespace and UID of the policy that each was made of: this very policy, not an earlier one of its name.
fn owned_profiles(world: &World) -> HashMap<(&str, &str), (&Name, &Kept)> {
    let mut owned = HashMap::new();
    for (name, profile) in &world.profiles {
        for owner in profile.metadata.owner_references.iter().flatten() {
            let key = (name.0.as_str(), owner.uid.as_str());
            owned.entry(key).or_insert((name, profile));
        }
    }
    owned
}

/// UIDs of the policies that are there.
fn living(world: &World) -> HashSet<&str> {
    let policies = world.policies.values();
    let living = policies.filter(|policy| policy.metadata.deletion_timestamp.is_none());
    living
        .filter_map(|policy| policy.metadata.uid.as_deref())
        .collect()
}

/// The policy of a profile, if it is gone and the profile does not say so yet.
fn unmarked(living: &HashSet<&str>, profile: &Kept) -> Option<String> {
    let mut owners = profile.metadata.owner_references.iter().flatten();
    let uid = &owners.next()?.uid;
    let is_there = living.contains(uid.as_str());
    (!is_there && !kinds::policy_is_gone(&profile.metadata)).then(|| uid.clone())
}

fn before_generation(world: &World, profile: Option<&Name>) -> i64 {
    let profile = profile.and_then(|name| world.profiles.get(name));
    let generation = profile.and_then(|profile| profile.spec()["generation"].as_i64());
    generation.unwrap_or_default()
}

/// Whether a profile has all that it should have.
fn is_same(there: &Kept, wanted: &Sliced, policy: &ObjectMeta) -> bool {
    let metadata = &there.metadata;
    let labels = |metadata: &ObjectMeta| metadata.labels.clone().unwrap_or_default();
    let owner = metadata.owner_references.iter().flatten().next();
    there.digest() == wanted.profile()
        && labels(metadata) == labels(policy)
        && metadata
            .finalizers
            .as_deref()
            .is_some_and(|all| *all == [FINALIZER])
        && owner.map(|owner| &owner.uid) == policy.uid.as_ref()
}

fn statuses(
    world: &World,
    key: &PolicyKey,
    policy: &Kept,
    profile: Option<&Name>,
    refused: Option<&str>,
    sum: &Summary,
    counts: bool,
) -> Vec<(Option<String>, Action)> {
    let mut actions = Vec::new();
    let old = &policy.status;
    let generation = policy.metadata.generation.unwrap_or_default();
    let name = profile.map(|name| name.1.as_str());
    let status = policy_status(old, name, refused, generation, sum, &now());
    if status != *old {
        // One Event for each new reason, whatever number of nodes has it.
        let event = match (refused, sum.failures.first()) {
            (Some(message), _) => Some(("Forbidden", message.to_owned())),
            (None, Some((node, message))) => Some(("Failed", format!("node {node}: {message}"))),
            (None, None) => None,
        };
        let event = event
            .map(|(reason, note)| (reason.to_owned(), note))
            .filter(|(_, note)| !old.to_string().contains(&note_in_json(note)));
        let is_news = old["observedGeneration"] != status["observedGeneration"]
            || without_numbers(old) != without_numbers(&status);
        let action = Action::PolicyStatus {
            policy: key.clone(),
            status,
            event,
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            is_news,
        };
        actions.push((policy.metadata.resource_version.clone(), action));
    }
    if let Some((name, profile)) = profile.and_then(|name| world.profiles.get_key_value(name)) {
        let status = profile_status(sum);
        let old = &profile.status;
        if counts && *old != status {
            let is_news = old["conditions"] != status["conditions"];
            let action = Action::ProfileStatus {
                profile: name.clone(),
                status,
                is_news,
            };
            actions.push((profile.metadata.resource_version.clone(), action));
        }
    }
    actions
}

/// What there is to say beside numbers.
fn without_numbers(status: &Value) -> String {
    let mut text = status.to_string();
    text.retain(|character| !character.is_ascii_digit());
    text
}

/// A text as it is inside a JSON string.
fn note_in_json(note: &str) -> String {
    let text = Value::from(note.rsplit_once("node ").map_or(note, |(_, rest)| rest)).to_string();
    text.trim_matches('"').to_owned()
}

fn now() -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
