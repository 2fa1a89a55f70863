// SPDX-License-Identifier: Apache-2.0
//! The host's side: a VM for each half of the columns, and what they all came to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use varmor_scenario::format::KERNELS;
use varmor_scenario::vm;

use crate::case;
use crate::enforcer::Enforcer;
use crate::guest::OUTCOMES;
use crate::kept::Kept;
use crate::outcome::Outcome;
use crate::report::{self, Tables};

/// Where the cases are.
pub const FOLDER: &str = "integration/conformance";
/// What a whole run writes.
const DOCUMENT: &str = "docs/conformance.md";
/// The kernel that runs everything.
const MAIN_KERNEL: &str = "6.12";
/// The columns of one VM each. Loading AppArmor profiles takes as long as all the rest.
const HALVES: [&[Enforcer]; 2] = [&[Enforcer::AppArmor], &[Enforcer::Bpf, Enforcer::Seccomp]];

/// What is to be run.
pub struct Run {
    /// One, or `all`; without it the main one with everything, and the others with the core.
    pub kernel: Option<String>,
    /// Only these; all when empty.
    pub enforcers: Vec<Enforcer>,
    /// Only cases whose name has this in it.
    pub case: Option<String>,
    /// Of a VM, in seconds.
    pub timeout: u64,
}

/// One boot.
struct Boot<'a> {
    kernel: &'a str,
    core: bool,
    enforcers: Vec<Enforcer>,
}

/// Runs the matrix and prints it; a whole run writes the document. True when every verdict was as the cases say.
///
/// # Errors
/// The cases can't be read, or a VM broke off.
pub fn run(run: &Run) -> Result<bool> {
    let project = vm::project()?;
    let (_, cases) = case::load(&project.join(FOLDER))?;
    let kernels: Vec<(&str, bool)> = match run.kernel.as_deref() {
        None => KERNELS
            .iter()
            .map(|kernel| (*kernel, *kernel != MAIN_KERNEL))
            .collect(),
        Some("all") => KERNELS.iter().map(|kernel| (*kernel, false)).collect(),
        Some(kernel) => {
            ensure!(
                KERNELS.contains(&kernel),
                "there is no kernel {kernel:?}: {} or all",
                KERNELS.join(", ")
            );
            vec![(kernel, false)]
        }
    };
    let payload = vm::payload(&project)?;
    let kept = Kept::of(&project, &payload, &project.join(FOLDER))?;
    let mut tables = Tables::new(&cases);
    let mut broken = Vec::new();
    for (kernel, core) in &kernels {
        let boots = HALVES.iter().filter_map(|half| {
            let enforcers: Vec<_> = half
                .iter()
                .copied()
                .filter(|enforcer| run.enforcers.is_empty() || run.enforcers.contains(enforcer))
                .collect();
            (!enforcers.is_empty()).then_some(Boot {
                kernel,
                core: *core,
                enforcers,
            })
        });
        let boots: Vec<_> = boots.collect();
        let ended: Vec<Result<Vec<Outcome>>> = std::thread::scope(|scope| {
            let started: Vec<_> = boots
                .iter()
                .map(|boot| scope.spawn(|| boot.run(run, &project, &payload)))
                .collect();
            started
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        for (boot, outcomes) in boots.iter().zip(ended) {
            match outcomes {
                Ok(outcomes) => {
                    if run.case.is_none() && HALVES.contains(&&*boot.enforcers) {
                        kept.keep(kernel, &boot.enforcers, *core, &outcomes)?;
                    }
                    tables.add(kernel, *core, outcomes);
                }
                Err(error) => broken.push(format!("kernel {kernel}: {error:#}")),
            }
        }
    }
    print!("{}", report::for_terminal(&tables));
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    let whole = kernels.len() == KERNELS.len() && run.enforcers.is_empty() && run.case.is_none();
    if whole {
        write_document(&project, &tables)?;
    }
    Ok(tables.passed())
}

/// Writes the document of the runs that are kept. True when every verdict was as the cases say.
///
/// # Errors
/// A kernel was not run with what is built now.
pub fn document() -> Result<bool> {
    let project = vm::project()?;
    let (_, cases) = case::load(&project.join(FOLDER))?;
    let payload = vm::payload(&project)?;
    let kept = Kept::of(&project, &payload, &project.join(FOLDER))?;
    let mut tables = Tables::new(&cases);
    for kernel in KERNELS {
        for half in HALVES {
            let ended = kept.read(kernel, half)?;
            tables.add(kernel, ended.core, ended.outcomes);
        }
    }
    print!("{}", report::for_terminal(&tables));
    write_document(&project, &tables)?;
    Ok(tables.passed())
}

/// Writes what the cases say into the document of an earlier run.
///
/// # Errors
/// The cases or the document can't be read, or it can't be written.
pub fn write_differences() -> Result<()> {
    let project = vm::project()?;
    let (_, cases) = case::load(&project.join(FOLDER))?;
    let path = project.join(DOCUMENT);
    let document = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    std::fs::write(&path, report::with_cases(&document, &cases))
        .with_context(|| path.display().to_string())
}

fn write_document(project: &Path, tables: &Tables<'_>) -> Result<()> {
    let document = project.join(DOCUMENT);
    std::fs::write(&document, report::document(tables))
        .with_context(|| document.display().to_string())?;
    println!("written: {DOCUMENT}");
    Ok(())
}

impl Boot<'_> {
    fn run(&self, run: &Run, project: &Path, payload: &Path) -> Result<Vec<Outcome>> {
        let share = self.share(project)?;
        let mut vm = vm::boot(project, self.kernel, run.timeout, share.path(), payload);
        vm.args(["--", "/share/conformance", "guest", "--kernel", self.kernel]);
        for enforcer in &self.enforcers {
            vm.args(["--enforcer", enforcer.name()]);
        }
        if self.core {
            vm.arg("--core");
        }
        if let Some(case) = &run.case {
            vm.args(["--case", case]);
        }
        vm.arg("/share/matrix");
        let mut child = vm
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("integration/vm/run")?;
        // Line by line, so that those of the two VMs don't mix.
        for line in BufReader::new(child.stdout.take().context("its output")?).lines() {
            println!("{:<5} {}", self.kernel, line?);
        }
        let status = child.wait()?;
        let logs = project.join(format!(
            "target/conformance/{}-{}",
            self.kernel,
            self.enforcers[0].name()
        ));
        vm::keep_logs(share.path(), &logs)?;
        ensure!(
            status.success(),
            "the run in the VM broke off ({status}); logs: {}",
            logs.display()
        );
        let outcomes = std::fs::read(share.path().join(OUTCOMES)).context(OUTCOMES)?;
        serde_json::from_slice(&outcomes).context(OUTCOMES)
    }

    /// A folder with this program, the cases and a place for logs.
    fn share(&self, project: &Path) -> Result<tempfile::TempDir> {
        let share = vm::share(project, "conformance")?;
        let from = project.join(FOLDER);
        let to = share.path().join("matrix");
        std::fs::create_dir_all(to.join("cases"))?;
        std::fs::copy(from.join("pods.yaml"), to.join("pods.yaml"))?;
        for entry in std::fs::read_dir(from.join("cases"))? {
            let path: PathBuf = entry?.path();
            let name = path.file_name().context("a case file's name")?;
            std::fs::copy(&path, to.join("cases").join(name))?;
        }
        Ok(share)
    }
}
