// SPDX-License-Identifier: Apache-2.0
//! From what `schemars` derives to a structural schema, which is what Kubernetes takes (apiextensions.k8s.io/v1): without
//! references, alternatives, nulls and defaults, every field with one type.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Under this key each object schema has the name of its Rust type, until [`strip`] takes it away.
const TYPE: &str = "x-type";

/// The schema of a type with everything that it refers to in place.
pub(super) fn of<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.meta_schema = None)
        .into_generator();
    let mut root = generator.into_root_schema_for::<T>().to_value();
    let definitions = match root.as_object_mut().and_then(|root| root.remove("$defs")) {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    structural(&root, &definitions, T::schema_name().as_ref())
}

/// Takes away what is there for [`super::constraints`] only.
pub(super) fn strip(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove(TYPE);
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The name of the type that an object schema is of.
pub(super) fn type_name(schema: &Value) -> Option<&str> {
    schema.get(TYPE)?.as_str()
}

fn structural(schema: &Value, definitions: &Map<String, Value>, name: &str) -> Value {
    let Value::Object(schema) = schema else {
        // `true`: anything.
        return json!({"x-kubernetes-preserve-unknown-fields": true});
    };
    let described = |mut out: Value| {
        if let Some(Value::String(text)) = schema.get("description") {
            out["description"] = json!(plain_text(text));
        }
        out
    };
    if let Some(Value::String(reference)) = schema.get("$ref") {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return described(structural(&definitions[name], definitions, name));
    }
    if let Some(one) = the_one_that_is_not_null(schema) {
        return described(structural(one, definitions, name));
    }
    if let Some(names) = names_of_variants(schema) {
        return described(json!({"type": "string", "enum": names}));
    }
    let mut out = Map::new();
    let kind = type_of(schema).unwrap_or_else(|| panic!("{name}: {schema:?} has no type"));
    out.insert("type".to_owned(), json!(kind));
    match kind {
        "object" => {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                let properties: Map<_, _> = properties
                    .iter()
                    .map(|(key, value)| (key.clone(), structural(value, definitions, name)))
                    .collect();
                out.insert("properties".to_owned(), Value::Object(properties));
                out.insert(TYPE.to_owned(), json!(name));
            } else if let Some(values) = schema.get("additionalProperties") {
                let values = structural(values, definitions, name);
                out.insert("additionalProperties".to_owned(), values);
            }
            if let Some(required) = schema.get("required") {
                out.insert("required".to_owned(), required.clone());
            }
        }
        "array" => {
            let items = structural(&schema["items"], definitions, name);
            out.insert("items".to_owned(), items);
        }
        "integer" => {
            let wide = matches!(
                schema.get("format").and_then(Value::as_str),
                Some("uint32" | "uint64" | "int64")
            );
            out.insert(
                "format".to_owned(),
                json!(if wide { "int64" } else { "int32" }),
            );
            for limit in ["minimum", "maximum"] {
                if let Some(value) = schema.get(limit) {
                    out.insert(limit.to_owned(), value.clone());
                }
            }
        }
        _ => {
            if let Some(format) = schema.get("format") {
                out.insert("format".to_owned(), format.clone());
            }
        }
    }
    described(Value::Object(out))
}

/// Of `T | null`, `T`.
fn the_one_that_is_not_null(schema: &Map<String, Value>) -> Option<&Value> {
    let alternatives = schema.get("anyOf")?.as_array()?;
    let mut others = alternatives
        .iter()
        .filter(|schema| schema.get("type") != Some(&json!("null")));
    match (others.next(), others.next()) {
        (Some(one), None) => Some(one),
        _ => panic!("{schema:?} has several types"),
    }
}

/// Of an enum without fields, the names.
fn names_of_variants(schema: &Map<String, Value>) -> Option<Vec<Value>> {
    if let Some(Value::Array(names)) = schema.get("enum") {
        return Some(names.clone());
    }
    let mut names = Vec::new();
    for variant in schema.get("oneOf")?.as_array()? {
        match (variant.get("const"), variant.get("enum")) {
            (Some(name), _) => names.push(name.clone()),
            // Those without a description are together.
            (None, Some(Value::Array(several))) => names.extend(several.iter().cloned()),
            _ => return None,
        }
    }
    Some(names)
}

fn type_of(schema: &Map<String, Value>) -> Option<&str> {
    match schema.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|k| *k != "null"),
        _ => None,
    }
}

/// A doc comment as `kubectl explain` shows it: without rustdoc's marks, on one line.
fn plain_text(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc.trim();
    // ``[`crate::pattern`]`` is a link in rustdoc and nothing elsewhere.
    while let Some(start) = rest.find("[`") {
        let Some(length) = rest[start..].find("`]") else {
            break;
        };
        let target = &rest[start + 2..start + length];
        text.push_str(&rest[..start]);
        text.push_str(target.rsplit("::").next().unwrap_or(target));
        rest = &rest[start + length + 2..];
    }
    text.push_str(rest);
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    /// A kind.
    #[derive(Serialize, Deserialize, JsonSchema)]
    enum Kind {
        /// The first.
        A,
        B,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Inner {
        /// See [`crate::pattern`], `a`
        /// and b.
        port_number: u16,
        #[serde(default)]
        wide: Option<u64>,
        #[serde(default)]
        kinds: Vec<Kind>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Outer {
        /// Of the field.
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
        #[serde(default)]
        anything: std::collections::BTreeMap<String, Value>,
        #[serde(default)]
        on: bool,
    }

    #[test]
    fn what_comes_out_is_structural() {
        let mut schema = of::<Outer>();
        assert_eq!(type_name(&schema["properties"]["inner"]), Some("Inner"));
        strip(&mut schema);
        let expected = json!({
            "type": "object",
            "properties": {
                "inner": {
                    "type": "object",
                    "description": "Of the field.",
                    "required": ["portNumber"],
                    "properties": {
                        "portNumber": {
                            "type": "integer", "format": "int32", "minimum": 0, "maximum": 65535,
                            "description": "See pattern, 'a' and b.",
                        },
                        "wide": {"type": "integer", "format": "int64", "minimum": 0},
                        "kinds": {"type": "array", "items": {
                            "type": "string", "enum": ["B", "A"], "description": "A kind.",
                        }},
                    },
                },
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "anything": {
                    "type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
                },
                "on": {"type": "boolean"},
            },
        });
        assert_eq!(schema, expected);
    }
}
