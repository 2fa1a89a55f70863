// SPDX-License-Identifier: Apache-2.0
//! A mount namespace in which the node's paths are the bench's own, so that nothing on this machine is touched.

use std::ffi::CString;
use std::io;

use anyhow::{Context, Result};

/// Puts this process, and what it starts, before what else the machine has to do: what is measured is its own time and
/// not how long it waits for a processor. Without CAP_SYS_NICE it waits.
fn go_first() {
    // SAFETY: setpriority takes no pointers. Where it is refused the measurement is only noisier.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Gives this process, and what it starts, an empty /run, an empty /var/lib/varmor-nri and a BPF file system of its own.
///
/// # Errors
///
/// Fails without CAP_SYS_ADMIN, and when this process has several threads already.
pub fn enter() -> Result<()> {
    go_first();
    // SAFETY: unshare takes no pointers.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if status != 0 {
        return Err(io::Error::last_os_error())
            .context("a mount namespace of its own (this needs root)");
    }
    mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE)?;
    mount("tmpfs", "/run", "tmpfs", 0)?;
    mount("bpf", "/sys/fs/bpf", "bpf", 0)
}

/// Puts an empty directory that lives in memory over `path`.
///
/// # Errors
///
/// Fails without CAP_SYS_ADMIN.
pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) -> Result<()> {
    let text = |text: &str| CString::new(text).context("a path with a NUL byte");
    let (source, at, kind) = (text(source)?, text(target)?, text(kind)?);
    // SAFETY: the three strings end with NUL and outlive the call; no data is passed.
    let status = unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            flags,
            std::ptr::null(),
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).with_context(|| format!("mounting on {target}"))
    }
}
