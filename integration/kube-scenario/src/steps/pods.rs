// SPDX-License-Identifier: Apache-2.0
//! `pods`: whether the containers of pods are still those that they were.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_yaml::Value;

use super::{Kind, within};
use crate::run::Context;

#[derive(Debug, Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Are {
    /// Look at them for a later step.
    Remembered,
    /// They are those that were remembered, and their containers too.
    Unchanged,
    /// None is of those that were remembered.
    Replaced,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pods {
    with: String,
    are: Are,
    /// Seconds in which they may not be so yet.
    #[serde(default)]
    within: f32,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let pods: Pods = super::fields(value)?;
    let said = format!("pods with {} are {:?}", pods.with, pods.are).to_lowercase();
    Ok((Box::new(pods), said))
}

/// Container ids, and so also restarts.
fn containers(list: &Json) -> Vec<String> {
    let pods = list["items"].as_array().into_iter().flatten();
    let statuses = pods.flat_map(|pod| {
        pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
    });
    let mut found: Vec<String> = statuses
        .filter_map(|one| one["containerID"].as_str().map(str::to_owned))
        .collect();
    found.sort();
    found
}

impl Kind for Pods {
    fn run(&self, context: &mut Context) -> Result<String> {
        let look = |context: &Context| -> Result<Vec<String>> {
            Ok(containers(&context.get(&[
                "pods",
                "--selector",
                &self.with,
            ])?))
        };
        if self.are == Are::Remembered {
            let found = look(context)?;
            if found.is_empty() {
                bail!("there is none");
            }
            context.remembered.insert(self.with.clone(), found);
            return Ok(String::new());
        }
        let Some(before) = context.remembered.get(&self.with).cloned() else {
            bail!("a step before must say `are: remembered`");
        };
        within(self.within, || {
            let now = look(context)?;
            let is_so = match self.are {
                Are::Replaced => !now.is_empty() && now.iter().all(|one| !before.contains(one)),
                _ => now == before,
            };
            if !is_so {
                bail!(
                    "containers before: {}; now: {}",
                    before.join(" "),
                    now.join(" ")
                );
            }
            Ok(())
        })?;
        Ok(String::new())
    }

    fn is_needed(&self) -> bool {
        false
    }
}
