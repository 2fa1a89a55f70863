// SPDX-License-Identifier: Apache-2.0
//! The workloads: pods whose container does what it is asked to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use varmor_scenario::format::{ContainerName, Pod};
use varmor_scenario::guest::cri::{Client, Refused};
use varmor_scenario::guest::node;
use varmor_scenario::guest::pods::Pods;

use super::NAMESPACE;
use super::driver::Driver;

/// A container that runs.
pub struct Workload {
    /// The runtime's id.
    pub id: String,
    /// Its driver.
    pub driver: Driver,
    /// Its main process on the node.
    pid: u32,
}

impl Workload {
    /// Does what a case wants done before its actions, from outside the container.
    pub fn prepare(&self, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let script = lines.join("\n");
        let output = Command::new("bash")
            .args(["-e", "-c", &script])
            .env("ROOT", format!("/proc/{}/root", self.pid))
            .env("PID", self.pid.to_string())
            .output()
            .context("the node's shell")?;
        ensure!(
            output.status.success(),
            "preparing: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// All that run.
pub struct Workloads {
    pods: Pods,
    started: BTreeMap<(String, String), Workload>,
}

impl Workloads {
    /// None yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pods: Pods::new(Client::new(Path::new(node::CONTAINERD))?),
            started: BTreeMap::new(),
        })
    }

    /// Starts a pod.
    pub async fn start(&mut self, pod: &Pod) -> Result<()> {
        ensure!(
            pod.namespace == NAMESPACE,
            "pods.yaml: {}: the namespace is {NAMESPACE}",
            pod.name
        );
        let folders: Vec<PathBuf> = pod
            .containers
            .iter()
            .map(|container| pipes_of(pod, &container.name))
            .collect::<Result<_>>()?;
        for folder in &folders {
            Driver::pipes(folder)?;
        }
        if let Err(Refused(text)) = self.pods.start(pod, None).await? {
            bail!("pod {} did not start: {text}", pod.name);
        }
        for (container, folder) in pod.containers.iter().zip(&folders) {
            let name = ContainerName {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: container.name.clone(),
            };
            let mut workload = Workload {
                id: self.pods.id(&name)?,
                pid: self.pods.pid(&name).await?,
                driver: Driver::open(folder)?,
            };
            let answer = workload.driver.run("probe fork")?;
            ensure!(answer.status == 0, "{name}: {}", answer.stderr);
            self.started
                .insert((pod.name.clone(), container.name.clone()), workload);
        }
        Ok(())
    }

    /// One of them.
    pub fn get(&mut self, pod: &str, container: &str) -> Result<&mut Workload> {
        self.started
            .get_mut(&(pod.to_string(), container.to_string()))
            .with_context(|| format!("{pod}/{container} does not run"))
    }

    /// Removes all.
    pub async fn remove_all(&mut self) -> Result<()> {
        self.started.clear();
        self.pods.remove_all().await
    }
}

/// The folder of the node that a container has at /conformance.
fn pipes_of(pod: &Pod, container: &str) -> Result<PathBuf> {
    pod.containers
        .iter()
        .find(|one| one.name == container)
        .and_then(|one| one.mounts.iter().find(|mount| mount.path == "/conformance"))
        .map(|mount| PathBuf::from(&mount.host_path))
        .with_context(|| {
            format!(
                "pods.yaml: {}: nothing is mounted at /conformance",
                pod.name
            )
        })
}
