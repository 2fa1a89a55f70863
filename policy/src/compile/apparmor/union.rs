// SPDX-License-Identifier: Apache-2.0
//! Rules of several policies side by side in one profile.
//!
//! In AppArmor a refusal beats what allows, wherever the two stand. Three things it does not settle, each of which would
//! let the text of one policy take from another:
//!
//! - What a profile does not allow is refused too. A rule that allows more than RuntimeDefault holds only where every
//!   other policy allows it as well.
//! - A refusal that is not reported keeps quiet about the reports of others for the same thing (apparmor_parser makes
//!   one mask of those that are quiet), so it is reported where another policy may report what it refuses.
//! - Of several limits for one resource the last one counts, so two that differ are an error.

use super::{Member, base};
use crate::error::Findings;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Rewrites the rules of policies so that their union means what each of them means; false, with an error, when that
/// can't be. The rules of a single policy stay as they are.
pub(super) fn unite(members: &mut [Member], findings: &mut Findings) -> bool {
    if members.len() < 2 {
        return true;
    }
    if let Some(resource) = differing_limit(members) {
        findings.add(
            super::FIELD,
            format!(
                "`set rlimit {resource}` has another value in a policy that holds together with this one; write the same \
                 one, or remove it"
            ),
        );
        return false;
    }
    let others: Vec<Claims> = members.iter().map(Claims::of).collect();
    for (index, member) in members.iter_mut().enumerate() {
        let others = || {
            let others = others.iter().enumerate();
            others
                .filter(move |(other, _)| *other != index)
                .map(|(_, claims)| claims)
        };
        let rewrite = |line: &str| rewritten(line, others);
        member.lines = member
            .lines
            .iter()
            .filter_map(|line| rewrite(line))
            .collect();
        member.per_target.rewrite(rewrite);
    }
    true
}

/// The rule beside those of other policies; `None` when it can't hold there, or adds nothing.
fn rewritten<'a, I: Iterator<Item = &'a Claims>>(
    line: &str,
    others: impl Fn() -> I,
) -> Option<String> {
    let rule = Rule::of(line);
    if rule.kind == Kind::Limit {
        return Some(line.to_owned());
    }
    if rule.deny {
        let hides = !rule.audit && others().any(|other| other.may_report(&rule));
        return Some(if hides {
            format!("audit {line}")
        } else {
            line.to_owned()
        });
    }
    // Every base allows these whole: without a report the rule says nothing, and could only clash with others.
    let in_every_base = rule.in_every_base();
    let holds = in_every_base || others().all(|other| other.allows(&rule));
    (holds && (rule.audit || !in_every_base)).then(|| line.to_owned())
}

/// A resource that two policies limit differently.
fn differing_limit(members: &[Member]) -> Option<String> {
    let mut limits: HashMap<&str, (&str, usize)> = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        for line in member.all_lines() {
            let Some(limit) = line.strip_prefix("set rlimit ") else {
                continue;
            };
            let (resource, value) = limit.split_once(' ').unwrap_or((limit, ""));
            let (first, owner) = *limits.entry(resource).or_insert((value, index));
            if first != value && owner != index {
                return Some(resource.to_owned());
            }
        }
    }
    None
}

/// What a policy says that others must not take from it.
struct Claims {
    restricted: bool,
    /// What it allows beyond its base, without qualifiers.
    allowed: HashSet<String>,
    /// Kinds and fixed beginnings of paths of what it reports.
    reported: BTreeSet<(Kind, String)>,
}

impl Claims {
    fn of(member: &Member) -> Self {
        let mut claims = Self {
            restricted: member.restricted,
            allowed: HashSet::new(),
            reported: BTreeSet::new(),
        };
        if !member.effect.deny {
            claims
                .allowed
                .extend(base::BEYOND_DEFAULT.map(str::to_owned));
        }
        for line in &member.lines {
            let rule = Rule::of(line);
            if !rule.deny {
                claims.allowed.insert(rule.body.to_owned());
            }
        }
        for line in member.all_lines() {
            let rule = Rule::of(line);
            if rule.audit {
                claims.reported.insert((rule.kind, rule.path));
            }
        }
        claims
    }

    /// Whether one of its reports may be about what a rule is about. Two paths can only be one where the fixed beginning
    /// of one pattern begins the other's.
    fn may_report(&self, rule: &Rule<'_>) -> bool {
        self.reported.iter().any(|(kind, path)| {
            *kind == rule.kind && (path.starts_with(&rule.path) || rule.path.starts_with(path))
        })
    }

    fn allows(&self, rule: &Rule<'_>) -> bool {
        let whole_kind = rule.body.split(' ').next().unwrap_or_default();
        !self.restricted || self.allowed.contains(rule.body) || self.allowed.contains(whole_kind)
    }
}

/// What a rule is about, as far as two of different kinds have nothing in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Mount,
    Limit,
    /// The rule's first word.
    Other(String),
}

/// A rule, taken apart as far as this needs. Its text is that of a table, or was checked by [`super::raw`].
struct Rule<'a> {
    deny: bool,
    audit: bool,
    /// The rule without qualifiers.
    body: &'a str,
    kind: Kind,
    /// The fixed beginning of a file's path; empty for any path, and for other kinds.
    path: String,
}

impl<'a> Rule<'a> {
    fn of(line: &'a str) -> Self {
        let (mut deny, mut audit, mut body) = (false, false, line);
        while let Some((word, rest)) = body.split_once(' ') {
            match word {
                "deny" => deny = true,
                "audit" => audit = true,
                "allow" | "owner" => {}
                _ => break,
            }
            body = rest;
        }
        let first = body.split(' ').next().unwrap_or_default();
        let is_path = |word: &str| word.starts_with(['/', '"', '@']);
        let kind = match first {
            "set" => Kind::Limit,
            "mount" | "remount" | "umount" | "unmount" | "pivot_root" => Kind::Mount,
            "file" | "link" => Kind::File,
            path if is_path(path) => Kind::File,
            // Permissions before the path.
            word if word.bytes().all(|b| b"rwalkmix".contains(&b)) => Kind::File,
            word => Kind::Other(word.to_owned()),
        };
        let path = match kind {
            Kind::File => body.split(' ').find(|word| is_path(word)),
            _ => None,
        };
        Self {
            deny,
            audit,
            body,
            kind,
            path: path.map(fixed_beginning).unwrap_or_default(),
        }
    }

    /// Whether RuntimeDefault and AlwaysAllow both allow all of this kind.
    fn in_every_base(&self) -> bool {
        match &self.kind {
            Kind::File => true,
            Kind::Mount => self.body.starts_with("umount") || self.body.starts_with("unmount"),
            Kind::Limit => false,
            Kind::Other(word) => base::RUNTIME_DEFAULT.contains(&word.as_str()),
        }
    }
}

/// The part of a pattern before anything that matches more than itself.
fn fixed_beginning(pattern: &str) -> String {
    let pattern = pattern.trim_start_matches('"').replace("@{PROC}", "/proc");
    let end = pattern.find(['*', '?', '[', '{', '\\', '^', '@', '"', ' ']);
    // Slashes that stand next to each other are one.
    let mut fixed = String::new();
    for c in pattern[..end.unwrap_or(pattern.len())].chars() {
        if c != '/' || !fixed.ends_with('/') {
            fixed.push(c);
        }
    }
    fixed
}
