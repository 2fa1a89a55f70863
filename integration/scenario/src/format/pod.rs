// SPDX-License-Identifier: Apache-2.0
//! Pods and containers.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

/// One pod.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pod {
    /// Unique in the scenario.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Labels, as policies select them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Shares the node's process ids.
    #[serde(default, rename = "hostPID")]
    pub host_pid: bool,
    /// Shares the node's network.
    #[serde(default)]
    pub host_network: bool,
    /// Run to completion, one after the other, before the containers.
    #[serde(default)]
    pub init_containers: Vec<Container>,
    /// Run together.
    pub containers: Vec<Container>,
    /// False: only a `start` step starts it.
    #[serde(default = "yes")]
    pub autostart: bool,
}

/// One container of a pod.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Container {
    /// Unique in the pod.
    pub name: String,
    /// Instead of the entrypoint that does nothing and stays.
    #[serde(default = "stays")]
    pub command: Vec<String>,
    /// Every capability, every device, no masked paths.
    #[serde(default)]
    pub privileged: bool,
    /// Beside the runtime's default ones.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Without it the container has no filter of the runtime's.
    #[serde(default)]
    pub seccomp: Option<SeccompProfile>,
    /// True: containerd's own AppArmor profile. Off by default, so that a refusal is never that profile's.
    #[serde(default)]
    pub runtime_app_armor: bool,
    /// Directories or files of the node.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// The service account's token at the usual place, in the shape that a kubelet gives it.
    #[serde(default = "yes")]
    pub service_account: bool,
    /// The user id of its processes.
    #[serde(default)]
    pub run_as_user: Option<i64>,
    /// `allowPrivilegeEscalation: false`.
    #[serde(default)]
    pub no_new_privs: bool,
    /// Root file system without writing.
    #[serde(default)]
    pub read_only_root: bool,
}

/// Capabilities by name, without `CAP_`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Given.
    #[serde(default)]
    pub add: Vec<String>,
    /// Taken.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// The filter that the container brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SeccompProfile {
    /// The runtime's default one.
    RuntimeDefault,
    /// None, said explicitly.
    Unconfined,
}

/// A bind mount from the node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mount {
    /// On the node; made as a directory when it is not there.
    pub host_path: String,
    /// In the container.
    pub path: String,
    /// Without writing.
    #[serde(default)]
    pub read_only: bool,
}

fn yes() -> bool {
    true
}

fn stays() -> Vec<String> {
    ["/bin/sleep", "1000000"].map(str::to_string).to_vec()
}

impl Pod {
    /// Init containers, then containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// What serde can't see.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [("name", &self.name), ("namespace", &self.namespace)] {
            check_name(field, value)?;
        }
        if matches!(self.name.as_str(), "daemon" | "containerd" | "host") {
            bail!("name: {:?} is a word of the steps", self.name);
        }
        let names: Vec<_> = self
            .all_containers()
            .map(|container| &container.name)
            .collect();
        for (index, name) in names.iter().enumerate() {
            check_name("a container's name", name)?;
            if names[..index].contains(name) {
                bail!("two containers are named {name:?}");
            }
        }
        if self.containers.is_empty() {
            bail!("containers: a pod needs one at least");
        }
        if let Some(container) = self
            .all_containers()
            .find(|container| container.command.is_empty())
        {
            bail!(
                "container {:?}: command: an empty list runs nothing",
                container.name
            );
        }
        Ok(())
    }
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(good) {
        bail!("{field}: {name:?} must be at most 63 of a-z, 0-9 and -");
    }
    Ok(())
}
