// SPDX-License-Identifier: Apache-2.0
//! The AppArmor part of a plan: the text of one profile and its children.
//!
//! Nothing that a user wrote goes into the text as it is: names are checked, executables are plain paths, and raw rules
//! are taken apart and written anew by [`raw`].

mod base;
mod children;
pub(crate) mod glob;
pub mod raw;
pub(crate) mod rule;
mod transitions;
mod union;

use super::Part;
use super::effect::Effect;
use super::enhance::Enhance;
use super::target;
use crate::capability;
use crate::error::Findings;
use crate::rules::{AppArmorPart, DISK_NAMES, Rule};
use children::{Child, PerTarget};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use transitions::Reported;

const FIELD: &str = "spec.policy.enhanceProtect.appArmorRawRules";
/// Most raw rules of one profile; every child profile has those for the whole container again.
const MAX_RAW_RULES: usize = 2000;
/// Longest profile text in bytes. The parser needs a multiple of it in memory.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// The profile of one policy, or of several that hold together; `None` without any, or when a rule of theirs is refused.
pub(super) fn profile(name: &str, parts: &mut [&mut Part<'_>]) -> Option<String> {
    let mut members = Vec::new();
    let mut acceptable = true;
    let mut raw_rules = 0;
    for part in parts.iter_mut() {
        match member(part, &mut raw_rules) {
            Some(member) => members.push(member),
            None => acceptable = false,
        }
    }
    let findings = &mut parts.last_mut()?.findings;
    acceptable &= union::unite(&mut members, findings);
    if !acceptable {
        return None;
    }
    let restricted = members.iter().any(|member| member.restricted);
    let observed = observed(&members);
    let mut global = Text(String::new());
    let mut seen = HashSet::new();
    for line in members.iter().flat_map(|member| &member.lines) {
        if seen.insert(line) {
            global.line(line);
        }
    }
    let per_target = PerTarget::of_all(members.iter().map(|member| &member.per_target).collect());
    let children = per_target.grouped(findings)?;
    let size =
        (children.len() + 1) * global.0.len() + children.iter().map(Child::size).sum::<usize>();
    if size > MAX_TEXT_BYTES {
        findings.add(
            FIELD,
            format!(
                "the profile and its children would have {size} bytes, of {MAX_TEXT_BYTES} that are loaded; use fewer \
                 targets or rules"
            ),
        );
        return None;
    }
    let mut text = Text(String::new());
    text.open_profile(name);
    if restricted {
        base::runtime_default(&mut text, name, observed);
    } else {
        base::always_allow(&mut text);
    }
    let targets: Vec<&str> = children.iter().flat_map(Child::targets).collect();
    let mut reported = Reported::default();
    if targets.is_empty() {
        text.0.push_str(&global.0);
    } else {
        for line in global.lines() {
            text.line(&transitions::beside(&line, &targets, name, &mut reported));
        }
    }
    for child in &children {
        child.transitions(&mut text, name, restricted, &reported);
    }
    for child in &children {
        child.profile(&mut text, name, restricted, observed, &global.0);
    }
    text.close();
    Some(text.0)
}

/// The effect of violations of the base, where every policy that starts from RuntimeDefault lets them happen.
fn observed(members: &[Member]) -> Option<Effect> {
    let effects = || {
        let restricted = members.iter().filter(|member| member.restricted);
        restricted.map(|member| member.effect)
    };
    effects().all(|effect| !effect.deny).then(|| Effect {
        deny: false,
        audit: effects().any(|effect| effect.audit),
    })
}

/// What one policy brings: rules in AppArmor's language, each without its comma.
struct Member {
    /// Whether it starts from what RuntimeDefault allows; else from everything.
    restricted: bool,
    /// What violations of its base lead to.
    effect: Effect,
    /// What its base refuses, and its rules for the whole container.
    lines: Vec<String>,
    per_target: PerTarget,
}

impl Member {
    fn all_lines(&self) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter().map(String::as_str);
        lines.chain(self.per_target.rules())
    }
}

/// `None` when a rule is refused.
fn member(part: &mut Part<'_>, raw_rules: &mut usize) -> Option<Member> {
    let mut lines = Text(String::new());
    if part.restricted {
        base::refusals(&mut lines, part.effect);
    }
    let mut member = Member {
        restricted: part.restricted,
        effect: part.effect,
        lines: Vec::new(),
        per_target: PerTarget::default(),
    };
    let acceptable = part.enhance.as_ref().is_none_or(|enhance| {
        enhanced(
            enhance,
            &mut lines,
            &mut member.per_target,
            raw_rules,
            &mut part.findings,
        )
    });
    member.lines = lines.lines();
    acceptable.then_some(member)
}

/// Adds the rules of mode EnhanceProtect; false when one is refused.
fn enhanced(
    enhance: &Enhance<'_>,
    global: &mut Text,
    per_target: &mut PerTarget,
    raw_rules: &mut usize,
    findings: &mut Findings,
) -> bool {
    for rule in &enhance.global {
        global.rule(rule, enhance);
    }
    let mut acceptable = true;
    for (rules, targets, field) in &enhance.targeted {
        let mut text = Text(String::new());
        for rule in rules {
            text.rule(rule, enhance);
        }
        let lines = text.lines();
        // Rules that AppArmor has no part in are held by BPF.
        if !lines.is_empty() {
            acceptable &= per_target.add(targets, field, &lines, findings);
        }
    }
    for (index, entry) in enhance.settings.app_armor_raw_rules.iter().enumerate() {
        let field = format!("{FIELD}[{index}]");
        let rules = match raw::parse(&entry.rules) {
            Ok(rules) => rules,
            Err(error) => {
                findings.add_at_line(format!("{field}.rules"), error.line, error.message);
                acceptable = false;
                continue;
            }
        };
        *raw_rules += rules.len();
        if *raw_rules > MAX_RAW_RULES {
            findings.add(
                FIELD,
                format!("more than {MAX_RAW_RULES} rules; use patterns"),
            );
            return false;
        }
        if entry.targets.is_empty() {
            rules.iter().for_each(|rule| global.line(rule));
            continue;
        }
        let field = format!("{field}.targets");
        acceptable &= target::check(&entry.targets, &field, findings)
            && per_target.add(&entry.targets, &field, &rules, findings);
    }
    acceptable
}

/// Profile text in the making; one rule a line.
struct Text(String);

impl Text {
    fn open_profile(&mut self, name: &str) {
        // Without the abi the parser would take the running kernel's features, and the text would mean other things on
        // other nodes.
        self.0
            .push_str("abi <abi/3.0>,\ninclude <tunables/global>\n\n");
        let _ = writeln!(
            self.0,
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{"
        );
        self.0.push_str("  include <abstractions/base>\n");
    }

    fn close(&mut self) {
        self.0.push_str("}\n");
    }

    /// Adds one rule, given without its comma.
    fn line(&mut self, rule: &str) {
        let _ = writeln!(self.0, "  {rule},");
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lines()
            .map(|line| line.trim().trim_end_matches(',').to_owned())
            .collect()
    }

    /// Adds a built-in rule.
    fn rule(&mut self, rule: &Rule, enhance: &Enhance<'_>) {
        let effect = enhance.effect;
        for part in rule.apparmor {
            match part {
                AppArmorPart::Path(pattern, permissions) => self.path(pattern, permissions, effect),
                AppArmorPart::Capabilities(mask) => {
                    let names: Vec<_> = capability::names(*mask).collect();
                    self.line(&format!(
                        "{}capability {}",
                        effect.apparmor(),
                        names.join(" ")
                    ));
                }
                AppArmorPart::DiskDevices { open, mount } => {
                    for device in disk_devices(&enhance.fixed.disk_devices) {
                        if *open {
                            self.path(&device, "rw", effect);
                        }
                        if *mount {
                            self.line(&format!("{}mount {device}", effect.apparmor()));
                        }
                    }
                }
                AppArmorPart::Other(rule) => self.line(&format!("{}{rule}", effect.apparmor())),
            }
        }
    }

    /// Adds a path rule. An allowed `x` must say how, so it becomes `ix`: the program stays in its profile.
    fn path(&mut self, pattern: &str, permissions: &str, effect: Effect) {
        let permissions = if effect.deny {
            permissions.to_owned()
        } else {
            permissions.replace('x', "ix")
        };
        self.line(&format!("{}{pattern} {permissions}", effect.apparmor()));
    }
}

/// Patterns for the device files of disks. The kernel's names have `!` where devtmpfs makes a directory.
fn disk_devices(names: &BTreeSet<String>) -> impl Iterator<Item = String> {
    // The reader has warned of those that are left out.
    let plain = names.iter().filter(|name| super::is_disk_name(name));
    let of_the_node = plain.map(|name| format!("/dev/{}", name.replace('!', "/")));
    std::iter::once(DISK_NAMES.to_owned()).chain(of_the_node)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
