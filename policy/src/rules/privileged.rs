// SPDX-License-Identifier: Apache-2.0
//! `hardeningRules` that secure privileged containers.

use super::{AppArmorPart, BpfPart, Group, RULE, Rule};
use crate::capability::mask;
use crate::mount_flags::{BIND, MOVE, REMOUNT};
use crate::plan::automaton::{PERM_APPEND, PERM_READ, PERM_WRITE};
use crate::plan::bpf::{MOUNT_NEW, MOUNT_UMOUNT, PTRACE_READ};

const WRITE: u16 = PERM_WRITE | PERM_APPEND;
/// Operations on what is mounted already, for sources that name its place.
const ON_MOUNTED: u32 = BIND | MOVE | REMOUNT | MOUNT_UMOUNT;

/// AppArmor sees of the new mount API only that something without a place is attached, not what (kernel 6.7, move_mount).
const DETACHED: AppArmorPart = AppArmorPart::Other("mount options=(move) \"\"");

const NEW_API: &str = "AppArmor: the new mount API (move_mount) is judged from kernel 6.7 on";
const DETACHED_LIMIT: &str = "AppArmor: the new mount API does not say what is mounted, so every attachment of a detached \
                              mount is refused (`mount` of util-linux 2.39 and later works so)";
const SOURCE_LIMIT: &str = "BPF: a bind mount's source is judged as the caller wrote it: relative and unclean texts are \
                            refused, symbolic links are not followed";

const fn new_mount(fstype: &'static str) -> BpfPart {
    BpfPart::Mount {
        fstype: Some(fstype),
        source: "**",
        flags: MOUNT_NEW,
    }
}

const fn mounted(source: &'static str, flags: u32) -> BpfPart {
    BpfPart::Mount {
        fstype: None,
        source,
        flags,
    }
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "disallow-write-core-pattern",
        group: Group::Hardening,
        restricts: "writing /proc/sys/kernel/core_pattern",
        why: "the host runs the program named there, as root, whenever a process dumps core",
        apparmor: &[AppArmorPart::Path("/proc/sys/kernel/core_pattern", "w")],
        bpf: &[BpfPart::Path("/proc/sys/kernel/core_pattern", WRITE)],
        ..RULE
    },
    Rule {
        name: "disallow-mount-securityfs",
        group: Group::Hardening,
        restricts: "mounting a securityfs, and giving a mounted one a second place",
        why: "AppArmor's profiles are replaced and removed through it",
        needs: &[NEW_API],
        limits: &[DETACHED_LIMIT, SOURCE_LIMIT],
        apparmor: &[
            AppArmorPart::Other("mount fstype=securityfs"),
            AppArmorPart::Other("mount /sys/kernel/security{,/,/**}"),
            DETACHED,
        ],
        bpf: &[
            new_mount("securityfs"),
            mounted("/sys/kernel/security{,/,/**}", BIND | MOVE),
        ],
        ..RULE
    },
    Rule {
        name: "disallow-mount-procfs",
        group: Group::Hardening,
        restricts: "mounting a procfs, giving a mounted one a second place, and changing what is mounted at or below /proc",
        why: "a new procfs has none of the read-only and hidden places of the container's, and through core_pattern or \
              sysrq-trigger its files act on the host",
        needs: &[NEW_API],
        limits: &[
            DETACHED_LIMIT,
            SOURCE_LIMIT,
            "AppArmor also refuses to mount anything onto or below /proc; the BPF programs do not judge where a new \
             mount goes",
        ],
        apparmor: &[
            AppArmorPart::Other("mount fstype=proc"),
            AppArmorPart::Other("mount /proc{,/,/**}"),
            AppArmorPart::Other("mount -> /proc{,/,/**}"),
            AppArmorPart::Other("mount options in (bind, rbind) /"),
            AppArmorPart::Other("umount /proc{,/,/**}"),
            DETACHED,
        ],
        bpf: &[
            new_mount("proc"),
            mounted("/proc{,/,/**}", ON_MOUNTED),
            mounted("/", BIND),
        ],
        ..RULE
    },
    Rule {
        name: "disallow-write-release-agent",
        group: Group::Hardening,
        restricts: "writing the release_agent of a cgroup",
        why: "the host runs the program named there, as root, when the cgroup becomes empty",
        apparmor: &[AppArmorPart::Path(
            "/sys/fs/cgroup/{,**/}release_agent",
            "w",
        )],
        bpf: &[BpfPart::Path("/sys/fs/cgroup/**/release_agent", WRITE)],
        ..RULE
    },
    Rule {
        name: "disallow-mount-cgroupfs",
        group: Group::Hardening,
        restricts: "mounting a cgroup file system of either version, giving a mounted one a second place, and changing \
                    what is mounted at or below /sys/fs/cgroup",
        why: "release_agent and devices.allow of a writable cgroup lead to the host",
        needs: &[NEW_API],
        limits: &[
            DETACHED_LIMIT,
            SOURCE_LIMIT,
            "AppArmor also refuses to mount anything onto or below /sys/fs/cgroup; the BPF programs do not judge where a \
             new mount goes",
        ],
        apparmor: &[
            AppArmorPart::Other("mount fstype in (cgroup, cgroup2)"),
            AppArmorPart::Other("mount /sys/fs/cgroup{,/,/**}"),
            AppArmorPart::Other("mount -> /sys/fs/cgroup{,/,/**}"),
            AppArmorPart::Other("mount options in (bind, rbind) /{,sys,sys/,sys/fs,sys/fs/}"),
            AppArmorPart::Other("mount options=(move) /{sys,sys/,sys/fs,sys/fs/}"),
            AppArmorPart::Other("umount /sys/fs/cgroup{,/,/**}"),
            DETACHED,
        ],
        bpf: &[
            new_mount("cgroup"),
            new_mount("cgroup2"),
            mounted("/sys/fs/cgroup{,/,/**}", ON_MOUNTED),
            // What is above takes the cgroups along.
            mounted("/sys{,/,/fs,/fs/}", BIND | MOVE),
            mounted("/", BIND),
        ],
        ..RULE
    },
    Rule {
        name: "disallow-debug-disk-device",
        group: Group::Hardening,
        restricts: "opening the device files of disks",
        why: "debugfs reads and writes the host's files through them, past every mount",
        limits: &[
            "AppArmor judges paths in /dev: a device file made elsewhere is held by BPF, or by disable-cap-mknod",
        ],
        apparmor: &[AppArmorPart::DiskDevices {
            open: true,
            mount: false,
        }],
        bpf: &[BpfPart::BlockDevices {
            open: true,
            mount: false,
        }],
        ..RULE
    },
    Rule {
        name: "disallow-mount-disk-device",
        group: Group::Hardening,
        restricts: "mounting a file system that is on a disk",
        why: "the host's root file system can be mounted, and changed",
        needs: &[NEW_API],
        limits: &[
            DETACHED_LIMIT,
            "AppArmor judges paths in /dev: a device file made elsewhere is held by BPF, or by disable-cap-mknod",
        ],
        apparmor: &[
            AppArmorPart::DiskDevices {
                open: false,
                mount: true,
            },
            DETACHED,
        ],
        bpf: &[BpfPart::BlockDevices {
            open: false,
            mount: true,
        }],
        ..RULE
    },
    Rule {
        name: "disallow-mount",
        group: Group::Hardening,
        restricts: "mounting, by mount(2) and by the new mount API, and pivot_root",
        why: "a privileged container mounts the host's disk, or a procfs or cgroupfs whose files run code on the host",
        needs: &[NEW_API],
        apparmor: &[
            AppArmorPart::Other("mount"),
            AppArmorPart::Other("pivot_root"),
        ],
        bpf: &[mounted("**", !MOUNT_UMOUNT)],
        ..RULE
    },
    Rule {
        name: "disallow-umount",
        group: Group::Hardening,
        restricts: "unmounting",
        why: "mounts hide files from the container; what is below appears when they go",
        apparmor: &[AppArmorPart::Other("umount")],
        bpf: &[mounted("**", MOUNT_UMOUNT)],
        ..RULE
    },
    Rule {
        name: "disallow-insmod",
        group: Group::Hardening,
        restricts: "loading and unloading kernel modules (the capability SYS_MODULE)",
        why: "a module is code in the host's kernel",
        apparmor: &[AppArmorPart::Capabilities(mask(&["sys_module"]))],
        bpf: &[BpfPart::Capabilities(mask(&["sys_module"]))],
        ..RULE
    },
    Rule {
        name: "disallow-load-bpf-prog",
        aliases: &["disallow-load-ebpf"],
        group: Group::Hardening,
        restricts: "loading BPF programs other than what every user may (the capabilities SYS_ADMIN and BPF)",
        why: "tracing programs see the whole node and can change what processes of the host read",
        apparmor: &[AppArmorPart::Capabilities(mask(&["sys_admin", "bpf"]))],
        bpf: &[BpfPart::Capabilities(mask(&["sys_admin", "bpf"]))],
        ..RULE
    },
    Rule {
        name: "disallow-access-procfs-root",
        group: Group::Hardening,
        restricts: "reading processes of other containers and of the host, and with it /proc/<pid>/root",
        why: "with the host's pid namespace, /proc/1/root is the host's file system",
        limits: &["AppArmor refuses it between processes of the container too"],
        apparmor: &[AppArmorPart::Other("ptrace (read)")],
        bpf: &[BpfPart::PtraceExternal(PTRACE_READ)],
        ..RULE
    },
    Rule {
        name: "disallow-access-kallsyms",
        group: Group::Hardening,
        restricts: "reading /proc/kallsyms",
        why: "exploits of the kernel find the addresses of functions there",
        apparmor: &[AppArmorPart::Path("/proc/kallsyms", "r")],
        bpf: &[BpfPart::Path("/proc/kallsyms", PERM_READ)],
        ..RULE
    },
];
