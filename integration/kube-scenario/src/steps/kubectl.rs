// SPDX-License-Identifier: Apache-2.0
//! `kubectl`: any other command of kubectl, which must succeed.

use anyhow::Result;
use serde_yaml::Value;

use super::Kind;
use crate::run::Context;

struct Kubectl(Vec<String>);

/// Reads the step: a line, parted by spaces.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let line: String = super::fields(value)?;
    let words = line.split_whitespace().map(str::to_owned).collect();
    Ok((Box::new(Kubectl(words)), format!("kubectl {line}")))
}

impl Kind for Kubectl {
    fn run(&self, context: &mut Context) -> Result<String> {
        let words: Vec<&str> = self.0.iter().map(String::as_str).collect();
        context.kubectl(&words).output("kubectl")?;
        Ok(String::new())
    }
}
