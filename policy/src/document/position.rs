// SPDX-License-Identifier: Apache-2.0
//! Where in a file a field is, for errors that are found after the text became types.
//!
//! serde_yaml tells no positions of values, so the text is parsed once more, for events with marks, when an error is to
//! be reported. Both parsers are libyaml, this one a port without `unsafe`, so they read the same (others are stricter with
//! the indentation of flow sequences, and would know no position in a file that holds one). The port panics where a text
//! ends within an escape, or with a block of text and without a line break. Those are kept from it; and should there be
//! more, an error without a position is better than a tenant's file that ends its reader.

use crate::error::{DocumentError, PolicyError};
use crate::plan::PolicyRef;
use libyaml_safer::{Event, EventData, Parser, ScalarStyle};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;
use std::panic::catch_unwind;

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// The places of all fields of a file's documents.
#[derive(Debug, Default)]
pub struct Positions {
    documents: Vec<Node>,
    /// Documents by the object that they define, in the file's order.
    objects: HashMap<PolicyRef, Vec<usize>>,
}

impl Positions {
    /// Reads a file's structure. A text that is not YAML has no positions: its error has one of its own.
    pub fn of(yaml: &str) -> Self {
        if !is_yaml(yaml) {
            return Self::default();
        }
        catch_unwind(|| Self::of_events(yaml)).unwrap_or_default()
    }

    fn of_events(yaml: &str) -> Self {
        let yaml = format!("{yaml}\n");
        let mut positions = Self::default();
        let mut builder = Builder::default();
        let mut text = yaml.as_bytes();
        let mut parser = Parser::new();
        parser.set_input_string(&mut text);
        while let Ok(event) = parser.parse() {
            if matches!(event.data, EventData::StreamEnd) {
                break;
            }
            if let Some(document) = builder.take(event) {
                positions.add(document);
            }
        }
        positions
    }

    /// An error with the place of its field, or of the nearest field around it that is there.
    pub fn locate(&self, error: PolicyError) -> DocumentError {
        self.locate_in(0, error)
    }

    /// As [`Self::locate`], for the object's `number`-th definition in the file.
    pub(super) fn locate_in(&self, number: usize, error: PolicyError) -> DocumentError {
        let node = self
            .objects
            .get(&error.object)
            .and_then(|documents| documents.get(number))
            .map(|document| self.documents[*document].find(&error.field));
        let at = node.map(|node| match error.text_line {
            Some(line) if node.is_block_text => Position {
                line: node.at.line + line,
                column: 1,
            },
            _ => node.at,
        });
        let says_line = node.is_some_and(|node| node.is_block_text);
        DocumentError {
            line: at.map(|position| position.line),
            column: at.map(|position| position.column),
            message: if says_line {
                error.message
            } else {
                error.full_message()
            },
            object: Some(error.object),
            field: error.field,
        }
    }

    fn add(&mut self, document: Node) {
        let text = |path: &[&str]| {
            path.iter()
                .try_fold(&document, |node, key| node.child(key))
                .and_then(|node| node.scalar.clone())
                .unwrap_or_default()
        };
        let reference = PolicyRef {
            kind: text(&["kind"]),
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
        };
        self.objects
            .entry(reference)
            .or_default()
            .push(self.documents.len());
        self.documents.push(document);
    }
}

fn is_yaml(text: &str) -> bool {
    serde_yaml::Deserializer::from_str(text)
        .all(|document| IgnoredAny::deserialize(document).is_ok())
}

/// A value and what is in it.
#[derive(Debug)]
struct Node {
    /// Where to look: the value itself if it is a text of one line, else the key that leads to it.
    at: Position,
    /// The text, of a plain or quoted scalar.
    scalar: Option<String>,
    /// Whether the scalar's lines are the file's lines, beginning after the key's.
    is_block_text: bool,
    /// Members by key, or by index (`0`, `1`, ...).
    children: Vec<(String, Node)>,
}

impl Node {
    fn child(&self, key: &str) -> Option<&Node> {
        self.children
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, node)| node)
    }

    /// A field such as `spec.target.containers[1]`, or the last part of that which is there.
    fn find(&self, field: &str) -> &Node {
        let mut node = self;
        for step in steps(field) {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }
}

/// The keys and indexes of a field. A key with dots in it stands in brackets: `matchLabels[a.b/c]`.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    let mut rest = field;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        if rest.is_empty() {
            return None;
        }
        let (step, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        rest = after;
        Some(step)
    })
}

/// Events to nodes.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
}

/// A collection whose end is yet to come.
struct Open {
    node: Node,
    is_sequence: bool,
    /// The key that was read and its place; its value is next.
    key: Option<(String, Position)>,
}

impl Builder {
    /// Takes an event; returns a document's root when that is complete. Documents without content have none.
    fn take(&mut self, event: Event) -> Option<Node> {
        let from_one = |count: u64| usize::try_from(count).unwrap_or(usize::MAX - 1) + 1;
        let node = |scalar: Option<String>, is_block_text| Node {
            at: Position {
                line: from_one(event.start_mark.line),
                column: from_one(event.start_mark.column),
            },
            scalar,
            is_block_text,
            children: Vec::new(),
        };
        match event.data {
            EventData::SequenceStart { .. } | EventData::MappingStart { .. } => {
                self.open.push(Open {
                    is_sequence: matches!(event.data, EventData::SequenceStart { .. }),
                    node: node(None, false),
                    key: None,
                });
                None
            }
            EventData::SequenceEnd | EventData::MappingEnd => {
                let node = self.open.pop()?.node;
                self.put(node)
            }
            EventData::Scalar { value, style, .. } => {
                self.put(node(Some(value), style == ScalarStyle::Literal))
            }
            EventData::Alias { .. } => self.put(node(None, false)),
            _ => None,
        }
    }

    fn put(&mut self, mut node: Node) -> Option<Node> {
        let Some(parent) = self.open.last_mut() else {
            return (!node.children.is_empty()).then_some(node);
        };
        if parent.is_sequence {
            let index = parent.node.children.len().to_string();
            parent.node.children.push((index, node));
            return None;
        }
        match parent.key.take() {
            None => parent.key = Some((node.scalar.unwrap_or_default(), node.at)),
            Some((key, at)) => {
                if node.scalar.is_none() || node.is_block_text {
                    node.at = at;
                }
                parent.node.children.push((key, node));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YAML: &str = "\
# a comment
kind: VarmorPolicy
metadata: {name: p, namespace: n}
spec:
  list:
  - a
  - b: {c: [1,
      2]}
  labels: {a.b/c: x}
  text: |
    first
    second
---
---
{\"kind\": \"VarmorClusterPolicy\", \"metadata\": {\"name\": \"p\"},
 \"spec\": {\"x\": 1}}
";

    fn at(object: (&str, &str), field: &str, text_line: Option<usize>) -> Option<(usize, usize)> {
        let error = PolicyError {
            object: PolicyRef {
                kind: object.0.to_owned(),
                namespace: object.1.to_owned(),
                name: "p".to_owned(),
            },
            field: field.to_owned(),
            text_line,
            message: String::new(),
        };
        let error = Positions::of(YAML).locate(error);
        error.line.zip(error.column)
    }

    #[test]
    fn fields_are_found() {
        let namespaced = ("VarmorPolicy", "n");
        let cluster = ("VarmorClusterPolicy", "");
        for (object, field, expected) in [
            (namespaced, "kind", (2, 7)),
            (namespaced, "metadata.name", (3, 18)),
            (namespaced, "spec.list", (5, 3)),
            (namespaced, "spec.list[0]", (6, 5)),
            (namespaced, "spec.list[1].b", (7, 5)),
            (namespaced, "spec.list[1].b.c[1]", (8, 7)),
            (namespaced, "spec.labels[a.b/c]", (9, 19)),
            // What is not there is missing in what is.
            (namespaced, "spec.list[7]", (5, 3)),
            (namespaced, "spec.policy.mode", (4, 1)),
            (namespaced, "", (2, 1)),
            (cluster, "spec.x", (16, 16)),
        ] {
            assert_eq!(at(object, field, None), Some(expected), "{field}");
        }
        assert_eq!(at(("VarmorPolicy", "other"), "kind", None), None);
    }

    #[test]
    fn lines_of_a_text_are_lines_of_the_file() {
        let object = ("VarmorPolicy", "n");
        assert_eq!(at(object, "spec.text", None), Some((10, 3)));
        assert_eq!(at(object, "spec.text", Some(2)), Some((12, 1)));
        assert_eq!(at(object, "spec.labels[a.b/c]", Some(2)), Some((9, 19)));
    }

    #[test]
    fn a_text_that_ends_within_an_escape_has_no_positions() {
        for text in ["\"\\", "a: \"\\x4", "a: \"\\u00", "- 'b", "!<a%"] {
            assert!(Positions::of(text).documents.is_empty(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes, it ends, and positions are within the text.
        #[test]
        fn any_text_is_read(text in "([a-z:\\-\\[\\]{}&*!|>%@,?#'\"\\\\ \t\n]|\\PC){0,60}") {
            if !is_yaml(&text) {
                return Ok(());
            }
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for document in Positions::of_events(&text).documents {
                prop_assert!(document.at.line <= lines, "{:?}", document);
            }
        }
    }
}
