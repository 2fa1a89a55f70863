// SPDX-License-Identifier: Apache-2.0
//! `apply`: kubectl apply of an object or several, by another one who writes them too, or that the API server refuses it.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, json};
use crate::run::Context;

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    One(One),
    Objects(Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    object: Value,
    refused: Option<String>,
    /// Server-side, as a field manager of this name.
    r#as: Option<String>,
    /// It takes the fields of others.
    #[serde(default)]
    force: bool,
}

struct Apply {
    objects: Vec<Value>,
    refused: Option<String>,
    options: Vec<String>,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let mut options = Vec::new();
    let (objects, refused) = match super::fields(value)? {
        Raw::One(one) => {
            if let Some(manager) = one.r#as {
                options.extend([
                    "--server-side".to_owned(),
                    format!("--field-manager={manager}"),
                ]);
            }
            if one.force {
                options.push("--force-conflicts".to_owned());
            }
            (vec![one.object], one.refused)
        }
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
    let options_said: String = options.iter().map(|option| format!(" {option}")).collect();
    let said = format!("{verb} {}{options_said}", names.join(", "));
    let apply = Apply {
        objects,
        refused,
        options,
    };
    Ok((Box::new(apply), said))
}

impl Kind for Apply {
    fn run(&self, context: &mut Context) -> Result<String> {
        for object in &self.objects {
            if object["kind"] == "VarmorClusterPolicy"
                && let Some(name) = object["metadata"]["name"].as_str()
            {
                context.cluster_policies.push(name.to_owned());
            }
            let mut arguments = vec!["--namespace", context.namespace, "apply", "-f", "-"];
            arguments.extend(self.options.iter().map(String::as_str));
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
