// SPDX-License-Identifier: Apache-2.0
//! Whether this machine's kernel can hold a container by AppArmor and BPF. It is tried, not guessed: a kernel may list the
//! BPF LSM and still refuse its programs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use varmor_ebpf::{Enforcer, LoadOptions};

/// `Y` where AppArmor is built in and on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// Beside the daemon's own pins, which a demo must not touch.
const TRIAL_PINS: &str = "/sys/fs/bpf/varmor-demo-trial";

/// The inner error says what is missing.
///
/// # Errors
/// The programs that were loaded for the trial could not be unloaded.
pub fn kernel() -> Result<Result<(), String>> {
    match fs::read_to_string(APPARMOR) {
        Ok(text) if text.trim() == "Y" => {}
        Ok(_) => return Ok(Err("AppArmor is off in this kernel".into())),
        Err(_) => return Ok(Err("this kernel has no AppArmor".into())),
    }
    let options = LoadOptions {
        pin_dir: TRIAL_PINS.into(),
    };
    let loaded = Enforcer::load(&options);
    remove_pins(Path::new(TRIAL_PINS))?;
    Ok(match loaded {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "this kernel does not take the BPF programs: {error}"
        )),
    })
}

/// Removes a folder of pins, and with it the programs that nothing else holds.
///
/// # Errors
/// The folder is there and can't be removed.
pub fn remove_pins(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
