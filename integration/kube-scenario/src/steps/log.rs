// SPDX-License-Identifier: Apache-2.0
//! `log`: what the log of a program of the bed says since it started. A part of the text should name the scenario's objects.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, within};
use crate::run::Context;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    /// `controllers`, another part on this machine, or a program in the node.
    of: String,
    says: String,
    #[serde(default = "limit")]
    within: f32,
}

fn limit() -> f32 {
    20.0
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let log: Log = super::fields(value)?;
    let said = format!("the log of {} says {:?}", log.of, log.says);
    Ok((Box::new(log), said))
}

impl Kind for Log {
    fn run(&self, context: &mut Context) -> Result<String> {
        let names = match self.of.as_str() {
            "controllers" => vec!["controller-a", "controller-b"],
            name => vec![name],
        };
        let files: Vec<_> = names
            .iter()
            .flat_map(|name| [format!("log/{name}.log"), format!("share/log/{name}.log")])
            .map(|file| context.bed.path(&file))
            .filter(|file| file.exists())
            .collect();
        if files.is_empty() {
            bail!("there is no log of {}", self.of);
        }
        let count = within(self.within, || {
            let mut count = 0;
            for file in &files {
                let text = std::fs::read(file).with_context(|| file.display().to_string())?;
                let text = String::from_utf8_lossy(&text);
                count += text
                    .lines()
                    .filter(|line| line.contains(&self.says))
                    .count();
            }
            if count == 0 {
                bail!("no line of it does");
            }
            Ok(count)
        })?;
        Ok(if count == 1 {
            "once".into()
        } else {
            format!("{count} times")
        })
    }

    fn is_needed(&self) -> bool {
        false
    }
}
