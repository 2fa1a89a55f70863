// SPDX-License-Identifier: Apache-2.0
//! The BPF part of a plan: what the LSM programs look up.

use super::automaton::{Automaton, PathVerdict};
use super::egress::Egress;

/// One profile's tables. Masks named `deny` refuse, masks named `audit` report; a bit in both refuses and reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BpfProfile {
    /// Report everything, refuse nothing (behaviour modelling).
    pub complain: bool,
    /// Capability rules, a bit per capability number.
    pub capabilities: Masks<u64>,
    /// Path patterns that begin with a literal, matched from the path's first byte.
    pub forward: Option<Automaton>,
    /// Path patterns that begin with `**`, matched from the path's last byte to its first.
    pub backward: Option<Automaton>,
    /// socket(2) rules, one entry an address family (index = AF number, 0..64).
    pub sockets: Vec<SocketRule>,
    /// Destinations of connect(2) and of sends with an address.
    pub egress: Option<Egress>,
    /// ptrace rules.
    pub ptrace: Ptrace,
    /// Mount rules.
    pub mounts: Option<Mounts>,
    /// Creating a user namespace (`userns_create`, kernel 6.1 and later).
    pub userns_create: Masks<bool>,
    /// Opening a block device's special file, under whatever path and whoever made it: the inode is what is judged.
    pub block_open: Masks<bool>,
    /// A new mount of a file system that lives on a block device.
    pub block_mount: Masks<bool>,
    /// Rules for single executables and their descendants, in place of this profile's.
    pub children: Vec<BpfChild>,
}

impl BpfProfile {
    /// What both automata say of a path, and the sets of protected paths below it by each.
    pub fn of_path(&self, path: &str) -> (PathVerdict, u16, u16) {
        let forward = self.forward.as_ref().map(|a| a.run(path.bytes()));
        let backward = self.backward.as_ref().map(|a| a.run(path.bytes().rev()));
        let (forward, backward) = (forward.unwrap_or_default(), backward.unwrap_or_default());
        let both = PathVerdict {
            deny: forward.deny | backward.deny,
            audit: forward.audit | backward.audit,
            ..PathVerdict::default()
        };
        (both, forward.ancestors, backward.ancestors)
    }

    /// What holds for a mount; `fstype` is `none` for operations that have none.
    pub fn of_mount(&self, fstype: &str, source: &str) -> MountSet {
        let Some(mounts) = &self.mounts else {
            return MountSet::default();
        };
        let input = fstype.bytes().chain([0]).chain(source.bytes());
        mounts.sets[usize::from(mounts.automaton.run(input).ancestors)]
    }
}

/// The rules for some executables and for everything that these run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BpfChild {
    /// Absolute paths of the executables, exact; no path is in two children of a profile.
    pub targets: Vec<String>,
    /// The whole rule set: what holds for the container, and the rules for these executables. It has no children.
    pub profile: BpfProfile,
}

/// What is refused and what is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Masks<T> {
    /// Refused.
    pub deny: T,
    /// Reported.
    pub audit: T,
}

/// socket(2) rules for one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketRule {
    /// A bit per socket type (`1 << SOCK_STREAM`).
    pub types: Masks<u32>,
    /// A bit per protocol number below 64; protocol 0 is looked up as the default protocol of the socket's type, and
    /// IPPROTO_MPTCP (262) and IPPROTO_SMC (256) as TCP.
    pub protocols: Masks<u64>,
}

/// The caller traces another process.
pub const PTRACE_TRACE: u8 = 1;
/// The caller reads another process.
pub const PTRACE_READ: u8 = 2;
/// Another process traces a process of the container.
pub const PTRACE_TRACEBY: u8 = 4;
/// Another process reads a process of the container.
pub const PTRACE_READBY: u8 = 8;

/// ptrace rules, bit masks of `PTRACE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ptrace {
    /// Towards processes of other containers or of the host. Processes of the host are never restricted as callers.
    pub external: Masks<u8>,
    /// Between processes of the same container.
    pub internal: Masks<u8>,
}

/// Mount rules: an automaton over `fstype NUL source` (fstype is `none` for operations that have none) whose verdicts'
/// `ancestors` field indexes `sets`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mounts {
    /// Which set applies to a mount request.
    pub automaton: Automaton,
    /// Distinct rule sets; the first is empty.
    pub sets: Vec<MountSet>,
}

impl Mounts {
    /// What holds for an operation without a file system type whose source is not known: whatever some source is refused
    /// or reported for.
    pub fn any_source(&self) -> MountSet {
        let mut any = MountSet::default();
        for verdict in self.automaton.verdicts_after(b"none\0") {
            let set = self.sets[usize::from(verdict.ancestors)];
            any.deny_flags |= set.deny_flags;
            any.deny_clear |= set.deny_clear;
            any.audit_flags |= set.audit_flags;
            any.audit_clear |= set.audit_clear;
        }
        any
    }
}

/// A mount request with flags `f` is refused when `f & deny_flags != 0` or `!f & deny_clear != 0`; likewise reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountSet {
    /// Flags of mount(2) (plus [`MOUNT_UMOUNT`]), any of which refuses when set.
    pub deny_flags: u32,
    /// Flags any of which refuses when clear.
    pub deny_clear: u32,
    /// As `deny_flags`, for reports.
    pub audit_flags: u32,
    /// As `deny_clear`, for reports.
    pub audit_clear: u32,
}

/// Stands for umount(2) among the mount flags.
pub const MOUNT_UMOUNT: u32 = 0x200;
/// Stands for an operation with no flag at all, such as a plain new mount, so that a rule for all flags matches it.
pub const MOUNT_NEW: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automata::compile_mounts;
    use crate::pattern::Pattern;

    #[test]
    fn any_source_is_what_some_source_is_refused_for() {
        let set = |flags| MountSet {
            deny_flags: flags,
            ..MountSet::default()
        };
        let rules = [
            (
                None,
                Pattern::mount_source("/proc**").expect("valid"),
                set(1),
            ),
            (None, Pattern::mount_source("**/x").expect("valid"), set(2)),
            (
                Some("tmpfs".to_owned()),
                Pattern::mount_source("**").expect("valid"),
                set(4),
            ),
        ];
        let mounts = compile_mounts(&rules).expect("compiles").expect("some");
        assert_eq!(mounts.any_source(), set(3));
    }
}
