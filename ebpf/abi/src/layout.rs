// SPDX-License-Identifier: Apache-2.0
//! Keys, values and records of the pinned maps, as `kernel/abi.h` defines them; what each field means is said there and,
//! where a plan is its source, in `varmor_policy::plan`.
//!
//! Numbers are in the machine's byte order. No structure has padding, so its bytes are its fields one after the other.

pub use crate::class::Class;

/// Version of every shape below; pinned maps of another version are refused.
pub const ABI_VERSION: u32 = 3;

/// Entries of `containers`, `states` and `namespaces`.
pub const MAX_CONTAINERS: u32 = 65536;
/// Entries of `profiles`.
pub const MAX_PROFILES: u32 = 16384;
/// Entries of `children`.
pub const MAX_CHILDREN: u32 = 65536;
/// Entries of each map of automata.
pub const MAX_AUTOMATA: u32 = 65536;
/// Entries of `prefixes`.
pub const MAX_PREFIXES: u32 = 1 << 22;
/// Addresses that a container's entry holds.
pub const POD_ADDRESSES: usize = 16;

/// Bound by the hook; init has not called execve yet.
pub const CONTAINER_PENDING: u32 = 1;
/// Init has called execve.
pub const CONTAINER_ACTIVE: u32 = 2;

/// Report, refuse nothing.
pub const PROFILE_COMPLAIN: u32 = 1;
/// Has address prefixes.
pub const PROFILE_EGRESS: u32 = 2;
/// Has socket rules.
pub const PROFILE_SOCKETS: u32 = 4;
/// Has ptrace rules.
pub const PROFILE_PTRACE: u32 = 8;
/// Refuses new user namespaces.
pub const PROFILE_USERNS_DENY: u32 = 16;
/// Reports new user namespaces.
pub const PROFILE_USERNS_AUDIT: u32 = 32;
/// Refuses opening block devices.
pub const PROFILE_BLOCK_OPEN_DENY: u32 = 64;
/// Reports opening block devices.
pub const PROFILE_BLOCK_OPEN_AUDIT: u32 = 128;
/// Refuses mounting what lives on a block device.
pub const PROFILE_BLOCK_MOUNT_DENY: u32 = 256;
/// Reports mounting what lives on a block device.
pub const PROFILE_BLOCK_MOUNT_AUDIT: u32 = 512;

/// Entries of [`Profile::sockets`], by address family.
pub const ADDRESS_FAMILIES: usize = 64;
/// Words of [`Profile::egress_first`]: 256 bits for either version of IP.
pub const EGRESS_FIRST: usize = 8;
/// Entries of [`Profile::mounts`].
pub const MOUNT_SETS: usize = 256;

/// Table of addresses in `prefixes`; table n > 0 holds the ports of port set n.
pub const TABLE_ADDRESSES: u32 = 0;
/// Bits of a [`PrefixKey`] that come before `data` and count into `length`.
pub const PREFIX_BITS_BEFORE_DATA: u32 = 96;

/// The ring buffer was full.
pub const COUNTER_EVENTS_LOST: u32 = 0;
/// A profile named an automaton that is not there.
pub const COUNTER_NO_AUTOMATON: u32 = 1;
/// A container named a profile that is not there.
pub const COUNTER_NO_PROFILE: u32 = 2;
/// A task could not be marked.
pub const COUNTER_MARK_FAILED: u32 = 3;
/// A path was too long, too deep, or outside the namespace's tree.
pub const COUNTER_PATH_REFUSED: u32 = 4;
/// A task was switched out during each attempt at a check.
pub const COUNTER_HELD_UP: u32 = 5;
/// Entries of `counters`.
pub const COUNTERS: u32 = 8;

/// Longest text after a [`ViolationHeader`], bytes.
pub const TEXT_MAX: usize = 4096;

/// A value that is written to a map byte by byte.
pub trait Plain: Sized {
    /// Length in bytes.
    const SIZE: usize;
    /// Appends the value's bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes a value off the front of `bytes`; `None` when they are too few.
    fn take(bytes: &mut &[u8]) -> Option<Self>;

    /// The value's bytes, [`Plain::SIZE`] of them.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::SIZE);
        self.put(&mut out);
        out
    }

    /// The value with exactly these bytes; `None` when there are more or fewer than [`Plain::SIZE`].
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let value = Self::take(&mut bytes)?;
        bytes.is_empty().then_some(value)
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Plain for $int {
            const SIZE: usize = size_of::<$int>();
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$int>::from_ne_bytes(*head))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64);

impl<T: Plain + Copy + Default, const N: usize> Plain for [T; N] {
    const SIZE: usize = T::SIZE * N;
    fn put(&self, out: &mut Vec<u8>) {
        for item in self {
            item.put(out);
        }
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::take(bytes)?;
        }
        Some(items)
    }
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Plain for $name {
            const SIZE: usize = 0 $(+ <$type as Plain>::SIZE)*;
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Plain::take(bytes)?,)* })
            }
        }

        // The bytes are the fields one after the other only where C puts nothing between them.
        const _: () = assert!(size_of::<$name>() == <$name as Plain>::SIZE && size_of::<$name>() % 4 == 0);

        impl Default for $name {
            /// Every field 0.
            fn default() -> Self {
                Self { $($field: zero::<$type>(),)* }
            }
        }
    )*};
}

/// The value whose bytes are all 0.
fn zero<T: Plain>() -> T {
    T::from_bytes(&vec![0; T::SIZE]).unwrap_or_else(|| unreachable!("SIZE bytes make a value"))
}

shapes! {
    /// Value of `containers`.
    Container {
        /// Profile key; 0: followed without a profile.
        profile: u64,
        /// Inode number of the mount namespace.
        mntns: u32,
        /// Pid of init in the initial pid namespace.
        init_tgid: u32,
        /// Entries of `address` in use.
        addresses: u32,
        /// 0.
        pad: u32,
        /// The pod's own addresses, IPv4 mapped into IPv6.
        address: [[u8; 16]; POD_ADDRESSES],
    }

    /// Value of `states`.
    ContainerState {
        /// Identity of the mount namespace; 0 until ACTIVE.
        mntns_seq: u64,
        /// `CONTAINER_*`.
        state: u32,
        /// 0.
        pad: u32,
    }

    /// Value of `subjects`.
    Mark {
        /// Container key.
        container: u64,
        /// [`domain_key`](crate::domain_key) of the target that the task, or one that it comes from, executed; 0: none.
        domain: u64,
        /// Domain that the execve in progress leads to; 0: none.
        next: u64,
        /// Number of execves that the process had done when the last one was judged.
        exec_id: u64,
        /// Address of the directory entry that it executes, until the kernel maps it.
        judged_dentry: u64,
        /// Address of the mount that the entry was reached by.
        judged_mount: u64,
    }

    /// Which automaton to walk.
    AutomatonRef {
        /// Key in the map of its class.
        key: u64,
        /// [`Class::number`], 0 for no automaton.
        class: u32,
        /// Every permission that some verdict of it denies, reports or grants.
        permissions: u32,
    }

    /// socket(2) rules of an address family.
    SocketRule {
        /// A bit per protocol number below 64.
        deny_protocols: u64,
        /// As `deny_protocols`, reported.
        audit_protocols: u64,
        /// A bit per socket type.
        deny_types: u32,
        /// As `deny_types`, reported.
        audit_types: u32,
    }

    /// Flags of mount requests.
    MountSet {
        /// Refused when any is set.
        deny_flags: u32,
        /// Refused when any is clear.
        deny_clear: u32,
        /// Reported when any is set.
        audit_flags: u32,
        /// Reported when any is clear.
        audit_clear: u32,
    }

    /// The entry of a profile's array.
    Profile {
        /// Its own key.
        key: u64,
        /// Key of its entries in `prefixes` and `children`.
        generation: u64,
        /// A bit per capability that is refused.
        capabilities_deny: u64,
        /// A bit per capability that is reported.
        capabilities_audit: u64,
        /// Walked from a path's first byte.
        forward: AutomatonRef,
        /// Walked from a path's last byte.
        backward: AutomatonRef,
        /// Walked over the file system type, NUL, and the source of a mount.
        mount: AutomatonRef,
        /// Walked over the path of what is executed: the verdict's 64 bits are the domain that it leads to, 0 for none.
        targets: AutomatonRef,
        /// `PROFILE_*`.
        flags: u32,
        /// Port set for the pod's own addresses; 0: none.
        pod_self: u32,
        /// Towards other containers and the host, `PTRACE_*` of `varmor_policy::plan::bpf`.
        ptrace_external_deny: u8,
        /// As above, reported.
        ptrace_external_audit: u8,
        /// Inside the container.
        ptrace_internal_deny: u8,
        /// As above, reported.
        ptrace_internal_audit: u8,
        /// 0.
        pad: [u8; 4],
        /// What some rule says of a bind or move from some source.
        any_source: MountSet,
        /// A bit per first byte of an address that some prefix covers: of IPv4 addresses, then of IPv6 ones.
        egress_first: [u64; EGRESS_FIRST],
        /// By address family.
        sockets: [SocketRule; ADDRESS_FAMILIES],
        /// By the number that the mount automaton's verdict names.
        mounts: [MountSet; MOUNT_SETS],
    }

    /// Key of `children`.
    ChildKey {
        /// [`Profile::generation`] of the profile that it is a child of.
        generation: u64,
        /// [`Mark::domain`].
        domain: u64,
    }

    /// A path's verdict.
    Verdict {
        /// Refused, `PERM_*` of `varmor_policy::plan::automaton`.
        deny: u16,
        /// Reported.
        audit: u16,
        /// Granted.
        allow: u16,
        /// Number of a set of protected subtrees or of a mount set.
        ancestors: u16,
    }

    /// Head of an automaton.
    AutomatonHead {
        /// State before the first byte.
        start: u32,
        /// log2 of the length of a row.
        shift: u32,
        /// Byte to equivalence class.
        classes: [u8; 256],
    }

    /// Key of `prefixes`.
    PrefixKey {
        /// [`PREFIX_BITS_BEFORE_DATA`] and the bits of `data` that count.
        length: u32,
        /// [`TABLE_ADDRESSES`] or a port set.
        table: u32,
        /// [`Profile::generation`].
        generation: u64,
        /// Address, or port in network byte order.
        data: [u8; 16],
    }

    /// Value of `prefixes`.
    PrefixValue {
        /// Table of the ports, for an address.
        port_set: u32,
        /// 1: refused.
        deny: u8,
        /// 1: reported.
        audit: u8,
        /// 1: `deny` and `audit` hold for every port.
        all_ports: u8,
        /// 0.
        pad: u8,
    }

    /// The entry of `settings`.
    Settings {
        /// Inode number of pid 1's mount namespace.
        host_mntns: u32,
        /// 0.
        pad: u32,
    }

    /// The entry of `mark_request`.
    MarkRequest {
        /// Container key.
        container: u64,
        /// Inode number of its mount namespace.
        mntns: u32,
        /// Tasks that the last pass marked and that had no mark.
        marked: u32,
        /// Tasks that could not be marked.
        failed: u32,
        /// 0.
        pad: u32,
    }

    /// The entry of `meta`.
    Meta {
        /// [`ABI_VERSION`].
        abi_version: u32,
        /// 0.
        pad: u32,
        /// SHA-256 of the object whose links are pinned; 0 while they are being attached.
        build: [u8; 32],
    }

    /// Head of a record of `violations`; [`TEXT_MAX`] bytes of text at most follow.
    ViolationHeader {
        /// ns since boot.
        time: u64,
        /// Container key.
        container: u64,
        /// Profile key.
        profile: u64,
        /// In the initial pid namespace.
        tgid: u32,
        /// In the initial pid namespace.
        tid: u32,
        /// Inode number of the task's mount namespace.
        mntns: u32,
        /// `ACTION_*`.
        action: u8,
        /// `EVENT_*`.
        kind: u8,
        /// `OP_*` or `NETWORK_*`.
        op: u8,
        /// 1: the other side of a ptrace is outside the container.
        external: u8,
        /// `PERM_*`, `PTRACE_*`, a capability's number, or mount flags.
        permissions: u32,
        /// Bytes of text that follow.
        text_length: u32,
        /// `AF_*`.
        family: u16,
        /// Host byte order.
        port: u16,
        /// IP protocol.
        protocol: u32,
        /// `SOCK_*`.
        socket_type: u32,
        /// 0.
        pad: u32,
        /// IPv4 mapped into IPv6.
        address: [u8; 16],
        /// The task's name, NUL padded.
        comm: [u8; 16],
    }
}
