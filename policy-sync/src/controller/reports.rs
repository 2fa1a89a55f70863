// SPDX-License-Identifier: Apache-2.0
//! What the nodes report, so that thousands of reports of thousands of policies fit into memory and are added up quickly:
//! most nodes say the same, that everything is in force. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use varmor_policy::owner::WorkloadName;

use super::PolicyKey;
use crate::marks;

/// What a node says of a policy about which there is something to say: one that has containers there, or fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The version that this is about.
    pub generation: i64,
    /// "InForce", "Failed" or another one.
    pub state: Box<str>,
    /// Why it fails.
    pub message: Box<str>,
    /// Containers that the policy selects.
    pub selected: u64,
    /// Containers that have all that it asks for.
    pub held: u64,
    /// Containers that must be created anew for that.
    pub pending_restart: u64,
    /// Their workloads.
    pub waiting: Vec<WorkloadName>,
}

/// A node's report.
#[derive(Debug)]
struct Node {
    /// Marks of what is in force without more to say of it.
    in_force: Arc<str>,
    /// The policies of which there is more to say.
    others: Vec<PolicyKey>,
}

/// The reports of all nodes.
#[derive(Debug, Default)]
pub struct Reports {
    nodes: BTreeMap<Arc<str>, Node>,
    /// Texts of marks, each once, and how many nodes say it.
    in_force: BTreeMap<Arc<str>, usize>,
    /// What there is to say of a policy, by node.
    entries: BTreeMap<PolicyKey, BTreeMap<Arc<str>, Entry>>,
}

impl Reports {
    /// Takes a node's report, in place of an earlier one.
    pub fn put(&mut self, node: &str, report: &Value) {
        self.remove(node);
        let node: Arc<str> = node.into();
        let text = report["inForce"].as_str().unwrap_or_default();
        let text = match self.in_force.get_key_value(text) {
            Some((known, _)) => Arc::clone(known),
            None => text.into(),
        };
        *self.in_force.entry(Arc::clone(&text)).or_default() += 1;
        let mut others = Vec::new();
        for value in report["policies"].as_array().into_iter().flatten() {
            let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
            let key = (text("kind"), text("namespace"), text("name"));
            others.push(key.clone());
            let of_policy = self.entries.entry(key).or_default();
            of_policy.insert(Arc::clone(&node), entry(value));
        }
        let in_force = text;
        self.nodes.insert(node, Node { in_force, others });
    }

    /// Forgets a node.
    pub fn remove(&mut self, node: &str) {
        let Some(Node { in_force, others }) = self.nodes.remove(node) else {
            return;
        };
        if let Some(count) = self.in_force.get_mut(&in_force) {
            *count -= 1;
            if *count == 0 {
                self.in_force.remove(&in_force);
            }
        }
        for key in others {
            if let Some(of_policy) = self.entries.get_mut(&key) {
                of_policy.remove(node);
                if of_policy.is_empty() {
                    self.entries.remove(&key);
                }
            }
        }
    }

    /// The nodes that report.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.nodes.keys().map(AsRef::as_ref)
    }

    /// On how many nodes a version is in force without more to say of it.
    pub fn quietly_in_force(&self, key: &PolicyKey, generation: i64) -> usize {
        let mark = marks::mark(key, generation);
        let texts = self.in_force.iter();
        texts
            .filter(|(text, _)| marks::has(text, mark))
            .map(|(_, count)| count)
            .sum()
    }

    /// What there is to say of a policy, by node.
    pub fn of(&self, key: &PolicyKey) -> impl Iterator<Item = (&str, &Entry)> {
        let of_policy = self.entries.get(key).into_iter().flatten();
        of_policy.map(|(node, entry)| (node.as_ref(), entry))
    }
}

fn entry(value: &Value) -> Entry {
    let text = |field: &str| value[field].as_str().unwrap_or_default().into();
    let count = |field: &str| value[field].as_u64().unwrap_or_default();
    let waiting = value["waiting"].as_array().into_iter().flatten();
    Entry {
        generation: value["generation"].as_i64().unwrap_or_default(),
        state: text("state"),
        message: text("message"),
        selected: count("selected"),
        held: count("held"),
        pending_restart: count("pendingRestart"),
        waiting: waiting
            .map(|one| {
                let text = |field: &str| one[field].as_str().unwrap_or_default();
                WorkloadName::new(text("kind"), text("namespace"), text("name"))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> PolicyKey {
        ("VarmorPolicy".into(), "demo".into(), name.into())
    }

    #[test]
    fn equal_reports_are_kept_once_and_counted() {
        let mut reports = Reports::default();
        let text = |generation| marks::text([marks::mark(&key("a"), generation)]);
        let report = |generation: i64| {
            json!({"inForce": text(generation), "policies": [
                {"kind": "VarmorPolicy", "namespace": "demo", "name": "b", "state": "InForce", "generation": 1, "selected": 2},
            ]})
        };
        for node in ["1", "2", "3"] {
            reports.put(node, &report(1));
        }
        assert_eq!(
            (
                reports.in_force.len(),
                reports.quietly_in_force(&key("a"), 1)
            ),
            (1, 3)
        );
        reports.put("2", &report(2));
        assert_eq!(reports.quietly_in_force(&key("a"), 1), 2);
        assert_eq!(reports.quietly_in_force(&key("a"), 2), 1);
        assert_eq!(
            reports
                .of(&key("b"))
                .map(|(_, entry)| entry.selected)
                .sum::<u64>(),
            6
        );
        for node in ["1", "2", "3", "4"] {
            reports.remove(node);
        }
        assert!(
            reports.nodes.is_empty() && reports.in_force.is_empty() && reports.entries.is_empty()
        );
    }
}
