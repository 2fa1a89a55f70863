// SPDX-License-Identifier: Apache-2.0
use crate::compile::bpf::tests::{path, policy};
use crate::plan::automaton::{PERM_APPEND, PERM_READ, PERM_WRITE, PathVerdict};
use crate::plan::bpf::BpfProfile;

const W: u16 = PERM_WRITE | PERM_APPEND;

fn enhance(settings: &str) -> Result<BpfProfile, Vec<String>> {
    policy(
        "EnhanceProtect",
        &format!("{{privileged: true, {settings}}}"),
    )
}

fn targets(profile: &BpfProfile) -> Vec<&[String]> {
    let children = profile.children.iter();
    children.map(|child| child.targets.as_slice()).collect()
}

fn deny(deny: u16) -> PathVerdict {
    PathVerdict {
        deny,
        ..PathVerdict::default()
    }
}

#[test]
fn rules_are_merged_by_target_and_targets_by_rules() {
    let profile = enhance(
        "attackProtectionRules: [
           {rules: [disable-write-etc], targets: [/bin/sh, /bin/bash]},
           {rules: [disable-access-shadow, disable-write-etc], targets: [/bin/bash, /bin/dash]},
           {rules: [disable-access-shadow], targets: [/bin/sh]},
           {rules: [disable-access-passwd], targets: [/bin/cat]}]",
    )
    .expect("compiles");
    assert_eq!(
        targets(&profile),
        [
            ["/bin/sh", "/bin/bash", "/bin/dash"]
                .map(str::to_owned)
                .as_slice(),
            ["/bin/cat"].map(str::to_owned).as_slice()
        ]
    );
    let [shells, cat] = &profile.children[..] else {
        panic!("{:?}", targets(&profile));
    };
    assert_eq!(path(&shells.profile, "/etc/hosts"), deny(W));
    assert_eq!(path(&shells.profile, "/etc/shadow"), deny(W | PERM_READ));
    assert_eq!(path(&shells.profile, "/etc/passwd"), deny(W));
    assert_eq!(path(&cat.profile, "/etc/passwd"), deny(W | PERM_READ));
    assert_eq!(path(&cat.profile, "/etc/shadow"), deny(0));
    assert_eq!(path(&profile, "/etc/shadow"), deny(0));
    assert!(
        profile
            .children
            .iter()
            .all(|child| child.profile.children.is_empty())
    );
}

#[test]
fn a_child_holds_what_the_container_holds() {
    let rules = "auditViolations: true, hardeningRules: [disable-cap-net-raw], vulMitigationRules: [runc-override-mitigation],
        attackProtectionRules: [{rules: [mitigate-sa-leak]}, {rules: [disable-write-etc], targets: [/bin/sh]}],
        bpfRawRules: {files: [{qualifiers: [deny], permissions: [r], pattern: /data/x}]}";
    let profile = policy("EnhanceProtect", &format!("{{{rules}}}")).expect("compiles");
    let child = &profile.children[0].profile;
    let both = PathVerdict {
        audit: W,
        ..deny(W)
    };
    assert_eq!(path(child, "/etc/hosts"), both);
    assert_eq!(path(&profile, "/etc/hosts"), deny(0));
    for same in [
        "/data/x",
        "/proc/sysrq-trigger",
        "/usr/bin/runc",
        "/run/secrets/kubernetes.io/serviceaccount/token",
    ] {
        assert_eq!(path(child, same), path(&profile, same), "{same}");
        assert_ne!(path(child, same), deny(0), "{same}");
    }
    assert_eq!(
        (child.capabilities, &child.mounts, child.ptrace),
        (profile.capabilities, &profile.mounts, profile.ptrace)
    );
}

#[test]
fn a_child_that_would_be_the_container_again_is_none() {
    for rules in [
        // Nothing for BPF, nothing that is not there for all, nothing at all.
        "attackProtectionRules: [{rules: [disable-write-etc]}, {rules: [disable-write-etc], targets: [/bin/sh]}]",
        "allowViolations: true, attackProtectionRules: [{rules: [disable-write-etc], targets: [/bin/sh]}]",
    ] {
        assert_eq!(
            targets(&enhance(rules).expect(rules)),
            [] as [&[String]; 0],
            "{rules}"
        );
    }
}

#[test]
fn children_are_bounded() {
    let many: Vec<String> = (0..257).map(|n| format!("/bin/{n}")).collect();
    let rules = |targets: &[String]| {
        format!(
            "attackProtectionRules: [{{rules: [disable-write-etc], targets: [{}]}}]",
            targets.join(", ")
        )
    };
    assert_eq!(
        enhance(&rules(&many[..256])).expect("compiles").children[0]
            .targets
            .len(),
        256
    );
    let errors = enhance(&rules(&many)).expect_err("refused");
    assert!(
        errors[0].starts_with(
            "spec.policy.enhanceProtect.attackProtectionRules[0].targets: at most 256 executables"
        ),
        "{errors:?}"
    );

    let names = [
        "disable-write-etc",
        "disable-access-passwd",
        "disable-access-shadow",
        "disable-busybox",
    ];
    let sets = (1..16).map(|set: u32| {
        let chosen = names
            .iter()
            .enumerate()
            .filter(|(bit, _)| set >> bit & 1 == 1);
        let chosen: Vec<&str> = chosen.map(|(_, name)| *name).collect();
        format!("{{rules: [{}], targets: [/bin/{set}]}}", chosen.join(", "))
    });
    let sets: Vec<String> = sets.collect();
    let files: Vec<String> = (0..1000)
        .map(|n| {
            format!(
                "{{qualifiers: [deny], permissions: [r], pattern: /data/{n}/{}}}",
                "x".repeat(150)
            )
        })
        .collect();
    let errors = enhance(&format!(
        "attackProtectionRules: [{}], bpfRawRules: {{files: [{}]}}",
        sets.join(", "),
        files.join(", ")
    ))
    .expect_err("refused");
    assert!(
        errors[0].contains("15 sets of rules for executables"),
        "{errors:?}"
    );
}
