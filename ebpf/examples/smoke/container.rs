// SPDX-License-Identifier: Apache-2.0
//! A stand-in for a container: a shell in a mount namespace of its own.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use varmor_bpf_abi::procfs;
use varmor_ebpf::{Binding, profile_key};

use crate::{PROFILE, Result};

/// A shell in a mount namespace of its own that runs the lines it is sent and answers with their exit status.
pub struct Container {
    /// Its id.
    pub id: &'static str,
    child: Child,
}

impl Container {
    /// Starts as far as a runtime's init gets before its execve: with `unshare` done.
    pub fn create(id: &'static str) -> Result<Self> {
        // The shell waits for a line before it executes the one that answers.
        let wait =
            r#"read go; exec sh -c 'while read line; do sh -c "$line"; echo "status $?"; done'"#;
        let child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", wait])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let container = Self { id, child };
        let own = procfs::mount_namespace(std::process::id())?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while procfs::mount_namespace(container.child.id())? == own {
            until(deadline, "unshare makes a namespace")?;
        }
        // The namespace is made before unshare executes the shell; binding now would take that execve for init's.
        while !fs::read_to_string(format!("/proc/{}/cmdline", container.child.id()))?
            .starts_with("sh\0")
        {
            until(deadline, "unshare executes a shell")?;
        }
        Ok(container)
    }

    pub fn binding(&self) -> Result<Binding<'static>> {
        Ok(Binding {
            container_id: self.id,
            init_tgid: self.child.id(),
            mntns: procfs::mount_namespace(self.child.id())?,
            profile_key: profile_key(PROFILE),
            addresses: &[],
        })
    }

    pub fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().ok_or("no stdin")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// Runs a line and tells its exit status.
    pub fn run(&mut self, line: &str) -> Result<i32> {
        self.send(line)?;
        self.answer()
    }

    pub fn answer(&mut self) -> Result<i32> {
        let stdout = self.child.stdout.as_mut().ok_or("no stdout")?;
        let mut answer = Vec::new();
        let mut byte = [0];
        loop {
            stdout.read_exact(&mut byte)?;
            answer.push(byte[0]);
            if let Some(at) = answer.windows(7).position(|window| window == b"status ")
                && byte[0] == b'\n'
            {
                return Ok(String::from_utf8_lossy(&answer[at + 7..]).trim().parse()?);
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits a moment for something, unless it took too long.
fn until(deadline: Instant, what: &str) -> Result<()> {
    std::thread::sleep(Duration::from_millis(20));
    if Instant::now() < deadline {
        Ok(())
    } else {
        Err(format!("timed out waiting until {what}").into())
    }
}
