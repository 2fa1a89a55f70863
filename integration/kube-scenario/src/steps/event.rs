// SPDX-License-Identifier: Apache-2.0
//! `event`: a Kubernetes Event about an object.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, within};
use crate::run::Context;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// KIND/NAME, or the beginning of a name with `*` at its end.
    on: String,
    reason: String,
    /// A part of what it says.
    note: String,
    #[serde(default = "limit")]
    within: f32,
}

fn limit() -> f32 {
    20.0
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let event: Event = super::fields(value)?;
    if !event.on.contains('/') {
        bail!("on: {}: write KIND/NAME", event.on);
    }
    let said = format!(
        "an Event on {}: {}, {:?}",
        event.on, event.reason, event.note
    );
    Ok((Box::new(event), said))
}

impl Kind for Event {
    fn run(&self, context: &mut Context) -> Result<String> {
        let (kind, name) = self.on.split_once('/').unwrap_or_default();
        // Those of cluster policies are in `default`.
        let namespace = match kind {
            "VarmorClusterPolicy" => "default",
            _ => context.namespace,
        };
        let is_name = |found: &str| match name.strip_suffix('*') {
            Some(beginning) => found.starts_with(beginning),
            None => found == name,
        };
        within(self.within, || {
            let list = context.bed.get(&["--namespace", namespace, "events"])?;
            let events = list["items"].as_array().into_iter().flatten();
            let about: Vec<String> = events
                .filter(|event| {
                    let object = &event["involvedObject"];
                    object["kind"] == kind && object["name"].as_str().is_some_and(is_name)
                })
                .map(|event| format!("{}: {}", event["reason"], event["message"]))
                .collect();
            let found = about
                .iter()
                .any(|event| event.contains(&self.reason) && event.contains(&self.note));
            if !found {
                bail!("there are {about:?}");
            }
            Ok(())
        })?;
        Ok(String::new())
    }

    fn is_needed(&self) -> bool {
        false
    }
}
