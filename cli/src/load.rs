// SPDX-License-Identifier: Apache-2.0
//! Policies of files that are right, for commands that need them compiled.

use crate::input;
use anyhow::{Context, bail};
use varmor_policy::compile::{Settings, compile};
use varmor_policy::document::{self, Positions};
use varmor_policy::{DocumentError, PolicyError, PolicyObject};

/// A policy and the file that it is from.
pub struct Loaded {
    /// The object.
    pub object: PolicyObject,
    /// The file's name.
    pub file: String,
    /// The file's text.
    text: String,
}

impl Loaded {
    /// `file:line` of a field.
    pub fn place(&self, field: &str) -> String {
        let error = PolicyError {
            object: self.object.reference(),
            field: field.to_owned(),
            text_line: None,
            message: String::new(),
        };
        match Positions::of(&self.text).locate(error).line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }
}

/// The policies of files, which must all be right.
pub fn load(files: &[String], settings: &Settings) -> anyhow::Result<Vec<Loaded>> {
    let mut loaded = Vec::new();
    for file in files {
        let text = input::read(file)?;
        let objects = document::check(&text, |object| compile(object, settings).map(drop))
            .map_err(|errors| anyhow::anyhow!(in_lines(file, &errors)))?;
        loaded.extend(objects.into_iter().map(|(object, ())| Loaded {
            object,
            file: input::name(file).to_owned(),
            text: text.clone(),
        }));
    }
    if loaded.is_empty() {
        bail!("there is no policy in {}", files.join(", "));
    }
    Ok(loaded)
}

fn in_lines(file: &str, errors: &[DocumentError]) -> String {
    let mut text = format!("{} is wrong (see varmorctl validate):", input::name(file));
    for error in errors {
        text.push_str("\n  ");
        text.push_str(&error.to_string());
    }
    text
}

/// The one policy that is meant: by `namespace/name`, or by `name` for a cluster policy; without it the only one.
pub fn pick(mut loaded: Vec<Loaded>, wanted: Option<&str>) -> anyhow::Result<Loaded> {
    let names: Vec<_> = loaded.iter().map(|one| short(&one.object)).collect();
    let index = match wanted {
        None if loaded.len() == 1 => 0,
        None => bail!(
            "there are several policies; choose one by --policy: {}",
            names.join(", ")
        ),
        Some(wanted) => names
            .iter()
            .position(|name| name == wanted)
            .with_context(|| {
                format!(
                    "there is no policy {wanted}; there are {}",
                    names.join(", ")
                )
            })?,
    };
    Ok(loaded.swap_remove(index))
}

/// `namespace/name`, or `name` of a cluster policy.
pub fn short(object: &PolicyObject) -> String {
    let reference = object.reference();
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", reference.name),
        None => reference.name,
    }
}
