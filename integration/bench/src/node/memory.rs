// SPDX-License-Identifier: Apache-2.0
//! What the daemon takes of the node's memory.

use anyhow::{Context, Result};

use super::containerd::{Containerd, Extra};
use super::daemon::Daemon;
use super::pods::{self, Pod};
use super::{Programs, is_attached, runtime};
use crate::figures::{Figure, Section, Unit};

const PODS: usize = 16;

/// Starts `containers` real containers, in 16 pods, and reads the daemon's resident memory.
///
/// # Errors
///
/// Fails when a part does not come up or a container is refused.
pub fn measure(programs: &Programs, containers: usize) -> Result<Section> {
    let directory = tempfile::tempdir_in("/var/tmp").context("making a directory")?;
    let at = |name: &str| directory.path().join(name);
    let containerd = Containerd::start(
        &programs.containerd,
        &at("containerd"),
        &programs.images,
        Extra::Nri,
    )?;
    let daemon = Daemon::start(
        programs,
        &containerd,
        &at("daemon"),
        &pods::policy("Seccomp"),
    )?;
    let idle = daemon.resident()?;
    let attached = is_attached();
    let full = runtime()?.block_on(fill(&containerd, containers, || daemon.resident()));
    pods::remove_control_groups();
    let full = full.with_context(|| format!("the daemon says:\n{}", daemon.log()))?;
    let mut notes = vec![format!(
        "a real run: {containers} containers of the real containerd on this machine, in {PODS} pods"
    )];
    if !attached {
        notes.push(
            "this kernel refuses to attach LSM programs: without the BPF tables' bookkeeping"
                .to_owned(),
        );
    }
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(Section {
        title: "Daemon".to_owned(),
        notes,
        figures: vec![
            Figure::new(
                "resident without a container",
                mebibytes(idle),
                Unit::Mebibytes,
            ),
            Figure::new(
                format!("resident with {containers} containers"),
                mebibytes(full),
                Unit::Mebibytes,
            )
            .target(20.0),
        ],
    })
}

async fn fill(
    containerd: &Containerd,
    containers: usize,
    resident: impl Fn() -> Result<u64>,
) -> Result<u64> {
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(Pod::start(&containerd.socket(), &format!("pod{number}"), "bench").await?);
    }
    for number in 0..containers {
        pods[number % PODS].add_container().await?;
    }
    let resident = resident()?;
    for pod in pods {
        pod.remove().await?;
    }
    Ok(resident)
}
