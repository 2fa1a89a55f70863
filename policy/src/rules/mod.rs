//! The built-in rules: one entry a rule, with everything that each enforcer does for it.
//!
//! To change what a rule means, change its entry; to add one, add an entry to the file of its group.

mod attack;
mod hardening;
mod vulnerability;

use std::borrow::Cow;

/// Where a policy names the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `hardeningRules`.
    Hardening,
    /// `attackProtectionRules[].rules`.
    Attack,
    /// `vulMitigationRules`.
    Vulnerability,
}

impl Group {
    /// The field that lists rules of this group.
    pub fn field(self) -> &'static str {
        match self {
            Self::Hardening => "hardeningRules",
            Self::Attack => "attackProtectionRules",
            Self::Vulnerability => "vulMitigationRules",
        }
    }
}

/// A built-in rule.
#[derive(Debug)]
pub struct Rule {
    /// The name in policies: lower case, words joined by `-`.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Where policies name it.
    pub group: Group,
    /// What a container can no longer do.
    pub restricts: &'static str,
    /// What an attacker does with it.
    pub why: &'static str,
    /// What a kernel must have for parts of the rule to hold.
    pub needs: &'static [&'static str],
    /// What AppArmor does; empty when it can do nothing.
    pub apparmor: &'static [AppArmorPart],
    /// What the BPF programs do; empty when they can do nothing.
    pub bpf: &'static [BpfPart],
    /// What seccomp does; empty when it can do nothing.
    pub seccomp: &'static [SyscallPart],
}

/// One thing that AppArmor refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppArmorPart {
    /// A path rule: AppArmor pattern and permissions.
    Path(&'static str, &'static str),
    /// Capabilities, a bit per number.
    Capabilities(u64),
    /// Any other rule, without qualifier and comma.
    Other(&'static str),
}

/// One thing that the BPF programs refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BpfPart {
    /// Path pattern and permissions (`PERM_*`).
    Path(&'static str, u16),
    /// Capabilities, a bit per number.
    Capabilities(u64),
    /// Connecting to an address, on any port.
    Destination(&'static str),
    /// Tracing or reading processes of other containers (`PTRACE_*`).
    PtraceExternal(u8),
    /// Mount operations.
    Mount {
        /// File system type; `None` is any.
        fstype: Option<&'static str>,
        /// Pattern for the source.
        source: &'static str,
        /// Flags, any of which makes the rule hold.
        flags: u32,
    },
    /// Making a user namespace.
    UsernsCreate,
}

/// System calls that seccomp refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyscallPart {
    /// Names of system calls.
    pub names: &'static [&'static str],
    /// Conditions on arguments, all of which must hold; empty is every call.
    pub args: &'static [ArgMask],
    /// What the call returns; EPERM is 1.
    pub errno: u32,
}

/// `argument & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgMask {
    /// Argument number, 0 to 5.
    pub index: u32,
    /// Bits that are looked at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

/// All built-in rules, group by group.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    hardening::RULES
        .iter()
        .chain(attack::RULES)
        .chain(vulnerability::RULES)
}

/// The rule that a policy means by a name: case does not matter and `_` is `-`.
pub fn find(name: &str) -> Option<&'static Rule> {
    let name = canonical(name);
    all().find(|rule| rule.name == name || rule.aliases.contains(&name.as_ref()))
}

/// A name as the table has it.
pub fn canonical(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase() || b == b'_') {
        Cow::Owned(name.to_ascii_lowercase().replace('_', "-"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_canonical() {
        let mut seen = BTreeSet::new();
        for rule in all() {
            for name in [rule.name].iter().chain(rule.aliases) {
                assert!(seen.insert(*name), "{name} is there twice");
                assert_eq!(canonical(name), *name);
                assert!(std::ptr::eq(find(name).expect("found"), rule));
            }
        }
    }

    #[test]
    fn every_rule_does_something_and_says_why() {
        for rule in all() {
            assert!(
                !rule.restricts.is_empty() && !rule.why.is_empty(),
                "{}",
                rule.name
            );
            let parts = rule.apparmor.len() + rule.bpf.len() + rule.seccomp.len();
            assert!(parts > 0, "{} does nothing", rule.name);
            for part in rule.bpf {
                match part {
                    BpfPart::Path(pattern, permissions) => {
                        assert!(
                            Pattern::path(pattern).is_ok() && *permissions != 0,
                            "{}",
                            rule.name
                        );
                    }
                    BpfPart::Destination(ip) => {
                        assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{ip}")
                    }
                    BpfPart::Mount { source, .. } => {
                        assert!(Pattern::mount_source(source).is_ok(), "{source}")
                    }
                    BpfPart::Capabilities(mask) => assert_ne!(*mask, 0),
                    BpfPart::PtraceExternal(_) | BpfPart::UsernsCreate => {}
                }
            }
        }
    }

    #[test]
    fn names_are_found_in_any_spelling() {
        for name in [
            "DISABLE_WRITE_ETC",
            "disable-write-etc",
            "Disable_Write-Etc",
        ] {
            assert_eq!(find(name).expect(name).name, "disable-write-etc");
        }
        assert_eq!(
            find("disallow-metadata-service").expect("alias").name,
            "block-access-to-metadata-service"
        );
        assert!(find("disable-write").is_none());
    }
}
