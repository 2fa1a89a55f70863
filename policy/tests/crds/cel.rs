// SPDX-License-Identifier: Apache-2.0
//! The rules of a schema (`x-kubernetes-validations`), evaluated as the API server does.

use cel::extractors::This;
use cel::{Context, Program, Value as Cel};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    static PROGRAMS: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
}

/// The messages of all rules that an object breaks, `old` being what it was before.
pub fn broken(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut messages = Vec::new();
    visit(schema, new, old, &mut messages);
    messages
}

fn visit(schema: &Value, new: &Value, old: Option<&Value>, messages: &mut Vec<String>) {
    for entry in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let rule = entry["rule"].as_str().expect("a rule");
        if rule.contains("oldSelf") && old.is_none() {
            continue;
        }
        if !holds(rule, new, old) {
            messages.push(entry["message"].as_str().expect("a message").to_owned());
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = new.get(name) {
            visit(schema, value, old.and_then(|old| old.get(name)), messages);
        }
    }
    // What is in lists has no old self: items are not told apart.
    for item in new.as_array().into_iter().flatten() {
        visit(&schema["items"], item, None, messages);
    }
}

fn holds(rule: &str, new: &Value, old: Option<&Value>) -> bool {
    let program = PROGRAMS.with_borrow_mut(|programs| {
        Rc::clone(programs.entry(rule.to_owned()).or_insert_with(|| {
            Rc::new(Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}")))
        }))
    });
    let mut context = Context::default();
    context
        .add_variable("self", escaped(new))
        .expect("a variable");
    if let Some(old) = old {
        context
            .add_variable("oldSelf", escaped(old))
            .expect("a variable");
    }
    // Kubernetes' environment has the strings extension.
    let _ = context.add_function("lowerAscii", |This(text): This<Arc<String>>| {
        text.to_ascii_lowercase()
    });
    let _ = context.add_function("split", |This(text): This<Arc<String>>, by: Arc<String>| {
        let parts: Vec<Cel> = text
            .split(by.as_str())
            .map(|part| part.to_owned().into())
            .collect();
        Cel::from(parts)
    });
    match program.execute(&context) {
        Ok(Cel::Bool(holds)) => holds,
        other => panic!("{rule}: {other:?} on {new}"),
    }
}

/// Fields whose names are words of CEL's are called otherwise in it.
fn escaped(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let key = if key == "namespace" {
                        "__namespace__"
                    } else {
                        key
                    };
                    (key.to_owned(), escaped(value))
                })
                .collect::<Map<_, _>>(),
        ),
        Value::Array(list) => list.iter().map(escaped).collect(),
        other => other.clone(),
    }
}
