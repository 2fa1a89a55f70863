// SPDX-License-Identifier: Apache-2.0
//! `attackProtectionRules` against sensitive operations.

use super::parts::EPERM;
use super::{AppArmorPart, ArgMask, BpfPart, Group, RULE, Rule, SyscallPart};
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};

const WRITE: u16 = PERM_WRITE | PERM_APPEND;
const ACCESS: u16 = PERM_READ | WRITE;

const MANY_NAMES: &str = "a program of many names (busybox, toybox) that links lead to is executed under its own: use \
                          disable-busybox there";
const COPIES: &str =
    "a copy that the container brings along or makes from elsewhere has another path";

/// Programs are refused to be read as well, lest they be copied to another path and executed there.
macro_rules! programs {
    ($name:literal, $pattern:literal, $restricts:literal, $why:literal, $limits:expr) => {
        Rule {
            name: $name,
            group: Group::Attack,
            restricts: $restricts,
            why: $why,
            limits: $limits,
            apparmor: &[AppArmorPart::Path(concat!("/{,**/}", $pattern), "rx")],
            bpf: &[BpfPart::Path(
                concat!("/**/", $pattern),
                PERM_READ | PERM_EXEC,
            )],
            ..RULE
        }
    };
}

/// The mode argument of each call that changes modes, with one bit set.
macro_rules! mode_bits {
    ($($bit:literal),*) => {
        &[$(
            SyscallPart {
                names: &["chmod", "fchmod"],
                args: &[ArgMask::bits(1, $bit)],
                errno: EPERM,
            },
            SyscallPart {
                names: &["fchmodat", "fchmodat2"],
                args: &[ArgMask::bits(2, $bit)],
                errno: EPERM,
            },
        )*]
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "disable-write-etc",
        group: Group::Attack,
        restricts: "changing anything below /etc",
        why: "accounts, cron jobs and the loader's settings are there",
        apparmor: &[AppArmorPart::Path("/etc/**", "wl")],
        bpf: &[BpfPart::Path("/etc/**", WRITE)],
        ..RULE
    },
    Rule {
        name: "disable-access-passwd",
        group: Group::Attack,
        restricts: "reading and changing /etc/passwd",
        why: "it lists the accounts, and a line more is another account",
        apparmor: &[AppArmorPart::Path("/etc/passwd", "rwl")],
        bpf: &[BpfPart::Path("/etc/passwd", ACCESS)],
        ..RULE
    },
    Rule {
        name: "disable-access-shadow",
        group: Group::Attack,
        restricts: "reading and changing /etc/shadow",
        why: "it holds the hashes of passwords",
        apparmor: &[AppArmorPart::Path("/etc/shadow", "rwl")],
        bpf: &[BpfPart::Path("/etc/shadow", ACCESS)],
        ..RULE
    },
    Rule {
        name: "disable-access-ssh-dir",
        group: Group::Attack,
        restricts: "reading and changing the .ssh directory of every user",
        why: "private keys lead to other machines, and a line in authorized_keys lets an attacker in again",
        apparmor: &[AppArmorPart::Path("/{,**/}.ssh{,/,/**}", "rwl")],
        bpf: &[BpfPart::Path("/**/.ssh{,/**}", ACCESS)],
        ..RULE
    },
    Rule {
        name: "disable-write-skills",
        group: Group::Attack,
        restricts: "changing anything in directories named skills",
        why: "an agent follows the instructions that it finds there",
        apparmor: &[AppArmorPart::Path("/{,**/}skills/**", "wl")],
        bpf: &[BpfPart::Path("/**/skills/**", WRITE)],
        ..RULE
    },
    programs!(
        "disable-busybox",
        "busybox",
        "executing and reading busybox",
        "one file holds every tool of an attack",
        &[COPIES]
    ),
    programs!(
        "disable-shell",
        "{sh,bash,dash,ash,rbash,zsh,ksh,csh,tcsh,fish}",
        "executing and reading shells",
        "most exploits end in a shell",
        &[MANY_NAMES, COPIES]
    ),
    programs!(
        "disable-wget",
        "wget",
        "executing and reading wget",
        "it fetches the next stage of an attack",
        &[MANY_NAMES, COPIES]
    ),
    programs!(
        "disable-curl",
        "curl",
        "executing and reading curl",
        "it fetches the next stage of an attack, and sends out what was found",
        &[COPIES]
    ),
    programs!(
        "disable-chmod",
        "chmod",
        "executing and reading chmod",
        "what was fetched must be made executable",
        &[
            "programs can call chmod(2) themselves: see disable-chmod-x-bit",
            MANY_NAMES,
            COPIES
        ]
    ),
    programs!(
        "disable-su-sudo",
        "{su,sudo}",
        "executing and reading su and sudo",
        "they are set-user-id programs, and have had holes",
        &[MANY_NAMES, COPIES]
    ),
    Rule {
        name: "disable-chmod-x-bit",
        group: Group::Attack,
        restricts: "making files executable by chmod and its relatives",
        why: "what was fetched must be made executable",
        limits: &[
            "a file can be created executable, and ld.so and interpreters run files that are not",
        ],
        seccomp: mode_bits!(0o100, 0o010, 0o001),
        ..RULE
    },
    Rule {
        name: "disable-chmod-s-bit",
        group: Group::Attack,
        restricts: "setting the set-user-id and set-group-id bits by chmod and its relatives",
        why: "a shell with such a bit keeps the way to root open",
        seccomp: mode_bits!(0o4000, 0o2000),
        ..RULE
    },
];
