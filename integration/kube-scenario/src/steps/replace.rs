// SPDX-License-Identifier: Apache-2.0
//! `replace`: somebody else reads an object, changes it, and writes it with the version that was read.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_yaml::Value;

use super::Kind;
use crate::bed::{Answer, Bed};
use crate::run::Context;

/// A write of one object, by its path at the API server: kubectl asks for nothing else then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// Its path, with `/status` at the end for its status.
    of: String,
    /// What is changed, as a JSON merge patch (RFC 7386): null removes.
    change: Json,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let replace: Replace = super::fields(value)?;
    replace.check()?;
    let said = replace.said();
    Ok((Box::new(replace), said))
}

impl Replace {
    /// Whether it makes sense.
    pub fn check(&self) -> Result<()> {
        if !self.of.starts_with('/') {
            bail!(
                "of: {}: write its path, such as /apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME",
                self.of
            );
        }
        Ok(())
    }

    /// The path of what is written.
    pub fn of(&self) -> &str {
        &self.of
    }

    /// The path that it has in common with all of its API group in its namespace.
    pub fn namespace(&self) -> &str {
        self.of.rsplitn(3, '/').last().unwrap_or_default()
    }

    /// For the report.
    pub fn said(&self) -> String {
        let name = self.of.rsplit('/').take(3).collect::<Vec<_>>();
        let name: Vec<&str> = name.into_iter().rev().collect();
        format!("somebody writes {}", name.join("/"))
    }

    /// The object as it shall be, read now.
    pub fn changed(&self, bed: &Bed) -> Result<Json> {
        let text = bed
            .kubectl(&["get", "--raw", &self.of])
            .output("kubectl get")?;
        let mut object = serde_json::from_str(&text).context("the object")?;
        merge(&mut object, &self.change);
        Ok(object)
    }

    /// Writes it.
    pub fn write(&self, bed: &Bed, object: &Json) -> Answer {
        let arguments = ["replace", "--raw", &self.of, "-f", "-"];
        bed.kubectl_with(&arguments, &object.to_string())
    }
}

impl Kind for Replace {
    fn run(&self, context: &mut Context) -> Result<String> {
        let object = self.changed(context.bed)?;
        self.write(context.bed, &object).output("kubectl replace")?;
        Ok(String::new())
    }
}

/// Changes a value as a JSON merge patch says.
fn merge(value: &mut Json, change: &Json) {
    let Json::Object(change) = change else {
        value.clone_from(change);
        return;
    };
    if !value.is_object() {
        *value = Json::Object(serde_json::Map::new());
    }
    for (key, part) in change {
        if part.is_null() {
            value.as_object_mut().map(|fields| fields.remove(key));
        } else {
            merge(&mut value[key], part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_changes_and_removes() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(
            &mut value,
            &json!({"a": {"b": null, "e": {"f": 3}}, "d": [2]}),
        );
        assert_eq!(value, json!({"a": {"c": 2, "e": {"f": 3}}, "d": [2]}));
    }
}
