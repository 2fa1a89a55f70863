// SPDX-License-Identifier: Apache-2.0
//! The host's side: collects what the VM needs and boots it once for all scenarios.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{format, vm};

/// What is to be run, and on what.
pub struct Run {
    /// The VM's kernel.
    pub kernel: String,
    /// The VM's containerd.
    pub containerd: String,
    /// Instead of the steps' own number of starts.
    pub repeat: Option<u32>,
    /// Without any enforcement.
    pub baseline: bool,
    /// Of the VM, in seconds.
    pub timeout: Option<u64>,
    /// Files or folders.
    pub files: Vec<PathBuf>,
}

/// Boot, containerd and daemon, in emulation on a busy machine.
const START_SECONDS: u64 = 180;
/// Pods of one scenario, and a step: no emulated one was ever slower.
const SCENARIO_SECONDS: u64 = 60;
const STEP_SECONDS: u64 = 15;

/// Runs the scenarios; true when every verdict was the expected one.
pub fn run(run: &Run) -> Result<bool> {
    let scenarios = format::load_all(&run.files)?;
    let project = vm::project()?;
    let payload = vm::payload(&project)?;
    let share = share(&project, &scenarios)?;

    let steps: usize = scenarios.iter().map(|scenario| scenario.steps.len()).sum();
    let starts = u64::from(run.repeat.unwrap_or(5)) * 10;
    let timeout = run.timeout.unwrap_or(
        START_SECONDS
            + scenarios.len() as u64 * (SCENARIO_SECONDS + starts)
            + steps as u64 * STEP_SECONDS,
    );
    let mut vm = vm::boot(&project, &run.kernel, timeout, share.path(), &payload);
    vm.args(["--", "/share/scenario", "guest"]);
    vm.args(["--kernel", &run.kernel, "--containerd", &run.containerd]);
    if let Some(repeat) = run.repeat {
        vm.args(["--repeat", &repeat.to_string()]);
    }
    if run.baseline {
        vm.arg("--baseline");
    }
    vm.arg("/share/scenarios");
    let status = vm.status().context("integration/vm/run")?;

    let names: Vec<_> = run
        .files
        .iter()
        .filter_map(|file| file.file_stem())
        .map(|stem| stem.to_string_lossy())
        .collect();
    let name = names.join("+");
    let logs = project.join(format!(
        "target/scenario/{name}-{}-{}",
        run.kernel, run.containerd
    ));
    vm::keep_logs(share.path(), &logs)?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => {
            println!(
                "logs of containerd, the daemon and the kernel: {}",
                logs.display()
            );
            Ok(false)
        }
        Some(124) => bail!("the time of {timeout} s was up; logs: {}", logs.display()),
        _ => bail!(
            "the run in the VM broke off ({status}); logs: {}",
            logs.display()
        ),
    }
}

/// A folder with this program, the scenario files by their number and name, and a place for logs.
fn share(project: &Path, scenarios: &[format::Scenario]) -> Result<tempfile::TempDir> {
    let share = vm::share(project, "scenario")?;
    for (index, scenario) in scenarios.iter().enumerate() {
        // The number keeps the order; the path stays readable in the report.
        let path = scenario
            .path
            .strip_prefix("integration/scenarios")
            .unwrap_or(&scenario.path);
        let name: Vec<_> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        let to = share
            .path()
            .join("scenarios")
            .join(format!("{index:03}"))
            .join(name.join("/").trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().context("a scenario's folder")?)?;
        std::fs::copy(&scenario.path, &to).with_context(|| scenario.path.display().to_string())?;
    }
    Ok(share)
}
