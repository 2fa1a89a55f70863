// SPDX-License-Identifier: Apache-2.0
//! The test bed: its kubectl, its node, and its parts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A command takes this long at most: an exec in an emulated node can be slow, and must not hang.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command came to.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Its exit status; 255 when it was killed.
    pub status: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Answer {
    /// Its output, if it succeeded.
    pub fn output(self, what: &str) -> Result<String> {
        if self.status != 0 {
            bail!("{what}: status {}: {}", self.status, self.said());
        }
        Ok(self.stdout)
    }

    /// What it said, shortened.
    pub fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        text.trim().chars().take(600).collect()
    }
}

/// A bed that is up.
pub struct Bed {
    state: PathBuf,
    scripts: PathBuf,
}

impl Bed {
    /// The bed of a state directory.
    pub fn open(state: &Path) -> Result<Self> {
        let state = state
            .canonicalize()
            .with_context(|| format!("no bed in {}; see integration/kube/up", state.display()))?;
        let bed = Self {
            state,
            scripts: Path::new(env!("CARGO_MANIFEST_DIR")).join("../kube"),
        };
        bed.kubectl(&["get", "node", "node"])
            .output("the bed's node; see integration/kube/node-up")?;
        Ok(bed)
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.state.join("bin/kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.state.join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.state.join("cache"))
            .args(arguments);
        command
    }

    /// kubectl with these arguments.
    pub fn kubectl(&self, arguments: &[&str]) -> Answer {
        ended(self.kubectl_command(arguments), "", LIMIT)
    }

    /// kubectl, with something to read.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Answer {
        ended(self.kubectl_command(arguments), input, LIMIT)
    }

    /// kubectl that goes on, with pipes for its input and output.
    pub fn kubectl_stream(&self, arguments: &[&str]) -> Result<Child> {
        self.kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("kubectl")
    }

    /// An object or a list of them.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        let output = self
            .kubectl(&all)
            .output(&format!("kubectl get {}", arguments.join(" ")))?;
        serde_json::from_str(&output).context("the answer of kubectl get")
    }

    /// A line for bash in the node.
    pub fn in_node(&self, line: &str) -> Answer {
        self.in_node_of("node", line)
    }

    /// A line for bash in the node of this name.
    pub fn in_node_of(&self, node: &str, line: &str) -> Answer {
        let mut command = self.script("in-node", &[line]);
        command.env("VARMOR_KUBE_NODE", node);
        ended(command, "", LIMIT * 2)
    }

    /// A part of the bed on this machine: see integration/kube/part.
    pub fn part(&self, action: &str, name: &str) -> Answer {
        ended(self.script("part", &[action, name]), "", LIMIT)
    }

    /// The newer version of EndpointSlices, started or stopped: see integration/kube/discovery-v1.
    pub fn discovery_v1(&self, action: &str) -> Answer {
        ended(self.script("discovery-v1", &[action]), "", LIMIT)
    }

    /// A file of the bed.
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// A kubeconfig of a service account, for this machine.
    pub fn kubeconfig_for(&self, namespace: &str, account: &str) -> Result<String> {
        ended(
            self.script("kubeconfig-for", &[namespace, account]),
            "",
            LIMIT,
        )
        .output("kubeconfig-for")
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command
            .env("VARMOR_KUBE_STATE", &self.state)
            .args(arguments);
        command
    }
}

/// Runs a command to its end.
fn ended(mut command: Command, input: &str, limit: Duration) -> Answer {
    match try_ended(&mut command, input, limit) {
        Ok(answer) => answer,
        Err(error) => Answer {
            status: 255,
            stdout: String::new(),
            stderr: format!("{:?}: {error:#}", command.get_program()),
        },
    }
}

fn try_ended(command: &mut Command, input: &str, limit: Duration) -> Result<Answer> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it ends, and says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status.code().unwrap_or(255);
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            bail!("not done after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Answer {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
