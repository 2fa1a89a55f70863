// SPDX-License-Identifier: Apache-2.0
//! The generated text, read by AppArmor's own parser.

use super::*;
use crate::compile::{Settings, compile};
use std::io::Write as _;
use std::process::{Command, Stdio};

const PARSER: &str = "/usr/sbin/apparmor_parser";

/// Runs the parser on a text.
fn run(arguments: &[&str], text: &str) -> std::process::Output {
    let mut child = Command::new(PARSER)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{PARSER} (package apparmor) is needed for this test: {e}"));
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(text.as_bytes())
        .expect("the parser reads");
    child.wait_with_output().expect("the parser ends")
}

/// What the parser prints, or what it says is wrong.
fn parser(arguments: &[&str], text: &str) -> Result<String, String> {
    let output = run(arguments, text);
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{}\n{}\n{text}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Compiles a text wholly, and returns the names of the profiles in it.
pub(super) fn accepted(text: &str) -> Vec<String> {
    // With features of its own the parser needs no AppArmor in the running kernel.
    let features = ["--kernel-features", "/etc/apparmor.d/abi/3.0"];
    parser(&[&features[..], &["-QKT", "--quiet"]].concat(), text).unwrap_or_else(|e| panic!("{e}"));
    let names = parser(&[&features[..], &["-N"]].concat(), text).unwrap_or_else(|e| panic!("{e}"));
    names.lines().map(str::to_owned).collect()
}

pub(super) fn policy(mode: &str, enhance: &str) -> Result<String, Vec<String>> {
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p1, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy:\n    enforcer: AppArmor\n    mode: {mode}\n    \
         enhanceProtect: {enhance}\n"
    );
    let object = crate::parse(&yaml).expect("valid YAML").remove(0);
    compile(&object, &Settings::default())
        .map(|plan| plan.apparmor.expect("AppArmor is chosen"))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn every_mode_and_effect_compiles() {
    for mode in ["AlwaysAllow", "RuntimeDefault"] {
        assert_eq!(
            accepted(&policy(mode, "{}").expect("compiles")),
            ["varmor-demo-p1"],
            "{mode}"
        );
    }
    let names = |group| {
        let rules =
            crate::rules::all().filter(|rule| rule.group == group && !rule.apparmor.is_empty());
        rules.map(|rule| rule.name).collect::<Vec<_>>().join(", ")
    };
    let hardening = names(crate::rules::Group::Hardening);
    let attack = names(crate::rules::Group::Attack);
    let vulnerability = names(crate::rules::Group::Vulnerability);
    for privileged in [false, true] {
        for (allow, audit) in [(false, false), (false, true), (true, true), (true, false)] {
            let text = policy(
                "EnhanceProtect",
                &format!(
                    "{{privileged: {privileged}, allowViolations: {allow}, auditViolations: {audit}, \
                     hardeningRules: [{hardening}], vulMitigationRules: [{vulnerability}], attackProtectionRules: [{{rules: [{attack}]}}, {{rules: [{attack}], \
                     targets: [/bin/bash, /usr/bin/curl]}}]}}",
                ),
            )
            .expect("compiles");
            assert_eq!(
                accepted(&text),
                ["varmor-demo-p1", "varmor-demo-p1//child_0"]
            );
            let qualifier = Effect {
                deny: !allow,
                audit,
            }
            .apparmor();
            let exec = if allow { "rix" } else { "rx" };
            for line in [
                "/etc/** wl".to_owned(),
                format!("/{{,**/}}busybox {exec}"),
                "mount fstype=proc".to_owned(),
                "network".to_owned(),
                "capability net_raw".to_owned(),
            ] {
                assert!(
                    text.contains(&format!("\n  {qualifier}{line},\n")),
                    "{line}\n{text}"
                );
            }
            // The base follows the switches too, for what no rule allows as well.
            let ptrace = "ptrace (trace, read) peer={[^v]**,v,v[^a]**,";
            assert_eq!(
                text.contains(&format!("\n  {qualifier}{ptrace}")),
                !privileged && allow,
                "{text}"
            );
            if !privileged {
                let line = format!("\n  {qualifier}@{{PROC}}/kcore rwkl");
                assert!(text.contains(&line), "{line}\n{text}");
            }
        }
    }
}

#[test]
fn targets_with_equal_rules_share_a_child() {
    let text = policy(
        "EnhanceProtect",
        "
      hardeningRules: [disable-cap-net-raw]
      attackProtectionRules:
      - {rules: [disable-write-etc], targets: [/bin/a, /bin/b]}
      - {rules: [mitigate-sa-leak], targets: [/bin/c]}
      appArmorRawRules:
      - {rules: 'deny /x r,', targets: [/bin/b, /bin/d, /bin/a]}
      - {rules: 'audit /y r,'}",
    )
    .expect("compiles");
    let names = accepted(&text);
    assert_eq!(
        names,
        [
            "varmor-demo-p1",
            "varmor-demo-p1//child_0",
            "varmor-demo-p1//child_1",
            "varmor-demo-p1//child_2"
        ]
    );
    for line in [
        "  /bin/a cx -> child_0,",
        "  /bin/b cx -> child_0,",
        "  /bin/c cx -> child_1,",
        "  /bin/d cx -> child_2,",
        "  signal (receive) peer=varmor-demo-p1,",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    // Rules for everything hold in every child too.
    assert_eq!(text.matches("deny capability net_raw,").count(), 4);
    assert_eq!(text.matches("  audit /y r,").count(), 4);
    assert_eq!(text.matches("  deny /x r,").count(), 2);
}

#[test]
fn raw_rules_of_every_kind_compile() {
    let rules = [
        "/etc/passwd r",
        "deny /etc/** wl",
        "audit deny owner @{HOME}/.ssh/** rw",
        "file /a rw",
        "/proc/{sys,net}/**{,/} r",
        r#""/with blank, {x,y}/a" r"#,
        "/a\\{b r",
        "capability net_admin sys_admin",
        "deny network inet6 dgram",
        "mount fstype=proc -> /proc/",
        "deny mount options=(ro, bind) /a/ -> /b/",
        "mount options in (ro,nosuid) tmpfs",
        "umount /mnt/**",
        "pivot_root oldroot=/old/ /new/",
        "ptrace (trace, read) peer=@{profile_name}",
        "signal (send) set=(term kill) peer=unconfined",
        "unix (connect) type=stream peer=(label=unconfined)",
        "dbus send bus=system path=/org/a interface=org.a",
        "link /a -> /b",
        "set rlimit nofile <= 1024",
    ];
    let text = rules.map(|rule| format!("{rule},")).join("\n          ");
    for privileged in [false, true] {
        let text = policy(
            "EnhanceProtect",
            &format!("\n      privileged: {privileged}\n      appArmorRawRules:\n      - rules: |\n          {text}\n"),
        )
        .expect("compiles");
        assert_eq!(accepted(&text), ["varmor-demo-p1"]);
    }
}

#[test]
fn wrong_targets_and_rules_are_refused_with_their_field() {
    for (enhance, expected) in [
        (
            "{attackProtectionRules: [{rules: [disable-write-etc], targets: [sh]}]}",
            "attackProtectionRules[0].targets[0]: `sh`",
        ),
        (
            "{appArmorRawRules: [{rules: 'file,', targets: ['/bin/a {']}]}",
            "appArmorRawRules[0].targets[0]: ` `",
        ),
        (
            "{appArmorRawRules: [{rules: 'file,', targets: [\"/bin/a\\n}\"]}]}",
            "appArmorRawRules[0].targets[0]: `\\n`",
        ),
        (
            "{attackProtectionRules: [{rules: [disable-chmod-x-bit], targets: [/bin/sh]}]}",
            "only seccomp can hold `disable-chmod-x-bit`",
        ),
        (
            "{attackProtectionRules: [{rules: [disable-write-etc], targets: [/bin/../sh]}]}",
            "attackProtectionRules[0].targets[0]: `/bin/../sh` is no path as the kernel",
        ),
        (
            "{appArmorRawRules: [{rules: 'file,', targets: [/bin/*]}]}",
            "appArmorRawRules[0].targets[0]: `*`",
        ),
        (
            "{appArmorRawRules: [{rules: '/a r, }'}]}",
            "appArmorRawRules[0].rules: line 1: `}` closes nothing",
        ),
        (
            "{attackProtectionRules: [{rules: [block-access-to-metadata-service], targets: [/bin/sh]}]}",
            "`AppArmor` cannot enforce `block-access-to-metadata-service` for single executables; add BPF",
        ),
        ("{bpfRawRules: {}}", "bpfRawRules: needs the enforcer BPF"),
        (
            "{syscallRawRules: [{names: [open], action: SCMP_ACT_ERRNO}]}",
            "syscallRawRules: needs the enforcer Seccomp",
        ),
        (
            "{hardeningRules: [disallow-create-user-ns]}",
            "add BPF or Seccomp to spec.policy.enforcer",
        ),
        (
            "{hardeningRules: [disalow-mount]}",
            "did you mean `disallow-mount`?",
        ),
        (
            "{hardeningRules: [disable-write-etc]}",
            "belongs into attackProtectionRules",
        ),
        (
            "{attackProtectionRules: [{rules: []}]}",
            "attackProtectionRules[0].rules: no rule is named",
        ),
    ] {
        let errors = policy("EnhanceProtect", enhance).expect_err(enhance);
        assert!(
            errors.iter().any(|e| e.contains(expected)),
            "{enhance}: {errors:?}"
        );
    }
}

#[test]
fn disks_of_the_node_are_named() {
    let rules = "{hardeningRules: [disallow-debug-disk-device, disallow-mount-disk-device]}";
    let names = ["sda1", "cciss!c0d0", "a b", "x},"];
    let settings = Settings {
        disk_devices: names.map(str::to_owned).into(),
        ..Settings::default()
    };
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p1, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy: {{enforcer: AppArmor, mode: EnhanceProtect, enhanceProtect: {rules}}}\n"
    );
    let object = crate::parse(&yaml).expect("valid YAML").remove(0);
    let plan = compile(&object, &settings).expect("compiles");
    let text = plan.apparmor.expect("AppArmor is chosen");
    assert_eq!(accepted(&text), ["varmor-demo-p1"]);
    for line in [
        "  deny /dev/sda1 rw,",
        "  deny /dev/cciss/c0d0 rw,",
        "  deny mount /dev/sda1,",
        "  deny mount /dev/cciss/c0d0,",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    // Disks that come later, by the names that disks have.
    assert!(text.contains("  deny /dev/{sd[a-z],"), "{text}");
    assert!(!text.contains("a b") && !text.contains("x}"), "{text}");
}

#[test]
fn rules_that_only_bpf_can_hold_make_no_child() {
    let yaml = "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {name: p1, namespace: demo}\nspec:\n  \
        target: {kind: Pod, selector: {}}\n  policy: {enforcer: AppArmorBPF, mode: EnhanceProtect, enhanceProtect: \
        {attackProtectionRules: [{rules: [block-access-to-metadata-service], targets: [/bin/sh]}]}}\n";
    let object = crate::parse(yaml).expect("valid YAML").remove(0);
    let plan = compile(&object, &Settings::default()).expect("compiles");
    assert_eq!(
        accepted(&plan.apparmor.expect("chosen")),
        ["varmor-demo-p1"]
    );
}

/// The profile of policies that hold together, named `a`, `b` and so on.
pub(super) fn union(policies: &[&str]) -> String {
    let objects: Vec<_> = policies
        .iter()
        .zip('a'..)
        .map(|(enhance, name)| {
            let yaml = format!(
                "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  \
                 target: {{kind: Pod, selector: {{}}}}\n  policy:\n    enforcer: AppArmor\n    mode: EnhanceProtect\n    \
                 enhanceProtect: {enhance}\n"
            );
            crate::parse(&yaml).expect("valid YAML").remove(0)
        })
        .collect();
    let members: Vec<_> = objects.iter().collect();
    let plan = crate::compile::compile_composed(&members, &Settings::default());
    plan.expect("compiles").apparmor.expect("chosen")
}

pub(super) fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|other| other.trim() == line)
}

#[test]
fn what_a_policy_does_not_allow_no_other_can_open() {
    let opening = "mount fstype=proc -> /mnt/, pivot_root /a/, ptrace peer=unconfined, signal peer=unconfined, \
                   audit unix peer=(label=other),";
    let opening = format!(
        "{{appArmorRawRules: [{{rules: '{opening}'}}, {{rules: 'dbus send,', targets: [/bin/sh]}}]}}"
    );
    let lines = [
        "mount fstype=proc -> /mnt/,",
        "pivot_root /a/,",
        "ptrace peer=unconfined,",
        "signal peer=unconfined,",
        "audit unix peer=(label=other),",
        "dbus send,",
    ];
    let for_the_container = &lines[..5];
    // Alone, beside one that allows everything, and beside one that says the same, it may.
    for (policies, lines) in [
        (vec![opening.as_str()], &lines[..]),
        (vec!["{privileged: true}", &opening], &lines),
        (vec![&opening, &opening], for_the_container),
    ] {
        let text = union(&policies);
        for line in lines {
            assert!(has_line(&text, line), "{line}\n{text}");
        }
    }
    let text = union(&["{}", &opening]);
    accepted(&text);
    for line in lines {
        assert!(!has_line(&text, line), "{line}\n{text}");
    }
    // Rules that allow violations allow no more either: `ptrace (read)` of anybody is not in the first one's base.
    let observing =
        "{privileged: true, allowViolations: true, hardeningRules: [disallow-access-procfs-root]}";
    assert!(has_line(
        &union(&["{privileged: true}", observing]),
        "ptrace (read),"
    ));
    assert!(!has_line(&union(&["{}", observing]), "ptrace (read),"));
}

#[test]
fn a_silent_refusal_does_not_hide_the_reports_of_another_policy() {
    let raw =
        |rules: &str| format!("{{privileged: true, appArmorRawRules: [{{rules: '{rules}'}}]}}");
    for (one, other, expected) in [
        (
            "deny /etc/shadow r,",
            "audit deny /etc/shadow r,",
            "audit deny /etc/shadow r,",
        ),
        (
            "deny /etc/shadow r,",
            "audit /etc/shadow r,",
            "audit deny /etc/shadow r,",
        ),
        (
            "deny /** w,",
            "audit deny /etc/shadow r,",
            "audit deny /** w,",
        ),
        (
            "deny @{PROC}/sys/** w,",
            "audit /proc/sys/kernel/** w,",
            "audit deny @{PROC}/sys/** w,",
        ),
        (
            "deny owner @{HOME}/x r,",
            "audit r /etc/shadow,",
            "audit deny owner @{HOME}/x r,",
        ),
        (
            "deny /var/** w,",
            "audit deny /etc/shadow r,",
            "deny /var/** w,",
        ),
        (
            "deny capability net_raw,",
            "audit capability,",
            "audit deny capability net_raw,",
        ),
        (
            "deny capability net_raw,",
            "audit network,",
            "deny capability net_raw,",
        ),
        ("deny umount /x,", "audit mount,", "audit deny umount /x,"),
    ] {
        let (one, other) = (raw(one), raw(other));
        for policies in [[one.as_str(), &other], [other.as_str(), &one]] {
            let text = union(&policies);
            accepted(&text);
            assert!(has_line(&text, expected), "{expected}\n{text}");
        }
    }
    // The parser's own masks (allow/deny/audit/quiet): reading the file is quiet in neither.
    let features = [
        "--kernel-features",
        "/etc/apparmor.d/abi/3.0",
        "-QKT",
        "-D",
        "dfa-states",
    ];
    let is_quiet = |policies: &[&str]| {
        let states = run(&features, &union(policies)).stderr;
        String::from_utf8_lossy(&states)
            .lines()
            .any(|line| line.ends_with("/10004)"))
    };
    let (silent, reported) = (raw("deny /only r,"), raw("audit deny /only r,"));
    assert!(is_quiet(&[&silent]) && is_quiet(&[&silent, &silent]));
    assert!(!is_quiet(&[&reported]) && !is_quiet(&[&silent, &reported]));
}

#[test]
fn executables_of_one_policy_do_not_lead_out_of_the_rules_of_another() {
    let text = union(&[
        "{attackProtectionRules: [{rules: [mitigate-sa-leak], targets: [/bin/bash, /bin/dash]}], appArmorRawRules: [{rules: 'deny /all r,'}]}",
        "{appArmorRawRules: [{rules: 'deny /of-sh r,', targets: [/bin/sh]}, {rules: 'deny /of-bash r,', targets: [/bin/bash]}]}",
    ]);
    assert_eq!(accepted(&text).len(), 4, "{text}");
    let children: Vec<&str> = text.split("\n  profile ").skip(1).collect();
    let child_of = |target: &str| {
        let line = format!("{target} rix,");
        *children
            .iter()
            .find(|child| has_line(child, &line))
            .expect(target)
    };
    let token = "serviceaccount";
    for (target, has_token, of_sh, of_bash) in [
        // The other policy says of bash what it says of bash, whoever runs it.
        ("/bin/bash", true, false, true),
        ("/bin/dash", true, true, true),
        // Who runs sh may run bash next.
        ("/bin/sh", true, true, false),
    ] {
        let child = child_of(target);
        assert_eq!(child.contains(token), has_token, "{target}\n{child}");
        assert_eq!(
            has_line(child, "deny /of-sh r,"),
            of_sh,
            "{target}\n{child}"
        );
        assert_eq!(
            has_line(child, "deny /of-bash r,"),
            of_bash,
            "{target}\n{child}"
        );
        assert!(
            has_line(child, "deny /all r,") && has_line(child, "deny mount,"),
            "{child}"
        );
    }
}
