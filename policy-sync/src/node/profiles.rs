// SPDX-License-Identifier: Apache-2.0
//! Profiles and the slices of addresses that they name, to the policies that the daemon gets. Rules about services and
//! pods refuse connections, so that a policy without all of its addresses would refuse less than it must: until they are
//! there, what the daemon has stays. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::desired::{Desired, PolicyKey, Wanted};
use crate::address_slice::{self, AddressSlice};

/// Namespace and name.
pub type Name = (String, String);

/// The watch of slices may be behind that of profiles; after this long something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// A profile as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its policy, without addresses.
    pub policy: Wanted,
    /// The slices that it names.
    pub slices: Vec<Name>,
}

/// A version of a policy that the daemon does not get yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its generation.
    pub generation: i64,
    /// What it waits for.
    pub message: String,
    since: Instant,
}

impl Waiting {
    /// Whether it waits for longer than a watch is ever behind.
    pub fn is_late(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= PATIENCE
    }
}

/// Profiles and slices as the API server has them.
#[derive(Debug, Default)]
pub struct Profiles {
    profiles: BTreeMap<PolicyKey, Profile>,
    slices: BTreeMap<Name, Result<AddressSlice, String>>,
}

impl Profiles {
    /// A profile is there.
    pub fn put(&mut self, key: PolicyKey, profile: Profile, desired: &mut Desired) {
        self.profiles.insert(key.clone(), profile);
        self.compose(&key, desired);
    }

    /// A profile is there no longer.
    pub fn remove(&mut self, key: &PolicyKey, desired: &mut Desired) {
        self.profiles.remove(key);
        desired.policies.remove(key);
        desired.waiting.remove(key);
    }

    /// A slice is there, or what is in its place.
    pub fn put_slice(
        &mut self,
        name: Name,
        slice: Result<AddressSlice, String>,
        desired: &mut Desired,
    ) {
        if self.slices.get(&name) != Some(&slice) {
            self.slices.insert(name.clone(), slice);
            self.compose_with(&name, desired);
        }
    }

    /// A slice is there no longer.
    pub fn remove_slice(&mut self, name: &Name, desired: &mut Desired) {
        self.slices.remove(name);
        self.compose_with(name, desired);
    }

    /// The policies of the profiles.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyKey> {
        self.profiles.keys()
    }

    /// The names of the slices.
    pub fn slices(&self) -> impl Iterator<Item = &Name> {
        self.slices.keys()
    }

    fn compose_with(&self, slice: &Name, desired: &mut Desired) {
        let with_it = self.profiles.iter();
        for (key, _) in with_it.filter(|(_, profile)| profile.slices.contains(slice)) {
            self.compose(key, desired);
        }
    }

    fn compose(&self, key: &PolicyKey, desired: &mut Desired) {
        let Some(profile) = self.profiles.get(key) else {
            return;
        };
        match self.composed(profile) {
            Ok(policy) => {
                desired.waiting.remove(key);
                desired.policies.insert(key.clone(), policy);
            }
            Err(message) => {
                let before = desired.waiting.get(key);
                let waiting = Waiting {
                    generation: profile.policy.generation,
                    message,
                    since: before.map_or_else(Instant::now, |before| before.since),
                };
                desired.waiting.insert(key.clone(), waiting);
            }
        }
    }

    fn composed(&self, profile: &Profile) -> Result<Wanted, String> {
        let mut slices = Vec::new();
        for name in &profile.slices {
            let what = || format!("ArmorAddressSlice {}/{}", name.0, name.1);
            match self.slices.get(name) {
                Some(Ok(slice)) => slices.push(slice),
                Some(Err(error)) => return Err(format!("{}: {error}", what())),
                None => {
                    return Err(format!(
                        "{} is missing, which has addresses of this version",
                        what()
                    ));
                }
            }
        }
        let mut policy = profile.policy.clone();
        if !slices.is_empty() {
            address_slice::compose(Arc::make_mut(&mut policy.object), slices)?;
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address_slice::Rule;
    use serde_json::{Value, json};

    fn key() -> PolicyKey {
        ("VarmorPolicy".into(), "demo".into(), "p".into())
    }

    fn name(name: &str) -> Name {
        ("demo".into(), name.into())
    }

    fn profile(generation: i64, slices: &[&str]) -> Profile {
        Profile {
            policy: Wanted {
                object:
                    json!({"spec": {"policy": {"enhanceProtect": {}}}, "generation": generation})
                        .into(),
                generation,
            },
            slices: slices.iter().map(|one| name(one)).collect(),
        }
    }

    fn slice(addresses: &[&str]) -> Result<AddressSlice, String> {
        Ok(AddressSlice {
            rule: Rule::new([], ["deny"]),
            addresses: addresses.iter().map(|&one| one.to_owned()).collect(),
        })
    }

    /// The generation and the addresses that the daemon is to have.
    fn wanted(desired: &Desired) -> Option<(i64, String)> {
        let policy = desired.policies.get(&key())?;
        let pointer = "/spec/policy/enhanceProtect/bpfRawRules/network/egress/toDestinations";
        let list = policy.object.pointer(pointer).and_then(Value::as_array);
        let addresses = list
            .into_iter()
            .flatten()
            .filter_map(|one| one["ip"].as_str());
        Some((policy.generation, addresses.collect::<Vec<_>>().join(" ")))
    }

    #[test]
    fn a_version_is_whole_or_the_one_before_it_stays() {
        let (mut profiles, mut desired) = (Profiles::default(), Desired::default());
        profiles.put(key(), profile(1, &["a", "b"]), &mut desired);
        profiles.put_slice(name("b"), slice(&["10.0.0.2"]), &mut desired);
        assert_eq!(
            wanted(&desired),
            None,
            "half of it is worse than what was before"
        );
        let waiting = &desired.waiting[&key()];
        assert_eq!(waiting.generation, 1);
        assert!(
            waiting
                .message
                .starts_with("ArmorAddressSlice demo/a is missing"),
            "{}",
            waiting.message
        );
        profiles.put_slice(name("a"), slice(&["10.0.0.3", "10.0.0.1"]), &mut desired);
        assert_eq!(
            wanted(&desired),
            Some((1, "10.0.0.1 10.0.0.2 10.0.0.3".into()))
        );
        assert!(desired.waiting.is_empty());
        // One address.
        profiles.put_slice(name("a"), slice(&["10.0.0.1"]), &mut desired);
        let both = Some((1, "10.0.0.1 10.0.0.2".into()));
        assert_eq!(wanted(&desired), both);
        // A new version comes before its slice; then a slice of the old one goes.
        profiles.put(key(), profile(2, &["c"]), &mut desired);
        profiles.remove_slice(&name("a"), &mut desired);
        assert_eq!(wanted(&desired), both);
        assert_eq!(desired.waiting[&key()].generation, 2);
        profiles.put_slice(name("c"), slice(&["10.0.0.9"]), &mut desired);
        assert_eq!(wanted(&desired), Some((2, "10.0.0.9".into())));
        // Somebody deletes it, or makes nonsense of it.
        profiles.remove_slice(&name("c"), &mut desired);
        assert_eq!(wanted(&desired), Some((2, "10.0.0.9".into())));
        profiles.put_slice(name("c"), Err("spec: no".into()), &mut desired);
        assert_eq!(
            desired.waiting[&key()].message,
            "ArmorAddressSlice demo/c: spec: no"
        );
        assert_eq!(wanted(&desired), Some((2, "10.0.0.9".into())));
        profiles.remove(&key(), &mut desired);
        assert!(desired.policies.is_empty() && desired.waiting.is_empty());
    }

    #[test]
    fn a_profile_that_names_no_slices_is_the_policy() {
        let (mut profiles, mut desired) = (Profiles::default(), Desired::default());
        let profile = profile(3, &[]);
        profiles.put(key(), profile.clone(), &mut desired);
        assert_eq!(desired.policies[&key()], profile.policy);
    }

    #[test]
    fn what_waits_is_late_after_a_while() {
        let (mut profiles, mut desired) = (Profiles::default(), Desired::default());
        profiles.put(key(), profile(1, &["a", "b"]), &mut desired);
        let since = desired.waiting[&key()].since;
        assert!(!desired.waiting[&key()].is_late(since));
        profiles.put_slice(name("a"), slice(&["10.0.0.1"]), &mut desired);
        assert!(
            desired.waiting[&key()].is_late(since + PATIENCE),
            "it waits since then"
        );
    }
}
