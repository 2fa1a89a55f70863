// SPDX-License-Identifier: Apache-2.0
//! A node on this machine: a real containerd, the daemon and the hook, with all they keep in directories of the bench's.

pub mod containerd;
pub mod daemon;
mod grace_periods;
pub mod hook;
pub mod memory;
pub mod pods;
pub mod startup;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use varmor_scenario::vm;

/// Where the daemon pins.
const PINS: &str = "/sys/fs/bpf/varmor";

/// What was built and unpacked for the measurements.
#[derive(Debug)]
pub struct Programs {
    /// containerd, its shim, ctr and runc.
    containerd: PathBuf,
    /// `varmor-nri` and `varmor-oci-hook`.
    own: PathBuf,
    /// Archives of container images.
    images: PathBuf,
}

impl Programs {
    /// Finds them, or unpacks them.
    ///
    /// # Errors
    ///
    /// Fails when the project was not built, or Debian's packages can't be had.
    pub fn of(project: &Path) -> Result<Self> {
        let payload = vm::payload(project)?;
        let programs = Self {
            containerd: vm::printed(&project.join("integration/native-containerd"))?,
            own: payload.join("bin"),
            images: payload.join("images"),
        };
        for program in [programs.daemon(), programs.hook()] {
            ensure!(
                program.is_file(),
                "{} is missing: run `make build`",
                program.display()
            );
        }
        Ok(programs)
    }

    fn daemon(&self) -> PathBuf {
        self.own.join("varmor-nri")
    }

    fn hook(&self) -> PathBuf {
        self.own.join("varmor-oci-hook")
    }
}

/// A single-threaded runtime: the measurements are one thing after the other.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the async runtime")
}

/// Whether the LSM programs are attached, and not only their maps made.
fn is_attached() -> bool {
    Path::new(PINS).join("link_file_open").exists()
}
