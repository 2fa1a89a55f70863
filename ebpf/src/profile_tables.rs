// SPDX-License-Identifier: Apache-2.0
//! Profiles in the kernel: their automata, prefixes and children first, under keys of their own, then the profile that names
//! them, then the old ones away. So a program always finds a whole profile and its children, the old ones or the new ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use varmor_bpf_abi::layout::{AutomatonRef, ChildKey, Class, Plain, PrefixKey, Profile};
use varmor_bpf_abi::sys::{ANY, EXIST, Map, MapType, NOEXIST, Shape};
use varmor_bpf_abi::{domain_key, maps, profile_key};
use varmor_policy::automata::compile_numbers;
use varmor_policy::plan::automaton::Automaton;
use varmor_policy::plan::bpf::BpfProfile;
use varmor_policy::plan::egress::Egress;

use crate::error::{Error, RulesError};
use crate::profile::Parts;
use crate::tables::Tables;
use crate::{automata, prefixes, profile};

const FULL_PROFILES: &str = "too many profiles are loaded; delete policies";
const FULL_CHILDREN: &str =
    "too many executables have rules of their own; delete policies, or use fewer targets";
const FULL_PREFIXES: &str =
    "too many egress prefixes are loaded; use fewer or shorter destination lists";

/// What belongs to which profile, by the profile's generation.
#[derive(Debug, Default)]
pub struct Generations(HashMap<u64, Owned>);

/// Everything in the tables that one generation of a profile, or one of its children, names.
#[derive(Debug, Default)]
struct Owned {
    /// Class number and key.
    automata: BTreeSet<(u32, u64)>,
    children: Vec<ChildKey>,
    prefixes: Vec<PrefixKey>,
}

impl Generations {
    /// Reads the tables, and deletes what no profile names: an update was interrupted.
    pub fn collect(tables: &Tables) -> Result<Self, Error> {
        let mut all: HashMap<u64, Owned> = HashMap::new();
        // Children may have prefixes of their own.
        let mut owner_of_prefixes: HashMap<u64, u64> = HashMap::new();
        for key in tables.profiles.keys::<u64>()? {
            let Some(profile) = read(tables, key)? else {
                continue;
            };
            let owned = all.entry(profile.generation).or_default();
            owned.automata.extend(automata_of(&profile));
            owner_of_prefixes.insert(profile.generation, profile.generation);
        }
        for key in tables.children.keys::<ChildKey>()? {
            let Some(owned) = all.get_mut(&key.generation) else {
                tables.children.delete(&key)?;
                continue;
            };
            owned.children.push(key);
            if let Some(child) = read_child(tables, &key)? {
                owned.automata.extend(automata_of(&child));
                owner_of_prefixes
                    .entry(child.generation)
                    .or_insert(key.generation);
            }
        }
        let automata: BTreeSet<(u32, u64)> = all
            .values()
            .flat_map(|owned| owned.automata.iter().copied())
            .collect();
        for class in Class::ALL {
            for key in tables.automata(class).keys::<u64>()? {
                if !automata.contains(&(class.number(), key)) {
                    tables.automata(class).delete(&key)?;
                }
            }
        }
        for key in tables.prefixes.keys::<PrefixKey>()? {
            let owner = owner_of_prefixes.get(&key.generation);
            match owner.and_then(|owner| all.get_mut(owner)) {
                Some(owned) => owned.prefixes.push(key),
                None => {
                    tables.prefixes.delete(&key)?;
                }
            }
        }
        Ok(Self(all))
    }

    /// Loads a profile, or replaces it and its children at once for every container that has it. On an error the old one
    /// stays.
    pub fn set(&mut self, tables: &Tables, name: &str, rules: &BpfProfile) -> Result<(), Error> {
        let key = profile_key(name);
        let old = read(tables, key)?;
        let generation = random()?;
        let mut writer = Writer {
            tables,
            name,
            key,
            automata: HashMap::new(),
            egress: HashMap::new(),
            owned: Owned::default(),
        };
        if let Err(error) = writer.write(rules, generation) {
            // The first error is the one to report; what can't be deleted now is collected at the next start.
            let _ = delete(tables, &writer.owned);
            return Err(error);
        }
        self.0.insert(generation, writer.owned);
        // The kernel waited until no program used the old profile.
        old.map_or(Ok(()), |old| self.delete_parts(tables, old.generation))
    }

    /// Unloads a profile; one that isn't loaded is no error.
    ///
    /// # Errors
    ///
    /// A container has it.
    pub fn remove(&mut self, tables: &Tables, name: &str) -> Result<(), Error> {
        let key = profile_key(name);
        let users = tables.bindings.containers()?;
        let containers = users
            .iter()
            .filter(|(_, container)| container.profile == key)
            .count();
        if containers > 0 {
            return Err(Error::InUse {
                name: name.to_owned(),
                containers,
            });
        }
        let Some(old) = read(tables, key)? else {
            return Ok(());
        };
        tables.profiles.delete(&key)?;
        self.delete_parts(tables, old.generation)
    }

    fn delete_parts(&mut self, tables: &Tables, generation: u64) -> Result<(), Error> {
        self.0
            .remove(&generation)
            .map_or(Ok(()), |owned| delete(tables, &owned))
    }
}

/// Writes one generation of a profile, and remembers what it wrote, also after an error.
///
/// Children mostly repeat what their profile says of other subjects: equal automata and egress rules are in the kernel
/// once.
struct Writer<'a> {
    tables: &'a Tables,
    name: &'a str,
    /// Of the profile, which its children have too.
    key: u64,
    automata: HashMap<&'a Automaton, AutomatonRef>,
    egress: HashMap<&'a Egress, u64>,
    owned: Owned,
}

impl<'a> Writer<'a> {
    fn write(&mut self, rules: &'a BpfProfile, generation: u64) -> Result<(), Error> {
        let mut targets = BTreeMap::new();
        let mut parts = self.parts(rules, generation)?;
        for child in &rules.children {
            let own = match &child.profile.egress {
                None => generation,
                Some(egress) => self.egress.get(egress).copied().map_or_else(random, Ok)?,
            };
            let parts = self.parts(&child.profile, own)?;
            let array = self.array(&child.profile, &parts)?;
            for target in &child.targets {
                let domain = domain_key(target);
                if targets.insert(domain, target.as_str()).is_some() {
                    return Err(self.refused(RulesError::Target(target.clone())));
                }
                let key = ChildKey { generation, domain };
                let children = &self.tables.children;
                children.put_map(&key, &array, NOEXIST, FULL_CHILDREN)?;
                self.owned.children.push(key);
            }
        }
        let numbered = targets.iter().map(|(domain, target)| (*target, *domain));
        if let Some(automaton) =
            compile_numbers(numbered).map_err(|error| self.refused(error.into()))?
        {
            parts.targets = self.insert("target", &automaton)?;
        }
        let array = self.array(rules, &parts)?;
        let profiles = &self.tables.profiles;
        Ok(profiles.put_map(&self.key, &array, ANY, FULL_PROFILES)?)
    }

    fn refused(&self, source: RulesError) -> Error {
        Error::Rules {
            name: self.name.to_owned(),
            source: Box::new(source),
        }
    }

    /// Writes what has a map of its own.
    fn parts(&mut self, rules: &'a BpfProfile, generation: u64) -> Result<Parts, Error> {
        let mounts = rules.mounts.as_ref().map(|mounts| &mounts.automaton);
        let parts = Parts {
            generation,
            forward: self.automaton("file", rules.forward.as_ref())?,
            backward: self.automaton("file", rules.backward.as_ref())?,
            mount: self.automaton("mount", mounts)?,
            targets: AutomatonRef::default(),
        };
        if let Some(egress) = &rules.egress
            && !self.egress.contains_key(egress)
        {
            let entries =
                prefixes::encode(egress, generation).map_err(|error| self.refused(error.into()))?;
            for (key, value) in &entries {
                // Before it is written: deleting one that isn't there is no error.
                self.owned.prefixes.push(*key);
                self.tables.prefixes.put(key, value, ANY, FULL_PREFIXES)?;
            }
            self.egress.insert(egress, generation);
        }
        Ok(parts)
    }

    fn automaton(
        &mut self,
        what: &'static str,
        automaton: Option<&'a Automaton>,
    ) -> Result<AutomatonRef, Error> {
        let Some(automaton) = automaton else {
            return Ok(AutomatonRef::default());
        };
        if let Some(written) = self.automata.get(automaton) {
            return Ok(*written);
        }
        let written = self.insert(what, automaton)?;
        self.automata.insert(automaton, written);
        Ok(written)
    }

    fn insert(&mut self, what: &'static str, automaton: &Automaton) -> Result<AutomatonRef, Error> {
        let (class, bytes) = automata::encode(automaton).map_err(|source| {
            self.refused(RulesError::Automaton {
                automaton: what,
                source,
            })
        })?;
        let array = array_of_one(self.name, class.map(), &bytes)?;
        let key = random()?;
        self.tables
            .automata(class)
            .put_map(&key, &array, NOEXIST, FULL_PROFILES)?;
        self.owned.automata.insert((class.number(), key));
        Ok(AutomatonRef {
            key,
            class: class.number(),
            permissions: automata::permissions(automaton),
        })
    }

    fn array(&self, rules: &BpfProfile, parts: &Parts) -> Result<Map, Error> {
        let value =
            profile::encode(self.key, rules, parts).map_err(|error| self.refused(error.into()))?;
        array_of_one(self.name, "profile", &value.to_bytes())
    }
}

/// A map that holds `value` only, to be put into a map of maps.
fn array_of_one(name: &str, table: &'static str, value: &[u8]) -> Result<Map, Error> {
    let failed = |source| Error::Table {
        name: name.to_owned(),
        table,
        source,
    };
    let value_size =
        u32::try_from(value.len()).map_err(|error| failed(std::io::Error::other(error)))?;
    let shape = Shape {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size,
        max_entries: 1,
    };
    let map = Map::create(shape, 0, table).map_err(failed)?;
    map.update(&0_u32.to_bytes(), value, EXIST)
        .map_err(failed)?;
    Ok(map)
}

/// The profile with this key.
pub fn read(tables: &Tables, key: u64) -> Result<Option<Profile>, Error> {
    read_array(&tables.profiles, &key)
}

/// The rules for a domain.
pub fn read_child(tables: &Tables, key: &ChildKey) -> Result<Option<Profile>, Error> {
    read_array(&tables.children, key)
}

fn read_array(map: &maps::Pinned, key: &impl Plain) -> Result<Option<Profile>, Error> {
    let Some(id) = map.get::<u32>(key)? else {
        return Ok(None);
    };
    let value = Map::by_id(id).and_then(|array| array.lookup(&0_u32.to_bytes()));
    let value = value.map_err(|source| map.access("read", source))?;
    Ok(value.and_then(|bytes| Profile::from_bytes(&bytes)))
}

/// The automata that a profile names: class number and key.
fn automata_of(profile: &Profile) -> impl Iterator<Item = (u32, u64)> {
    [
        profile.forward,
        profile.backward,
        profile.mount,
        profile.targets,
    ]
    .into_iter()
    .filter(|automaton| *automaton != AutomatonRef::default())
    .map(|automaton| (automaton.class, automaton.key))
}

fn delete(tables: &Tables, owned: &Owned) -> Result<(), Error> {
    // The children first: they name the rest.
    for key in &owned.children {
        tables.children.delete(key)?;
    }
    for (class, key) in &owned.automata {
        if let Some(class) = Class::from_number(*class) {
            tables.automata(class).delete(key)?;
        }
    }
    for key in &owned.prefixes {
        tables.prefixes.delete(key)?;
    }
    Ok(())
}

/// A number that no automaton or generation has.
fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match length {
        Ok(8) => Ok(u64::from_ne_bytes(bytes).max(1)),
        Ok(_) => Err(Error::Random(std::io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(Error::Random(error.into())),
    }
}
