// SPDX-License-Identifier: Apache-2.0
//! The node daemon, with its state in a directory of the bench's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Programs;
use super::containerd::Containerd;

/// A running daemon; it is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts the daemon below `directory`, connected to `containerd`, with one policy file, and waits until it is a
    /// plugin of containerd's.
    ///
    /// # Errors
    ///
    /// Fails when it is not one within 30 s, with the end of its log.
    pub fn start(
        programs: &Programs,
        containerd: &Containerd,
        directory: &Path,
        policy: &str,
    ) -> Result<Self> {
        let policies = directory.join("policies.d");
        fs::create_dir_all(&policies).with_context(|| format!("making {}", policies.display()))?;
        fs::write(policies.join("bench.yaml"), policy).context("writing the policy")?;
        let log = directory.join("log");
        let file = File::create(&log).context("making the daemon's log")?;
        let process = Command::new(programs.daemon())
            .arg("--policies-dir")
            .arg(&policies)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--log")
            .arg(directory.join("violations.log"))
            .arg("--nri-socket")
            .arg(containerd.nri_socket())
            .arg("--containerd-address")
            .arg(containerd.socket())
            .arg("--hook-path")
            .arg(programs.hook())
            .args(["--node-name", "bench"])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", programs.daemon().display()))?;
        let mut started = Self { process, log };
        started.wait_until_plugged_in(containerd)?;
        Ok(started)
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Memory that is resident, in bytes.
    ///
    /// # Errors
    ///
    /// Fails when the process is gone.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        let kibibytes: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .context("VmRSS is no number")?;
        Ok(kibibytes * 1024)
    }

    fn wait_until_plugged_in(&mut self, containerd: &Containerd) -> Result<()> {
        let start = Instant::now();
        while !containerd.log().contains("connected and synchronized") {
            if self.process.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(30) {
                bail!(
                    "the daemon does not come up:\n{}\ncontainerd says:\n{}",
                    self.log(),
                    tail(&containerd.log(), 5)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
