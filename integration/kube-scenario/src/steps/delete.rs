// SPDX-License-Identifier: Apache-2.0
//! `delete`: kubectl delete, and the wait until the object is gone.

use anyhow::Result;
use serde_yaml::Value;

use super::Kind;
use crate::run::Context;

struct Delete(String);

/// Reads the step: KIND/NAME.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let what: String = super::fields(value)?;
    let said = format!("delete {what}");
    Ok((Box::new(Delete(what)), said))
}

impl Kind for Delete {
    fn run(&self, context: &mut Context) -> Result<String> {
        context
            .kubectl(&["delete", &self.0, "--timeout=60s"])
            .output("kubectl delete")?;
        Ok(String::new())
    }
}
