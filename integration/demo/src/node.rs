// SPDX-License-Identifier: Apache-2.0
//! The demo's own node: a containerd and a daemon that share nothing with those that may be running on this machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::evidence::PROFILE;
use crate::place::remove_pins;

/// Sockets, policies, and what a reboot ends.
pub const RUN: &str = "/run/varmor-demo";
/// Images and containers.
const STATE: &str = "/var/lib/varmor-demo";
const PINS: &str = "/sys/fs/bpf/varmor-demo";

const APPARMOR: &str = "/sys/kernel/security/apparmor";

/// Longer than any part of the node took to come up, in emulation.
const UP: Duration = Duration::from_secs(90);

/// Where the programs are.
pub struct Programs {
    /// Folder of containerd and what belongs to it, before those on the PATH.
    pub containerd: Option<PathBuf>,
    /// Folder of the project's programs.
    pub ours: PathBuf,
    /// Folder of the image archives.
    pub images: PathBuf,
    /// Folder for logs.
    pub logs: PathBuf,
}

impl Programs {
    fn of_containerd(&self, name: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let Some(folder) = &self.containerd else {
            return Command::new(name);
        };
        let own = folder.join(name);
        let mut command = Command::new(if own.exists() { own } else { name.into() });
        command.env("PATH", format!("{}:{path}", folder.display()));
        command
    }

    fn ours(&self, name: &str) -> Command {
        Command::new(self.ours.join(name))
    }

    fn log(&self, name: &str) -> Result<File> {
        fs::create_dir_all(&self.logs).with_context(|| self.logs.display().to_string())?;
        File::create(self.logs.join(name)).with_context(|| format!("the log {name}"))
    }

    /// `containerd 2.1.9, runc 1.3.6`.
    ///
    /// # Errors
    /// One of them does not run.
    pub fn versions(&self) -> Result<String> {
        let containerd = text(self.of_containerd("containerd").arg("--version"))?;
        let runc = text(self.of_containerd("runc").arg("--version"))?;
        let word = |text: &str, index| text.split_whitespace().nth(index).unwrap_or("?").to_owned();
        Ok(format!(
            "containerd {}, runc {}",
            word(&containerd, 2),
            word(&runc, 2)
        ))
    }
}

/// The files and sockets that others of the demo use.
pub fn containerd_socket() -> PathBuf {
    Path::new(RUN).join("containerd.sock")
}

/// The daemon's policy folder.
pub fn policies() -> PathBuf {
    Path::new(RUN).join("policies.d")
}

/// The daemon's violation log.
pub fn violations() -> PathBuf {
    Path::new(RUN).join("violations.log")
}

/// A running node. Dropping it takes everything away, as far as that works; [`Node::end`] says what didn't.
pub struct Node<'a> {
    programs: &'a Programs,
    containerd: Option<Child>,
    daemon: Option<Child>,
}

impl<'a> Node<'a> {
    /// Starts containerd and the daemon, and returns when both work together.
    ///
    /// # Errors
    /// One of them does not come up; its log's end is in the error.
    pub fn start(programs: &'a Programs) -> Result<Self> {
        let mut node = Self {
            programs,
            containerd: None,
            daemon: None,
        };
        ensure!(
            Path::new(RUN).exists() || !is_loaded(PROFILE),
            "the AppArmor profile {PROFILE} is in use: a policy demo/demo is in force on this machine"
        );
        // What a run that was killed left behind.
        node.sweep()?;
        for folder in [RUN, STATE] {
            fs::create_dir_all(folder).context(folder)?;
        }
        fs::create_dir(policies())?;
        // containerd asks for its presence before it uses it. Where it is built in there is nothing to load.
        let _ = Command::new("modprobe").args(["-q", "overlay"]).status();
        node.start_containerd()?;
        node.start_daemon()?;
        Ok(node)
    }

    fn start_containerd(&mut self) -> Result<()> {
        let base_spec = Path::new(RUN).join("base-spec.json");
        fs::write(&base_spec, self.base_spec()?).context("the base specification")?;
        let version = text(self.programs.of_containerd("containerd").arg("--version"))?;
        let old = version
            .split_whitespace()
            .any(|word| word.starts_with("1."));
        let config = Path::new(RUN).join("containerd.toml");
        fs::write(&config, configuration(old, &base_spec)).context("containerd's configuration")?;
        let log = self.programs.log("containerd.log")?;
        let child = self
            .programs
            .of_containerd("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("containerd")?;
        self.containerd = Some(child);
        // The last message of the CRI service, which comes up after the socket.
        self.wait_for_containerd("Start streaming server")?;
        let images = fs::read_dir(&self.programs.images)
            .with_context(|| self.programs.images.display().to_string())?;
        for image in images {
            let mut command = self.ctr();
            command.args(["--namespace", "k8s.io", "images", "import"]);
            text(command.arg(image?.path()))?;
        }
        Ok(())
    }

    /// containerd's own specification with the hook in it: every container meets it, whatever becomes of NRI.
    fn base_spec(&self) -> Result<Vec<u8>> {
        let spec = Path::new(RUN).join("spec.json");
        fs::write(
            &spec,
            text(self.programs.of_containerd("ctr").args(["oci", "spec"]))?,
        )?;
        let mut hook = self.programs.ours("varmor-oci-hook");
        hook.args(places())
            .arg("base-spec")
            .stdin(File::open(&spec)?);
        Ok(text(&mut hook)?.into_bytes())
    }

    fn ctr(&self) -> Command {
        let mut command = self.programs.of_containerd("ctr");
        command.arg("--address").arg(containerd_socket());
        command
    }

    fn wait_for_containerd(&mut self, message: &str) -> Result<()> {
        let log = self.programs.logs.join("containerd.log");
        let until = Instant::now() + UP;
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains(message) {
                return Ok(());
            }
            let ended = match &mut self.containerd {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended || Instant::now() > until {
                bail!(
                    "containerd does not come up; its log ends with:\n{}",
                    last_lines(&text)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn start_daemon(&mut self) -> Result<()> {
        let run = Path::new(RUN);
        let log = self.programs.log("daemon.log")?;
        let child = self
            .programs
            .ours("varmor-nri")
            .arg("run")
            .args([
                "--run-dir",
                &in_run("nri"),
                "--state-dir",
                &in_state("nri"),
                "--bpf-pin-dir",
                PINS,
            ])
            .arg("--policies-dir")
            .arg(policies())
            .arg("--log")
            .arg(violations())
            .arg("--nri-socket")
            .arg(run.join("nri.sock"))
            .arg("--node-socket")
            .arg(run.join("node.sock"))
            .arg("--containerd-address")
            .arg(containerd_socket())
            .arg("--hook-path")
            .arg(self.programs.ours.join("varmor-oci-hook"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("varmor-nri")?;
        self.daemon = Some(child);
        self.in_force().with_context(|| {
            let log = fs::read_to_string(self.programs.logs.join("daemon.log")).unwrap_or_default();
            format!(
                "the daemon does not come up; its log ends with:\n{}",
                last_lines(&log)
            )
        })
    }

    /// Waits until the daemon has in force what is in the policy folder.
    ///
    /// # Errors
    /// It has something against it, or takes too long.
    pub fn in_force(&self) -> Result<()> {
        let mut wait = self.programs.ours("varmor-nri");
        wait.args(["wait", "--runtime", "--timeout", &UP.as_secs().to_string()]);
        wait.arg("--policies-dir").arg(policies());
        wait.arg("--node-socket")
            .arg(Path::new(RUN).join("node.sock"));
        text(&mut wait).map(drop)
    }

    /// Ends both, and takes away what the node left: nothing of it stays on the machine.
    ///
    /// # Errors
    /// Something could not be ended or removed.
    pub fn end(mut self) -> Result<()> {
        self.stop();
        self.sweep()
    }

    fn stop(&mut self) {
        // What they leave behind when killed is removed afterwards.
        for mut child in [self.daemon.take(), self.containerd.take()]
            .into_iter()
            .flatten()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn sweep(&self) -> Result<()> {
        end_shims()?;
        if Path::new(RUN).exists() && is_loaded(PROFILE) {
            fs::write(format!("{APPARMOR}/.remove"), PROFILE)
                .context("removing the AppArmor profile")?;
        }
        remove_pins(Path::new(PINS))?;
        unmount_all()?;
        for folder in [RUN, STATE] {
            if Path::new(folder).exists() {
                fs::remove_dir_all(folder).with_context(|| format!("removing {folder}"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if self.containerd.is_some() || self.daemon.is_some() {
            self.stop();
            if let Err(error) = self.sweep() {
                eprintln!("demo: cleaning up: {error:#}");
            }
        }
    }
}

/// Whether the kernel has an AppArmor profile of this name.
fn is_loaded(profile: &str) -> bool {
    let profiles = fs::read_to_string(format!("{APPARMOR}/profiles")).unwrap_or_default();
    profiles
        .lines()
        .any(|line| line.split(' ').next() == Some(profile))
}

fn in_run(name: &str) -> String {
    format!("{RUN}/{name}")
}

fn in_state(name: &str) -> String {
    format!("{STATE}/{name}")
}

/// The hook's options for this node.
fn places() -> [String; 6] {
    let option = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
    let [a, b] = option("--run-dir", &in_run("nri"));
    let [c, d] = option("--state-dir", &in_state("nri"));
    let [e, f] = option("--bpf-dir", PINS);
    [a, b, c, d, e, f]
}

/// Runs a program to its end and gives what it printed.
fn text(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().with_context(|| name.clone())?;
    ensure!(
        status.success(),
        "{name}: {status}: {}",
        String::from_utf8_lossy(&stderr).trim()
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Ends the shims of a containerd that is gone, with their containers. They are told by our socket on their command line.
fn end_shims() -> Result<()> {
    let socket = containerd_socket();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let shim = words
            .next()
            .is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"));
        if shim && words.any(|word| word == socket.as_os_str().as_encoded_bytes()) {
            found.extend(children(pid));
            found.push(pid);
        }
    }
    for pid in &found {
        let pid = rustix::process::Pid::from_raw(*pid).context("a process id")?;
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let until = Instant::now() + Duration::from_secs(10);
    while found
        .iter()
        .any(|pid| Path::new(&format!("/proc/{pid}/ns/mnt")).exists())
    {
        ensure!(Instant::now() < until, "processes {found:?} do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn children(pid: i32) -> Vec<i32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Unmounts everything below the node's folders, the last mounted first.
fn unmount_all() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let below = |path: &str| {
        [RUN, STATE]
            .iter()
            .any(|folder| path.starts_with(&format!("{folder}/")))
    };
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for target in targets
        .filter(|target| below(target))
        .collect::<Vec<_>>()
        .iter()
        .rev()
    {
        text(Command::new("umount").arg("--lazy").arg(target))?;
    }
    Ok(())
}

/// containerd's configuration; `old` is 1.7's format.
fn configuration(old: bool, base_spec: &Path) -> String {
    let pause = "registry.local/pause:1";
    let (format, cri, sandbox_image) = match old {
        true => (
            2,
            "io.containerd.grpc.v1.cri",
            format!("  sandbox_image = '{pause}'"),
        ),
        false => (
            3,
            "io.containerd.cri.v1.runtime",
            format!("[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = '{pause}'"),
        ),
    };
    let socket = containerd_socket();
    let (socket, base_spec) = (socket.display(), base_spec.display());
    format!(
        "version = {format}
root = '{STATE}/containerd'
state = '{RUN}/containerd'
# None of these is used, and some are slow to find that out.
disabled_plugins = [
  'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.native', 'io.containerd.snapshotter.v1.zfs',
  'io.containerd.differ.v1.erofs', 'io.containerd.tracing.processor.v1.otlp',
  'io.containerd.internal.v1.tracing',
]
[grpc]
  address = '{socket}'
[ttrpc]
  address = '{socket}.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
  path = '{STATE}/opt'
[plugins.'io.containerd.nri.v1.nri']
  disable = false
  disable_connections = false
  socket_path = '{RUN}/nri.sock'
  plugin_path = '{RUN}/no-plugins'
  plugin_config_path = '{RUN}/no-plugins'
[plugins.'{cri}']
  # A container of the demo is as likely a victim as any process, where root may not say otherwise.
  restrict_oom_score_adj = true
{sandbox_image}
[plugins.'{cri}'.cni]
  conf_dir = '{RUN}/no-cni'
[plugins.'{cri}'.containerd]
  default_runtime_name = 'runc'
[plugins.'{cri}'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  base_runtime_spec = '{base_spec}'
[plugins.'{cri}'.containerd.runtimes.runc.options]
  Root = '{RUN}/runc'
"
    )
}
