// SPDX-License-Identifier: Apache-2.0
//! Where the demo runs: here, or in the test VM.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use varmor_scenario::vm;

use crate::{node, place, story};

/// What the caller asks for.
pub struct Wish {
    /// The VM's kernel.
    pub kernel: String,
    /// The VM's containerd.
    pub containerd: String,
    /// The VM in any case.
    pub vm: bool,
}

/// Boot, demo and end, in emulation on a busy machine.
const VM_SECONDS: u64 = 400;

/// Decides, says why, and runs; true when every verdict was the expected one.
///
/// # Errors
/// Something else than a verdict failed.
pub fn run(wish: &Wish) -> Result<bool> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root: it starts a containerd and loads kernel policies"
    );
    let project = vm::project()?;
    let payload = vm::payload(&project)?;
    let logs = project.join("target/demo/logs");
    let why_not = match wish.vm {
        true => "as you asked (--vm)".to_owned(),
        false => match here(&project, &payload, &logs)? {
            Ok(passed) => return Ok(passed),
            Err(why) => why,
        },
    };
    println!("Running in the test VM: {why_not}.");
    in_vm(wish, &project, &payload)
}

/// The inner error says why this machine won't do.
fn here(project: &Path, payload: &Path, logs: &Path) -> Result<Result<bool, String>> {
    if let Err(why) = place::kernel()? {
        return Ok(Err(why));
    }
    let containerd = match vm::printed(&project.join("integration/native-containerd")) {
        Ok(folder) => folder,
        Err(error) => {
            return Ok(Err(format!(
                "no containerd 2.1 for this machine ({error:#})"
            )));
        }
    };
    let programs = node::Programs {
        containerd: Some(containerd),
        ours: payload.join("bin"),
        images: payload.join("images"),
        logs: logs.to_owned(),
    };
    match node::Node::start(&programs) {
        Ok(node) => {
            println!(
                "Running on this machine: its kernel takes the BPF programs and has AppArmor."
            );
            story::tell(node, &programs).map(Ok)
        }
        Err(error) => {
            let text = format!("{error:#}");
            let line = text.lines().next().unwrap_or_default();
            Ok(Err(format!("{line} (see {})", logs.display())))
        }
    }
}

fn in_vm(wish: &Wish, project: &Path, payload: &Path) -> Result<bool> {
    let share = vm::share(project, "demo")?;
    let mut vm = vm::boot(project, &wish.kernel, VM_SECONDS, share.path(), payload);
    vm.args(["--", "/share/demo", "play", "--programs", "/opt/varmor/bin"])
        .args(["--images", "/opt/varmor/images", "--logs", "/share/logs"]);
    match wish.containerd.as_str() {
        "2.1" => {}
        "1.7" => drop(vm.args(["--containerd", "/opt/containerd-1.7/bin"])),
        other => bail!("--containerd {other}: the VM has 2.1 and 1.7"),
    }
    let status = vm.status().context("integration/vm/run")?;
    if !status.success() {
        let kept = share.keep();
        println!(
            "Logs of containerd and the daemon: {}",
            kept.join("logs").display()
        );
    }
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        Some(124) => bail!("the VM took longer than {VM_SECONDS} s"),
        _ => bail!("the run in the VM broke off ({status})"),
    }
}
