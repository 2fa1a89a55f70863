// SPDX-License-Identifier: Apache-2.0
//! Linux capabilities (include/uapi/linux/capability.h, 41 since kernel 5.9).

/// Names in lower case without `cap_`; the index is the capability's number.
pub const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Every capability, a bit per number.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// What containerd grants a container that asks for nothing.
pub const DEFAULT: u64 = mask(&[
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "net_bind_service",
    "net_raw",
    "sys_chroot",
    "mknod",
    "audit_write",
    "setfcap",
]);

/// The bits of capabilities by name, where `-` counts as `_`; a wrong name in a table of ours does not compile.
pub const fn mask(names: &[&str]) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < names.len() {
        bits |= 1 << number(names[i]);
        i += 1;
    }
    bits
}

const fn number(name: &str) -> usize {
    let mut i = 0;
    while i < NAMES.len() {
        if same(NAMES[i].as_bytes(), name.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("no such capability");
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        let other = if b[i] == b'-' { b'_' } else { b[i] };
        if a[i] != other {
            return false;
        }
        i += 1;
    }
    true
}

/// The names of the capabilities of a mask, in order of their numbers.
pub fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [
            ("chown", 0),
            ("net_raw", 13),
            ("sys_admin", 21),
            ("bpf", 39),
            ("checkpoint_restore", 40),
        ] {
            assert_eq!(mask(&[name]), 1 << number, "{name}");
        }
        assert_eq!(mask(&["checkpoint-restore"]), 1 << 40);
        assert_eq!(ALL, 0x1ff_ffff_ffff);
        assert_eq!(names(ALL & !DEFAULT).count(), 27);
    }
}
