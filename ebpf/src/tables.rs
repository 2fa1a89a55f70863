// SPDX-License-Identifier: Apache-2.0
//! The pinned maps, opened and checked.

use std::path::Path;

use varmor_bpf_abi::layout::{
    ABI_VERSION, COUNTERS, ChildKey, Class, MarkRequest, Meta, Plain, PrefixKey, PrefixValue,
    Settings,
};
use varmor_bpf_abi::maps::{self, Pinned};
use varmor_bpf_abi::sys::{self, Map, MapType, Shape};
use varmor_bpf_abi::{Maps, pins};

use crate::error::Error;

/// Every map that user space reads or writes. A pin of another shape is refused here.
#[derive(Debug)]
pub struct Tables {
    /// Which container runs under which profile.
    pub bindings: Maps,
    /// Profile key to the profile's array.
    pub profiles: Pinned,
    /// Generation and domain to a child's array.
    pub children: Pinned,
    /// Automaton key to the automaton's array, by class.
    pub automata: [Pinned; 4],
    /// Egress rules.
    pub prefixes: Pinned,
    /// Counters, a value for each CPU.
    pub counters: Pinned,
    /// What the programs must know of the node.
    pub settings: Pinned,
    /// The task iterator's request and answer.
    pub mark_request: Pinned,
}

impl Tables {
    /// Opens what is pinned in `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let nested = |name| Pinned::open(dir, name, MapType::HASH_OF_MAPS, u64::SIZE, u32::SIZE);
        let single = |name, value| Pinned::open(dir, name, MapType::ARRAY, u32::SIZE, value);
        Ok(Self {
            bindings: Maps::open(dir)?,
            profiles: nested(pins::PROFILES)?,
            children: Pinned::open(
                dir,
                pins::CHILDREN,
                MapType::HASH_OF_MAPS,
                ChildKey::SIZE,
                u32::SIZE,
            )?,
            automata: [
                nested(Class::S.map())?,
                nested(Class::M.map())?,
                nested(Class::L.map())?,
                nested(Class::Xl.map())?,
            ],
            prefixes: Pinned::open(
                dir,
                pins::PREFIXES,
                MapType::LPM_TRIE,
                PrefixKey::SIZE,
                PrefixValue::SIZE,
            )?,
            counters: Pinned::open(
                dir,
                pins::COUNTERS,
                MapType::PERCPU_ARRAY,
                u32::SIZE,
                u64::SIZE,
            )?,
            settings: single(pins::SETTINGS, Settings::SIZE)?,
            mark_request: single(pins::MARK_REQUEST, MarkRequest::SIZE)?,
        })
    }

    /// The map for automata of a class.
    pub fn automata(&self, class: Class) -> &Pinned {
        let [s, m, l, xl] = &self.automata;
        match class {
            Class::S => s,
            Class::M => m,
            Class::L => l,
            Class::Xl => xl,
        }
    }

    /// The counters, summed over the CPUs.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut sums = [0_u64; COUNTERS as usize];
        for (counter, sum) in (0..COUNTERS).zip(&mut sums) {
            let values = self.counters.map().lookup(&counter.to_bytes());
            let values = values
                .map_err(|source| self.counters.access("read", source))?
                .unwrap_or_default();
            let per_cpu = values.chunks_exact(u64::SIZE).filter_map(u64::from_bytes);
            *sum = per_cpu.fold(0, u64::wrapping_add);
        }
        let [
            events_lost,
            no_automaton,
            no_profile,
            mark_failed,
            path_refused,
            held_up,
            ..,
        ] = sums;
        Ok(Counters {
            events_lost,
            no_automaton,
            no_profile,
            mark_failed,
            path_refused,
            held_up,
        })
    }
}

/// What the programs counted since they were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Reports that found the ring buffer full.
    pub events_lost: u64,
    /// Operations refused because a profile names an automaton that isn't there.
    pub no_automaton: u64,
    /// Operations refused because a container names a profile that isn't there.
    pub no_profile: u64,
    /// Forks and execs refused because a task could not be marked.
    pub mark_failed: u64,
    /// Operations refused because the path was too long, too deep, or outside the namespace's tree.
    pub path_refused: u64,
    /// Operations refused because the task was switched out during each attempt to judge them.
    pub held_up: u64,
}

/// What is pinned: the layout's version and the build.
#[derive(Debug)]
pub struct MetaTable(Pinned);

impl MetaTable {
    /// Opens `meta` in `dir`, or makes it for this version and no build.
    ///
    /// # Errors
    ///
    /// The pins are of another version.
    pub fn open(dir: &Path) -> Result<(Self, Meta), Error> {
        let path = dir.join(pins::META);
        if !path.exists() {
            let shape = Shape {
                map_type: MapType::ARRAY,
                key_size: 4,
                value_size: 40,
                max_entries: 1,
            };
            let meta = Meta {
                abi_version: ABI_VERSION,
                ..Meta::default()
            };
            // Written before it is pinned: a map without a version is never found.
            let made = Map::create(shape, 0, pins::META).and_then(|map| {
                map.update(&0_u32.to_bytes(), &meta.to_bytes(), sys::ANY)?;
                map.pin(&path)
            });
            made.map_err(|source| Error::Pin {
                operation: "make",
                path,
                source,
            })?;
        }
        let meta = maps::check_version(dir)?;
        Ok((
            Self(Pinned::open(
                dir,
                pins::META,
                MapType::ARRAY,
                u32::SIZE,
                Meta::SIZE,
            )?),
            meta,
        ))
    }

    /// Says which build's links are pinned; all 0 while they are being changed.
    pub fn set_build(&self, build: [u8; 32]) -> Result<(), Error> {
        let meta = Meta {
            abi_version: ABI_VERSION,
            pad: 0,
            build,
        };
        Ok(self.0.put(&0_u32, &meta, sys::ANY, "")?)
    }
}
