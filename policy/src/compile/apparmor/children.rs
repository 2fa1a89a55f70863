// SPDX-License-Identifier: Apache-2.0
//! Child profiles: rules that hold for single executables and for everything that these run.

use super::transitions::Reported;
use super::{FIELD, Text, base};
use crate::compile::effect::Effect;
use crate::error::Findings;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::rc::Rc;

/// Most executables of one profile: each child is a copy of the whole profile.
const MAX_TARGETS: usize = 256;

/// Rules; the same ones often hold for many executables.
type Rules = BTreeSet<Rc<str>>;

/// Rules by executable, in the order of first mention.
#[derive(Default)]
pub(super) struct PerTarget(Vec<(String, Rules)>);

impl PerTarget {
    /// Adds rules for executables, whose paths have been checked; false when they are too many.
    pub(super) fn add(
        &mut self,
        targets: &[String],
        field: &str,
        rules: &[String],
        findings: &mut Findings,
    ) -> bool {
        let rules: Vec<Rc<str>> = rules.iter().map(|rule| rule.as_str().into()).collect();
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
                    self.0.push((target.clone(), Rules::new()));
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

    /// The rules of several policies by executable.
    ///
    /// What runs in the child of one policy's executable stays in it, also when it is an executable of another policy,
    /// whose rules for it would then not hold. So that no policy can take another one's rules away by naming a shell,
    /// say, each child has the rules of the other policies for all of their executables.
    pub(super) fn of_all(policies: Vec<&Self>) -> Self {
        let mut all = Self::default();
        for (target, _) in policies.iter().flat_map(|policy| &policy.0) {
            if all.0.len() > MAX_TARGETS {
                break;
            }
            if all.rules_of(target).is_some() {
                continue;
            }
            let rules = policies
                .iter()
                .flat_map(|policy| match policy.rules_of(target) {
                    Some(rules) => vec![rules],
                    None => policy.0.iter().map(|(_, rules)| rules).collect(),
                })
                .flatten()
                .cloned()
                .collect();
            all.0.push((target.clone(), rules));
        }
        all
    }

    fn rules_of(&self, target: &str) -> Option<&Rules> {
        let entry = self.0.iter().find(|(other, _)| other == target);
        entry.map(|(_, rules)| rules)
    }

    /// Puts for each rule what `rewrite` makes of it.
    pub(super) fn rewrite(&mut self, rewrite: impl Fn(&str) -> Option<String>) {
        let mut known: HashMap<Rc<str>, Option<Rc<str>>> = HashMap::new();
        for (_, rules) in &mut self.0 {
            let rewritten = std::mem::take(rules).into_iter().filter_map(|rule| {
                let fresh = || rewrite(&rule).map(Rc::from);
                known.entry(Rc::clone(&rule)).or_insert_with(fresh).clone()
            });
            *rules = rewritten.collect();
        }
    }

    /// All rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|(_, rules)| rules)
            .map(|rule| &**rule)
    }

    /// One child for all the executables with equal rules; `None` when there are too many executables.
    pub(super) fn grouped(self, findings: &mut Findings) -> Option<Vec<Child>> {
        if self.0.len() > MAX_TARGETS {
            findings.add(
                FIELD,
                format!(
                    "at most {MAX_TARGETS} executables can have rules of their own, in all the policies that hold together"
                ),
            );
            return None;
        }
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
        Some(children)
    }
}

pub(super) struct Child {
    name: String,
    targets: Vec<String>,
    rules: Rules,
}

impl Child {
    /// About how many bytes its own rules have.
    pub(super) fn size(&self) -> usize {
        let rules = self.rules.iter().map(|rule| rule.len());
        rules
            .chain(self.targets.iter().map(String::len))
            .map(|length| length + 16)
            .sum()
    }

    /// The executables that go on in it.
    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(String::as_str)
    }

    /// What the parent needs: the way into the child, and to signal and trace it.
    pub(super) fn transitions(
        &self,
        text: &mut Text,
        parent: &str,
        restricted: bool,
        reported: &Reported,
    ) {
        for target in &self.targets {
            let way = format!("{target} cx -> {}", self.name);
            for qualifiers in reported.of(target) {
                text.line(&format!("{qualifiers} {way}"));
            }
            text.line(&way);
        }
        if restricted {
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
        restricted: bool,
        observed: Option<Effect>,
        global: &str,
    ) {
        let _ = writeln!(
            text.0,
            "\n  profile {} flags=(attach_disconnected,mediate_deleted) {{",
            self.name
        );
        text.0.push_str("  include <abstractions/base>\n");
        if restricted {
            base::runtime_default_child(text, parent, &self.full_name(parent), observed);
        } else {
            base::always_allow(text);
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
