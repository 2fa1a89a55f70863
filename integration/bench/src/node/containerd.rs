// SPDX-License-Identifier: Apache-2.0
//! A containerd of the bench's own, with its state in a directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What a containerd has beside containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing: NRI is switched off.
    WithoutNri,
    /// Plugins can connect to [`Containerd::nri_socket`], as with the configuration that containerd 2 has by itself.
    Nri,
    /// And every container has a createRuntime hook that does nothing.
    EmptyHook,
}

/// A running containerd; it is killed when this is dropped.
#[derive(Debug)]
pub struct Containerd {
    process: Child,
    directory: PathBuf,
    binaries: PathBuf,
}

impl Containerd {
    /// Starts containerd out of the directory `binaries`, with everything it keeps below `directory` (on a disk: its
    /// database waits for that), and imports the images.
    ///
    /// # Errors
    ///
    /// Fails when containerd does not come up within 30 s, with the end of its log.
    pub fn start(binaries: &Path, directory: &Path, images: &Path, extra: Extra) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let config = directory.join("config.toml");
        if extra == Extra::EmptyHook {
            fs::write(directory.join(BASE_SPEC), specification(binaries)?)
                .context("writing the base specification")?;
        }
        fs::write(&config, configuration(binaries, directory, extra))
            .context("writing containerd's configuration")?;
        let log = File::create(directory.join("log")).context("making containerd's log")?;
        let path = format!(
            "{}:{}",
            binaries.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let process = Command::new(binaries.join("containerd"))
            .args(["--config".as_ref(), config.as_os_str()])
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binaries.join("containerd").display()))?;
        let mut started = Self {
            process,
            directory: directory.to_owned(),
            binaries: binaries.to_owned(),
        };
        started.wait_until_up()?;
        started.import(images)?;
        Ok(started)
    }

    /// Where CRI and containerd's own services answer.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// Where NRI plugins connect.
    pub fn nri_socket(&self) -> PathBuf {
        self.directory.join("nri.sock")
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let start = Instant::now();
        // The CRI service comes up after the socket.
        while !self.log().contains("Start streaming server") {
            let ended = self.process.try_wait()?;
            if ended.is_some() || start.elapsed() > Duration::from_secs(30) {
                let log = self.log();
                let lines: Vec<&str> = log.lines().collect();
                bail!(
                    "containerd does not come up; its log ends with:\n{}",
                    lines[lines.len().saturating_sub(15)..].join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn import(&self, images: &Path) -> Result<()> {
        for entry in
            fs::read_dir(images).with_context(|| format!("reading {}", images.display()))?
        {
            let archive = entry?.path();
            let output = Command::new(self.binaries.join("ctr"))
                .arg("--address")
                .arg(self.socket())
                .args(["--namespace", "k8s.io", "images", "import"])
                .arg(&archive)
                .output()
                .context("running ctr")?;
            ensure!(
                output.status.success(),
                "importing {}: {}",
                archive.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// File of the specification that containers are made from.
const BASE_SPEC: &str = "base-spec.json";

/// containerd's own specification, with a hook.
fn specification(binaries: &Path) -> Result<Vec<u8>> {
    let output = Command::new(binaries.join("ctr"))
        .args(["oci", "spec"])
        .output()
        .context("running ctr")?;
    let mut specification: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("what `ctr oci spec` prints")?;
    specification["hooks"] = serde_json::json!({"createRuntime": [{"path": "/bin/true"}]});
    Ok(serde_json::to_vec(&specification)?)
}

fn configuration(binaries: &Path, directory: &Path, extra: Extra) -> String {
    let (binaries, directory) = (binaries.display(), directory.display());
    let base_spec = match extra {
        Extra::EmptyHook => format!("base_runtime_spec = '{directory}/{BASE_SPEC}'"),
        Extra::WithoutNri | Extra::Nri => String::new(),
    };
    format!(
        "version = 3
root = '{directory}/root'
state = '{directory}/state'
# None of these is used, and some are slow to find that out.
disabled_plugins = [
  'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.native', 'io.containerd.snapshotter.v1.zfs',
  'io.containerd.differ.v1.erofs', 'io.containerd.tracing.processor.v1.otlp',
  'io.containerd.internal.v1.tracing',
]
[grpc]
  address = '{directory}/containerd.sock'
[ttrpc]
  address = '{directory}/containerd.sock.ttrpc'
[plugins.'io.containerd.nri.v1.nri']
  disable = {disable}
  socket_path = '{directory}/nri.sock'
  plugin_path = '{directory}/no-plugins'
  plugin_config_path = '{directory}/no-plugins'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.local/pause:1'
[plugins.'io.containerd.cri.v1.runtime']
  # The machine may lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  conf_dir = '{directory}/no-cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  {base_spec}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{binaries}/runc'
  Root = '{directory}/runc'
",
        disable = extra == Extra::WithoutNri,
    )
}
