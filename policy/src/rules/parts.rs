// SPDX-License-Identifier: Apache-2.0
//! What the enforcers can refuse for a rule.

/// One thing that AppArmor refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppArmorPart {
    /// A path rule: AppArmor pattern and permissions.
    Path(&'static str, &'static str),
    /// Capabilities, a bit per number.
    Capabilities(u64),
    /// The special files of disks: those of the node ([`crate::compile::Settings::disk_devices`]), and every file in
    /// /dev that is named as disks are ([`DISK_NAMES`]), so that a disk that comes later is covered.
    DiskDevices {
        /// Opening them.
        open: bool,
        /// Mounting what is on them.
        mount: bool,
    },
    /// Any other rule, without qualifier and comma.
    Other(&'static str),
}

/// How block devices are named in /dev (Documentation/admin-guide/devices.txt), as an AppArmor pattern.
pub const DISK_NAMES: &str = "/dev/{sd[a-z],hd[a-z],vd[a-z],xvd[a-z],nvme[0-9],mmcblk[0-9],dm-[0-9],md[0-9],nbd[0-9],\
                              rbd[0-9],drbd[0-9],zd[0-9],pmem[0-9],bcache[0-9],loop[0-9],sr[0-9],ram[0-9]}*";

/// One thing that the BPF programs refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BpfPart {
    /// Path pattern and permissions (`PERM_*`).
    Path(&'static str, u16),
    /// Capabilities, a bit per number.
    Capabilities(u64),
    /// Making sockets: of these families (AF_*; empty is every family) those of some types (a bit per SOCK_*) or
    /// protocols (a bit per IPPROTO_* below 64, where 0 counts as the default of the socket's type).
    Sockets {
        /// Address families; empty is all of them.
        families: &'static [u8],
        /// Types.
        types: u32,
        /// Protocols.
        protocols: u64,
    },
    /// Connecting to an address, on any port.
    Destination(&'static str),
    /// Connecting to a Kubernetes service: its cluster addresses, on any port, and its endpoints.
    Service {
        /// The service's namespace.
        namespace: &'static str,
        /// The service's name.
        name: &'static str,
    },
    /// Tracing or reading processes of other containers (`PTRACE_*`).
    PtraceExternal(u8),
    /// Mount operations.
    Mount {
        /// File system type; `None` is any.
        fstype: Option<&'static str>,
        /// Pattern for the source.
        source: &'static str,
        /// Flags, any of which makes the rule hold.
        flags: u32,
    },
    /// Block devices, by what their inodes are and not by their paths.
    BlockDevices {
        /// Opening them.
        open: bool,
        /// Mounting what is on them.
        mount: bool,
    },
    /// Making a user namespace.
    UsernsCreate,
}

/// System calls that seccomp refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyscallPart {
    /// Names of system calls.
    pub names: &'static [&'static str],
    /// Conditions on arguments, all of which must hold; empty is every call.
    pub args: &'static [ArgMask],
    /// What the call returns; EPERM is 1.
    pub errno: u32,
}

/// `argument & mask == value`.
///
/// The mask holds the bits that tell the value from others that the kernel knows, and no more: the upper half of an `int`
/// is the caller's to choose, and where a container's filter allows the call, each bit costs a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgMask {
    /// Argument number, 0 to 5.
    pub index: u32,
    /// Bits that are looked at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

impl ArgMask {
    /// An argument with all of these bits set.
    pub const fn bits(index: u32, bits: u64) -> Self {
        Self {
            index,
            mask: bits,
            value: bits,
        }
    }
}

/// EPERM.
pub(super) const EPERM: u32 = 1;
/// ENOSYS: the call looks like one that the kernel does not have.
pub(super) const ENOSYS: u32 = 38;
