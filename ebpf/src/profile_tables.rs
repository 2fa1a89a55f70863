//! Profiles in the kernel: their automata and prefixes first, under keys of their own, then the profile that names them,
//! then the old ones away. So a program always finds a whole profile, the old one or the new one.

use std::collections::{BTreeSet, HashMap};

use varmor_bpf_abi::layout::{AutomatonRef, Class, Plain, PrefixKey, Profile};
use varmor_bpf_abi::profile_key;
use varmor_bpf_abi::sys::{ANY, EXIST, Map, MapType, NOEXIST, Shape};
use varmor_policy::plan::automaton::Automaton;
use varmor_policy::plan::bpf::BpfProfile;

use crate::error::{Error, RulesError};
use crate::profile::Parts;
use crate::tables::Tables;
use crate::{automata, prefixes, profile};

const FULL_PROFILES: &str = "too many profiles are loaded; delete policies";
const FULL_PREFIXES: &str =
    "too many egress prefixes are loaded; use fewer or shorter destination lists";

/// Which prefixes belong to which generation; the trie can't be asked.
#[derive(Debug, Default)]
pub struct Generations(HashMap<u64, Vec<PrefixKey>>);

impl Generations {
    /// Reads the tables, and deletes the automata and prefixes that no profile names: an update was interrupted.
    pub fn collect(tables: &Tables) -> Result<Self, Error> {
        let (mut automata, mut generations) = (BTreeSet::new(), BTreeSet::new());
        for key in tables.profiles.keys::<u64>()? {
            let Some(profile) = read(tables, key)? else {
                continue;
            };
            automata.extend(refs(&profile).map(|automaton| (automaton.class, automaton.key)));
            generations.insert(profile.generation);
        }
        for class in Class::ALL {
            for key in tables.automata(class).keys::<u64>()? {
                if !automata.contains(&(class.number(), key)) {
                    tables.automata(class).delete(&key)?;
                }
            }
        }
        let mut kept: HashMap<u64, Vec<PrefixKey>> = HashMap::new();
        for key in tables.prefixes.keys::<PrefixKey>()? {
            if generations.contains(&key.generation) {
                kept.entry(key.generation).or_default().push(key);
            } else {
                tables.prefixes.delete(&key)?;
            }
        }
        Ok(Self(kept))
    }

    /// Loads a profile, or replaces it at once for every container that has it. On an error the old one stays.
    pub fn set(&mut self, tables: &Tables, name: &str, rules: &BpfProfile) -> Result<(), Error> {
        let key = profile_key(name);
        let generation = random()?;
        let encoded = encode_all(rules, generation).map_err(|source| Error::Rules {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let old = read(tables, key)?;

        let mut parts = Parts {
            generation,
            ..Parts::default()
        };
        let made = insert(tables, name, &encoded, &mut parts).and_then(|()| {
            let value = profile::encode(key, rules, &parts).map_err(|error| Error::Rules {
                name: name.to_owned(),
                source: Box::new(error.into()),
            })?;
            let array = array_of_one(name, "profile", &value.to_bytes())?;
            Ok(tables.profiles.put_map(&key, &array, ANY, FULL_PROFILES)?)
        });
        let prefixes: Vec<PrefixKey> = encoded.prefixes.iter().map(|(key, _)| *key).collect();
        if let Err(error) = made {
            // The first error is the one to report; what can't be deleted now is collected at the next start.
            let _ = delete_automata(tables, [parts.forward, parts.backward, parts.mount]);
            let _ = prefixes
                .iter()
                .try_for_each(|key| tables.prefixes.delete(key).map(drop));
            return Err(error);
        }
        self.0.insert(generation, prefixes);
        // The kernel waited until no program used the old profile.
        old.map_or(Ok(()), |old| self.delete_parts(tables, &old))
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
        self.delete_parts(tables, &old)
    }

    fn delete_parts(&mut self, tables: &Tables, profile: &Profile) -> Result<(), Error> {
        delete_automata(tables, refs(profile))?;
        for key in self.0.remove(&profile.generation).unwrap_or_default() {
            tables.prefixes.delete(&key)?;
        }
        Ok(())
    }
}

/// A profile's rules in the kernel's form, before anything is written.
struct Encoded {
    forward: Option<(Class, Vec<u8>, u32)>,
    backward: Option<(Class, Vec<u8>, u32)>,
    mount: Option<(Class, Vec<u8>, u32)>,
    prefixes: Vec<(PrefixKey, varmor_bpf_abi::layout::PrefixValue)>,
}

fn encode_all(rules: &BpfProfile, generation: u64) -> Result<Encoded, RulesError> {
    let automaton = |what: &'static str, automaton: Option<&Automaton>| {
        let Some(automaton) = automaton else {
            return Ok(None);
        };
        let (class, bytes) =
            automata::encode(automaton).map_err(|source| RulesError::Automaton {
                automaton: what,
                source,
            })?;
        Ok::<_, RulesError>(Some((class, bytes, automata::permissions(automaton))))
    };
    // Nothing is written yet when these fail.
    profile::encode(0, rules, &Parts::default())?;
    Ok(Encoded {
        forward: automaton("file", rules.forward.as_ref())?,
        backward: automaton("file", rules.backward.as_ref())?,
        mount: automaton(
            "mount",
            rules.mounts.as_ref().map(|mounts| &mounts.automaton),
        )?,
        prefixes: match &rules.egress {
            Some(egress) => prefixes::encode(egress, generation)?,
            None => Vec::new(),
        },
    })
}

/// Writes automata and prefixes; `parts` tells what was written, also after an error.
fn insert(tables: &Tables, name: &str, encoded: &Encoded, parts: &mut Parts) -> Result<(), Error> {
    for (automaton, to) in [
        (&encoded.forward, &mut parts.forward),
        (&encoded.backward, &mut parts.backward),
        (&encoded.mount, &mut parts.mount),
    ] {
        let Some((class, bytes, permissions)) = automaton else {
            continue;
        };
        let array = array_of_one(name, class.map(), bytes)?;
        let key = random()?;
        tables
            .automata(*class)
            .put_map(&key, &array, NOEXIST, FULL_PROFILES)?;
        *to = AutomatonRef {
            key,
            class: class.number(),
            permissions: *permissions,
        };
    }
    for (key, value) in &encoded.prefixes {
        tables.prefixes.put(key, value, ANY, FULL_PREFIXES)?;
    }
    Ok(())
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
    let Some(id) = tables.profiles.get::<u32>(&key)? else {
        return Ok(None);
    };
    let value = Map::by_id(id).and_then(|array| array.lookup(&0_u32.to_bytes()));
    let value = value.map_err(|source| tables.profiles.access("read", source))?;
    Ok(value.and_then(|bytes| Profile::from_bytes(&bytes)))
}

/// The automata that a profile names.
fn refs(profile: &Profile) -> [AutomatonRef; 3] {
    [profile.forward, profile.backward, profile.mount]
}

fn delete_automata(tables: &Tables, automata: [AutomatonRef; 3]) -> Result<(), Error> {
    for automaton in automata {
        if let Some(class) = Class::from_number(automaton.class) {
            tables.automata(class).delete(&automaton.key)?;
        }
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
