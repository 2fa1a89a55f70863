// SPDX-License-Identifier: Apache-2.0
//! What mode RuntimeDefault refuses: the same as containerd's AppArmor profile, as far as paths and hooks can say it.
//!
//! Where containerd's text approximates "all but this name" by character classes, the patterns here are exact. The
//! kernel shows paths as they are in the container's mount namespace, so a procfs mounted elsewhere is not covered;
//! neither is it by AppArmor.

use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};
use crate::plan::bpf::{MOUNT_UMOUNT, PTRACE_READ, PTRACE_TRACE};
use crate::rules::BpfPart;

const WRITE: u16 = PERM_WRITE | PERM_APPEND;
/// AppArmor's `wklx`.
const CHANGE: u16 = WRITE | PERM_EXEC;
/// AppArmor's `rwklx`.
const ALL: u16 = CHANGE | PERM_READ;

pub(crate) const RUNTIME_DEFAULT: &[BpfPart] = &[
    // Files directly in /proc.
    BpfPart::Path("/proc/*", WRITE),
    // Directories of /proc but those of processes and sys.
    BpfPart::Path("/proc/{[^1-9s]*,s,s[^y]*,sy,sy[^s]*,sys?*}/**", WRITE),
    // All of /proc/sys but kernel, and all of kernel but shm*.
    BpfPart::Path("/proc/sys/{[^k]**,k,k[^e]**,ke,ke[^r]**}", WRITE),
    BpfPart::Path("/proc/sys/kernel/{[^s]**,s,s[^h]**,sh,sh[^m]**}", WRITE),
    BpfPart::Path("/proc/sysrq-trigger", ALL),
    BpfPart::Path("/proc/{mem,kmem,kcore}", ALL),
    BpfPart::Path("/proc/*/mem", PERM_READ | WRITE),
    BpfPart::Path("/proc/*/task/*/mem", PERM_READ | WRITE),
    BpfPart::Path("/sys/{[^f]*,f,f[^s]*,fs?*}/**", CHANGE),
    BpfPart::Path(
        "/sys/fs/{[^c]*,c,c[^g]*,cg,cg[^r]*,cgr,cgr[^o]*,cgro,cgro[^u]*,cgrou,cgrou[^p]*}/**",
        CHANGE,
    ),
    BpfPart::Path("/sys/firmware/**", ALL),
    BpfPart::Path("/sys/devices/virtual/powercap/**", ALL),
    BpfPart::Path("/sys/kernel/security/**", ALL),
    BpfPart::Mount {
        fstype: None,
        source: "**",
        flags: !MOUNT_UMOUNT,
    },
    BpfPart::PtraceExternal(PTRACE_TRACE | PTRACE_READ),
];
