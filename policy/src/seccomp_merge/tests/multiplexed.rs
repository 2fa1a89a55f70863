// SPDX-License-Identifier: Apache-2.0
//! The ways of 32-bit x86: socketcall(2) and ipc(2), with arguments that no filter sees.

use super::cbpf::{ARCHITECTURES, Filter};
use super::*;

/// Direct numbers of 32-bit x86 (arch/x86/entry/syscalls/syscall_32.tbl).
const SETSOCKOPT: u32 = 366;
const CONNECT: u32 = 362;

/// What the registers of a socketcall hold beside its number is the caller's choice.
const REGISTERS: [[u64; 2]; 4] = [[0, 0], [1, 26], [1, 2], [0xffff_0000, 51]];

fn socketcall(filter: &Filter, number: u64) -> Vec<String> {
    let mut verdicts: Vec<String> = REGISTERS
        .iter()
        .map(|[a, b]| filter.run(ARCHITECTURES[1], "socketcall", &[number, *a, *b]))
        .collect();
    verdicts.dedup();
    verdicts
}

fn own(default: &str, action: &str, names: &[&str]) -> Value {
    json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names, "action": action}],
    })
}

#[test]
fn a_call_that_is_refused_for_some_arguments_is_refused_as_socketcall() {
    let rules = plan("{hardeningRules: [disallow-load-bpf-via-setsockopt]}");
    let everything = own("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", &["reboot"]);
    let listed = own(
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_ALLOW",
        &["setsockopt", "connect", "socketcall"],
    );
    let default = runtime_default(&["CAP_CHOWN"]);
    for own in [None, Some(&everything), Some(&listed), Some(&default)] {
        let filter = merged(own, &rules);
        assert!(
            matches!(&socketcall(&filter, 14)[..], [one] if one.starts_with("errno")),
            "{:?}",
            socketcall(&filter, 14)
        );
        assert_eq!(socketcall(&filter, 3), [ALLOW]);
        assert_eq!(socketcall(&filter, 15), [ALLOW]);
        for (args, expected) in [
            ([3, 1, 26], EPERM),
            ([3, 1, 51], EPERM),
            ([3, 263, 22], EPERM),
            ([3, 1, 2], ALLOW),
            ([3, 6, 26], ALLOW),
            ([3, 263, 26], ALLOW),
        ] {
            for arch in [ARCHITECTURES[0], ARCHITECTURES[2]] {
                assert_eq!(filter.run(arch, "setsockopt", &args), expected, "{args:?}");
            }
            assert_eq!(
                filter.run_number(ARCHITECTURES[1], SETSOCKOPT, &args),
                expected,
                "{args:?}"
            );
        }
    }
}

#[test]
fn a_call_that_is_not_in_the_own_list_does_not_come_in_by_another() {
    // The own filter has no socketcall; libseccomp derives one from the conditions on setsockopt.
    let own = own("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", &["read", "setsockopt"]);
    let filter = merged(
        Some(&own),
        &plan("{hardeningRules: [disallow-load-bpf-via-setsockopt]}"),
    );
    assert!(socketcall(&filter, 14)[0].starts_with("errno"));
    assert_eq!(socketcall(&filter, 14).len(), 1);
    assert_eq!(socketcall(&filter, 3), [EPERM]);
    assert_eq!(
        filter.run(ARCHITECTURES[0], "setsockopt", &[3, 1, 2]),
        ALLOW
    );
}

#[test]
fn a_call_that_is_refused_is_refused_by_both_ways() {
    let rules = plan(
        "{syscallRawRules: [{names: [connect, shmat], action: SCMP_ACT_ERRNO}, {names: [setsockopt], action: SCMP_ACT_LOG}]}",
    );
    let default = runtime_default(&["CAP_CHOWN"]);
    for own in [None, Some(&default)] {
        let filter = merged(own, &rules);
        assert!(socketcall(&filter, 3)[0].starts_with("errno"));
        assert_eq!(socketcall(&filter, 1), [ALLOW]);
        assert_eq!(socketcall(&filter, 14), ["log"]);
        assert_eq!(
            filter.run_number(ARCHITECTURES[1], CONNECT, &[3, 0, 0]),
            EPERM
        );
        // A version in the upper half of the number does not help.
        for number in [21, 1 << 16 | 21] {
            assert!(
                filter
                    .run(ARCHITECTURES[1], "ipc", &[number, 0])
                    .starts_with("errno")
            );
        }
        for arch in [ARCHITECTURES[0], ARCHITECTURES[2]] {
            assert_eq!(filter.run(arch, "connect", &[3, 0]), EPERM);
            assert_eq!(filter.run(arch, "shmat", &[3, 0]), EPERM);
            assert_eq!(filter.run(arch, "setsockopt", &[3, 0]), "log");
            assert_eq!(filter.run(arch, "bind", &[3, 0]), ALLOW);
        }
    }
}

#[test]
fn without_x86_there_is_no_other_way() {
    let own = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [],
    });
    let rules = plan("{syscallRawRules: [{names: [connect], action: SCMP_ACT_ERRNO}]}");
    let merged = merge(Some(&own), &rules, &["CAP_CHOWN"])
        .expect("merges")
        .expect("a filter");
    assert!(!merged.to_string().contains("socketcall"), "{merged}");
}

#[test]
fn calls_that_the_native_abi_does_not_have_do_not_spoil_the_filter() {
    // libseccomp sorts the rule without conditions first, and x86-64 has no chown32.
    let rules = plan(
        "{hardeningRules: [disallow-load-all-bpf-prog], syscallRawRules: [{names: [chown32], action: SCMP_ACT_ERRNO}]}",
    );
    let filter = merged(None, &rules);
    for arch in ARCHITECTURES {
        assert_eq!(filter.run(arch, "bpf", &[5, 0]), EPERM, "{arch:?}");
        assert_eq!(filter.run(arch, "bpf", &[0, 0]), ALLOW, "{arch:?}");
        assert_eq!(filter.run(arch, "getpmsg", &[0, 0]), ENOSYS, "{arch:?}");
        assert_eq!(filter.run(arch, "read", &[0, 0]), ALLOW, "{arch:?}");
    }
    assert_eq!(filter.run(ARCHITECTURES[1], "chown32", &[0, 0]), EPERM);
}

#[test]
fn conditions_on_the_first_argument_refuse_socketcall_altogether() {
    // libseccomp derives a rule for socketcall(1) from each of these, and would drop them where ours says otherwise.
    let rules = plan(
        "{syscallRawRules: [{names: [socket], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 38, op: SCMP_CMP_EQ}]}]}",
    );
    let default = runtime_default(&["CAP_CHOWN"]);
    let filter = merged(Some(&default), &rules);
    for number in 1..=20 {
        assert!(
            socketcall(&filter, number)[0].starts_with("errno"),
            "{number}"
        );
    }
    for (family, expected) in [(38, EPERM), (40, EPERM), (2, ALLOW)] {
        for arch in [ARCHITECTURES[0], ARCHITECTURES[2]] {
            assert_eq!(
                filter.run(arch, "socket", &[family, 0]),
                expected,
                "{family}"
            );
        }
    }
    // Without a filter of its own there is nothing that would allow it, and only socket is refused.
    let filter = merged(None, &rules);
    assert_eq!(socketcall(&filter, 1), [EPERM]);
    assert_eq!(socketcall(&filter, 2), [ALLOW]);
    assert_eq!(filter.run(ARCHITECTURES[0], "socket", &[38, 0]), EPERM);
    assert_eq!(filter.run(ARCHITECTURES[0], "socket", &[2, 0]), ALLOW);
    // Two actions for one call.
    let rules = plan(
        "{syscallRawRules: [{names: [socket], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 38, op: SCMP_CMP_EQ}]},
          {names: [socket], action: SCMP_ACT_LOG, args: [{index: 0, value: 16, op: SCMP_CMP_EQ}]}]}",
    );
    let filter = merged(None, &rules);
    assert!(socketcall(&filter, 1)[0].starts_with("errno"));
    for (family, expected) in [(38, EPERM), (16, "log"), (2, ALLOW)] {
        assert_eq!(
            filter.run(ARCHITECTURES[0], "socket", &[family, 0]),
            expected,
            "{family}"
        );
    }
}
