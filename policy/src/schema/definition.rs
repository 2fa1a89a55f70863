// SPDX-License-Identifier: Apache-2.0
//! What every CustomResourceDefinition has around its schema.

use crate::types::API_VERSION;
use serde_json::{Value, json};

/// A kind of object, as the API server lists it.
pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) singular: &'static str,
    pub(super) plural: &'static str,
    pub(super) short: Option<&'static str>,
    pub(super) scope: &'static str,
    /// Columns of `kubectl get`: name, type, path.
    pub(super) columns: &'static [(&'static str, &'static str, &'static str)],
}

impl Kind {
    /// The name of its definition.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.plural, group())
    }

    /// Its definition, with these fields of an object beside those of every one. A kind that has a `status` lets it be
    /// written apart.
    pub(super) fn definition(&self, fields: Value) -> Value {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(name, kind, path)| json!({"name": name, "type": kind, "jsonPath": path}))
            .collect();
        let mut names = json!({
            "kind": self.kind,
            "listKind": format!("{}List", self.kind),
            "plural": self.plural,
            "singular": self.singular,
        });
        if let Some(short) = self.short {
            names["shortNames"] = json!([short]);
        }
        let mut served = json!({
            "name": version(),
            "served": true,
            "storage": true,
            "additionalPrinterColumns": columns,
        });
        if fields.get("status").is_some() {
            served["subresources"] = json!({"status": {}});
        }
        let mut properties = json!({
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        });
        if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), fields) {
            all.extend(own);
        }
        served["schema"]["openAPIV3Schema"] = json!({"type": "object", "properties": properties});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name()},
            "spec": {"group": group(), "names": names, "scope": self.scope, "versions": [served]},
        })
    }
}

/// The schema of a kind's objects, in its definition.
pub(super) fn object_schema(definition: &mut Value) -> &mut Value {
    &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// The group, and its version.
pub(super) fn group() -> &'static str {
    API_VERSION.split('/').next().unwrap_or_default()
}

fn version() -> &'static str {
    API_VERSION.split('/').nth(1).unwrap_or_default()
}
