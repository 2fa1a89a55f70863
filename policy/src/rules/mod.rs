// SPDX-License-Identifier: Apache-2.0
//! The built-in rules: one entry a rule, with everything that each enforcer does for it.
//!
//! To change what a rule means, change its entry; to add one, add an entry to the file of its group.

mod capabilities;
mod exploit_vectors;
mod leaks;
mod manual;
mod network;
mod operations;
mod parts;
mod privileged;
mod vulnerability;

pub use manual::markdown;
pub use parts::{AppArmorPart, ArgMask, BpfPart, DISK_NAMES, SyscallPart};

use crate::enforcer::{Enforcer, Enforcers};
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
    /// What a kernel or cluster must have for parts of the rule to hold.
    pub needs: &'static [&'static str],
    /// What it does not reach, or reaches beyond its name, and where enforcers differ.
    pub limits: &'static [&'static str],
    /// What AppArmor does; empty when it can do nothing.
    pub apparmor: &'static [AppArmorPart],
    /// What the BPF programs do; empty when they can do nothing.
    pub bpf: &'static [BpfPart],
    /// What seccomp does; empty when it can do nothing.
    pub seccomp: &'static [SyscallPart],
}

/// A rule is its name. Its place in memory is not: the compiler may copy constants.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}

impl Rule {
    /// The enforcers that can do something for it.
    pub fn enforcers(&self) -> Enforcers {
        [
            (Enforcer::AppArmor, !self.apparmor.is_empty()),
            (Enforcer::Bpf, !self.bpf.is_empty()),
            (Enforcer::Seccomp, !self.seccomp.is_empty()),
        ]
        .into_iter()
        .filter_map(|(enforcer, able)| able.then_some(enforcer))
        .collect()
    }
}

/// A rule that says nothing, for entries of the tables to start from.
const RULE: Rule = Rule {
    name: "",
    aliases: &[],
    group: Group::Hardening,
    restricts: "",
    why: "",
    needs: &[],
    limits: &[],
    apparmor: &[],
    bpf: &[],
    seccomp: &[],
};

/// Rules of one subject.
#[derive(Debug)]
pub struct Section {
    /// The subject.
    pub title: &'static str,
    /// Where policies name its rules.
    pub group: Group,
    /// Its rules.
    pub rules: &'static [Rule],
}

/// All sections, group by group.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Securing privileged containers",
        group: Group::Hardening,
        rules: privileged::RULES,
    },
    Section {
        title: "Taking capabilities away",
        group: Group::Hardening,
        rules: capabilities::RULES,
    },
    Section {
        title: "Closing exploit vectors",
        group: Group::Hardening,
        rules: exploit_vectors::RULES,
    },
    Section {
        title: "Leaks of information",
        group: Group::Attack,
        rules: leaks::RULES,
    },
    Section {
        title: "Sensitive operations",
        group: Group::Attack,
        rules: operations::RULES,
    },
    Section {
        title: "Network and sockets",
        group: Group::Attack,
        rules: network::RULES,
    },
    Section {
        title: "Vulnerabilities",
        group: Group::Vulnerability,
        rules: vulnerability::RULES,
    },
];

/// All built-in rules, group by group.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    SECTIONS.iter().flat_map(|section| section.rules)
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
mod tests;
