// SPDX-License-Identifier: Apache-2.0
//! The kinds of steps, a module for each.

mod apply;
mod delete;
mod event;
mod exec;
mod follows;
mod kubectl;
mod log;
mod node;
mod part;
mod pause;
mod pods;
mod race;
mod ready;
mod replace;
mod wait;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_yaml::Value;

use crate::run::Context;

/// Does a step, and judges what came of it. The text is for the report.
pub trait Kind {
    /// Does it.
    fn run(&self, context: &mut Context) -> Result<String>;

    /// Whether later steps make no sense when this one fails.
    fn is_needed(&self) -> bool {
        true
    }
}

/// A step of a file.
pub struct Step {
    /// What the report says.
    pub name: String,
    /// What it does.
    pub kind: Box<dyn Kind>,
}

/// A kind of step, and what the report says of one that has no name.
type Reader = fn(Value) -> Result<(Box<dyn Kind>, String)>;

/// The field that tells a kind of step, and how it is read.
const KINDS: &[(&str, Reader)] = &[
    ("apply", apply::read),
    ("delete", delete::read),
    ("event", event::read),
    ("exec", exec::read),
    ("follows", follows::read),
    ("kubectl", kubectl::read),
    ("log", log::read),
    ("node", node::read),
    ("part", part::read),
    ("pause", pause::read),
    ("pods", pods::read),
    ("race", race::read),
    ("ready", ready::read),
    ("replace", replace::read),
    ("wait", wait::read),
];

/// Reads a step: a mapping with the field of one kind, and a name if there is one.
pub fn read(step: Value) -> Result<Step> {
    let Value::Mapping(mut fields) = step else {
        bail!("a step is a mapping, such as `ready: app=web`");
    };
    let name = match fields.remove("name") {
        Some(Value::String(name)) => Some(name),
        Some(_) => bail!("name: write a text"),
        None => None,
    };
    let mut kinds = KINDS.iter().filter(|kind| fields.contains_key(kind.0));
    let Some((field, read)) = kinds.next() else {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.0).collect();
        bail!(
            "no kind of step among its fields; there are {}",
            known.join(", ")
        );
    };
    if kinds.next().is_some() || fields.len() > 1 {
        bail!("two kinds of steps in one, or a field beside `{field}` that belongs below it");
    }
    let value = fields.remove(*field).unwrap_or_default();
    let (kind, said) = read(value).with_context(|| (*field).to_owned())?;
    Ok(Step {
        name: name.unwrap_or(said),
        kind,
    })
}

/// Reads the fields of a step.
fn fields<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_yaml::from_value(value)?)
}

/// Tries until it succeeds or the time is up; then its last failure counts.
fn within<T>(seconds: f32, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let limit = Duration::from_secs_f32(seconds);
    let began = Instant::now();
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if began.elapsed() >= limit {
            return Err(error.context(format!("not within {seconds} s")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The newest pod with a label (KEY=VALUE) that is not about to go; or the one of this name.
fn pod(context: &Context, which: &str) -> Result<String> {
    if !which.contains('=') {
        return Ok(which.to_owned());
    }
    let list = context.get(&["pods", "--selector", which])?;
    let mut found: Vec<(&str, &str)> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|pod| {
            pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running"
        })
        .map(|pod| {
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
            (text("creationTimestamp"), text("name"))
        })
        .collect();
    found.sort_unstable();
    match found.last() {
        Some((_, name)) => Ok((*name).to_owned()),
        None => bail!("no pod with {which} runs"),
    }
}

/// A value as JSON, which kubectl reads like YAML.
fn json(value: &Value) -> Result<String> {
    serde_json::to_string(value).context("an object with keys that are no texts")
}
