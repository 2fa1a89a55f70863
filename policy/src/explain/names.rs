// SPDX-License-Identifier: Apache-2.0
//! What the numbers of a plan are called, for people.

use crate::compile::bpf::mounts::{FLAGS, Flag};
use crate::compile::bpf::sockets::{FAMILIES, TYPES};
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};
use crate::plan::bpf::{
    MOUNT_NEW, MOUNT_UMOUNT, PTRACE_READ, PTRACE_READBY, PTRACE_TRACE, PTRACE_TRACEBY,
};

/// Permissions of a path (`PERM_*`).
pub fn permissions(mask: u16) -> Vec<&'static str> {
    let all = [
        (PERM_READ, "read"),
        (PERM_WRITE, "write"),
        (PERM_APPEND, "append"),
        (PERM_EXEC, "exec"),
    ];
    let named = all.into_iter().filter(|(bit, _)| mask & bit != 0);
    named.map(|(_, name)| name).collect()
}

/// Permissions of ptrace (`PTRACE_*`).
pub fn ptrace(mask: u8) -> Vec<&'static str> {
    let all = [
        (PTRACE_TRACE, "trace"),
        (PTRACE_READ, "read"),
        (PTRACE_TRACEBY, "traceby"),
        (PTRACE_READBY, "readby"),
    ];
    let named = all.into_iter().filter(|(bit, _)| mask & bit != 0);
    named.map(|(_, name)| name).collect()
}

/// An address family (AF_*).
pub fn family(number: usize) -> String {
    let found = FAMILIES
        .iter()
        .find(|(_, other)| usize::from(*other) == number);
    found.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Socket types of a mask (a bit per SOCK_*).
pub fn socket_types(mask: u32) -> Vec<String> {
    if mask == u32::MAX {
        return vec!["all".to_owned()];
    }
    (0..32)
        .filter(|bit| mask >> bit & 1 != 0)
        .map(|bit: u8| {
            let found = TYPES.iter().find(|(_, other)| *other == bit);
            found.map_or_else(|| bit.to_string(), |(name, _)| (*name).to_owned())
        })
        .collect()
}

/// Protocols of a mask (a bit per IPPROTO_*).
pub fn protocols(mask: u64) -> Vec<String> {
    if mask == u64::MAX {
        return vec!["all".to_owned()];
    }
    (0..64)
        .filter(|bit| mask >> bit & 1 != 0)
        .map(|bit: u8| match bit {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            58 => "icmpv6".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

/// Flags of mount operations; what has no name is written as a number.
pub fn mount_flags(mask: u32) -> Vec<String> {
    if mask == u32::MAX {
        return vec!["all".to_owned()];
    }
    if mask == !MOUNT_UMOUNT {
        return vec!["all but umount".to_owned()];
    }
    let mut names = Vec::new();
    let mut rest = mask;
    if rest & MOUNT_NEW != 0 {
        names.push("new".to_owned());
        rest &= !MOUNT_NEW;
    }
    for (name, flag) in FLAGS {
        if let Flag::Set(bits) = flag {
            // The first name of a bit is the usual one; those of several bits are shorthands.
            if bits.count_ones() == 1 && rest & bits != 0 {
                names.push((*name).to_owned());
                rest &= !bits;
            }
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_named() {
        assert_eq!(permissions(PERM_READ | PERM_EXEC), ["read", "exec"]);
        assert_eq!(ptrace(PTRACE_TRACE | PTRACE_READBY), ["trace", "readby"]);
        assert_eq!(
            (family(2), family(12)),
            ("inet".to_owned(), "12".to_owned())
        );
        assert_eq!(socket_types(1 << 3 | 1 << 9), ["raw", "9"]);
        assert_eq!(protocols(1 << 6 | 1 << 58), ["tcp", "icmpv6"]);
        assert_eq!(mount_flags(1 << 12 | 1), ["ro", "bind"]);
        assert_eq!(mount_flags(MOUNT_NEW | 1 << 30), ["new", "0x40000000"]);
        assert_eq!(mount_flags(u32::MAX), ["all"]);
        assert_eq!(mount_flags(!MOUNT_UMOUNT), ["all but umount"]);
    }
}
