// SPDX-License-Identifier: Apache-2.0
//! Verdicts of whole policies.

mod built_in;
mod conditions;

use super::{Action, Decision, Judgement, Question, explain};
use crate::PolicyObject;
use crate::compile::Settings;
use crate::enforcer::Enforcers;
use serde_json::json;
use std::fmt::Write;

fn policy(enforcer: &str, mode: &str, enhance: &str) -> PolicyObject {
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy: {{enforcer: {enforcer}, mode: {mode}, enhanceProtect: {enhance}}}\n"
    );
    crate::parse(&yaml)
        .unwrap_or_else(|errors| panic!("{errors:?}"))
        .remove(0)
}

fn ask(object: &PolicyObject, question: &Question<'_>) -> Vec<Judgement> {
    let enforcers = Enforcers::parse(&object.spec().policy.enforcer).expect("enforcers");
    explain(&[object], enforcers, &Settings::default(), question)
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn question(action: &Action) -> Question<'_> {
    Question {
        action,
        executable: None,
        owned: None,
        pod_addresses: &[],
        own_filter: None,
        capabilities: &[],
    }
}

/// `AppArmor refused, reported (hardeningRules[0]); BPF allowed`.
fn said(judgements: &[Judgement]) -> String {
    let mut text = String::new();
    for judgement in judgements {
        let verdict = &judgement.verdict;
        let decision = match verdict.decision {
            Decision::Allowed => "allowed",
            Decision::Refused => "refused",
            Decision::NotMediated => "not asked",
            Decision::Unknown => "unknown",
        };
        let _ = write!(
            text,
            "{}{} {decision}",
            if text.is_empty() { "" } else { "; " },
            judgement.enforcer.name()
        );
        text.push_str(if verdict.reported { ", reported" } else { "" });
        text.push_str(if verdict.refused_if.is_empty() {
            ""
        } else {
            ", perhaps not"
        });
        text.push_str(if verdict.reported_if.is_empty() {
            ""
        } else {
            ", perhaps reported"
        });
        let fields: Vec<_> = judgement
            .causes
            .iter()
            .map(|cause| {
                cause
                    .field
                    .trim_start_matches("spec.policy.")
                    .trim_start_matches("enhanceProtect.")
            })
            .collect();
        if !fields.is_empty() {
            let _ = write!(text, " ({})", fields.join(", "));
        }
    }
    text
}

fn check(object: &PolicyObject, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (action, expected) in cases {
        let parsed: Action = action.parse().expect(action);
        let found = said(&ask(object, &question(&parsed)));
        if found != *expected {
            wrong.push(format!(
                "{action}\n  expected {expected}\n  found    {found}"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const HARDENED: &str = "{
    privileged: true,
    auditViolations: true,
    hardeningRules: [disallow-mount, disable-cap-privileged, disallow-create-user-ns],
    attackProtectionRules: [{rules: [disable-write-etc, mitigate-sa-leak]}, {rules: [disable-access-shadow]}],
}";

#[test]
fn built_in_rules() {
    check(
        &policy("AppArmorBPFSeccomp", "EnhanceProtect", HARDENED),
        &[
            (
                "open:/etc/passwd:w",
                "AppArmor refused, reported (attackProtectionRules[0].rules[0]); \
                 BPF refused, reported (attackProtectionRules[0].rules[0]); Seccomp allowed",
            ),
            (
                "open:/etc/passwd:r",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "open:/etc/shadow:rw",
                "AppArmor refused, reported (attackProtectionRules[0].rules[0], attackProtectionRules[1].rules[0]); \
                 BPF refused, reported (attackProtectionRules[0].rules[0], attackProtectionRules[1].rules[0]); \
                 Seccomp allowed",
            ),
            (
                "open:/etc/shadow:r",
                "AppArmor refused, reported (attackProtectionRules[1].rules[0]); \
                 BPF refused, reported (attackProtectionRules[1].rules[0]); Seccomp allowed",
            ),
            (
                "unlink:/etc/a/b",
                "AppArmor refused, reported (attackProtectionRules[0].rules[0]); \
                 BPF refused, reported (attackProtectionRules[0].rules[0]); Seccomp allowed",
            ),
            (
                "rename:/etc/a:/tmp/a",
                "AppArmor refused, reported (attackProtectionRules[0].rules[0]); \
                 BPF refused, reported (attackProtectionRules[0].rules[0]); Seccomp allowed",
            ),
            (
                "open:/etc2:w",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "mount:tmpfs:tmpfs",
                "AppArmor refused, reported (hardeningRules[0]); BPF refused, reported (hardeningRules[0]); Seccomp allowed",
            ),
            (
                "mount:none:/a:bind",
                "AppArmor refused, reported (hardeningRules[0]); BPF refused, reported (hardeningRules[0]); Seccomp allowed",
            ),
            (
                "cap:sys_admin",
                "AppArmor refused, reported (hardeningRules[1]); BPF refused, reported (hardeningRules[1]); Seccomp not asked",
            ),
            (
                "cap:chown",
                "AppArmor allowed; BPF allowed; Seccomp not asked",
            ),
            (
                "userns",
                "AppArmor allowed; BPF refused, reported (hardeningRules[2]); Seccomp refused (hardeningRules[2])",
            ),
            (
                "syscall:unshare:0x10020000",
                "AppArmor not asked; BPF not asked; Seccomp refused (hardeningRules[2])",
            ),
            (
                "syscall:unshare:0x20000",
                "AppArmor not asked; BPF not asked; Seccomp allowed",
            ),
            (
                "syscall:unshare",
                "AppArmor not asked; BPF not asked; Seccomp allowed, perhaps not (hardeningRules[2])",
            ),
            (
                "syscall:read",
                "AppArmor not asked; BPF not asked; Seccomp allowed",
            ),
        ],
    );
}

#[test]
fn runtime_default() {
    let default = "AppArmor refused (mode); BPF refused (mode); Seccomp allowed";
    check(
        &policy("AppArmorBPFSeccomp", "RuntimeDefault", "{}"),
        &[
            ("open:/proc/sysrq-trigger:w", default),
            ("open:/proc/kcore:r", default),
            ("open:/sys/kernel/security/x:r", default),
            (
                "open:/proc/self/status:r",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "mount:proc:proc",
                "AppArmor refused (mode); BPF refused (mode); Seccomp refused (mode)",
            ),
            (
                "ptrace:read",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "ptrace:read:external",
                "AppArmor refused, reported (mode); BPF refused (mode); Seccomp allowed",
            ),
            (
                "socket:inet:stream",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "syscall:reboot",
                "AppArmor not asked; BPF not asked; Seccomp refused (mode)",
            ),
        ],
    );
    check(
        &policy(
            "AppArmorBPF",
            "EnhanceProtect",
            "{hardeningRules: [disallow-umount]}",
        ),
        &[
            (
                "open:/proc/kcore:r",
                "AppArmor refused (privileged); BPF refused (privileged)",
            ),
            (
                "umount:/mnt",
                "AppArmor refused (hardeningRules[0]); BPF refused (hardeningRules[0])",
            ),
        ],
    );
    check(
        &policy("AppArmorBPFSeccomp", "AlwaysAllow", "{}"),
        &[(
            "open:/proc/kcore:rw",
            "AppArmor allowed; BPF allowed; Seccomp allowed",
        )],
    );
}

#[test]
fn rules_of_ones_own() {
    let enhance = "{privileged: true,
        appArmorRawRules: [{rules: 'deny /run/tls/** r, audit /opt/** w, deny owner /home/** w,'}],
        syscallRawRules: [{names: [mount], action: SCMP_ACT_KILL}, {names: [personality], action: SCMP_ACT_LOG}],
        bpfRawRules: {
            files: [{pattern: /data/**, permissions: [write], qualifiers: [deny]},
                    {pattern: '*.log', permissions: [read], qualifiers: [audit]}],
            processes: [{pattern: '/**/curl', permissions: [exec], qualifiers: [deny, audit]}],
            network: {
                sockets: [{domains: [packet], qualifiers: [deny]}, {protocols: [icmp], qualifiers: [deny]}],
                egress: {toDestinations: [
                    {cidr: 10.0.0.0/8, ports: [{port: 22}, {port: 8000, endPort: 8999}], qualifiers: [deny]},
                    {ip: 10.1.2.3, qualifiers: [audit]},
                    {ip: pod-self, ports: [{port: 80}], qualifiers: [deny]}]}},
            ptrace: {permissions: [trace], qualifiers: [deny]},
            mounts: [{sourcePattern: /dev/**, fstype: '*', flags: [all], qualifiers: [deny]}]}}";
    let object = policy("AppArmorBPFSeccomp", "EnhanceProtect", enhance);
    check(
        &object,
        &[
            (
                "open:/run/tls/key:r",
                "AppArmor refused (appArmorRawRules[0]); BPF allowed; Seccomp allowed",
            ),
            (
                "open:/opt/x:w",
                "AppArmor allowed, reported (appArmorRawRules[0]); BPF allowed; Seccomp allowed",
            ),
            (
                "open:/home/x:w",
                "AppArmor allowed, perhaps not (appArmorRawRules[0]); BPF allowed; Seccomp allowed",
            ),
            (
                "open:/data/x:a",
                "AppArmor allowed; BPF refused (bpfRawRules.files[0]); Seccomp allowed",
            ),
            (
                "open:/data/x:r",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "open:/data/x.log:r",
                "AppArmor allowed; BPF allowed, reported (bpfRawRules.files[1]); Seccomp allowed",
            ),
            (
                "mkdir:/data/x",
                "AppArmor allowed; BPF refused (bpfRawRules.files[0]); Seccomp allowed",
            ),
            (
                "link:/data/x:/tmp/x",
                "AppArmor allowed; BPF refused (bpfRawRules.files[0]); Seccomp allowed",
            ),
            (
                "rename:/data:/tmp/d",
                "AppArmor allowed; BPF allowed, perhaps not (bpfRawRules.files[0]); Seccomp allowed",
            ),
            (
                "exec:/usr/bin/curl",
                "AppArmor allowed; BPF refused, reported (bpfRawRules.processes[0]); Seccomp allowed",
            ),
            (
                "socket:packet:raw",
                "AppArmor allowed; BPF refused (bpfRawRules.network.sockets[0]); Seccomp allowed",
            ),
            (
                "socket:inet6:raw:icmpv6",
                "AppArmor allowed; BPF refused (bpfRawRules.network.sockets[1]); Seccomp allowed",
            ),
            (
                "socket:inet:stream",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "connect:10.9.9.9:22",
                "AppArmor allowed; BPF refused (bpfRawRules.network.egress.toDestinations[0]); Seccomp allowed",
            ),
            (
                "connect:10.1.2.3:8999/udp",
                "AppArmor allowed; BPF refused, reported (bpfRawRules.network.egress.toDestinations[0]); Seccomp allowed",
            ),
            (
                "connect:10.1.2.3:9000",
                "AppArmor allowed; BPF allowed, reported (bpfRawRules.network.egress.toDestinations[1]); Seccomp allowed",
            ),
            (
                "ptrace:trace",
                "AppArmor allowed; BPF allowed; Seccomp allowed",
            ),
            (
                "ptrace:trace:external",
                "AppArmor allowed; BPF refused (bpfRawRules.ptrace); Seccomp allowed",
            ),
            (
                "mount:none:/dev/shm:bind",
                "AppArmor allowed; BPF refused (bpfRawRules.mounts[0]); Seccomp refused (syscallRawRules[0])",
            ),
            (
                "mount:none:dev/shm:bind",
                "AppArmor allowed; BPF refused (bpfRawRules.mounts[0]); Seccomp refused (syscallRawRules[0])",
            ),
            (
                "mount:none:/mnt:remount,ro",
                "AppArmor allowed; BPF allowed; Seccomp refused (syscallRawRules[0])",
            ),
            (
                "setxattr:/data/x",
                "AppArmor not asked; BPF refused (bpfRawRules.files[0]); Seccomp allowed",
            ),
            (
                "mount:ext4:/dev/sda1:ro",
                "AppArmor allowed; BPF refused (bpfRawRules.mounts[0]); Seccomp refused (syscallRawRules[0])",
            ),
            (
                "syscall:mount",
                "AppArmor not asked; BPF not asked; Seccomp refused (syscallRawRules[0])",
            ),
            (
                "syscall:personality",
                "AppArmor not asked; BPF not asked; Seccomp allowed, reported (syscallRawRules[1])",
            ),
        ],
    );
    let action: Action = "connect:10.200.0.1:80".parse().expect("an action");
    let addresses = ["10.200.0.1".parse().expect("an address")];
    let of_pod = Question {
        pod_addresses: &addresses,
        ..question(&action)
    };
    assert!(
        said(&ask(&object, &of_pod))
            .contains("BPF refused (bpfRawRules.network.egress.toDestinations[2])")
    );
}

#[test]
fn observing_refuses_nothing() {
    check(
        &policy(
            "AppArmorBPFSeccomp",
            "EnhanceProtect",
            &HARDENED.replace(
                "auditViolations: true",
                "auditViolations: true, allowViolations: true",
            ),
        ),
        &[
            (
                "open:/etc/passwd:w",
                "AppArmor allowed, reported (attackProtectionRules[0].rules[0]); \
                 BPF allowed, reported (attackProtectionRules[0].rules[0]); Seccomp allowed",
            ),
            (
                "syscall:clone3",
                "AppArmor not asked; BPF not asked; Seccomp allowed, reported (hardeningRules[2])",
            ),
        ],
    );
}

#[test]
fn executables_with_rules_of_their_own() {
    let enhance = "{privileged: true, attackProtectionRules: [{rules: [disable-write-etc], targets: [/bin/sh]}]}";
    let object = policy("AppArmor", "EnhanceProtect", enhance);
    let action: Action = "open:/etc/a:w".parse().expect("an action");
    assert_eq!(said(&ask(&object, &question(&action))), "AppArmor allowed");
    let of_shell = Question {
        executable: Some("/bin/sh"),
        ..question(&action)
    };
    assert_eq!(
        said(&ask(&object, &of_shell)),
        "AppArmor refused (attackProtectionRules[0].rules[0])"
    );
    let action: Action = "exec:/bin/sh".parse().expect("an action");
    let judgements = ask(&object, &question(&action));
    assert_eq!(
        judgements[0].verdict.notes,
        ["it goes on under varmor-demo-p//child_0"]
    );
}

#[test]
fn the_own_filter_counts() {
    let object = policy(
        "Seccomp",
        "EnhanceProtect",
        "{hardeningRules: [disallow-create-user-ns]}",
    );
    let own = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "unshare"], "action": "SCMP_ACT_ALLOW"}]});
    for (action, expected) in [
        ("syscall:read", "Seccomp allowed"),
        ("syscall:write", "Seccomp refused"),
        (
            "syscall:unshare:0x10000000",
            "Seccomp refused (hardeningRules[0])",
        ),
        ("syscall:unshare:0", "Seccomp allowed"),
    ] {
        let parsed: Action = action.parse().expect(action);
        let asked = Question {
            own_filter: Some(&own),
            ..question(&parsed)
        };
        assert_eq!(said(&ask(&object, &asked)), expected, "{action}");
    }
}

#[test]
fn policies_that_hold_together() {
    let one = policy(
        "BPF",
        "EnhanceProtect",
        "{privileged: true, attackProtectionRules: [{rules: [disable-write-etc]}]}",
    );
    let other = policy(
        "Seccomp",
        "EnhanceProtect",
        "{privileged: true, hardeningRules: [disallow-create-user-ns]}",
    );
    let action: Action = "userns".parse().expect("an action");
    let enforcers = Enforcers::parse("BPFSeccomp").expect("enforcers");
    let judgements = explain(
        &[&one, &other],
        enforcers,
        &Settings::default(),
        &question(&action),
    )
    .expect("compiles");
    // The rule is not one of the member's that has BPF.
    assert_eq!(
        said(&judgements),
        "BPF allowed; Seccomp refused (hardeningRules[0])"
    );
    let action: Action = "mkdir:/etc/a".parse().expect("an action");
    let judgements = explain(
        &[&one, &other],
        enforcers,
        &Settings::default(),
        &question(&action),
    )
    .expect("compiles");
    assert_eq!(
        said(&judgements),
        "BPF refused (attackProtectionRules[0].rules[0]); Seccomp allowed"
    );
}
