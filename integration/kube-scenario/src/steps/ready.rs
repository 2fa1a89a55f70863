// SPDX-License-Identifier: Apache-2.0
//! `ready`: a workload has rolled out, or every pod with a label is ready.

use anyhow::{Result, bail};
use serde_yaml::Value;

use super::{Kind, within};
use crate::run::Context;

/// Containers in an emulated node take their time.
const LIMIT: f32 = 120.0;

struct Ready(String);

/// Reads the step: KIND/NAME of a workload, or KEY=VALUE.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let what: String = super::fields(value)?;
    if !what.contains(['/', '=']) {
        bail!("{what}: write KIND/NAME or KEY=VALUE");
    }
    let said = format!("{what} is ready");
    Ok((Box::new(Ready(what)), said))
}

impl Kind for Ready {
    fn run(&self, context: &mut Context) -> Result<String> {
        if self.0.contains('=') {
            within(LIMIT, || pods_are_ready(context, &self.0))?;
        } else {
            let timeout = format!("--timeout={LIMIT}s");
            context
                .kubectl(&["rollout", "status", &self.0, &timeout])
                .output("kubectl rollout status")?;
        }
        Ok(String::new())
    }
}

fn pods_are_ready(context: &Context, selector: &str) -> Result<()> {
    let list = context.get(&["pods", "--selector", selector])?;
    let pods = list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if pods.is_empty() {
        bail!("there is no pod with {selector}");
    }
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions
            .clone()
            .any(|one| one["type"] == "Ready" && one["status"] == "True");
        if !is_ready || !pod["metadata"]["deletionTimestamp"].is_null() {
            bail!("pod {name} is {}", pod["status"]["containerStatuses"]);
        }
    }
    Ok(())
}
