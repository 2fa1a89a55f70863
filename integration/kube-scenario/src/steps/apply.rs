// SPDX-License-Identifier: Apache-2.0
//! `apply`: kubectl apply of an object or several, or that the API server refuses it.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, json};
use crate::run::Context;

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Refusal(Refusal),
    Objects(Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    object: Value,
    refused: String,
}

struct Apply {
    objects: Vec<Value>,
    refused: Option<String>,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let (objects, refused) = match super::fields(value)? {
        Raw::Refusal(Refusal { object, refused }) => (vec![object], Some(refused)),
        Raw::Objects(Value::Sequence(objects)) => (objects, None),
        Raw::Objects(object) => (vec![object], None),
    };
    let mut names = Vec::new();
    for object in &objects {
        let (Some(kind), Some(name)) =
            (object["kind"].as_str(), object["metadata"]["name"].as_str())
        else {
            bail!("write whole objects, with kind and metadata.name");
        };
        names.push(format!("{kind}/{name}"));
    }
    let verb = if refused.is_some() {
        "refused"
    } else {
        "apply"
    };
    let said = format!("{verb} {}", names.join(", "));
    Ok((Box::new(Apply { objects, refused }), said))
}

impl Kind for Apply {
    fn run(&self, context: &mut Context) -> Result<String> {
        for object in &self.objects {
            if object["kind"] == "VarmorClusterPolicy"
                && let Some(name) = object["metadata"]["name"].as_str()
            {
                context.cluster_policies.push(name.to_owned());
            }
            let arguments = ["--namespace", context.namespace, "apply", "-f", "-"];
            let answer = context.bed.kubectl_with(&arguments, &json(object)?);
            match &self.refused {
                None => drop(answer.output("kubectl apply")?),
                Some(_) if answer.status == 0 => bail!("it was accepted: {}", answer.said()),
                Some(text) if !answer.stderr.contains(text) => {
                    bail!(
                        "it was refused otherwise than with {text:?}: {}",
                        answer.said()
                    )
                }
                Some(_) => {}
            }
        }
        Ok(String::new())
    }

    fn is_needed(&self) -> bool {
        self.refused.is_none()
    }
}
