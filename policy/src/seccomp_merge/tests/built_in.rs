// SPDX-License-Identifier: Apache-2.0
//! The built-in rules, all at once.

use super::cbpf::{ARCHITECTURES, Filter};
use super::*;
use crate::rules::{self, Group};

/// The seccomp parts of all built-in rules, on top of `switches`.
fn all_rules(switches: &str) -> Seccomp {
    let names = |group| {
        let rules = rules::all().filter(|rule| rule.group == group && !rule.seccomp.is_empty());
        rules.map(|rule| rule.name).collect::<Vec<_>>().join(", ")
    };
    plan(&format!(
        "{{{switches}hardeningRules: [{}], attackProtectionRules: [{{rules: [{}]}}], vulMitigationRules: [{}]}}",
        names(Group::Hardening),
        names(Group::Attack),
        names(Group::Vulnerability),
    ))
}

const SETUID: u64 = 0o4000;

/// System call, arguments, what becomes of it.
const VERDICTS: &[(&str, [u64; 3], &str)] = &[
    ("unshare", [NEWUSER, 0, 0], EPERM),
    ("unshare", [0x2_0000, 0, 0], ALLOW),
    ("clone", [NEWUSER | 17, 0, 0], EPERM),
    ("clone", [17, 0, 0], ALLOW),
    ("clone3", [0, 0, 0], ENOSYS),
    ("setns", [3, NEWUSER, 0], EPERM),
    ("setns", [3, 0, 0], EPERM),
    ("setns", [3, 0x4000_0000, 0], ALLOW),
    ("setns", [3, 0x80, 0], ALLOW),
    ("bpf", [5, 0, 0], EPERM),
    ("bpf", [1 << 32 | 5, 0, 0], EPERM),
    ("bpf", [0, 0, 0], ALLOW),
    ("bpf", [4, 0, 0], ALLOW),
    ("userfaultfd", [0, 0, 0], EPERM),
    ("splice", [0, 1, 2], EPERM),
    ("tee", [0, 1, 2], ALLOW),
    ("chmod", [0, 0o644, 0], ALLOW),
    ("chmod", [0, 0o1644, 0], ALLOW),
    ("chmod", [0, 0o744, 0], EPERM),
    ("chmod", [0, 0o654, 0], EPERM),
    ("chmod", [0, 0o645, 0], EPERM),
    ("chmod", [0, SETUID, 0], EPERM),
    ("fchmod", [3, 0o2644, 0], EPERM),
    ("fchmod", [3, 0o644, 0], ALLOW),
    ("fchmodat", [0, 0o777, 0o644], ALLOW),
    ("fchmodat", [0, 0, 0o755], EPERM),
    ("fchmodat", [0, 0, SETUID | 0o644], EPERM),
    ("execve", [0, 0, 0], ALLOW),
    ("ioctl", [0, 0x5401, 0], ALLOW),
];

#[test]
fn every_verdict_holds_beside_all_others() {
    let everything = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]});
    let default = runtime_default(&["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_CHROOT"]);
    for own in [None, Some(&everything), Some(&default)] {
        let filter = merged(own, &all_rules(""));
        assert!(filter.len() < 3000, "{} instructions", filter.len());
        for (call, args, expected) in VERDICTS {
            for arch in ARCHITECTURES {
                assert_eq!(
                    &filter.run(arch, call, args),
                    expected,
                    "{call} {args:x?} on {arch:?}"
                );
            }
        }
        for (args, expected) in [
            ([3, 1, 26], EPERM),
            ([3, 1, 51], EPERM),
            ([3, 263, 22], EPERM),
            ([3, 1 << 32 | 1, 1 << 32 | 26], EPERM),
            ([3, 1, 15], ALLOW),
            ([3, 6, 26], ALLOW),
            ([3, 41, 51], ALLOW),
            ([3, 263, 1], ALLOW),
        ] {
            for arch in [ARCHITECTURES[0], ARCHITECTURES[2]] {
                assert_eq!(
                    filter.run(arch, "setsockopt", &args),
                    expected,
                    "{args:x?} on {arch:?}, own {}",
                    own.is_some()
                );
            }
        }
    }
}

#[test]
fn what_is_allowed_is_logged_or_not_touched() {
    let default = runtime_default(&["CAP_SYS_ADMIN", "CAP_BPF"]);
    let logging = all_rules("allowViolations: true, auditViolations: true, ");
    let silent = all_rules("allowViolations: true, ");
    for own in [None, Some(&default)] {
        let filter = merged(own, &logging);
        let before = own.map(Filter::build);
        for (call, args, refused) in VERDICTS {
            for arch in ARCHITECTURES {
                let own = before
                    .as_ref()
                    .map_or(ALLOW.to_owned(), |own| own.run(arch, call, args));
                let expected = if own == ALLOW && *refused != ALLOW {
                    "log"
                } else {
                    &own
                };
                assert_eq!(
                    filter.run(arch, call, args),
                    expected,
                    "{call} {args:x?} on {arch:?}"
                );
            }
        }
        assert_eq!(
            filter.run(ARCHITECTURES[0], "setsockopt", &[3, 1, 26]),
            "log"
        );
        assert_eq!(
            filter.run(ARCHITECTURES[0], "setsockopt", &[3, 1, 15]),
            ALLOW
        );
        assert_eq!(filter.run(ARCHITECTURES[1], "socketcall", &[14, 0]), "log");
        assert_eq!(merge(own, &silent, &["CAP_CHOWN"]), Ok(own.cloned()));
    }
}
