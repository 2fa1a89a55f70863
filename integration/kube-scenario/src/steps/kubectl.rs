// SPDX-License-Identifier: Apache-2.0
//! `kubectl`: any other command of kubectl, and perhaps what it answers.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, within};
use crate::run::Context;

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Line(String),
    Asked(Asked),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    run: String,
    /// A part of its output.
    stdout: String,
    /// Seconds in which it may say something else.
    #[serde(default)]
    within: f32,
}

struct Kubectl {
    words: Vec<String>,
    stdout: Option<String>,
    within: f32,
}

/// Reads the step: a line, parted by spaces, which must succeed; or with what it prints.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let (line, stdout, within) = match super::fields(value)? {
        Raw::Line(line) => (line, None, 0.0),
        Raw::Asked(asked) => (asked.run, Some(asked.stdout), asked.within),
    };
    let words = line.split_whitespace().map(str::to_owned).collect();
    let kubectl = Kubectl {
        words,
        stdout,
        within,
    };
    Ok((Box::new(kubectl), format!("kubectl {line}")))
}

impl Kind for Kubectl {
    fn run(&self, context: &mut Context) -> Result<String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        within(self.within, || {
            let output = context.kubectl(&words).output("kubectl")?;
            match &self.stdout {
                Some(text) if !output.contains(text) => {
                    bail!("its output lacks {text:?}: {}", output.trim())
                }
                _ => Ok(()),
            }
        })?;
        Ok(String::new())
    }
}
