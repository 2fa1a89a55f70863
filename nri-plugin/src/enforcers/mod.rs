// SPDX-License-Identifier: Apache-2.0
//! The kernel's enforcers, behind small traits so that the reconcile logic can be tested without a kernel.

pub mod apparmor;
pub mod bpf;
pub mod seccomp;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use async_trait::async_trait;
use varmor_policy::plan::bpf::BpfProfile;

/// Loads AppArmor profiles. Every name is the name of a whole profile of ours, never that of a child.
#[async_trait]
pub trait AppArmor: Send + Sync {
    /// Why no profile can be loaded on this node, if that is so.
    fn unavailable(&self) -> Option<String>;
    /// Loads a profile, or replaces the one of that name for everything that runs under it.
    async fn load(&self, profile: &str, text: &str) -> Result<(), String>;
    /// Replaces a profile and its children by ones that allow everything.
    async fn neutralise(&self, profile: &str) -> Result<(), String>;
    /// The profiles that the kernel has.
    fn loaded(&self) -> io::Result<BTreeSet<String>>;
    /// The profiles that some task runs under.
    fn in_use(&self) -> io::Result<BTreeSet<String>>;
    /// Removes a profile. A task under it would run on unconfined: ask [`AppArmor::in_use`] first.
    fn remove(&self, profile: &str) -> io::Result<()>;
}

/// A container in the pinned maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Key of its profile; 0 when it is followed without one.
    pub profile: u64,
    /// Its init in the host's pid namespace.
    pub init: u32,
    /// Whether its init has called execve.
    pub active: bool,
}

/// The BPF LSM programs. Profiles are named, containers are given by id; the keys follow from both.
pub trait Bpf: Send + Sync {
    /// Why nothing can be enforced on this node, if that is so.
    fn unavailable(&self) -> Option<String>;
    /// What this kernel lacks, and what is not enforced for want of it.
    fn missing(&self) -> Vec<(String, String)>;
    /// Inserts a profile, or replaces it at once for every container under it.
    fn set_profile(&self, profile: &str, tables: &BpfProfile) -> Result<(), String>;
    /// Removes a profile. While a container is still under it (one that CRI does not know), it is emptied instead, and
    /// the answer is false: a container whose profile is missing is refused everything.
    fn remove_profile(&self, profile: &str) -> Result<bool, String>;
    /// The container's entry, if there is one.
    fn binding(&self, container: &str) -> Result<Option<Binding>, String>;
    /// Puts a bound container under another profile, or none.
    fn switch(&self, container: &str, profile: Option<&str>) -> Result<(), String>;
    /// Binds a container whose init has not called execve yet, as the OCI hook does.
    fn bind_starting(&self, start: &Start) -> Result<(), String>;
    /// Binds a container that runs, and all the tasks it has; their number.
    fn bind_running(&self, start: &Start) -> Result<u32, String>;
    /// Forgets a container that is gone.
    fn unbind(&self, container: &str) -> Result<(), String>;
}

/// What binding a container needs.
#[derive(Debug, Clone)]
pub struct Start {
    /// Container id.
    pub container: String,
    /// Its init in the host's pid namespace.
    pub init: u32,
    /// Its profile; none to follow its tasks only.
    pub profile: Option<String>,
    /// The pod's own addresses.
    pub addresses: Vec<IpAddr>,
}

/// Key of a profile in the pinned maps; 0 for none.
pub fn profile_key(profile: Option<&str>) -> u64 {
    profile.map_or(
        varmor_bpf_abi::keys::NONE,
        varmor_bpf_abi::keys::profile_key,
    )
}
