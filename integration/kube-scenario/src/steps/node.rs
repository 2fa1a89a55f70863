// SPDX-License-Identifier: Apache-2.0
//! `node`: a line for bash in the node, or in one beside it, which must succeed.

use anyhow::Result;
use serde::Deserialize;
use serde_yaml::Value;

use super::Kind;
use crate::run::Context;

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Line(String),
    Node(Node),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    on: String,
    run: String,
}

/// Reads the step: the line. NAMESPACE is set.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let node = match super::fields(value)? {
        Raw::Line(run) => Node {
            on: "node".to_owned(),
            run,
        },
        Raw::Node(node) => node,
    };
    let first = node.run.lines().next().unwrap_or_default();
    let said = format!("on the {}: {first}", node.on);
    Ok((Box::new(node), said))
}

impl Kind for Node {
    fn run(&self, context: &mut Context) -> Result<String> {
        let line = format!("NAMESPACE={}\n{}", context.namespace, self.run);
        let answer = context.bed.in_node_of(&self.on, &line);
        answer.output(&format!("in the {}", self.on))?;
        Ok(String::new())
    }
}
