// SPDX-License-Identifier: Apache-2.0
//! What the container's rules say of executables that have rules of their own.
//!
//! Such an executable goes on in a child (`cx`). A rule that lets it go on in the profile (`ix`) and names it as exactly
//! would clash with that, and the whole profile would not load. A pattern gives way to a name, so a name is made a pattern.
//! What such a rule reports is reported of the way into the child.

use super::glob::Glob;
use super::rule::{FileRule, Rule, path_of};
use std::collections::BTreeSet;

/// Behind a name it makes a pattern of it that matches nothing more: there is nothing below a file that is executed. A star it
/// must be: to apparmor_parser 4.1 a set of characters is as exact as a name (to 3.0 it is not).
const NOTHING_MORE: &str = "{,/*}";

/// The ways into children that are reported.
#[derive(Default)]
pub(super) struct Reported(BTreeSet<(String, bool)>);

impl Reported {
    /// Qualifiers of the reports of one executable.
    pub(super) fn of(&self, target: &str) -> impl Iterator<Item = &'static str> {
        [(false, "audit"), (true, "audit owner")]
            .into_iter()
            .filter(|(owner, _)| self.0.contains(&(target.to_owned(), *owner)))
            .map(|(_, qualifiers)| qualifiers)
    }
}

/// A rule of the container, without its comma, as it can stand beside the ways into children.
pub(super) fn beside(
    line: &str,
    targets: &[&str],
    profile: &str,
    reported: &mut Reported,
) -> String {
    let unchanged = || line.to_owned();
    let Some(rule) = Rule::parse(line).filter(|rule| !rule.deny) else {
        return unchanged();
    };
    let (pattern, letters) = match rule.file() {
        Some(FileRule::Path(word, letters)) => (path_of(word), letters),
        Some(FileRule::Everything) => (None, "ix"),
        None => return unchanged(),
    };
    if !letters.contains('x') {
        return unchanged();
    }
    // What is not understood may match each of them.
    let glob = pattern.and_then(|pattern| Glob::parse(pattern, profile));
    let matches = |target: &&&str| glob.as_ref().is_none_or(|glob| glob.matches(target));
    let matched: Vec<_> = targets.iter().filter(matches).collect();
    if rule.audit {
        let reports = matched
            .iter()
            .map(|target| ((**target).to_owned(), rule.owner));
        reported.0.extend(reports);
    }
    match pattern {
        Some(pattern) if !matched.is_empty() => {
            line.replacen(pattern, &format!("{pattern}{NOTHING_MORE}"), 1)
        }
        _ => unchanged(),
    }
}

#[cfg(test)]
mod tests {
    use crate::compile::apparmor::tests::{accepted, has_line, policy, union};

    #[test]
    fn what_a_policy_says_of_executing_gives_way_to_rules_of_the_executables_own() {
        let of_sh = "{rules: 'deny /x r,', targets: [/bin/sh, /bin/ash]}";
        let plain = ["/bin/sh cx -> child_0,", "/bin/ash cx -> child_0,"];
        for (rule, kept, reported) in [
            ("/bin/sh rix,", "/bin/sh{,/*} rix,", &[][..]),
            (
                "audit ix /bin/{sh,ls},",
                "audit ix /bin/{sh,ls}{,/*},",
                &["audit /bin/sh cx -> child_0,"],
            ),
            (
                "audit owner file \"/bin/sh\" rix,",
                "audit owner file \"/bin/sh{,/*}\" rix,",
                &["audit owner /bin/sh cx -> child_0,"],
            ),
            (
                "audit /*/a* ix,",
                "audit /*/a*{,/*} ix,",
                &["audit /bin/ash cx -> child_0,"],
            ),
            (
                "audit file,",
                "audit file,",
                &[
                    "audit /bin/sh cx -> child_0,",
                    "audit /bin/ash cx -> child_0,",
                ],
            ),
            ("audit /bin/ls ix,", "audit /bin/ls ix,", &[]),
            ("audit /bin/sh r,", "audit /bin/sh r,", &[]),
            ("deny /bin/sh x,", "deny /bin/sh x,", &[]),
        ] {
            let alone = policy(
                "EnhanceProtect",
                &format!("{{privileged: true, appArmorRawRules: [{{rules: '{rule}'}}, {of_sh}]}}"),
            );
            let alone = alone.expect("compiles");
            let (parent, _) = alone.split_once("\n  profile ").expect("a child");
            for line in [&[kept], &plain[..], reported].concat() {
                assert!(has_line(parent, line), "{line}\n{parent}");
            }
            let ways = parent.matches(" cx -> ").count();
            assert_eq!(ways, plain.len() + reported.len(), "{rule}\n{parent}");
            assert_eq!(accepted(&alone).len(), 2, "{alone}");
            let beside = union(&[
                &format!("{{appArmorRawRules: [{{rules: '{rule}'}}]}}"),
                &format!("{{appArmorRawRules: [{of_sh}]}}"),
            ]);
            assert_eq!(accepted(&beside).len(), 2, "{beside}");
        }
        // A built-in rule that says how to execute where violations are let through.
        let observed = policy(
            "EnhanceProtect",
            "{auditViolations: true, allowViolations: true, attackProtectionRules: [{rules: [disable-busybox]}, \
             {rules: [disable-write-etc], targets: [/bin/busybox]}]}",
        );
        assert_eq!(accepted(&observed.expect("compiles")).len(), 2);
    }
}
