// SPDX-License-Identifier: Apache-2.0
//! Opening the pinned maps, and saying clearly why one can't be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{ABI_VERSION, Meta, Plain};
use crate::pins;
use crate::sys::{Map, MapType};

/// Why a pinned map could not be used. Each names the pin and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs were never loaded on this node, or their bpffs was unmounted.
    #[error("no BPF map at {}: the programs are not loaded; start varmor-nri on this node", path.display())]
    NotLoaded {
        /// The missing pin.
        path: PathBuf,
    },
    /// Opening the pin failed.
    #[error("cannot open the BPF map {}: {source}{}", path.display(), hint(source))]
    Open {
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pins were made by another version of vArmor.
    #[error(
        "the BPF maps under {} have layout version {found}, this program knows version {expected}: install the hook and \
         the daemon of one release; to give up the old pins, drain the node and remove {}",
        path.display(),
        path.display()
    )]
    Version {
        /// Folder of the pins.
        path: PathBuf,
        /// Version that is pinned.
        found: u32,
        /// Version that this program was built for.
        expected: u32,
    },
    /// The pin is a map of another shape.
    #[error(
        "the BPF map {} is not the one expected ({found}, expected {expected}): something else made this pin; drain the \
         node and remove it",
        path.display()
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// Its shape.
        found: String,
        /// The shape that is needed.
        expected: String,
    },
    /// No entry is left.
    #[error("the BPF map {} is full ({entries} entries): {fix}", path.display())]
    Full {
        /// The pin.
        path: PathBuf,
        /// Its capacity.
        entries: u32,
        /// What to do.
        fix: &'static str,
    },
    /// Reading or writing an entry failed.
    #[error("cannot {operation} an entry of the BPF map {}: {source}{}", path.display(), hint(source))]
    Access {
        /// The pin.
        path: PathBuf,
        /// read, write or delete.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// More addresses than an entry holds.
    #[error(
        "container {container_id} has {found} pod addresses, {most} at most can be bound; remove some from the pod's interfaces"
    )]
    Addresses {
        /// The container.
        container_id: String,
        /// How many it has.
        found: usize,
        /// How many an entry holds.
        most: usize,
    },
    /// A container can't run under a profile that isn't there: the programs would refuse whatever it does.
    #[error("the BPF profile with key {profile_key:#018x} for container {container_id} is not loaded: {} has no entry for it", path.display())]
    NoProfile {
        /// The container.
        container_id: String,
        /// Key of the profile.
        profile_key: u64,
        /// The pin of `profiles`.
        path: PathBuf,
    },
    /// The container isn't bound.
    #[error("container {container_id} is not bound: {} has no entry for it", path.display())]
    NotBound {
        /// The container.
        container_id: String,
        /// The pin of `containers`.
        path: PathBuf,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (this needs root with CAP_BPF or CAP_SYS_ADMIN)",
        _ => "",
    }
}

/// A pinned map with keys and values of known types.
#[derive(Debug)]
pub struct Pinned {
    map: Map,
    path: PathBuf,
}

impl Pinned {
    /// Opens `dir/name`, which must be a `map_type` with such keys and values (bytes as the programs see them).
    pub fn open(
        dir: &Path,
        name: &str,
        map_type: MapType,
        key: usize,
        value: usize,
    ) -> Result<Self, Error> {
        let path = dir.join(name);
        let map = match Map::open(&path) {
            Ok(map) => map,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotLoaded { path });
            }
            Err(source) => return Err(Error::Open { path, source }),
        };
        let shape = map.shape();
        let found = (
            shape.map_type.0,
            shape.key_size as usize,
            shape.value_size as usize,
        );
        let expected = (map_type.0, key, value);
        if found != expected {
            let text =
                |(kind, key, value)| format!("type {kind}, keys of {key} bytes, values of {value}");
            return Err(Error::Shape {
                path,
                found: text(found),
                expected: text(expected),
            });
        }
        Ok(Self { map, path })
    }

    /// The map itself.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Where it is pinned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of `key`.
    pub fn get<V: Plain>(&self, key: &impl Plain) -> Result<Option<V>, Error> {
        let value = self
            .map
            .lookup(&key.to_bytes())
            .map_err(|source| self.access("read", source))?;
        Ok(value.and_then(|bytes| V::from_bytes(&bytes)))
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &impl Plain) -> Result<bool, Error> {
        self.map
            .lookup(&key.to_bytes())
            .map(|value| value.is_some())
            .map_err(|source| self.access("read", source))
    }

    /// Inserts or replaces; `full` says what to do when there is no room.
    pub fn put(
        &self,
        key: &impl Plain,
        value: &impl Plain,
        flags: u64,
        full: &'static str,
    ) -> Result<(), Error> {
        self.written(
            self.map.update(&key.to_bytes(), &value.to_bytes(), flags),
            full,
        )
    }

    /// As [`Pinned::put`], for a map of maps.
    pub fn put_map(
        &self,
        key: &impl Plain,
        value: &Map,
        flags: u64,
        full: &'static str,
    ) -> Result<(), Error> {
        self.written(self.map.update_map(&key.to_bytes(), value, flags), full)
    }

    fn written(&self, result: io::Result<()>, full: &'static str) -> Result<(), Error> {
        result.map_err(|source| match source.raw_os_error() {
            // A trie says ENOSPC.
            Some(libc::E2BIG | libc::ENOSPC) => Error::Full {
                path: self.path.clone(),
                entries: self.map.shape().max_entries,
                fix: full,
            },
            _ => self.access("write", source),
        })
    }

    /// Deletes `key`; false when it isn't there.
    pub fn delete(&self, key: &impl Plain) -> Result<bool, Error> {
        self.map
            .delete(&key.to_bytes())
            .map_err(|source| self.access("delete", source))
    }

    /// Every key; see [`Map::keys`].
    pub fn keys<K: Plain>(&self) -> Result<Vec<K>, Error> {
        let keys = self
            .map
            .keys()
            .map_err(|source| self.access("read", source))?;
        Ok(keys.iter().filter_map(|key| K::from_bytes(key)).collect())
    }

    /// The error for an operation on this map that failed.
    pub fn access(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Access {
            path: self.path.clone(),
            operation,
            source,
        }
    }
}

/// Refuses the pins of another version of the layout.
pub fn check_version(dir: &Path) -> Result<Meta, Error> {
    let meta = Pinned::open(dir, pins::META, MapType::ARRAY, 4, Meta::SIZE)?;
    let value: Meta = meta.get(&0_u32)?.unwrap_or_default();
    if value.abi_version != ABI_VERSION {
        let path = dir.to_owned();
        return Err(Error::Version {
            path,
            found: value.abi_version,
            expected: ABI_VERSION,
        });
    }
    Ok(value)
}
