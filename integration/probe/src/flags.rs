// SPDX-License-Identifier: Apache-2.0
//! Comma-separated words that stand for bits, so that a scenario reads like the call.

/// A table of words and their bits.
pub type Table = &'static [(&'static str, u64)];

/// The union of the bits of `words`, which are parted by commas; `-` and the empty string stand for none.
pub fn parse(table: Table, words: &str) -> Result<u64, String> {
    let mut bits = 0;
    for word in words
        .split(',')
        .filter(|word| !word.is_empty() && *word != "-")
    {
        let Some((_, bit)) = table.iter().find(|(name, _)| *name == word) else {
            let known: Vec<_> = table.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "unknown flag {word:?}; known: {}",
                known.join(", ")
            ));
        };
        bits |= bit;
    }
    Ok(bits)
}

/// Flags of open(2).
pub const OPEN: Table = &[
    ("r", libc::O_RDONLY as u64),
    ("w", libc::O_WRONLY as u64),
    ("rw", libc::O_RDWR as u64),
    ("a", (libc::O_WRONLY | libc::O_APPEND) as u64),
    ("creat", libc::O_CREAT as u64),
    ("excl", libc::O_EXCL as u64),
    ("trunc", libc::O_TRUNC as u64),
    ("path", libc::O_PATH as u64),
    ("nofollow", libc::O_NOFOLLOW as u64),
    ("directory", libc::O_DIRECTORY as u64),
    ("cloexec", libc::O_CLOEXEC as u64),
    ("nonblock", libc::O_NONBLOCK as u64),
    ("tmpfile", libc::O_TMPFILE as u64),
];

/// `RESOLVE_*` of openat2(2).
pub const RESOLVE: Table = &[
    ("no_xdev", 1),
    ("no_magiclinks", 2),
    ("no_symlinks", 4),
    ("beneath", 8),
    ("in_root", 0x10),
    ("cached", 0x20),
];

/// Namespaces, as unshare(2), clone(2) and setns(2) name them, and the other bits of clone that a chain survives.
pub const CLONE: Table = &[
    ("user", libc::CLONE_NEWUSER as u64),
    ("mnt", libc::CLONE_NEWNS as u64),
    ("pid", libc::CLONE_NEWPID as u64),
    ("net", libc::CLONE_NEWNET as u64),
    ("ipc", libc::CLONE_NEWIPC as u64),
    ("uts", libc::CLONE_NEWUTS as u64),
    ("cgroup", libc::CLONE_NEWCGROUP as u64),
    ("time", 0x80),
    ("fs", libc::CLONE_FS as u64),
    ("files", libc::CLONE_FILES as u64),
    ("parent", libc::CLONE_PARENT as u64),
];

/// `MS_*` of mount(2).
pub const MOUNT: Table = &[
    ("ro", libc::MS_RDONLY),
    ("nosuid", libc::MS_NOSUID),
    ("nodev", libc::MS_NODEV),
    ("noexec", libc::MS_NOEXEC),
    ("noatime", libc::MS_NOATIME),
    ("remount", libc::MS_REMOUNT),
    ("bind", libc::MS_BIND),
    ("rbind", libc::MS_BIND | libc::MS_REC),
    ("move", libc::MS_MOVE),
    ("rec", libc::MS_REC),
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Flags of umount2(2).
pub const UMOUNT: Table = &[
    ("force", libc::MNT_FORCE as u64),
    ("lazy", libc::MNT_DETACH as u64),
    ("expire", libc::MNT_EXPIRE as u64),
    ("nofollow", libc::UMOUNT_NOFOLLOW as u64),
];

/// `MOUNT_ATTR_*` of mount_setattr(2), and `recursive` in [`AT_RECURSIVE`]'s place.
pub const MOUNT_ATTRIBUTES: Table = &[
    ("ro", 1),
    ("nosuid", 2),
    ("nodev", 4),
    ("noexec", 8),
    ("recursive", AT_RECURSIVE),
];

/// Flags of open_tree(2).
pub const OPEN_TREE: Table = &[
    ("clone", 1),
    ("cloexec", libc::O_CLOEXEC as u64),
    ("recursive", AT_RECURSIVE),
];

/// From linux/fcntl.h.
pub const AT_RECURSIVE: u64 = 0x8000;

/// Socket domains.
pub const DOMAIN: Table = &[
    ("unix", libc::AF_UNIX as u64),
    ("inet", libc::AF_INET as u64),
    ("inet6", libc::AF_INET6 as u64),
    ("netlink", libc::AF_NETLINK as u64),
    ("packet", libc::AF_PACKET as u64),
    ("key", libc::AF_KEY as u64),
    ("alg", libc::AF_ALG as u64),
    ("vsock", libc::AF_VSOCK as u64),
];

/// Socket types.
pub const SOCKET_TYPE: Table = &[
    ("stream", libc::SOCK_STREAM as u64),
    ("dgram", libc::SOCK_DGRAM as u64),
    ("raw", libc::SOCK_RAW as u64),
    ("rdm", libc::SOCK_RDM as u64),
    ("seqpacket", libc::SOCK_SEQPACKET as u64),
];

/// Socket protocols; 0 is the type's default.
pub const PROTOCOL: Table = &[
    ("0", 0),
    ("icmp", libc::IPPROTO_ICMP as u64),
    ("icmpv6", libc::IPPROTO_ICMPV6 as u64),
    ("tcp", libc::IPPROTO_TCP as u64),
    ("udp", libc::IPPROTO_UDP as u64),
    ("udplite", libc::IPPROTO_UDPLITE as u64),
    ("sctp", libc::IPPROTO_SCTP as u64),
    ("mptcp", 262),
    ("raw", libc::IPPROTO_RAW as u64),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_and_unknown_ones_named() {
        assert_eq!(
            parse(CLONE, "user,mnt"),
            Ok((libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as u64)
        );
        assert_eq!(parse(CLONE, "-"), Ok(0));
        assert!(
            parse(CLONE, "user,mount")
                .unwrap_err()
                .contains("\"mount\"")
        );
    }
}
