// SPDX-License-Identifier: Apache-2.0
//! The guest's side: runs in the VM, as root.

pub mod audit;
pub mod cri;
pub mod node;
pub mod pods;
mod policies;
pub mod records;
mod report;
mod steps;
pub mod verdict;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::format::{self, Scenario};
use node::{Containerd, Daemon};
use report::Report;

/// What the host's side tells.
#[derive(Args)]
pub struct Options {
    #[arg(long)]
    kernel: String,
    #[arg(long)]
    containerd: String,
    #[arg(long)]
    repeat: Option<u32>,
    #[arg(long)]
    baseline: bool,
    scenarios: PathBuf,
}

const LOGS: &str = "/share/logs";

/// Runs the scenarios; true when every verdict was the expected one.
pub fn main(options: Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(&options));
    for log in ["/var/log/containerd.log", node::VIOLATIONS] {
        if let Some(name) = Path::new(log).file_name() {
            let _ = std::fs::copy(log, Path::new(LOGS).join(name));
        }
    }
    outcome
}

async fn run(options: &Options) -> Result<bool> {
    let scenarios = format::load_all(&[&options.scenarios])?;
    let mut report = Report::new(options.baseline);
    let began = Instant::now();
    let containerd = Containerd::start(&options.containerd, !options.baseline)?;
    let daemon = if options.baseline {
        None
    } else {
        Some(Daemon::start(&[], &Path::new(LOGS).join("daemon.log")).await?)
    };
    println!(
        "kernel {}, containerd {}, ready after {:.1} s",
        options.kernel,
        options.containerd,
        began.elapsed().as_secs_f64()
    );
    let client = cri::Client::new(Path::new(node::CONTAINERD))?;
    let mut node = steps::Node::new(containerd, daemon, client, options.repeat);
    for scenario in &scenarios {
        let name = name(&scenario.path, &options.scenarios);
        report.scenario(scenario, &name);
        if let Some(why) = scenario
            .conditions
            .why_not(&options.kernel, &options.containerd)
        {
            report.left_out("all of it", &why);
            report.end();
            continue;
        }
        scenario_steps(&mut node, scenario, options, &mut report).await;
        if let Err(error) = node.clean().await {
            report.broken("cleaning up", &error);
        }
        report.end();
    }
    Ok(report.table() || options.baseline)
}

async fn scenario_steps(
    node: &mut steps::Node,
    scenario: &Scenario,
    options: &Options,
    report: &mut Report,
) {
    if let Err(error) = node.prepare(scenario).await {
        report.broken("before the first step", &error);
        return;
    }
    for step in &scenario.steps {
        if let Some(why) = step
            .conditions
            .why_not(&options.kernel, &options.containerd)
        {
            report.left_out(&format!("{} {}", step.line, step.title()), &why);
            continue;
        }
        let began = Instant::now();
        match node.step(scenario, step).await {
            Ok(outcome) => report.step(step, &outcome, began.elapsed()),
            Err(error) => report.broken(&format!("{:>3} {}", step.line, step.title()), &error),
        }
    }
}

/// `/share/scenarios/003/files/shadow.yaml` is `files/shadow` in the report.
fn name(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let named: PathBuf = below.components().skip(1).collect();
    named.with_extension("").display().to_string()
}
