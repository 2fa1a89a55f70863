// SPDX-License-Identifier: Apache-2.0
//! Policies that hold together.

use super::*;
use crate::compile::compile;
use crate::plan::automaton::{PERM_READ, PERM_WRITE};
use crate::plan::bpf::BpfProfile;

fn object(name: &str, policy: &str) -> PolicyObject {
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: {name}, namespace: demo}}\n\
         spec: {{target: {{kind: Pod, selector: {{}}}}, policy: {{merge: true, {policy}}}}}\n"
    );
    crate::parse(&yaml)
        .unwrap_or_else(|e| panic!("{e:?}"))
        .remove(0)
}

fn enhanced(name: &str, enforcer: &str, rules: &str) -> PolicyObject {
    object(
        name,
        &format!("enforcer: {enforcer}, mode: EnhanceProtect, enhanceProtect: {{{rules}}}"),
    )
}

fn composed(members: &[PolicyObject]) -> Result<EnforcementPlan, Vec<String>> {
    let members: Vec<_> = members.iter().collect();
    compile_composed(&members, &Settings::default())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// (refused, reported) of a path, from whichever end.
fn verdict(bpf: &BpfProfile, path: &str) -> (u16, u16) {
    let (verdict, ..) = bpf.of_path(path);
    (verdict.deny, verdict.audit)
}

#[test]
fn names_follow_from_the_members_in_their_order() {
    let reference = |kind: &str, namespace: &str, name: &str| PolicyRef {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    let (a, b) = (
        reference("VarmorClusterPolicy", "", "a"),
        reference("VarmorPolicy", "demo", "b"),
    );
    // printf 'VarmorClusterPolicy\0\0a\0VarmorPolicy\0demo\0b\0' | sha256sum
    assert_eq!(
        composed_profile_name(&[a.clone(), b.clone()]),
        "varmor-merged-539220341a78eeb8"
    );
    let others = [
        vec![b.clone(), a.clone()],
        vec![a.clone(), reference("VarmorPolicy", "dem", "ob")],
        vec![a, b.clone(), b],
    ];
    for other in others {
        let name = composed_profile_name(&other);
        assert_ne!(name, "varmor-merged-539220341a78eeb8");
        assert!(is_composed_profile_name(&name) && name.len() <= 63);
    }
    for name in [
        "varmor-merged-",
        "varmor-merged-0123456789abcdeg",
        "varmor-merged-0123456789abcdef0",
        "varmor-demo-0123456789abcdef",
    ] {
        assert!(!is_composed_profile_name(name), "{name}");
    }
}

#[test]
fn no_policy_has_the_profile_name_of_a_composition() {
    let yaml = "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {name: 0123456789abcdef, namespace: merged}\n\
                spec: {target: {kind: Pod, selector: {}}, policy: {enforcer: BPF, mode: AlwaysAllow}}\n";
    let object = crate::parse(yaml).expect("valid").remove(0);
    let errors = compile(&object, &Settings::default()).expect_err("refused");
    assert!(
        errors[0].to_string().contains("metadata.name: the profile"),
        "{errors:?}"
    );
}

#[test]
fn a_single_member_is_the_policy_itself() {
    let one = enhanced(
        "p",
        "AppArmorBPFSeccomp",
        "hardeningRules: [disallow-mount], attackProtectionRules: [{rules: [disable-write-etc], targets: [/bin/sh]}]",
    );
    assert_eq!(
        compile_composed(&[&one], &Settings::default()),
        compile(&one, &Settings::default())
    );
    let renamed = compile_as(
        "varmor-merged-0123456789abcdef",
        &[&one],
        &Settings::default(),
    );
    let renamed = renamed.expect("compiles");
    assert_eq!(renamed.profile, "varmor-merged-0123456789abcdef");
    let text = renamed.apparmor.expect("chosen");
    assert!(text.contains("profile varmor-merged-0123456789abcdef flags"));
    assert!(!text.contains("varmor-demo-p"), "{text}");
}

#[test]
fn a_members_enforcers_count_for_its_own_rules() {
    let members = [
        enhanced(
            "a",
            "AppArmor",
            "privileged: true, attackProtectionRules: [{rules: [disable-write-etc]}]",
        ),
        enhanced(
            "b",
            "BPF",
            "privileged: true, bpfRawRules: {files: [{pattern: /etc/shadow, permissions: [read], qualifiers: [deny]}]}",
        ),
        object("c", "enforcer: Seccomp, mode: RuntimeDefault"),
    ];
    let plan = composed(&members).expect("compiles");
    assert!(is_composed_profile_name(&plan.profile));
    assert_eq!(plan.policy, members[0].reference());
    let text = plan.apparmor.expect("of a");
    assert!(text.contains("deny /etc/** wl"), "{text}");
    assert!(!text.contains("deny mount"), "c is not AppArmor's: {text}");
    let bpf = plan.bpf.expect("of b");
    assert_eq!(verdict(&bpf, "/etc/shadow"), (PERM_READ, 0));
    assert_eq!(verdict(&bpf, "/etc/passwd"), (0, 0));
    assert_eq!(verdict(&bpf, "/proc/sys/kernel/core_pattern"), (0, 0));
    assert_eq!(plan.seccomp, Some(Seccomp::RuntimeDefault));
}

#[test]
fn what_any_member_refuses_is_refused_and_what_any_reports_is_reported() {
    let file = |name: &str, enforcer: &str, qualifiers: &str, pattern: &str| {
        enhanced(
            name,
            enforcer,
            &format!(
                "privileged: true, bpfRawRules: {{files: [{{pattern: {pattern}, permissions: [read], qualifiers: [{qualifiers}]}}]}}"
            ),
        )
    };
    let members = [
        file("a", "BPF", "deny", "/etc/shadow"),
        file("b", "BPF", "audit", "'/etc/{shadow,passwd}'"),
    ];
    for members in [&members[..], &[members[1].clone(), members[0].clone()]] {
        let bpf = composed(members).expect("compiles").bpf.expect("chosen");
        assert_eq!(verdict(&bpf, "/etc/shadow"), (PERM_READ, PERM_READ));
        assert_eq!(verdict(&bpf, "/etc/passwd"), (0, PERM_READ));
        assert_eq!(verdict(&bpf, "/etc/hosts"), (0, 0));
    }
}

#[test]
fn the_stricter_base_holds_with_the_effect_of_those_that_have_it() {
    let core = "/proc/sys/kernel/core_pattern";
    let privileged = enhanced("p", "AppArmorBPF", "privileged: true");
    let observing = enhanced(
        "o",
        "AppArmorBPF",
        "allowViolations: true, auditViolations: true",
    );
    let refusing = object("r", "enforcer: AppArmorBPF, mode: RuntimeDefault");
    let everything = object("e", "enforcer: AppArmorBPF, mode: AlwaysAllow");
    for (members, deny, audit) in [
        (vec![&privileged, &everything], false, false),
        (vec![&everything, &observing], false, true),
        (vec![&privileged, &refusing], true, false),
        (vec![&observing, &refusing], true, true),
        (vec![&refusing, &observing, &everything], true, true),
    ] {
        let plan = compile_composed(&members, &Settings::default()).expect("compiles");
        let expected = |on: bool| if on { PERM_WRITE } else { 0 };
        let (refused, reported) = verdict(plan.bpf.as_ref().expect("chosen"), core);
        assert_eq!(
            (refused & PERM_WRITE, reported & PERM_WRITE),
            (expected(deny), expected(audit))
        );
        let text = plan.apparmor.expect("chosen");
        let line =
            |qualifier: &str| text.contains(&format!("\n  {qualifier}@{{PROC}}/sysrq-trigger "));
        assert_eq!(line("audit deny "), deny && audit, "{text}");
        assert_eq!(line("deny "), deny && !audit, "{text}");
        assert_eq!(line("audit "), audit, "{text}");
        let restricted = deny || audit;
        assert_eq!(text.contains("\n  pivot_root,"), !restricted, "{text}");
    }
}

#[test]
fn seccomp_rules_of_all_members_stand_side_by_side() {
    let rule = |name: &str, action: &str| {
        enhanced(
            name,
            "Seccomp",
            &format!("syscallRawRules: [{{names: [mount], action: {action}}}]"),
        )
    };
    let (errno, kill) = (rule("a", "SCMP_ACT_ERRNO"), rule("b", "SCMP_ACT_KILL"));
    let default = object("c", "enforcer: Seccomp, mode: RuntimeDefault");
    let seccomp = |members: &[&PolicyObject]| {
        let plan = compile_composed(members, &Settings::default()).expect("compiles");
        plan.seccomp.expect("chosen")
    };
    let Seccomp::Rules(filter) = seccomp(&[&errno, &kill]) else {
        panic!("rules alone")
    };
    assert_eq!(filter["syscalls"].as_array().map(Vec::len), Some(2));
    for members in [[&errno, &default], [&default, &errno]] {
        let Seccomp::RuntimeDefaultAndRules(filter) = seccomp(&members) else {
            panic!("both")
        };
        assert_eq!(filter["syscalls"][0]["action"], "SCMP_ACT_ERRNO");
    }
    let Seccomp::RuntimeDefaultAndRules(filter) = seccomp(&[&errno, &default, &errno, &kill])
    else {
        panic!("both")
    };
    assert_eq!(filter["syscalls"].as_array().map(Vec::len), Some(2));
}

#[test]
fn executables_have_the_rules_that_other_policies_have_for_theirs() {
    let members = [
        enhanced(
            "a",
            "BPF",
            "privileged: true, attackProtectionRules: [{rules: [disable-access-shadow], targets: [/bin/bash, /bin/dash]}]",
        ),
        enhanced(
            "b",
            "BPF",
            "privileged: true, allowViolations: true, auditViolations: true, \
             attackProtectionRules: [{rules: [disable-write-etc], targets: [/bin/sh]}, {rules: [disable-access-passwd], targets: [/bin/bash]}]",
        ),
    ];
    let bpf = composed(&members).expect("compiles").bpf.expect("chosen");
    let reads = |bpf: &BpfProfile, path: &str| {
        let (deny, audit) = verdict(bpf, path);
        (deny & PERM_READ != 0, audit & PERM_READ != 0)
    };
    for (target, shadow, passwd, etc_is_reported) in [
        ("/bin/bash", true, true, false),
        ("/bin/dash", true, true, true),
        ("/bin/sh", true, false, true),
    ] {
        let child = bpf
            .children
            .iter()
            .find(|child| child.targets.iter().any(|one| one == target));
        let child = &child.expect(target).profile;
        assert_eq!(reads(child, "/etc/shadow"), (shadow, false), "{target}");
        assert_eq!(reads(child, "/etc/passwd"), (false, passwd), "{target}");
        let (denied, reported) = verdict(child, "/etc/x");
        assert_eq!(
            (denied, reported & PERM_WRITE != 0),
            (0, etc_is_reported),
            "{target}"
        );
    }
    assert_eq!(verdict(&bpf, "/etc/shadow"), (0, 0));
    let targets = |name: &str, of: &str| {
        let all: Vec<String> = (0..200).map(|i| format!("/bin/{of}{i}")).collect();
        enhanced(
            name,
            "AppArmorBPF",
            &format!(
                "attackProtectionRules: [{{rules: [disable-write-etc], targets: [{}]}}]",
                all.join(", ")
            ),
        )
    };
    let errors = composed(&[targets("a", "x"), targets("b", "y")]).expect_err("too many");
    assert!(
        errors
            .iter()
            .all(|e| e.starts_with("VarmorPolicy demo/b") && e.contains("at most 256")),
        "{errors:?}"
    );
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn a_wrong_member_is_named_and_none_is_left_out() {
    let good = enhanced("good", "BPF", "hardeningRules: [disallow-mount]");
    let bad = enhanced("bad", "BPF", "hardeningRules: [disalow-mount]");
    let errors = composed(&[good.clone(), bad.clone(), good]).expect_err("refused");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0]
            .starts_with("VarmorPolicy demo/bad: spec.policy.enhanceProtect.hardeningRules[0]"),
        "{errors:?}"
    );
}

#[test]
fn limits_of_one_policy_are_those_of_all_together() {
    let raw = |name: &str, rule: String| {
        enhanced(
            name,
            "AppArmor",
            &format!("appArmorRawRules: [{{rules: '{rule}'}}]"),
        )
    };
    let lines =
        |n: usize, of: &str| -> String { (0..n).map(|i| format!("deny /{of}{i} r,")).collect() };
    let calls = |n: usize| {
        let rules = vec!["{names: [mount], action: SCMP_ACT_LOG}"; n].join(", ");
        enhanced("p", "Seccomp", &format!("syscallRawRules: [{rules}]"))
    };
    let patterns = |of: &str| {
        let rules: Vec<String> = (0..1100)
            .map(|i| {
                format!(
                    "{{pattern: /{of}/{}/{i}, permissions: [read], qualifiers: [deny]}}",
                    "x".repeat(150)
                )
            })
            .collect();
        enhanced(
            "p",
            "BPF",
            &format!("bpfRawRules: {{files: [{}]}}", rules.join(", ")),
        )
    };
    for (members, expected) in [
        (
            [raw("a", lines(1500, "a")), raw("b", lines(1500, "b"))],
            "demo/b: spec.policy.enhanceProtect.appArmorRawRules: more than 2000",
        ),
        ([calls(300), calls(300)], "syscallRawRules: 600 rules"),
        (
            [patterns("a"), patterns("b")],
            "the patterns have more than",
        ),
        (
            [
                raw("a", "set rlimit nofile <= 16,".into()),
                raw("b", "set rlimit nofile <= 1024,".into()),
            ],
            "demo/b: spec.policy.enhanceProtect.appArmorRawRules: `set rlimit nofile`",
        ),
    ] {
        for member in &members {
            compile(member, &Settings::default()).expect("each of them compiles");
        }
        let errors = composed(&members).expect_err(expected);
        assert!(
            errors.iter().any(|e| e.contains(expected)),
            "{expected}: {errors:?}"
        );
    }
    let many: Vec<_> = (0..=MAX_MEMBERS)
        .map(|i| object(&format!("p{i}"), "enforcer: BPF, mode: AlwaysAllow"))
        .collect();
    assert!(composed(&many[1..]).is_ok());
    let errors = composed(&many).expect_err("one too many");
    assert!(
        errors[0].starts_with("VarmorPolicy demo/p64: spec.policy.merge: 65 policies"),
        "{errors:?}"
    );
}
