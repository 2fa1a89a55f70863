// SPDX-License-Identifier: Apache-2.0
//! The test VM (integration/vm/run), and what is put into it: a folder that it shares, with the calling program, and the
//! payload of what was built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The project's root: the nearest folder upwards of here that has the VM in it.
///
/// # Errors
/// There is none.
pub fn project() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder")?;
    here.ancestors()
        .find(|folder| folder.join("integration/vm/run").is_file())
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is not inside the project", here.display()))
}

/// The folder with the project's programs and the images.
///
/// # Errors
/// Not everything was built.
pub fn payload(project: &Path) -> Result<PathBuf> {
    printed(&project.join("integration/payload")).context("was everything built? `make build`")
}

/// The path that a script prints.
///
/// # Errors
/// The script failed, and says why.
pub fn printed(script: &Path) -> Result<PathBuf> {
    let output = Command::new(script)
        .output()
        .with_context(|| script.display().to_string())?;
    ensure!(
        output.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// A boot that is to be: arguments may be added, of which the first is to be `--` and the command in the VM.
pub fn boot(project: &Path, kernel: &str, timeout: u64, share: &Path, payload: &Path) -> Command {
    let mut vm = Command::new(project.join("integration/vm/run"));
    vm.args(["--kernel", kernel, "--timeout", &timeout.to_string()])
        .arg("--share")
        .arg(share)
        .arg("--payload")
        .arg(payload);
    vm
}

/// A folder below target/`name` with this program as `name`, and a folder `logs`; /share in the VM.
///
/// # Errors
/// It can't be made.
pub fn share(project: &Path, name: &str) -> Result<tempfile::TempDir> {
    let parent = project.join("target").join(name);
    std::fs::create_dir_all(&parent)?;
    let share = tempfile::Builder::new()
        .prefix("share-")
        .tempdir_in(&parent)
        .context("the shared folder")?;
    let program = std::env::current_exe().context("this program's path")?;
    std::fs::copy(&program, share.path().join(name))
        .with_context(|| program.display().to_string())?;
    std::fs::create_dir(share.path().join("logs"))?;
    Ok(share)
}

/// Puts a shared folder's logs where they stay, in place of older ones.
///
/// # Errors
/// They can't be copied.
pub fn keep_logs(share: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    std::fs::create_dir_all(to)?;
    let from = share.join("logs");
    for entry in std::fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
