// SPDX-License-Identifier: Apache-2.0
//! Whatever a policy says: the text compiles, and defines only the profile and its children.

use super::tests::{accepted, union};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const TARGETS: [&str; 2] = ["/bin/sh", "/usr/bin/env"];

/// Patterns, those among them that name targets in every way.
fn pattern() -> impl Strategy<Value = String> {
    let fixed = select(vec![
        "/bin/sh",
        "/bin/{sh,ls}",
        "/bin/s[a-h]",
        "/{,usr/}bin/env",
        "/*/**",
        "/**",
        "/{,**/}sh",
        "@{HOME}/.ssh/**",
        "@{PROC}/[0-9]*/mem",
        "@{run}/a",
        "\"/opt/a b\"",
        "\"/opt/a *\"",
        "/a\\*b",
    ]);
    let free = "/[a-c]{1,2}(/[a-c*?]{1,3}){0,2}(/|/\\*\\*)?";
    prop_oneof![fixed.prop_map(str::to_owned), free]
}

fn file_rule() -> impl Strategy<Value = String> {
    let letters = subsequence(vec!['r', 'k', 'l', 'm'], 0..=4);
    (
        any::<[bool; 4]>(),
        pattern(),
        letters,
        select(vec!["", "w", "a"]),
    )
        .prop_map(
            |([audit, deny, owner, executes], pattern, letters, write)| {
                let mut permissions: String = letters.into_iter().collect();
                permissions += write;
                if executes || permissions.is_empty() {
                    permissions += if deny { "x" } else { "ix" };
                }
                let word = |on: bool, word: &'static str| if on { word } else { "" };
                format!(
                    "{}{}{}{pattern} {permissions},",
                    word(audit, "audit "),
                    word(deny, "deny "),
                    word(owner, "owner ")
                )
            },
        )
}

fn other_rule() -> impl Strategy<Value = String> {
    let kinds = select(vec![
        "capability net_raw sys_admin",
        "network inet stream",
        "network",
        "mount",
        "mount fstype=tmpfs options=(rw, nosuid) -> /mnt/**",
        "mount options in (ro, bind) /a/ -> /b/",
        "remount /mnt/",
        "umount /mnt/**",
        "pivot_root",
        "ptrace (trace, read) peer=@{profile_name}",
        "ptrace (readby)",
        "signal (send) set=(kill, term) peer=unconfined",
        "unix (connect) type=stream",
        "link /a/* -> /b/*",
    ]);
    let any = (select(vec!["", "audit ", "deny ", "audit deny "]), kinds)
        .prop_map(|(qualifiers, kind)| format!("{qualifiers}{kind},"));
    prop_oneof![
        8 => any,
        1 => select(vec!["file,", "audit file,", "audit owner file,"]).prop_map(str::to_owned),
    ]
}

/// `spec.policy.enhanceProtect`.
fn enhance() -> impl Strategy<Value = String> {
    let rules = prop::collection::vec(prop_oneof![3 => file_rule(), 1 => other_rule()], 1..4);
    let entry = (rules, subsequence(TARGETS.to_vec(), 0..=2)).prop_map(|(rules, targets)| {
        let text = rules.join(" ").replace('\'', "''");
        format!("{{rules: '{text}', targets: [{}]}}", targets.join(", "))
    });
    let attack = select(vec![
        "disable-write-etc",
        "disable-busybox",
        "disable-shell",
        "mitigate-sa-leak",
        "disable-tcp",
    ]);
    let built_in = (attack, subsequence(TARGETS.to_vec(), 0..=2)).prop_map(|(name, targets)| {
        format!("{{rules: [{name}], targets: [{}]}}", targets.join(", "))
    });
    (
        any::<[bool; 3]>(),
        prop::collection::vec(entry, 0..3),
        prop::collection::vec(built_in, 0..2),
    )
        .prop_map(|([privileged, audit, allow], raw, attack)| {
            format!(
                "{{privileged: {privileged}, auditViolations: {audit}, allowViolations: {allow}, \
                 hardeningRules: [disallow-mount, disable-cap-privileged], appArmorRawRules: [{}], \
                 attackProtectionRules: [{}]}}",
                raw.join(", "),
                attack.join(", ")
            )
        })
}

proptest! {
    // Each runs the parser twice.
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_text_compiles_and_defines_only_our_names(policies in prop::collection::vec(enhance(), 1..3)) {
        let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
        let text = union(&policies);
        let names = accepted(&text);
        let own = names[0].clone();
        prop_assert!(own.starts_with("varmor-"), "{own}");
        for child in &names[1..] {
            let number = child.strip_prefix(&format!("{own}//child_")).and_then(|n| n.parse::<usize>().ok());
            prop_assert!(number.is_some(), "{child}");
        }
    }
}
