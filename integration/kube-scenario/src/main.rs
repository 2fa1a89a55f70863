// SPDX-License-Identifier: Apache-2.0
//! `kube-scenario`: runs scenario files on the Kubernetes test bed (integration/kube), which must be up. Each file has a
//! namespace of its own. The format is in integration/kube/README.md.

mod run;
mod scenario;
mod steps;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;

use kube_scenario::bed::{self, Bed};
use scenario::Scenario;

/// Runs scenario files on the Kubernetes test bed.
#[derive(Parser)]
struct Cli {
    /// Files, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only read the files
    #[arg(long)]
    check: bool,
    /// The bed's state directory
    #[arg(long, env = "VARMOR_KUBE_STATE", default_value = "target/kube")]
    state: PathBuf,
    /// Leave what a failed scenario made
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match run_all(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kube-scenario: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(cli: &Cli) -> Result<bool> {
    let scenarios = read_all(&cli.files)?;
    if cli.check {
        println!("{} files are well-formed", scenarios.len());
        return Ok(true);
    }
    let bed = Bed::open(&cli.state)?;
    let began = Instant::now();
    let mut failures = Vec::new();
    let mut steps = 0;
    for scenario in &scenarios {
        let tally = run::run(&bed, scenario, cli.keep);
        steps += tally.passed;
        if !tally.failures.is_empty() {
            failures.push((scenario.name.clone(), tally.failures));
        }
    }
    println!();
    for (name, failures) in &failures {
        for failure in failures {
            println!("FAILED  {name}: {failure}");
        }
    }
    println!(
        "kube-scenarios: {} passed, {} failed; {steps} steps as expected, {:.0} s",
        scenarios.len() - failures.len(),
        failures.len(),
        began.elapsed().as_secs_f32()
    );
    Ok(failures.is_empty())
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Scenario>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = path
                .read_dir()
                .with_context(|| path.display().to_string())?;
            let mut found = Vec::new();
            for entry in entries {
                let file = entry?.path();
                if file
                    .extension()
                    .is_some_and(|extension| extension == "yaml")
                {
                    found.push(file);
                }
            }
            anyhow::ensure!(
                !found.is_empty(),
                "{}: there is no scenario (*.yaml) in this folder",
                path.display()
            );
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    files.iter().map(|file| Scenario::read(file)).collect()
}
