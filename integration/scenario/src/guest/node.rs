// SPDX-License-Identifier: Apache-2.0
//! The node's programs: containerd through the VM's own script, and the daemon.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use varmor_node_api::{DEFAULT_SOCKET, api};

use crate::format::Signal;

/// The daemon's files, the same as on a node that was set up by hand.
pub const POLICIES: &str = "/etc/varmor-nri/policies.d";
/// Where the daemon writes violations.
pub const VIOLATIONS: &str = "/var/log/varmor/violations.log";
/// containerd's socket.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";
const HOOK: &str = "/opt/varmor/bin/varmor-oci-hook";
const BASE_SPEC: &str = "/etc/containerd/base-spec.json";

/// containerd, in the version of this run.
pub struct Containerd {
    version: String,
    base_spec: bool,
}

impl Containerd {
    /// Starts it. With `base_spec` every container gets the hook from containerd itself.
    pub fn start(version: &str, base_spec: bool) -> Result<Self> {
        if base_spec {
            write_base_spec()?;
        }
        let containerd = Self {
            version: version.to_string(),
            base_spec,
        };
        containerd.up()?;
        Ok(containerd)
    }

    fn up(&self) -> Result<()> {
        let mut command = Command::new("containerd-up");
        command.arg(&self.version);
        if self.base_spec {
            command.env("BASE_SPEC", BASE_SPEC);
        }
        succeed(&mut command)
    }

    /// Handles it as a step says.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match signal {
            Signal::Restart => {
                succeed(Command::new("containerd-down").arg("TERM"))?;
                self.up()
            }
            Signal::Kill => succeed(Command::new("containerd-down").arg("KILL")),
            Signal::Start => self.up(),
            Signal::Stop | Signal::Continue => {
                let pid =
                    std::fs::read_to_string("/run/containerd.pid").context("containerd's pid")?;
                send(pid.trim().parse().context("containerd's pid")?, signal)
            }
        }
    }
}

/// The spec that containerd makes by itself, and the hook in it. What CRI sets is set on top of it.
fn write_base_spec() -> Result<()> {
    let output = Command::new("ctr")
        .args(["oci", "spec"])
        .output()
        .context("ctr oci spec")?;
    let mut spec: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("ctr oci spec: its output")?;
    spec["hooks"] = serde_json::json!({
        "createRuntime": [{"path": HOOK, "args": ["varmor-oci-hook", "createRuntime"], "timeout": 10}],
        "poststop": [{"path": HOOK, "args": ["varmor-oci-hook", "poststop"], "timeout": 10}],
    });
    std::fs::create_dir_all("/etc/containerd")?;
    std::fs::write(BASE_SPEC, serde_json::to_vec_pretty(&spec)?).context(BASE_SPEC)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{command:?}: {status}")
    }
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let number = match signal {
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
        Signal::Kill => libc::SIGKILL,
        Signal::Restart | Signal::Start => libc::SIGTERM,
    };
    // SAFETY: kill(2) takes two numbers.
    if unsafe { libc::kill(pid as i32, number) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
            .with_context(|| format!("signal {number} for process {pid}"))
    }
}

/// varmor-nri.
pub struct Daemon {
    child: Option<Child>,
    stopped: bool,
    flags: Vec<String>,
    log: File,
}

/// Start, and connection to containerd, in emulation.
const READY: Duration = Duration::from_secs(180);

impl Daemon {
    /// Starts it with more flags than the runner's own, and waits until it works.
    pub async fn start(flags: &[String], log: &Path) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context("the daemon's log")?;
        std::fs::create_dir_all(POLICIES)?;
        let mut daemon = Self {
            child: None,
            stopped: false,
            flags: flags.to_vec(),
            log,
        };
        daemon.up()?;
        daemon.ready().await?;
        Ok(daemon)
    }

    fn up(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the daemon runs already");
        }
        let child = Command::new("varmor-nri")
            .args(["run", "--policies-dir", POLICIES, "--log", VIOLATIONS])
            .args(["--hook-path", HOOK, "--node-name", "node"])
            .args(["--containerd-address", CONTAINERD])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?)
            .spawn()
            .context("varmor-nri")?;
        self.child = Some(child);
        self.stopped = false;
        Ok(())
    }

    /// Waits until the daemon answers, is connected to containerd and has done what it had to do.
    pub async fn ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY;
        let mut last = String::from("it does not answer");
        while Instant::now() < until {
            if !self.alive() {
                self.child = None;
                bail!("the daemon ended; see daemon.log");
            }
            match status().await {
                Ok(status) if status.runtime_connected && status.settled => return Ok(()),
                Ok(status) if status.runtime_connected => last = "it is not settled".into(),
                Ok(_) => last = "it is not connected to containerd".into(),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!(
            "the daemon is not ready after {} s: {last}",
            READY.as_secs()
        )
    }

    /// Whether it is there and has not ended by itself.
    pub fn alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it should be there and answer: no step took it away or stopped it.
    pub fn answers(&self) -> bool {
        self.child.is_some() && !self.stopped
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            bail!("the daemon does not run")
        };
        self.stopped = false;
        child.kill().context("killing the daemon")?;
        child.wait().context("waiting for the daemon's end")?;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        send(child.id(), Signal::Restart)?;
        for _ in 0..200 {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill()?;
        child.wait()?;
        bail!("the daemon did not end within 10 s of SIGTERM")
    }

    /// Handles it as a step says; when this returns, a daemon that goes on is ready.
    pub async fn signal(&mut self, signal: Signal) -> Result<()> {
        match signal {
            Signal::Restart => {
                self.end()?;
                self.up()?;
            }
            Signal::Kill => self.kill()?,
            Signal::Start => self.up()?,
            Signal::Stop | Signal::Continue => {
                let child = self.child.as_ref().context("the daemon does not run")?;
                send(child.id(), signal)?;
                self.stopped = signal == Signal::Stop;
            }
        }
        if signal == Signal::Continue {
            // It takes a moment until it sees that containerd has hung up on it.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if self.answers() {
            self.ready().await?;
        }
        Ok(())
    }

    /// Starts it again with other flags, when they differ.
    pub async fn with_flags(&mut self, flags: &[String]) -> Result<()> {
        if self.flags == flags && self.alive() {
            return Ok(());
        }
        self.flags = flags.to_vec();
        self.signal(Signal::Restart).await
    }
}

async fn status() -> Result<api::StatusResponse> {
    let client = varmor_node_api::Client::connect(DEFAULT_SOCKET).await?;
    Ok(client.status(api::StatusRequest::default()).await?)
}

/// Waits until the policy folder is in force as it is; the inner error is what the daemon has against it.
pub async fn in_force() -> Result<Result<(), String>> {
    let mut command = tokio::process::Command::new("varmor-nri");
    command
        .args(["wait", "--policies-dir", POLICIES])
        .stdin(Stdio::null());
    let output = tokio::time::timeout(READY, command.kill_on_drop(true).output())
        .await
        .context("varmor-nri wait: no answer")?
        .context("varmor-nri wait")?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr)
        .trim()
        .to_string()))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
