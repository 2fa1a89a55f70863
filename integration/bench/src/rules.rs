// SPDX-License-Identifier: Apache-2.0
//! Rules of which none matches, in every number and in three kinds: what a rule costs must not depend on either.

use std::fmt::Write as _;
use std::path::Path;

/// How much the rules have in common with the path that is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// They are about other directories and other file names: the common case.
    Elsewhere,
    /// They share its first 28 bytes, as rules about one application's directory do.
    SharedPrefix,
    /// They share its directory, or all of it but the first directories: each byte of it has to be read.
    AllButEqual,
}

impl Likeness {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Elsewhere, Self::SharedPrefix, Self::AllButEqual];

    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elsewhere => "other paths",
            Self::SharedPrefix => "28 bytes shared",
            Self::AllButEqual => "all but the end shared",
        }
    }
}

/// A rule that holds for the paths with this beginning or this end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRule {
    /// `BEGINNING**`
    Prefix(String),
    /// `/**END`
    Suffix(String),
}

impl PathRule {
    /// The pattern, as a policy spells it.
    pub fn pattern(&self) -> String {
        match self {
            Self::Prefix(beginning) => format!("{beginning}**"),
            Self::Suffix(end) => format!("/**{end}"),
        }
    }
}

/// What the rules of a set are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Beginnings of paths: they are in the forward automaton.
    Beginnings,
    /// Ends of paths: they are in the backward automaton.
    Ends,
    /// By turns one and the other; a single rule is a beginning.
    Both,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Beginnings, Self::Ends, Self::Both];

    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Beginnings => "beginnings",
            Self::Ends => "ends",
            Self::Both => "both",
        }
    }
}

/// `count` rules, none of which matches `path`.
///
/// # Panics
///
/// Panics when `path` is too short to share anything with.
pub fn path_rules(likeness: Likeness, kind: Kind, count: usize, path: &Path) -> Vec<PathRule> {
    let path = path.to_str().expect("the bench's own path is ASCII");
    let (directory, _) = path.rsplit_once('/').expect("an absolute path");
    // From the third component on, so that the end stays below 64 bytes with a number before it.
    let (_, end) = path[1..]
        .split_once('/')
        .and_then(|(_, rest)| rest.split_once('/'))
        .expect("three components");
    (0..count)
        .map(|n| {
            match (
                likeness,
                kind == Kind::Beginnings || kind == Kind::Both && n % 2 == 0,
            ) {
                (Likeness::Elsewhere, true) => {
                    PathRule::Prefix(format!("/opt/apps/{n:04}/secret/"))
                }
                (Likeness::Elsewhere, false) => PathRule::Suffix(format!("/private-{n:04}.key")),
                (Likeness::SharedPrefix, true) => {
                    PathRule::Prefix(format!("{}{n:04}/", &path[..28]))
                }
                (Likeness::SharedPrefix, false) => PathRule::Suffix(format!("/{n:04}/conf/file")),
                (Likeness::AllButEqual, true) => {
                    PathRule::Prefix(format!("{directory}/fil{n:04}/"))
                }
                (Likeness::AllButEqual, false) => PathRule::Suffix(format!("/{n:04}/{end}")),
            }
        })
        .collect()
}

/// A policy with one rule, about ptrace.
const PTRACE_ONLY: &str = "apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: bench, namespace: bench}
spec:
  target: {kind: Pod, selector: {matchLabels: {app: bench}}}
  policy:
    enforcer: BPF
    mode: EnhanceProtect
    enhanceProtect:
      bpfRawRules:
        ptrace: {qualifiers: [deny, audit], permissions: [traceby]}
";

/// A whole VarmorPolicy that refuses `count` single addresses (at most 131,072: what 198.18.0.0/15 has), to none of which
/// the bench connects.
pub fn destinations(count: usize) -> String {
    let mut yaml = PTRACE_ONLY.to_owned();
    yaml += "        network:\n          egress:\n            toDestinations:\n";
    for n in 0..count {
        let (high, middle, low) = (18 + n / 65536, n / 256 % 256, n % 256);
        // write! to a String can't fail.
        let _ = writeln!(
            yaml,
            "            - {{qualifiers: [deny], ip: 198.{high}.{middle}.{low}}}"
        );
    }
    yaml
}

/// A whole VarmorPolicy whose BPF rules refuse `count` paths, as many programs to execute, and as many destinations, none
/// of which matches what the bench does. With 0 the policy has one rule, about ptrace.
pub fn policy(likeness: Likeness, count: usize, path: &Path) -> String {
    let mut yaml = PTRACE_ONLY.to_owned();
    if count == 0 {
        return yaml;
    }
    let rules = path_rules(likeness, Kind::Both, count, path);
    yaml += "        files:\n";
    for rule in &rules {
        let pattern = rule.pattern();
        // write! to a String can't fail.
        let _ = writeln!(
            yaml,
            "        - {{qualifiers: [deny, audit], permissions: [read, write], pattern: \"{pattern}\"}}"
        );
    }
    yaml += "        processes:\n";
    for rule in &rules {
        let pattern = rule.pattern();
        let _ = writeln!(
            yaml,
            "        - {{qualifiers: [deny, audit], permissions: [exec], pattern: \"{pattern}\"}}"
        );
    }
    yaml += "        network:\n          egress:\n            toDestinations:\n";
    for n in 0..count {
        let (high, low) = (n / 250, n % 250);
        let _ = writeln!(
            yaml,
            "            - {{qualifiers: [deny, audit], cidr: \"198.{}.{low}.0/24\", ports: [{{port: 443}}]}}",
            18 + high
        );
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deep_path::DeepPath;

    #[test]
    fn no_rule_matches_the_path_and_each_fits_a_linear_scan() {
        let deep = DeepPath::directory(Path::new("/tmp")).unwrap();
        let path = deep.path().to_str().unwrap();
        for likeness in Likeness::ALL {
            let rules = path_rules(likeness, Kind::Both, 1000, deep.path());
            assert_eq!(rules.len(), 1000);
            for rule in rules {
                match rule {
                    PathRule::Prefix(beginning) => {
                        assert!(
                            beginning.len() < 64 && !path.starts_with(&beginning),
                            "{beginning}"
                        );
                        let shared = path
                            .bytes()
                            .zip(beginning.bytes())
                            .take_while(|(a, b)| a == b)
                            .count();
                        match likeness {
                            Likeness::Elsewhere => assert_eq!(shared, 1),
                            Likeness::SharedPrefix => assert_eq!(shared, 28),
                            Likeness::AllButEqual => {
                                assert!(shared >= 53, "{shared} of {beginning}")
                            }
                        }
                    }
                    PathRule::Suffix(end) => {
                        assert!(end.len() < 64 && !path.ends_with(&end), "{end}")
                    }
                }
            }
        }
    }
}
