// SPDX-License-Identifier: Apache-2.0
//! Inside the VM: loads the programs, makes subjects of processes, and has them measure themselves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use varmor_bpf_abi::procfs::mount_namespace;
use varmor_bpf_abi::{Binding, keys, profile_key};
use varmor_ebpf::{Enforcer, LoadOptions};
use varmor_policy::compile;

use super::measure::{Counts, measure};
use super::smallest_program;
use super::{PROCESSES, READY, Subject};
use crate::deep_path::DeepPath;
use crate::rules;

const CONTAINER: &str = "varmor-bench";

/// Measures every subject and prints a line for each.
///
/// # Errors
///
/// Fails where the programs can't be loaded, and when a process does not become the subject that it should be.
pub fn run() -> Result<()> {
    let deep = DeepPath::file(Path::new("/srv"), b"content")?;
    let program = Path::new("/srv/smallest");
    smallest_program::write(program)?;
    report(
        Subject::NothingLoaded,
        measured(&deep, program, |_| Ok(()))?,
    );
    let (mut enforcer, loaded) =
        Enforcer::load(&LoadOptions::default()).context("loading the LSM programs")?;
    for missing in &loaded.missing {
        println!("note {} is missing: {}", missing.hook, missing.reason);
    }
    report(Subject::Outside, measured(&deep, program, |_| Ok(()))?);
    for subject in Subject::CONFINED {
        let yaml = match subject {
            Subject::Rules(likeness, count) => rules::policy(likeness, count, deep.path()),
            Subject::Destinations(count) => rules::destinations(count),
            Subject::NothingLoaded | Subject::Outside => continue,
        };
        let objects = varmor_policy::parse(&yaml)
            .map_err(|errors| anyhow!("the bench's own policy: {errors:?}"))?;
        let [object] = &objects[..] else {
            return Err(anyhow!("the bench's own policy is not one object"));
        };
        let plan = compile::compile(object, &compile::Settings::default())
            .map_err(|errors| anyhow!("compiling the bench's own policy: {errors:?}"))?;
        let profile = plan.bpf.context("the bench's own policy has no BPF part")?;
        enforcer
            .set_profile(&plan.profile, &profile)
            .context("loading a profile")?;
        let counts = measured(&deep, program, |pid| {
            enforcer.unbind(CONTAINER)?;
            let binding = Binding {
                container_id: CONTAINER,
                init_tgid: pid,
                mntns: mount_namespace(pid)?,
                profile_key: profile_key(&plan.profile),
                addresses: &[],
            };
            Ok(enforcer.bind(&binding)?)
        })?;
        let state = enforcer.bindings().state(keys::container_key(CONTAINER))?;
        ensure!(
            state.is_some_and(|state| state.state == varmor_bpf_abi::layout::CONTAINER_ACTIVE),
            "the measured process was no subject: {state:?}"
        );
        enforcer.unbind(CONTAINER)?;
        report(subject, counts);
    }
    let counters = enforcer.counters()?;
    println!("note counters of the programs: {counters:?}");
    Ok(())
}

fn report(subject: Subject, counts: Counts) {
    println!("{} = {}", subject.name(), counts.to_line());
}

/// Has processes measure themselves, one after the other: the lowest of what they count.
fn measured(
    deep: &DeepPath,
    program: &Path,
    mut bind: impl FnMut(u32) -> Result<()>,
) -> Result<Counts> {
    let mut lowest = measured_once(deep, program, &mut bind)?;
    for _ in 1..PROCESSES {
        lowest = lowest.lower(measured_once(deep, program, &mut bind)?);
    }
    Ok(lowest)
}

/// Has a process of its own measure itself. It waits in a mount namespace of its own, as a container's init does before
/// the runtime starts it; `bind` gets its pid; then it calls execve.
fn measured_once(
    deep: &DeepPath,
    program: &Path,
    bind: impl FnOnce(u32) -> Result<()>,
) -> Result<Counts> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("wait")
        .args([deep.path(), program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the process to be measured")?;
    let counts = converse(&mut child, bind);
    if counts.is_err() {
        // It may have ended by itself, with the error that is returned.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let counts = counts?;
    ensure!(status.success(), "the measured process ended with {status}");
    Ok(counts)
}

fn converse(child: &mut Child, bind: impl FnOnce(u32) -> Result<()>) -> Result<Counts> {
    let mut input = child
        .stdin
        .take()
        .context("a pipe to the measured process")?;
    let mut lines = BufReader::new(
        child
            .stdout
            .take()
            .context("a pipe from the measured process")?,
    )
    .lines();
    let mut line = || {
        lines
            .next()
            .context("the measured process ended early")?
            .context("reading from the measured process")
    };
    let first = line()?;
    ensure!(first == READY, "the measured process says {first}");
    bind(child.id())?;
    writeln!(input, "go").context("starting the measurement")?;
    let last = line()?;
    Counts::from_line(&last).with_context(|| format!("the measured process says {last}"))
}

/// Waits to be bound, and calls execve.
///
/// # Errors
///
/// Returns only when that fails.
pub fn wait(path: &Path, program: &Path) -> Result<()> {
    // SAFETY: unshare takes no pointers.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    ensure!(status == 0, "unshare: {}", std::io::Error::last_os_error());
    println!("{READY}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let error = Command::new(std::env::current_exe()?)
        .arg("measure")
        .args([path, program])
        .exec();
    Err(error).context("executing the measurement")
}

/// Measures this process and prints the counts.
///
/// # Errors
///
/// Fails when an operation is refused.
pub fn print_own_counts(path: &Path, program: &Path) -> Result<()> {
    println!("{}", measure(path, program)?.to_line());
    Ok(())
}
