// SPDX-License-Identifier: Apache-2.0
//! Which container runs under which profile: `containers`, `states` and `namespaces`.
//!
//! User space replaces whole values of `containers`; the programs change values of `states` in place. So neither
//! overwrites what the other wrote, and the programs always read a value that was written at once.

use std::net::Ipv6Addr;
use std::path::Path;

use crate::keys::{NONE, container_key};
use crate::layout::{CONTAINER_PENDING, Container, ContainerState, POD_ADDRESSES, Plain};
pub use crate::maps::Error;
use crate::maps::{Pinned, check_version};
use crate::pins;
use crate::sys::{ANY, EXIST, MapType};

const FULL: &str =
    "too many containers are bound; unbind those that are gone (varmor-nri does when it starts)";

/// What ties a container to its profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Id as the runtime spells it.
    pub container_id: &'a str,
    /// Pid of the container's init in the initial pid namespace.
    pub init_tgid: u32,
    /// Inode number of its mount namespace, see [`mount_namespace`](crate::procfs::mount_namespace).
    pub mntns: u32,
    /// Profile key; [`NONE`] to follow the container without a profile.
    pub profile_key: u64,
    /// The pod's own addresses, see [`pod_addresses`](crate::procfs::pod_addresses); [`POD_ADDRESSES`] at most.
    pub addresses: &'a [Ipv6Addr],
}

/// The pinned maps that bind containers.
#[derive(Debug)]
pub struct Maps {
    containers: Pinned,
    states: Pinned,
    namespaces: Pinned,
    profiles: Pinned,
}

impl Maps {
    /// Opens the maps pinned in `dir` ([`pins::DIR`] on a node).
    ///
    /// # Errors
    ///
    /// The programs aren't loaded, or the pins are of another version or shape.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        check_version(dir)?;
        let hash = |name, key, value| Pinned::open(dir, name, MapType::HASH, key, value);
        Ok(Self {
            containers: hash(pins::CONTAINERS, u64::SIZE, Container::SIZE)?,
            states: hash(pins::STATES, u64::SIZE, ContainerState::SIZE)?,
            namespaces: hash(pins::NAMESPACES, u32::SIZE, u64::SIZE)?,
            profiles: Pinned::open(
                dir,
                pins::PROFILES,
                MapType::HASH_OF_MAPS,
                u64::SIZE,
                u32::SIZE,
            )?,
        })
    }

    /// Binds a container whose init has not called execve yet: that execve makes init, and what it starts, subjects.
    ///
    /// `namespaces` is written last, so that a program that finds a namespace finds its container too. When a write
    /// fails, what was written before is taken back.
    pub fn bind(&self, binding: &Binding<'_>) -> Result<(), Error> {
        let key = container_key(binding.container_id);
        self.check_profile(binding.container_id, binding.profile_key)?;
        let mut address = [[0; 16]; POD_ADDRESSES];
        if binding.addresses.len() > POD_ADDRESSES {
            return Err(Error::Addresses {
                container_id: binding.container_id.to_owned(),
                found: binding.addresses.len(),
                most: POD_ADDRESSES,
            });
        }
        for (to, from) in address.iter_mut().zip(binding.addresses) {
            *to = from.octets();
        }
        let container = Container {
            profile: binding.profile_key,
            mntns: binding.mntns,
            init_tgid: binding.init_tgid,
            addresses: u32::try_from(binding.addresses.len()).unwrap_or_default(),
            pad: 0,
            address,
        };
        let state = ContainerState {
            state: CONTAINER_PENDING,
            ..ContainerState::default()
        };
        let written = self
            .states
            .put(&key, &state, ANY, FULL)
            .and_then(|()| self.containers.put(&key, &container, ANY, FULL))
            .and_then(|()| self.namespaces.put(&binding.mntns, &key, ANY, FULL));
        if written.is_err() {
            // The first error is the one to report; what can't be deleted now is found by the daemon's next clean-up.
            let _ = self.containers.delete(&key);
            let _ = self.states.delete(&key);
        }
        written
    }

    /// Gives a bound container another profile ([`NONE`] for none), whatever its state; it holds from the next look-up on.
    ///
    /// One writer at a time: the daemon, once the hook has bound the container.
    pub fn set_profile(&self, container_id: &str, profile_key: u64) -> Result<(), Error> {
        let key = container_key(container_id);
        self.check_profile(container_id, profile_key)?;
        let not_bound = || Error::NotBound {
            container_id: container_id.to_owned(),
            path: self.containers.path().to_owned(),
        };
        let old: Container = self.containers.get(&key)?.ok_or_else(not_bound)?;
        match self.containers.put(
            &key,
            &Container {
                profile: profile_key,
                ..old
            },
            EXIST,
            FULL,
        ) {
            // The container was unbound between the two calls.
            Err(Error::Access { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
                Err(not_bound())
            }
            other => other,
        }
    }

    fn check_profile(&self, container_id: &str, profile_key: u64) -> Result<(), Error> {
        if profile_key == NONE || self.profiles.contains(&profile_key)? {
            return Ok(());
        }
        let (container_id, path) = (container_id.to_owned(), self.profiles.path().to_owned());
        Err(Error::NoProfile {
            container_id,
            profile_key,
            path,
        })
    }

    /// Forgets a container. Deletes its namespace's entry only when that still names it: the number may be another's by
    /// now. A container that isn't bound is no error.
    pub fn unbind(&self, container_id: &str) -> Result<(), Error> {
        self.unbind_key(container_key(container_id))
    }

    /// As [`Maps::unbind`], for a key found by [`Maps::containers`].
    pub fn unbind_key(&self, key: u64) -> Result<(), Error> {
        if let Some(container) = self.containers.get::<Container>(&key)?
            && self.namespaces.get::<u64>(&container.mntns)? == Some(key)
        {
            self.namespaces.delete(&container.mntns)?;
        }
        self.states.delete(&key)?;
        self.containers.delete(&key)?;
        Ok(())
    }

    /// Deletes a namespace's entry, whichever container it names; false when there is none.
    pub fn forget_namespace(&self, mntns: u32) -> Result<bool, Error> {
        self.namespaces.delete(&mntns)
    }

    /// Whether a profile with this key is loaded. [`NONE`] never is.
    pub fn profile_loaded(&self, profile_key: u64) -> Result<bool, Error> {
        if profile_key == NONE {
            return Ok(false);
        }
        self.profiles.contains(&profile_key)
    }

    /// A container's entry.
    pub fn container(&self, key: u64) -> Result<Option<Container>, Error> {
        self.containers.get(&key)
    }

    /// A container's state, as the programs left it.
    pub fn state(&self, key: u64) -> Result<Option<ContainerState>, Error> {
        self.states.get(&key)
    }

    /// The container that a mount namespace's number is bound to.
    pub fn namespace(&self, mntns: u32) -> Result<Option<u64>, Error> {
        self.namespaces.get(&mntns)
    }

    /// Every bound container and its entry, in the order of their keys; those bound or unbound meanwhile may be missing.
    pub fn containers(&self) -> Result<Vec<(u64, Container)>, Error> {
        let mut all = Vec::new();
        for key in self.containers.keys::<u64>()? {
            if let Some(container) = self.containers.get(&key)? {
                all.push((key, container));
            }
        }
        all.sort_by_key(|(key, _)| *key);
        Ok(all)
    }

    /// Every namespace entry, in the order of their numbers.
    pub fn namespaces(&self) -> Result<Vec<(u32, u64)>, Error> {
        let mut all = Vec::new();
        for mntns in self.namespaces.keys::<u32>()? {
            if let Some(key) = self.namespaces.get(&mntns)? {
                all.push((mntns, key));
            }
        }
        all.sort_unstable();
        Ok(all)
    }
}
