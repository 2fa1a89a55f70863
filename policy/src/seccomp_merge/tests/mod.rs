// SPDX-License-Identifier: Apache-2.0
//! Verdicts of merged filters: libseccomp builds them as a runtime does, and the program is run call by call.

mod built_in;
mod cbpf;
mod model;
mod multiplexed;
mod properties;

use super::{merge, runtime_default};
use crate::compile::{Settings, compile};
use crate::plan::Seccomp;
use cbpf::Filter;
use serde_json::{Value, json};

const NEWUSER: u64 = 0x1000_0000;
const ALLOW: &str = "allow";
const EPERM: &str = "errno 1";
const ENOSYS: &str = "errno 38";

fn plan(enhance: &str) -> Seccomp {
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p1, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy: {{enforcer: Seccomp, mode: EnhanceProtect, enhanceProtect: {enhance}}}\n"
    );
    let object = crate::parse(&yaml).expect("valid YAML").remove(0);
    compile(&object, &Settings::default())
        .expect("compiles")
        .seccomp
        .expect("Seccomp is chosen")
}

fn merged(own: Option<&Value>, plan: &Seccomp) -> Filter {
    Filter::build(
        &merge(own, plan, &["CAP_CHOWN"])
            .expect("merges")
            .expect("a filter"),
    )
}

#[test]
fn a_container_without_a_filter_gets_the_rules() {
    let filter = merged(None, &plan("{hardeningRules: [disallow-create-user-ns]}"));
    for (call, args, expected) in [
        ("unshare", [NEWUSER, 0], EPERM),
        ("unshare", [NEWUSER | 0x2_0000, 0], EPERM),
        ("unshare", [NEWUSER | 1 << 40, 0], EPERM),
        ("unshare", [0x2_0000, 0], ALLOW),
        ("clone", [NEWUSER | 17, 0], EPERM),
        ("clone", [17, 0], ALLOW),
        ("clone3", [0, 0], ENOSYS),
        ("setns", [3, NEWUSER], EPERM),
        ("setns", [3, 0], EPERM),
        ("setns", [3, 1 << 32], EPERM),
        ("setns", [3, 0x4000_0000], ALLOW),
        ("openat", [0, 0], ALLOW),
    ] {
        for arch in cbpf::ARCHITECTURES {
            assert_eq!(
                filter.run(arch, call, &args),
                expected,
                "{call} {args:x?} on {arch:?}"
            );
        }
    }
}

#[test]
fn an_allowed_call_stays_allowed_where_the_policy_does_not_refuse_it() {
    // As containerd writes it for a container with CAP_SYS_ADMIN: everything here is allowed without conditions.
    let own = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["read", "unshare", "clone", "clone3", "setns"], "action": "SCMP_ACT_ALLOW"}],
    });
    let filter = merged(
        Some(&own),
        &plan("{hardeningRules: [disallow-create-user-ns]}"),
    );
    for (call, args, expected) in [
        ("unshare", [NEWUSER, 0], EPERM),
        ("unshare", [0x2_0000, 0], ALLOW),
        ("clone", [NEWUSER, 0], EPERM),
        ("clone", [17, 0], ALLOW),
        ("clone3", [0, 0], ENOSYS),
        ("setns", [3, NEWUSER], EPERM),
        ("setns", [3, 0], EPERM),
        ("setns", [3, 0x4000_0000], ALLOW),
        ("read", [0, 0], ALLOW),
        ("openat", [0, 0], EPERM),
    ] {
        for arch in cbpf::ARCHITECTURES {
            assert_eq!(
                filter.run(arch, call, &args),
                expected,
                "{call} {args:x?} on {arch:?}"
            );
        }
    }
}

#[test]
fn conditions_of_both_sides_hold() {
    let own = runtime_default(&["CAP_CHOWN"]);
    let rules = "{syscallRawRules: [
        {names: [socket], action: SCMP_ACT_ERRNO, errnoRet: 97, args: [{index: 0, value: 38, op: SCMP_CMP_EQ}]},
        {names: [personality], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 0, op: SCMP_CMP_NE}]},
        {names: [chmod], action: SCMP_ACT_ERRNO, args: [
            {index: 1, value: 64, valueTwo: 64, op: SCMP_CMP_MASKED_EQ}, {index: 1, value: 8, valueTwo: 8, op: SCMP_CMP_MASKED_EQ}]},
        {names: [clone], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 2048, valueTwo: 2048, op: SCMP_CMP_MASKED_EQ}]},
        {names: [getpid], action: SCMP_ACT_LOG},
        {names: [mount], action: SCMP_ACT_KILL_PROCESS}]}";
    let filter = merged(Some(&own), &plan(rules));
    for (call, args, expected) in [
        ("socket", [38, 0], "errno 97"),
        ("socket", [40, 0], EPERM),
        ("socket", [2, 0], ALLOW),
        ("socket", [39, 0], ALLOW),
        ("socket", [1 << 32, 0], ALLOW),
        ("personality", [0, 0], ALLOW),
        ("personality", [8, 0], EPERM),
        ("personality", [9, 0], EPERM),
        ("chmod", [0, 0o100], EPERM),
        ("chmod", [0, 0o010], EPERM),
        ("chmod", [0, 0o644], ALLOW),
        ("clone", [2048, 0], EPERM),
        ("clone", [NEWUSER, 0], EPERM),
        ("clone", [17, 0], ALLOW),
        ("getpid", [0, 0], "log"),
        ("mount", [0, 0], "kill process"),
        ("read", [0, 0], ALLOW),
        ("unshare", [0, 0], EPERM),
    ] {
        assert_eq!(
            filter.run(cbpf::ARCHITECTURES[0], call, &args),
            expected,
            "{call} {args:?}"
        );
    }
}

#[test]
fn a_policy_cannot_make_the_filter_too_large() {
    // Every rule alone is fine; together they would not fit, so calls are refused rather than the container.
    let names: Vec<&str> = crate::syscalls::names()
        .filter(|name| name.starts_with('s') || name.starts_with('f'))
        .collect();
    let rules = names.iter().map(|name| {
        format!("{{names: [{name}], action: SCMP_ACT_ERRNO, args: [{{index: 0, value: 3, op: SCMP_CMP_MASKED_EQ}}, {{index: 1, value: 5, op: SCMP_CMP_NE}}]}}")
    });
    let plan = plan(&format!(
        "{{syscallRawRules: [{}]}}",
        rules.collect::<Vec<_>>().join(", ")
    ));
    let filter = merged(Some(&runtime_default(&["CAP_SYS_ADMIN"])), &plan);
    assert!(filter.len() <= 4096, "{} instructions", filter.len());
    for (args, expected) in [([0, 4], EPERM), ([4, 9], EPERM)] {
        for call in ["fchmod", "setuid", "sendto", "symlink"] {
            assert_eq!(
                filter.run(cbpf::ARCHITECTURES[0], call, &args),
                expected,
                "{call} {args:?}"
            );
        }
    }
}

#[test]
fn nothing_else_of_the_own_filter_changes() {
    let own = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/x.sock",
        "syscalls": [
            {"names": ["read", "unshare"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["kexec_load"], "action": "SCMP_ACT_NOTIFY"},
        ],
    });
    let merged = merge(
        Some(&own),
        &plan("{hardeningRules: [disallow-create-user-ns]}"),
        &["CAP_CHOWN"],
    )
    .expect("merges")
    .expect("a filter");
    for key in [
        "defaultAction",
        "defaultErrnoRet",
        "architectures",
        "flags",
        "listenerPath",
    ] {
        assert_eq!(merged[key], own[key], "{key}");
    }
    assert_eq!(
        merged["syscalls"][0],
        json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"})
    );
    assert_eq!(
        merged["syscalls"][1],
        json!({"names": ["kexec_load"], "action": "SCMP_ACT_NOTIFY"})
    );
}

#[test]
fn without_rules_nothing_changes() {
    let own = json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
    let nothing = Seccomp::Rules(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(
        merge(Some(&own), &nothing, &["CAP_CHOWN"]),
        Ok(Some(own.clone()))
    );
    assert_eq!(merge(None, &nothing, &["CAP_CHOWN"]), Ok(None));
    assert_eq!(
        merge(Some(&own), &Seccomp::RuntimeDefault, &["CAP_CHOWN"]),
        Ok(Some(own))
    );
}

#[test]
fn the_default_filter_depends_on_capabilities() {
    let few = merged(None, &Seccomp::RuntimeDefault);
    let many = Filter::build(&runtime_default(&["CAP_SYS_ADMIN", "CAP_SYS_TIME"]));
    for (call, args, without, with) in [
        ("read", [0, 0], ALLOW, ALLOW),
        ("mount", [0, 0], EPERM, ALLOW),
        ("unshare", [NEWUSER, 0], EPERM, ALLOW),
        ("clone", [NEWUSER, 0], EPERM, ALLOW),
        ("clone", [17, 0], ALLOW, ALLOW),
        ("clone3", [0, 0], ENOSYS, ALLOW),
        ("clock_settime", [0, 0], EPERM, ALLOW),
        ("reboot", [0, 0], EPERM, EPERM),
        ("personality", [0xffff_ffff, 0], ALLOW, ALLOW),
        ("personality", [1, 0], EPERM, EPERM),
        ("socket", [2, 0], ALLOW, ALLOW),
        ("socket", [40, 0], EPERM, EPERM),
        ("kexec_load", [0, 0], EPERM, EPERM),
    ] {
        assert_eq!(
            few.run(cbpf::ARCHITECTURES[0], call, &args),
            without,
            "{call} {args:?}"
        );
        assert_eq!(
            many.run(cbpf::ARCHITECTURES[0], call, &args),
            with,
            "{call} {args:?} with capabilities"
        );
    }
}

#[test]
fn rules_beside_the_default_are_merged_into_it() {
    let Seccomp::Rules(rules) = plan(
        "{syscallRawRules: [{names: [personality, read], action: SCMP_ACT_ERRNO, errnoRet: 95}]}",
    ) else {
        panic!("rules alone")
    };
    let both = Seccomp::RuntimeDefaultAndRules(rules);
    let of_default = merged(None, &both);
    let own = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]});
    let of_own = merged(Some(&own), &both);
    for (call, args, default, own) in [
        ("read", [0, 0], "errno 95", "errno 95"),
        ("personality", [0xffff_ffff, 0], "errno 95", "errno 95"),
        ("mount", [0, 0], EPERM, ALLOW),
        ("openat", [0, 0], ALLOW, ALLOW),
    ] {
        let arch = cbpf::ARCHITECTURES[0];
        assert_eq!(
            of_default.run(arch, call, &args),
            default,
            "{call} {args:?}"
        );
        assert_eq!(of_own.run(arch, call, &args), own, "{call} {args:?}");
    }
    let nothing = Seccomp::RuntimeDefaultAndRules(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(
        merge(None, &nothing, &["CAP_CHOWN"]),
        merge(None, &Seccomp::RuntimeDefault, &["CAP_CHOWN"])
    );
}

#[test]
fn what_cannot_be_understood_is_an_error() {
    let rules = plan("{hardeningRules: [disallow-create-user-ns]}");
    for (own, expected) in [
        (json!([]), "it is no object"),
        (json!({}), "defaultAction is missing"),
        (json!({"defaultAction": "SCMP_ACT_MAYBE"}), "SCMP_ACT_MAYBE"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "x"}]}),
            "syscalls",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_X"}]}),
            "SCMP_ACT_X",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
            "argument 6",
        ),
    ] {
        let error = merge(Some(&own), &rules, &["CAP_CHOWN"])
            .expect_err("refused")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}
