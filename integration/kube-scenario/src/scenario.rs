// SPDX-License-Identifier: Apache-2.0
//! A scenario file.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::steps::{self, Step};

/// A file.
pub struct Scenario {
    /// The file's name, which is also its namespace.
    pub name: String,
    /// One line.
    pub description: String,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    description: String,
    /// For YAML anchors: what several steps use is written once.
    #[serde(default, rename = "objects")]
    _objects: serde::de::IgnoredAny,
    steps: Vec<serde_yaml::Value>,
}

impl Scenario {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self> {
        let place = || file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(place)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text).with_context(place)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let Raw {
            description, steps, ..
        } = serde_yaml::from_str(&text.replace("{namespace}", name))?;
        if steps.is_empty() {
            bail!("there are no steps");
        }
        let steps = steps.into_iter().enumerate();
        let steps = steps
            .map(|(index, step)| steps::read(step).with_context(|| format!("step {}", index + 1)))
            .collect::<Result<_>>()?;
        Ok(Self {
            name: name.to_owned(),
            description,
            steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_their_step() {
        for (step, expected) in [
            (
                "{exec: {in: app=a, run: ls}}",
                "step 1: exec: missing field `expect`",
            ),
            ("{exce: {}}", "step 1: no kind of step among its fields"),
            ("{pause: 1, ready: app=a}", "step 1: two kinds of steps"),
            (
                "{exec: {in: app=a, run: ls, expect: allowed, text: a}}",
                "unknown field `text`",
            ),
            ("{ready: web}", "ready: web: write KIND/NAME or KEY=VALUE"),
        ] {
            let text = format!("description: d\nsteps: [{step}]\n");
            let Err(error) = Scenario::parse("x", &text) else {
                panic!("{step} was taken")
            };
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
        }
    }
}
