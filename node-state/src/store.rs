// SPDX-License-Identifier: Apache-2.0
//! Where the files are, and reading and writing them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StateError;
use crate::files::{self, Durability};
use crate::id::{ContainerId, ProfileName};
use crate::record::{CompositionRecord, Marker, ProfileRecord, SandboxRecord};

/// A marker is a few hundred bytes; the rest is room.
const MARKER_LIMIT: u64 = 64 << 10;
/// Kubernetes allows 256 KiB of annotations, which JSON may escape sixfold.
const SANDBOX_LIMIT: u64 = 2 << 20;
/// A merged filter is some 100 KiB.
const PROFILE_LIMIT: u64 = 4 << 20;
/// 64 policies of 600 bytes at most; the rest is room.
const COMPOSITION_LIMIT: u64 = 256 << 10;
/// Some 500 bytes a policy: room for tens of thousands.
const INDEX_LIMIT: u64 = 32 << 20;

/// The directories of the node's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Lives as long as the containers do: a tmpfs.
    pub run: PathBuf,
    /// Survives a reboot.
    pub state: PathBuf,
}

impl Default for Layout {
    /// `/run/varmor-nri` and `/var/lib/varmor-nri`.
    fn default() -> Self {
        Self {
            run: "/run/varmor-nri".into(),
            state: "/var/lib/varmor-nri".into(),
        }
    }
}

impl Layout {
    /// Where a container's marker is.
    pub fn marker(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(format!("{id}.json"))
    }

    /// Where a sandbox's record is.
    pub fn sandbox(&self, id: &ContainerId) -> PathBuf {
        self.sandboxes().join(format!("{id}.json"))
    }

    /// Where a profile's record is.
    pub fn profile(&self, name: &ProfileName) -> PathBuf {
        self.profiles().join(format!("{name}.json"))
    }

    /// Where the record of a composition is.
    pub fn composition(&self, profile: &ProfileName) -> PathBuf {
        self.compositions().join(format!("{profile}.json"))
    }

    /// Where the policy index is.
    pub fn policy_index(&self) -> PathBuf {
        self.state.join("policy-index.json")
    }

    fn containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    fn sandboxes(&self) -> PathBuf {
        self.run.join("sandboxes")
    }

    fn profiles(&self) -> PathBuf {
        self.run.join("profiles")
    }

    fn compositions(&self) -> PathBuf {
        self.run.join("compositions")
    }
}

/// Reads and writes the files of a [`Layout`]. Every read answers `None` for a file that does not exist and an error for
/// one that can't be believed: the two mean different things to a reader that must fail closed.
#[derive(Debug, Clone, Default)]
pub struct NodeState {
    layout: Layout,
}

impl NodeState {
    /// The state under these directories.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Where the files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the directories, closes them to everyone but root, and removes what a crashed writer left half written.
    /// For the daemon's start; the other writers make a missing directory by themselves.
    pub fn prepare(&self) -> Result<(), StateError> {
        let layout = &self.layout;
        for directory in [
            layout.run.clone(),
            layout.state.clone(),
            layout.containers(),
            layout.sandboxes(),
            layout.profiles(),
            layout.compositions(),
        ] {
            let error = |source| StateError::Write {
                path: directory.clone(),
                source,
            };
            files::create_private_directory(&directory).map_err(error)?;
            fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(error)?;
            sweep(&directory).map_err(error)?;
        }
        Ok(())
    }

    /// Writes a container's marker.
    pub fn save_marker(&self, marker: &Marker) -> Result<(), StateError> {
        files::write_json(
            &self.layout.marker(&marker.container_id),
            marker,
            Durability::Volatile,
        )
    }

    /// Reads a container's marker.
    pub fn load_marker(&self, id: &ContainerId) -> Result<Option<Marker>, StateError> {
        let path = self.layout.marker(id);
        let marker = files::read_json::<Marker>(&path, MARKER_LIMIT)?;
        placed(
            path,
            marker,
            |marker| marker.container_id.as_str(),
            id.as_str(),
        )
    }

    /// Removes a container's marker, if there is one.
    pub fn remove_marker(&self, id: &ContainerId) -> Result<(), StateError> {
        files::remove(&self.layout.marker(id))
    }

    /// The containers that have a marker.
    pub fn markers(&self) -> Result<Vec<ContainerId>, StateError> {
        named(&self.layout.containers(), ContainerId::new)
    }

    /// Writes what is known of a sandbox.
    pub fn save_sandbox(&self, sandbox: &SandboxRecord) -> Result<(), StateError> {
        files::write_json(
            &self.layout.sandbox(&sandbox.sandbox_id),
            sandbox,
            Durability::Volatile,
        )
    }

    /// Reads what is known of a sandbox.
    pub fn load_sandbox(&self, id: &ContainerId) -> Result<Option<SandboxRecord>, StateError> {
        let path = self.layout.sandbox(id);
        let record = files::read_json::<SandboxRecord>(&path, SANDBOX_LIMIT)?;
        placed(
            path,
            record,
            |record| record.sandbox_id.as_str(),
            id.as_str(),
        )
    }

    /// Forgets a sandbox.
    pub fn remove_sandbox(&self, id: &ContainerId) -> Result<(), StateError> {
        files::remove(&self.layout.sandbox(id))
    }

    /// The sandboxes that have a record.
    pub fn sandboxes(&self) -> Result<Vec<ContainerId>, StateError> {
        named(&self.layout.sandboxes(), ContainerId::new)
    }

    /// Writes the record of a profile that is in force.
    pub fn save_profile(&self, profile: &ProfileRecord) -> Result<(), StateError> {
        files::write_json(
            &self.layout.profile(&profile.profile),
            profile,
            Durability::Volatile,
        )
    }

    /// Reads the record of a profile.
    pub fn load_profile(&self, name: &ProfileName) -> Result<Option<ProfileRecord>, StateError> {
        let path = self.layout.profile(name);
        let record = files::read_json::<ProfileRecord>(&path, PROFILE_LIMIT)?;
        placed(
            path,
            record,
            |record| record.profile.as_str(),
            name.as_str(),
        )
    }

    /// Removes the record of a profile: nothing may be put under it any more.
    pub fn remove_profile(&self, name: &ProfileName) -> Result<(), StateError> {
        files::remove(&self.layout.profile(name))
    }

    /// The profiles that have a record.
    pub fn profiles(&self) -> Result<Vec<ProfileName>, StateError> {
        named(&self.layout.profiles(), ProfileName::new)
    }

    /// Writes which policies a composition has.
    pub fn save_composition(&self, composition: &CompositionRecord) -> Result<(), StateError> {
        files::write_json(
            &self.layout.composition(&composition.profile),
            composition,
            Durability::Volatile,
        )
    }

    /// Reads which policies a composition has.
    pub fn load_composition(
        &self,
        profile: &ProfileName,
    ) -> Result<Option<CompositionRecord>, StateError> {
        let path = self.layout.composition(profile);
        let record = files::read_json::<CompositionRecord>(&path, COMPOSITION_LIMIT)?;
        placed(
            path,
            record,
            |record| record.profile.as_str(),
            profile.as_str(),
        )
    }

    /// Forgets a composition whose profile is gone.
    pub fn remove_composition(&self, profile: &ProfileName) -> Result<(), StateError> {
        files::remove(&self.layout.composition(profile))
    }

    /// The profiles of several policies that have a record.
    pub fn compositions(&self) -> Result<Vec<ProfileName>, StateError> {
        named(&self.layout.compositions(), ProfileName::new)
    }

    /// Writes the policy index and flushes it: it must hold after a reboot, before the daemon is back.
    pub fn save_index<I: Serialize>(&self, index: &I) -> Result<(), StateError> {
        files::write_json(&self.layout.policy_index(), index, Durability::Durable)
    }

    /// Reads the policy index; none means that the daemon has never run on this node.
    pub fn load_index<I: DeserializeOwned>(&self) -> Result<Option<I>, StateError> {
        files::read_json(&self.layout.policy_index(), INDEX_LIMIT)
    }
}

fn placed<T>(
    path: PathBuf,
    record: Option<T>,
    name: impl Fn(&T) -> &str,
    expected: &str,
) -> Result<Option<T>, StateError> {
    match record {
        Some(record) if name(&record) != expected => {
            let found = name(&record).to_owned();
            Err(StateError::Misplaced { path, found })
        }
        record => Ok(record),
    }
}

fn named<T, E>(
    directory: &Path,
    name: impl Fn(String) -> Result<T, E>,
) -> Result<Vec<T>, StateError>
where
    StateError: From<E>,
{
    files::stems(directory)?
        .into_iter()
        .map(|stem| Ok(name(stem)?))
        .collect()
}

/// Another writer may be at work right now: only what is older than any write is left over.
fn sweep(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let temporary = name
            .to_str()
            .is_some_and(|name| name.starts_with('.') && name.ends_with(".tmp"));
        if temporary
            && let Ok(age) = entry
                .metadata()
                .and_then(|metadata| metadata.modified().map(|time| time.elapsed()))
            && age.unwrap_or_default() > Duration::from_secs(60)
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
