// SPDX-License-Identifier: Apache-2.0
//! `varmorctl validate`.

use crate::args::{Output, Validate};
use crate::input;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use varmor_policy::compile::{Settings, compile, profile_name};
use varmor_policy::document::{self, Positions};
use varmor_policy::plan::PolicyRef;
use varmor_policy::{DocumentError, PolicyError, PolicyObject, validate};

/// What was found in all files.
#[derive(Serialize)]
struct Report {
    valid: bool,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    /// The objects, unless there are errors in the file itself.
    objects: Vec<Object>,
    errors: Vec<Error>,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    reference: PolicyRef,
    profile: String,
}

#[derive(Serialize)]
struct Error {
    line: Option<usize>,
    column: Option<usize>,
    object: Option<PolicyRef>,
    field: String,
    message: String,
}

impl From<DocumentError> for Error {
    fn from(error: DocumentError) -> Self {
        Self {
            line: error.line,
            column: error.column,
            object: error.object,
            field: error.field,
            message: error.message,
        }
    }
}

/// Checks the files and prints what was found; the exit code says whether all of it is right.
pub fn run(arguments: &Validate, output: Output, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let settings = arguments.cluster.settings(arguments.node);
    let previous = match &arguments.previous {
        Some(file) => previous_objects(file)?,
        None => BTreeMap::new(),
    };
    let mut checked = Vec::new();
    let mut files = Vec::new();
    for file in &arguments.files {
        let text = input::read(file)?;
        let mut report = FileReport {
            file: input::name(file).to_owned(),
            objects: Vec::new(),
            errors: Vec::new(),
        };
        match document::check(&text, |object| {
            check(object, arguments.node, &previous, &settings)
        }) {
            Ok(objects) => {
                for (object, profile) in objects {
                    report.objects.push(Object {
                        reference: object.reference(),
                        profile,
                    });
                    checked.push((files.len(), object));
                }
            }
            Err(errors) => report.errors.extend(errors.into_iter().map(Error::from)),
        }
        files.push((report, text));
    }
    for (file, error) in between_objects(&checked, &files, &settings) {
        files[file].0.errors.push(error.into());
    }
    let files: Vec<FileReport> = files.into_iter().map(|(report, _)| report).collect();
    let report = Report {
        valid: files.iter().all(|file| file.errors.is_empty()),
        files,
    };
    match output {
        Output::Text => print(&report, out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(if report.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything that can be said of one object by itself; returns the name of its profile.
fn check(
    object: &PolicyObject,
    for_node: bool,
    previous: &BTreeMap<PolicyRef, PolicyObject>,
    settings: &Settings,
) -> Result<String, Vec<PolicyError>> {
    let mut errors = Vec::new();
    let compiled = compile(object, settings);
    if for_node {
        errors.extend(validate::for_node(object).err().into_iter().flatten());
    }
    if let Some(old) = previous.get(&object.reference()) {
        errors.extend(validate::update(old, object).err().into_iter().flatten());
    }
    match compiled {
        Ok(plan) if errors.is_empty() => Ok(plan.profile),
        compiled => {
            errors.splice(0..0, compiled.err().into_iter().flatten());
            Err(errors)
        }
    }
}

fn previous_objects(file: &str) -> anyhow::Result<BTreeMap<PolicyRef, PolicyObject>> {
    let objects = varmor_policy::parse(&input::read(file)?).map_err(|errors| {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("--previous {}: {}", input::name(file), texts.join("; "))
    })?;
    Ok(objects
        .into_iter()
        .map(|object| (object.reference(), object))
        .collect())
}

/// Objects of one name in two files, and objects whose profiles would have one name.
fn between_objects(
    checked: &[(usize, PolicyObject)],
    files: &[(FileReport, String)],
    settings: &Settings,
) -> Vec<(usize, DocumentError)> {
    let mut found = Vec::new();
    let mut first_in: BTreeMap<PolicyRef, usize> = BTreeMap::new();
    for (file, object) in checked {
        let reference = object.reference();
        match first_in.get(&reference) {
            None => {
                first_in.insert(reference, *file);
            }
            Some(first) => found.push((
                *file,
                PolicyError {
                    object: reference,
                    field: "metadata.name".to_owned(),
                    text_line: None,
                    message: format!(
                        "{} defines this object too; remove or rename one",
                        files[*first].0.file
                    ),
                },
            )),
        }
    }
    let objects: Vec<PolicyObject> = checked.iter().map(|(_, object)| object.clone()).collect();
    for error in profile_name::collisions(&objects, settings) {
        let file = first_in.get(&error.object).copied().unwrap_or_default();
        let is_known = found.iter().any(|(_, other)| other.object == error.object);
        if !is_known {
            found.push((file, error));
        }
    }
    found
        .into_iter()
        .map(|(file, error)| (file, Positions::of(&files[file].1).locate(error)))
        .collect()
}

fn print(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    for file in &report.files {
        for error in &file.errors {
            write!(out, "{}:", file.file)?;
            if let Some(line) = error.line {
                write!(out, "{line}:")?;
            }
            if !error.field.is_empty() {
                write!(out, "{}:", error.field)?;
            }
            writeln!(out, " {}", error.message)?;
        }
        if file.errors.is_empty() {
            for object in &file.objects {
                writeln!(
                    out,
                    "{}: {}: valid, profile {}",
                    file.file, object.reference, object.profile
                )?;
            }
            if file.objects.is_empty() {
                writeln!(out, "{}: no policy in it", file.file)?;
            }
        }
    }
    Ok(())
}
