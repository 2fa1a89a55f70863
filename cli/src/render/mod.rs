// SPDX-License-Identifier: Apache-2.0
//! `varmorctl render`: what would be loaded for a policy.

mod tables;
mod text;

use crate::args::{EnforcerName, Output, Render};
use crate::{input, load};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::io::Write;
use varmor_policy::compile::compile;
use varmor_policy::plan::Seccomp;
use varmor_policy::seccomp_merge;

/// Prints what an enforcer would load.
pub fn run(arguments: &Render, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = arguments.cluster.settings(false);
    let loaded = load::load(std::slice::from_ref(&arguments.file), &settings)?;
    let policy = load::pick(loaded, arguments.policy.as_deref())?;
    let plan = compile(&policy.object, &settings).map_err(|errors| {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(texts.join("; "))
    })?;
    let unused = || {
        format!(
            "{} does not use {}: its enforcer is `{}`",
            policy.object.reference(),
            arguments.enforcer.name(),
            policy.object.spec().policy.enforcer
        )
    };
    match arguments.enforcer {
        EnforcerName::Apparmor => {
            let text = plan.apparmor.with_context(unused)?;
            match output {
                Output::Text => out.write_all(text.as_bytes())?,
                Output::Json => print(out, &json!({"profile": plan.profile, "text": text}))?,
            }
        }
        EnforcerName::Seccomp => {
            let filter = filter(&plan.seccomp.with_context(unused)?, arguments)?;
            print(out, &filter)?;
        }
        EnforcerName::Bpf => {
            let profile = plan.bpf.with_context(unused)?;
            let tables = tables::Tables::of(&plan.profile, &policy.object, &profile);
            match output {
                Output::Text => text::write(&tables, out)?,
                Output::Json => print(out, &serde_json::to_value(&tables)?)?,
            }
        }
    }
    Ok(())
}

/// The policy's part of the filter, or all of it when the container's own one is given.
fn filter(plan: &Seccomp, arguments: &Render) -> anyhow::Result<Value> {
    let own = arguments.own.as_deref().map(own_filter).transpose()?;
    let capabilities = &arguments.capabilities;
    match (plan, own) {
        (Seccomp::Rules(rules), None) => Ok(rules.clone()),
        (plan, own) => seccomp_merge::merge(own.as_ref(), plan, capabilities)?
            .context("the container has no filter, and the policy has no rule"),
    }
}

/// Reads a `linux.seccomp` object: the file itself, or a container's spec that has one.
pub fn own_filter(file: &str) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_str(&input::read(file)?)
        .with_context(|| format!("{} is no JSON", input::name(file)))?;
    let filter = value.pointer("/linux/seccomp").unwrap_or(&value);
    if filter.get("defaultAction").is_none() {
        bail!(
            "{} is neither a seccomp filter (it has no defaultAction) nor a spec with linux.seccomp",
            input::name(file)
        );
    }
    Ok(filter.clone())
}

fn print(out: &mut dyn Write, value: &Value) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}
