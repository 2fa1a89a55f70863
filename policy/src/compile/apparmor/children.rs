//! Child profiles: rules that hold for single executables and for everything that these run.

use super::{Text, base};
use crate::compile::effect::Effect;
use crate::error::Findings;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Most executables of one policy: each child is a copy of the whole profile.
const MAX_TARGETS: usize = 256;

/// Rules by executable, in the order of first mention.
#[derive(Default)]
pub(super) struct PerTarget(Vec<(String, BTreeSet<String>)>);

impl PerTarget {
    /// Adds rules for executables, whose paths have been checked; false when they are too many.
    pub(super) fn add(
        &mut self,
        targets: &[String],
        field: &str,
        rules: &[String],
        findings: &mut Findings,
    ) -> bool {
        if targets.len() > MAX_TARGETS {
            findings.add(
                field,
                format!("at most {MAX_TARGETS} executables can have rules of their own"),
            );
            return false;
        }
        for target in targets {
            let position = self
                .0
                .iter()
                .position(|(other, _)| other == target)
                .unwrap_or_else(|| {
                    self.0.push((target.clone(), BTreeSet::new()));
                    self.0.len() - 1
                });
            self.0[position].1.extend(rules.iter().cloned());
        }
        if self.0.len() > MAX_TARGETS {
            findings.add(
                field,
                format!("at most {MAX_TARGETS} executables can have rules of their own"),
            );
            return false;
        }
        true
    }

    /// One child for all the executables with equal rules.
    pub(super) fn grouped(self) -> Vec<Child> {
        let mut children: Vec<Child> = Vec::new();
        for (target, rules) in self.0 {
            match children.iter_mut().find(|child| child.rules == rules) {
                Some(child) => child.targets.push(target),
                None => children.push(Child {
                    name: format!("child_{}", children.len()),
                    targets: vec![target],
                    rules,
                }),
            }
        }
        children
    }
}

pub(super) struct Child {
    name: String,
    targets: Vec<String>,
    rules: BTreeSet<String>,
}

impl Child {
    /// About how many bytes its own rules have.
    pub(super) fn size(&self) -> usize {
        self.rules
            .iter()
            .chain(&self.targets)
            .map(|text| text.len() + 16)
            .sum()
    }

    /// What the parent needs: the way into the child, and to signal and trace it.
    pub(super) fn transitions(&self, text: &mut Text, parent: &str, privileged: bool) {
        for target in &self.targets {
            text.line(&format!("{target} cx -> {}", self.name));
        }
        if !privileged {
            let child = self.full_name(parent);
            text.line(&format!("signal (send) peer={child}"));
            text.line(&format!("ptrace (trace, read) peer={child}"));
        }
    }

    /// The child itself. What it runs stays in it: there is no way back.
    pub(super) fn profile(
        &self,
        text: &mut Text,
        parent: &str,
        privileged: bool,
        effect: Effect,
        global: &str,
    ) {
        let _ = writeln!(
            text.0,
            "\n  profile {} flags=(attach_disconnected,mediate_deleted) {{",
            self.name
        );
        text.0.push_str("  include <abstractions/base>\n");
        if privileged {
            base::always_allow(text);
        } else {
            base::runtime_default_child(text, parent, &self.full_name(parent), effect);
        }
        for target in &self.targets {
            text.line(&format!("{target} rix"));
        }
        text.0.push_str(global);
        self.rules.iter().for_each(|rule| text.line(rule));
        text.0.push_str("  }\n");
    }

    fn full_name(&self, parent: &str) -> String {
        format!("{parent}//{}", self.name)
    }
}
