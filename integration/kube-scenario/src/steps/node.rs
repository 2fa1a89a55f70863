// SPDX-License-Identifier: Apache-2.0
//! `node`: a line for bash in the node, which must succeed.

use anyhow::Result;
use serde_yaml::Value;

use super::Kind;
use crate::run::Context;

struct Node(String);

/// Reads the step: the line. NAMESPACE is set.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let line: String = super::fields(value)?;
    let said = format!("on the node: {}", line.lines().next().unwrap_or_default());
    Ok((Box::new(Node(line)), said))
}

impl Kind for Node {
    fn run(&self, context: &mut Context) -> Result<String> {
        let line = format!("NAMESPACE={}\n{}", context.namespace, self.0);
        context.bed.in_node(&line).output("in the node")?;
        Ok(String::new())
    }
}
