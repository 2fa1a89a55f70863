// SPDX-License-Identifier: Apache-2.0
//! The BPF enforcer of a node.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use varmor_bpf_abi::Maps;
use varmor_bpf_abi::binding::Binding;
use varmor_policy::plan::bpf::BpfProfile;

use crate::error::Error;
use crate::host;
use crate::load::{LoadOptions, LoadReport, load};
use crate::mark::{Marked, mark_running};
use crate::profile_tables::Generations;
use crate::reader::ViolationReader;
use crate::tables::{Counters, Tables};

/// The programs in force and their tables. Dropping it changes nothing: everything is pinned, and the next process that
/// loads finds it again.
///
/// One process at a time can have one: the node daemon. The hook binds containers beside it.
#[derive(Debug)]
pub struct Enforcer {
    pin_dir: PathBuf,
    tables: Tables,
    generations: Generations,
    /// Held, not used.
    _lock: OwnedFd,
}

impl Enforcer {
    /// Brings the programs into force: takes over those of the same build that are pinned, replaces others without a
    /// gap, and reports what this kernel can't do. Needs root.
    ///
    /// # Errors
    ///
    /// The node lacks something that every rule needs, the pins are of another version, or the kernel refuses a program
    /// without which nothing can be enforced. What was in force before stays so.
    pub fn load(options: &LoadOptions) -> Result<(Self, LoadReport), Error> {
        let (tables, lock, report) = load(options)?;
        Ok((Self::new(options.pin_dir.clone(), tables, lock)?, report))
    }

    /// Opens the tables that are pinned in `pin_dir`, whatever programs are attached.
    pub fn open(pin_dir: &Path) -> Result<Self, Error> {
        let tables = Tables::open(pin_dir)?;
        Self::new(pin_dir.to_owned(), tables, host::lock(pin_dir)?)
    }

    fn new(pin_dir: PathBuf, tables: Tables, lock: OwnedFd) -> Result<Self, Error> {
        let generations = Generations::collect(&tables)?;
        Ok(Self {
            pin_dir,
            tables,
            generations,
            _lock: lock,
        })
    }

    /// Loads a profile, or replaces it at once for every container that has it. On an error the old one stays in force.
    pub fn set_profile(&mut self, name: &str, rules: &BpfProfile) -> Result<(), Error> {
        self.generations.set(&self.tables, name, rules)
    }

    /// Unloads a profile that no container has; one that isn't loaded is no error.
    pub fn remove_profile(&mut self, name: &str) -> Result<(), Error> {
        self.generations.remove(&self.tables, name)
    }

    /// Keys of the loaded profiles, in order.
    pub fn profiles(&self) -> Result<Vec<u64>, Error> {
        let mut keys = self.tables.profiles.keys()?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Binds a container whose init has not called execve yet, see [`Maps::bind`].
    pub fn bind(&self, binding: &Binding<'_>) -> Result<(), Error> {
        Ok(self.tables.bindings.bind(binding)?)
    }

    /// Binds a container that already runs, or gives one that is bound the binding's profile, and marks its tasks.
    ///
    /// # Errors
    ///
    /// The profile isn't loaded, no process is in the mount namespace, or its processes could not all be marked.
    pub fn mark_running(&mut self, binding: &Binding<'_>) -> Result<Marked, Error> {
        mark_running(&self.tables, &self.pin_dir, binding)
    }

    /// Gives a bound container another profile; [`NONE`](varmor_bpf_abi::keys::NONE) for none.
    pub fn set_container_profile(&self, container_id: &str, profile_key: u64) -> Result<(), Error> {
        Ok(self
            .tables
            .bindings
            .set_profile(container_id, profile_key)?)
    }

    /// Forgets a container; one that isn't bound is no error.
    pub fn unbind(&self, container_id: &str) -> Result<(), Error> {
        Ok(self.tables.bindings.unbind(container_id)?)
    }

    /// The bindings: what is bound to what, and in which state.
    pub fn bindings(&self) -> &Maps {
        &self.tables.bindings
    }

    /// What the programs counted.
    pub fn counters(&self) -> Result<Counters, Error> {
        self.tables.counters()
    }

    /// The reports. One reader at a time: a second one takes reports away from the first.
    pub fn violations(&self) -> Result<ViolationReader, Error> {
        ViolationReader::open(&self.pin_dir)
    }
}
