//! The kernel's enforcers, behind small traits so that the reconcile logic can be tested without a kernel.

pub mod apparmor;

use std::collections::BTreeSet;
use std::io;

use async_trait::async_trait;

/// Loads AppArmor profiles. Every name is the name of a whole profile of ours, never that of a child.
#[async_trait]
pub trait AppArmor: Send + Sync {
    /// Why no profile can be loaded on this node, if that is so.
    fn unavailable(&self) -> Option<String>;
    /// Loads a profile, or replaces the one of that name for everything that runs under it.
    async fn load(&self, profile: &str, text: &str) -> Result<(), String>;
    /// The profiles that the kernel has.
    fn loaded(&self) -> io::Result<BTreeSet<String>>;
    /// The profiles that some task runs under.
    fn in_use(&self) -> io::Result<BTreeSet<String>>;
    /// Removes a profile. A task under it would run on unconfined: ask [`AppArmor::in_use`] first.
    fn remove(&self, profile: &str) -> io::Result<()>;
}
