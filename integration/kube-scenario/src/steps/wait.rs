// SPDX-License-Identifier: Apache-2.0
//! `wait`: until the status of a policy, about its present version, says something.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, within};
use crate::run::Context;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    r#for: String,
    phase: String,
    /// In the message of one of its conditions.
    message: Option<String>,
    #[serde(default = "limit")]
    within: f32,
}

fn limit() -> f32 {
    30.0
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let wait: Wait = super::fields(value)?;
    let message = wait.message.as_ref().map(|text| format!(", {text:?}"));
    let said = format!(
        "{} is {}{}",
        wait.r#for,
        wait.phase,
        message.unwrap_or_default()
    );
    Ok((Box::new(wait), said))
}

impl Kind for Wait {
    fn run(&self, context: &mut Context) -> Result<String> {
        within(self.within, || {
            let policy = context.get(&[&self.r#for])?;
            let status = &policy["status"];
            let is_current = status["observedGeneration"] == policy["metadata"]["generation"];
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let mut messages = conditions.filter_map(|one| one["message"].as_str());
            let says = self
                .message
                .as_ref()
                .is_none_or(|text| messages.any(|message| message.contains(text)));
            if !is_current || status["phase"] != self.phase || !says {
                bail!("its status is {status}");
            }
            Ok(())
        })?;
        Ok(String::new())
    }
}
