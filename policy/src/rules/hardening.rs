//! `hardeningRules`: making a container harder to break out of.

use super::{AppArmorPart, ArgMask, BpfPart, Group, Rule, SyscallPart};
use crate::capability::{ALL, DEFAULT, mask};
use crate::plan::bpf::{MOUNT_UMOUNT, PTRACE_READ};

const CLONE_NEWUSER: u64 = 0x1000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// What the kernel keeps of an argument of type int.
const INT: u64 = 0xffff_ffff;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "disallow-mount",
        aliases: &[],
        group: Group::Hardening,
        restricts: "mounting, by mount(2) and by the new mount API",
        why: "a privileged container mounts the host's disk, or a procfs or cgroupfs whose files run code on the host",
        needs: &[],
        apparmor: &[AppArmorPart::Other("mount")],
        bpf: &[BpfPart::Mount {
            fstype: None,
            source: "**",
            flags: !MOUNT_UMOUNT,
        }],
        seccomp: &[],
    },
    Rule {
        name: "disallow-access-procfs-root",
        aliases: &[],
        group: Group::Hardening,
        restricts: "reading processes of other containers and of the host, and with it /proc/<pid>/root",
        why: "with the host's pid namespace, /proc/1/root is the host's file system",
        needs: &[],
        apparmor: &[AppArmorPart::Other("ptrace (read)")],
        bpf: &[BpfPart::PtraceExternal(PTRACE_READ)],
        seccomp: &[],
    },
    Rule {
        name: "disable-cap-privileged",
        aliases: &[],
        group: Group::Hardening,
        restricts: "every capability that containerd does not grant by default",
        why: "these are the capabilities that break out of a container",
        needs: &[],
        apparmor: &[AppArmorPart::Capabilities(ALL & !DEFAULT)],
        bpf: &[BpfPart::Capabilities(ALL & !DEFAULT)],
        seccomp: &[],
    },
    Rule {
        name: "disable-cap-net-raw",
        aliases: &[],
        group: Group::Hardening,
        restricts: "the capability NET_RAW",
        why: "raw and packet sockets forge ARP, DNS and ICMP to other pods and to the host",
        needs: &[],
        apparmor: &[AppArmorPart::Capabilities(mask(&["net_raw"]))],
        bpf: &[BpfPart::Capabilities(mask(&["net_raw"]))],
        seccomp: &[],
    },
    Rule {
        name: "disallow-create-user-ns",
        aliases: &[],
        group: Group::Hardening,
        restricts: "making a user namespace, and entering one",
        why: "in a user namespace of its own a process holds every capability, which opens the kernel code behind them",
        needs: &["BPF: kernel 6.1 or later (userns_create); seccomp holds on every kernel"],
        // `userns` is a rule of AppArmor 4 (abi 4.0); the profiles are written for abi 3.0.
        apparmor: &[],
        bpf: &[BpfPart::UsernsCreate],
        seccomp: &[
            SyscallPart {
                names: &["unshare", "clone"],
                args: &[ArgMask {
                    index: 0,
                    mask: CLONE_NEWUSER,
                    value: CLONE_NEWUSER,
                }],
                errno: EPERM,
            },
            // The flags of clone3 are in memory, where a filter cannot look. On ENOSYS libc falls back to clone.
            SyscallPart {
                names: &["clone3"],
                args: &[],
                errno: ENOSYS,
            },
            SyscallPart {
                names: &["setns"],
                args: &[ArgMask {
                    index: 1,
                    mask: CLONE_NEWUSER,
                    value: CLONE_NEWUSER,
                }],
                errno: EPERM,
            },
            // Type 0 takes any namespace.
            SyscallPart {
                names: &["setns"],
                args: &[ArgMask {
                    index: 1,
                    mask: INT,
                    value: 0,
                }],
                errno: EPERM,
            },
        ],
    },
];
